"""What a case ends in: a comparison, a run without one, a refusal of the library, or a failure."""

import contextlib
import traceback
from pathlib import Path

import finetuner

COMPARED, RAN, REFUSED = "compared", "ran", "refused"
LAST_REFUSAL = [""]  # the message of the last one
OURS = str(Path(finetuner.__file__).parent)


class Failure(Exception):
    """The library is wrong, in one line."""


def require(condition, text):
    """Raise :class:`Failure` with ``text`` unless ``condition`` holds."""
    if not condition:
        raise Failure(text)


def check_refusal(error, expected=(ValueError, TypeError)):
    """Raise :class:`Failure` unless ``error`` is a refusal of the library: of an expected type, in one line."""
    last = traceback.extract_tb(error.__traceback__)[-1]
    place = f"{Path(last.filename).name}:{last.lineno}"
    text = one_line(error)
    require(isinstance(error, expected), f"{text}, at {place}")
    require(last.filename.startswith(OURS), f"not an error of ours: {text}, at {place}")
    require("\n" not in str(error), f"an error of several lines: {text}")


def one_line(error, length=200):
    return " ".join(f"{type(error).__name__}: {error}".split())[:length]


@contextlib.contextmanager
def refusals(expected=(ValueError, TypeError)):
    """Collects the refusal of a block in the list that it gives. Other exceptions become failures."""
    found = []
    try:
        yield found
    except Failure:
        raise
    except Exception as error:
        check_refusal(error, expected)
        found.append(error)
        LAST_REFUSAL[0] = one_line(error)


def pick(rng, *choices):
    """One of ``choices``. numpy's own ``choice`` would turn them into an array."""
    return choices[rng.integers(len(choices))]
