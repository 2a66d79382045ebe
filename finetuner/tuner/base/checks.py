"""Checks of what users pass, each with its one message: what must hold, and what was given."""

import difflib
from collections.abc import Iterable, Sequence
from typing import Any, TypeVar

import numpy as np

__all__ = ["above", "at_least", "expected_shape", "nearest", "normal_temperature", "one_of", "some_of", "whole"]

T = TypeVar("T")


def nearest(value: object, choices: Iterable[str]) -> str:
    """A hint that names the known word nearest to an unknown one, or lists them all."""
    choices = list(choices)
    close = {choice.lower(): choice for choice in reversed(choices)}
    match = difflib.get_close_matches(str(value).lower(), close, n=1)
    if match:
        return f"did you mean {close[match[0]]!r}?"
    return f"known are {', '.join(map(repr, choices))}" if choices else "there are none"


def one_of(name: str, value: T, choices: Sequence[T]) -> T:
    """Return ``value`` if it is one of ``choices``, else raise ``ValueError`` naming the nearest."""
    if value not in choices:
        raise ValueError(
            f"{name} must be one of {', '.join(map(repr, choices))}, got {value!r}"
            + (f"; {hint}" if (hint := nearest(value, map(str, choices))).startswith("did") else "")
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
    """Return ``value`` if it is a number no less than ``bound``, else raise ``ValueError``."""
    if number(name, value) < bound:
        raise ValueError(f"{name} must be at least {bound}, got {value!r}")
    return value


def above(name: str, value: float, bound: float) -> float:
    """Return ``value`` if it is a number greater than ``bound``, else raise ``ValueError``."""
    if number(name, value) <= bound:
        raise ValueError(f"{name} must be above {bound}, got {value!r}")
    return value


def whole(name: str, value: int, bound: int) -> int:
    """Return ``value`` if it is a whole number no less than ``bound``, else raise."""
    if isinstance(value, bool) or not isinstance(value, int | np.integer):
        raise TypeError(f"{name} must be a whole number, got {value!r}")
    return int(at_least(name, value, bound))


def normal_temperature(temperature: float) -> float:
    """Return ``temperature`` if it is above 0 and float32 has it as a normal number, else raise ``ValueError``."""
    return at_least("temperature", above("temperature", temperature, 0), 1.2e-38)


def expected_shape(name: str, shape: Sequence[Any], *forms: Sequence[str]) -> None:
    """Raise ``ValueError`` unless ``shape`` has the rank of one of ``forms``, such as ``["N", "D"]``."""
    if len(shape) not in {len(form) for form in forms}:
        wanted = " or ".join(f"[{', '.join(form)}]" for form in forms)
        raise ValueError(f"{name} must have shape {wanted}, got {list(shape)}")


def some_of(items: Iterable[Any], most: int = 10) -> str:
    """The first few ``items`` for a message: ``3, 8, 21 and 4 more``."""
    listed = [str(item) for item in items]
    rest = len(listed) - most
    return ", ".join(listed[:most]) + (f" and {rest} more" if rest > 0 else "")
