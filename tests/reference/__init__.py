"""Slow and obvious numpy implementations, in float64 and with loops, that every backend is judged by.

Nothing here imports finetuner or a framework, and nothing is the algorithm that a backend uses. To add a
loss, a miner or a pooler, register its function here: the parity suite finds it by name.
"""

import itertools
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import numpy as np

__all__ = ["LOSSES", "MINERS", "POOLERS", "Reference", "grid", "reference"]


class Reference(NamedTuple):
    function: Callable[..., Any]
    batches: dict[str, Any]  # what to try it on, by name
    grid: list[dict[str, Any]]  # the hyper-parameters to try it with


LOSSES: dict[str, Reference] = {}
MINERS: dict[str, Reference] = {}
POOLERS: dict[str, Reference] = {}


def reference(registry: dict[str, Reference], name: str, batches: dict[str, Any], points: Iterable[dict]):
    """Register a function as the truth of the class ``name``."""

    def register(function):
        registry[name] = Reference(function, batches, list(points))
        return function

    return register


def grid(**axes: list) -> list[dict[str, Any]]:
    """Every combination of the values of the axes."""
    return [dict(zip(axes, values, strict=True)) for values in itertools.product(*axes.values())]


def numerical_gradient(function: Callable[[np.ndarray], float], x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Slopes of ``function`` to the left and to the right of ``x``, along each of its elements.

    Their mean is the central difference. Where they differ the function has a kink, and any number
    between them is a gradient. The step follows the length of the row it is taken in, and the difference
    is taken in the widest floats there are, since it loses half of their digits.
    """
    x = x.astype(np.longdouble)
    left, right = np.zeros_like(x), np.zeros_like(x)
    middle = function(x)
    for index in np.ndindex(*x.shape):
        size = np.abs(x[index[0]]).max()
        delta = np.zeros_like(x)
        delta[index] = step = 1e-5 * (size if size > 0 else 1.0)
        right[index] = (function(x + delta) - middle) / step
        left[index] = (middle - function(x - delta)) / step
    return left.astype(float), right.astype(float)


from . import losses, margins, miner, pairs, poolers, ranking  # noqa: E402, F401  (they register themselves)
