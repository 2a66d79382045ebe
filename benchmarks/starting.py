"""How long it takes until something happens: imports and the command line, each time in a fresh process."""

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from .harness import Times, times
from .report import Table

__all__ = ["build", "tables"]

IMPORTS = {
    "nothing": "pass",
    "numpy": "import numpy",
    "finetuner": "import finetuner",
    "finetuner.ClassDataset": "from finetuner import ClassDataset",
    "finetuner.fit": "from finetuner import fit",
    "finetuner.evaluation": "import finetuner.evaluation",
}
COMMANDS = {
    "--help": ["--help"],
    "--version": ["--version"],
    "fit --help": ["fit", "--help"],
    "an unknown command": ["fitt"],
    "an unknown option": ["fit", "--dat", "x"],
    "a missing file": ["embed", "--data", "absent.csv", "--model", "absent.py:make", "--output", "absent.npz"],
}
GOAL = 0.3  # seconds of a command
MARGIN = 0.05  # seconds of an import above numpy's


def build(contender: str) -> Callable[[], None]:
    """Start Python, let it do what the contender is called after, and wait for its end."""
    if contender in IMPORTS:
        command, expected = ["-c", IMPORTS[contender]], {0}
    else:
        command, expected = ["-m", "finetuner", *COMMANDS[contender]], {0} if "-" in contender else {1, 2}

    def run() -> None:
        done = subprocess.run([sys.executable, *command], capture_output=True, text=True, cwd=Path(__file__).parents[1])
        if done.returncode not in expected:
            raise AssertionError(f"{command} ended with {done.returncode}: {done.stderr}")

    return run


def tables(quick: bool) -> Iterator[Table]:
    """Imports beside numpy's, and the command line."""
    at_least = 4 if quick else 30
    found = times("starting", list(IMPORTS), at_least=at_least)
    yield Table(
        "Importing",
        ["import", "time", "above numpy, medians", "above numpy, fastest", "within 50 ms"],
        [[name, found[name], *above(found[name], found["numpy"])] for name in IMPORTS],
        "Fresh processes in turn. Goal: `import finetuner`, and what one wants of it, within 50 ms of `import numpy`.",
    )
    found = times("starting", list(COMMANDS), at_least=at_least)
    yield Table(
        "The command line",
        ["finetuner ...", "time", "of 0.3 s", "under 0.3 s"],
        [[name, t, f"{t.median / GOAL:.2f}", "yes" if t.median < GOAL else "no"] for name, t in found.items()],
        "`python -m finetuner ...` in fresh processes in turn. Goal: under 0.3 s, the interpreter's start included.",
    )


def above(ours: Times, numpy: Times) -> list[Any]:
    """Milliseconds above numpy by median and minimum, and whether that is within the margin."""
    extra = ours.median - numpy.median
    return [f"{extra * 1e3:+.0f} ms", f"{(ours.low - numpy.low) * 1e3:+.0f} ms", "yes" if extra < MARGIN else "no"]
