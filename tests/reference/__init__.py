"""Simple numpy implementations with loops in float64. The parity suite compares every backend with them.

Nothing here imports finetuner or a framework, and the algorithms differ from those of the backends. To test a new loss,
miner or pooler, register its function here. The parity suite finds it by name.
"""

import itertools
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import numpy as np

__all__ = ["LOSSES", "MINERS", "POOLERS", "Reference", "grid", "reference"]


class Reference(NamedTuple):
    """A reference implementation with its test cases."""

    function: Callable[..., Any]
    batches: dict[str, Any]  # inputs by name
    grid: list[dict[str, Any]]  # hyperparameters


LOSSES: dict[str, Reference] = {}
MINERS: dict[str, Reference] = {}
POOLERS: dict[str, Reference] = {}


def reference(registry: dict[str, Reference], name: str, batches: dict[str, Any], points: Iterable[dict]):
    """Register a function as the reference of the class ``name``. A suffix after a colon separates variants."""

    def register(function):
        registry[name] = Reference(function, batches, list(points))
        return function

    return register


def grid(**axes: list) -> list[dict[str, Any]]:
    """All combinations of the values of the axes."""
    return [dict(zip(axes, values, strict=True)) for values in itertools.product(*axes.values())]


def numerical_gradient(function: Callable[[np.ndarray], float], x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """One-sided derivatives of ``function`` at ``x`` from the left and from the right, per element.

    Their mean is the central difference. Where they differ, the function has a kink, and every number between them is a
    valid subgradient. The step is proportional to the largest element of the row. Differences lose half of the digits,
    so they are computed in long double.
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


from . import losses, margins, miner, pairs, poolers, ranking  # noqa: E402, F401  (they register the references)
