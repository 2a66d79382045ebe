"""Argument checks. Each raises one clear message: what must hold, and what was given."""

import difflib
from collections.abc import Iterable, Sequence
from typing import Any, TypeVar

import numpy as np

__all__ = [
    "above",
    "at_least",
    "boolean",
    "closest_match",
    "integer",
    "number",
    "one_of",
    "preview",
    "printable",
    "shape",
    "temperature",
]

T = TypeVar("T")
MIN_TEMPERATURE = 1e-26  # a gradient by an embedding of the least length, 1e-12, is at most 1e38: finite in float32


def closest_match(value: object, choices: Iterable[str]) -> str:
    """A hint for an unknown name: the closest known name, or all known names if none is close."""
    choices = list(choices)
    by_lowercase = {choice.lower(): choice for choice in reversed(choices)}
    match = difflib.get_close_matches(str(value).lower(), by_lowercase, n=1)
    if match:
        return f"did you mean {by_lowercase[match[0]]!r}?"
    return f"known are {', '.join(map(repr, choices))}" if choices else "there are none"


def one_of(name: str, value: T, choices: Sequence[T]) -> T:
    """Return ``value`` if it is one of ``choices``, else raise ``ValueError`` with the closest choice."""
    if value not in choices:
        raise ValueError(
            f"{name} must be one of {', '.join(map(repr, choices))}, got {value!r}"
            + (f"; {hint}" if (hint := closest_match(value, map(str, choices))).startswith("did") else "")
        )
    return value


def number(name: str, value: float) -> float:
    """Return ``value`` if it is a finite real number, else raise ``TypeError`` or ``ValueError``."""
    if isinstance(value, bool) or not isinstance(value, int | float | np.integer | np.floating):
        raise TypeError(f"{name} must be a number, got {value!r}")
    if not np.isfinite(value):
        raise ValueError(f"{name} must be finite, got {value!r}")
    return value


def at_least(name: str, value: float, bound: float) -> float:
    """Return ``value`` if it is a number and at least ``bound``, else raise ``ValueError``."""
    if number(name, value) < bound:
        raise ValueError(f"{name} must be at least {bound}, got {value!r}")
    return value


def above(name: str, value: float, bound: float) -> float:
    """Return ``value`` if it is a number greater than ``bound``, else raise ``ValueError``."""
    if number(name, value) <= bound:
        raise ValueError(f"{name} must be above {bound}, got {value!r}")
    return value


def integer(name: str, value: int, bound: int) -> int:
    """Return ``value`` if it is an integer and at least ``bound``, else raise ``TypeError`` or ``ValueError``."""
    if isinstance(value, bool) or not isinstance(value, int | np.integer):
        raise TypeError(f"{name} must be an integer, got {value!r}")
    return int(at_least(name, value, bound))


def boolean(name: str, value: bool) -> bool:
    """Return ``value`` if it is True or False, else raise ``TypeError``."""
    if not isinstance(value, bool | np.bool_):
        raise TypeError(f"{name} must be True or False, got {value!r}")
    return bool(value)


def temperature(value: float) -> float:
    """Return a softmax temperature if it is at least ``MIN_TEMPERATURE``, else raise ``ValueError``."""
    return at_least("temperature", above("temperature", value, 0), MIN_TEMPERATURE)


def shape(name: str, given: Sequence[Any], *expected: Sequence[str]) -> None:
    """Raise ``ValueError`` unless the shape ``given`` has the rank of an ``expected`` one, such as ``["N", "D"]``."""
    if len(given) not in {len(axes) for axes in expected}:
        wanted = " or ".join(f"[{', '.join(axes)}]" for axes in expected)
        raise ValueError(f"{name} must have shape {wanted}, got {list(given)}")


def printable(text: str) -> str:
    """``text`` with escapes in place of control characters."""
    return text if text.isprintable() else "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


def preview(items: Iterable[Any], limit: int = 10) -> str:
    """The first few ``items`` as text for a message: ``3, 8, 21 and 4 more``.

    Control characters are written as escapes, so that a terminal does not obey what is in the user's data.

    Example:
        >>> preview(["cat", chr(27) + "[2J"])
        'cat, \\\\x1b[2J'
    """
    texts = [printable(str(item)) for item in items]
    hidden = len(texts) - limit
    return ", ".join(texts[:limit]) + (f" and {hidden} more" if hidden > 0 else "")
