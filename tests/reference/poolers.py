"""Poolers, one channel of one item at a time."""

import numpy as np

from . import POOLERS, grid, reference
from .batches import points

MAPS = points(2 * 3, 4 * 5, seed=2).reshape(2, 3, 4, 5)
STEPS = points(3 * 4, 2, seed=3).reshape(3, 4, 2)
MASK = np.array([[1, 1, 0, 0], [1, 1, 1, 1], [0, 0, 0, 0]], dtype=bool)

# Feature maps are channels-first. Backend.layout converts them for other frameworks.
INPUTS = {
    "maps": (MAPS, None),
    "maps above zero": (np.abs(MAPS), None),
    "maps of volumes": (MAPS[:, :, :, :, None] * np.ones(2), None),
    "one place": (MAPS[:, :, :1, :1], None),
    "zeros": (np.zeros((2, 3, 2, 2)), None),
    "huge": (MAPS * 2.0**40, None),
    "tiny": (MAPS * 2.0**-15, None),
    "steps": (STEPS, None),
    "steps with a mask": (STEPS, MASK),
}


def pool(function, x, mask):
    """Apply ``function`` to the valid values of each item and channel."""
    items = np.moveaxis(x, 1, -1).reshape(len(x), -1, x.shape[1]) if x.ndim > 3 else x
    pooled = np.zeros((items.shape[0], items.shape[2]))
    for i, c in np.ndindex(*pooled.shape):
        values = [items[i, s, c] for s in range(items.shape[1]) if mask is None or mask[i, s]]
        if values:
            pooled[i, c] = function(values)
    return pooled


@reference(POOLERS, "GeM", INPUTS, [{}, *grid(p=[1.0, 2.5, 20.0], eps=[1e-6, 0.1]), {"p": 2.5, "trainable": True}])
def gem(x, mask, p=3.0, eps=1e-6, trainable=False):
    def mean(values):
        values = [max(value, eps) for value in values]
        largest = max(values)
        return largest * np.mean([(value / largest) ** p for value in values]) ** (1 / p)

    return pool(mean, x, mask)


@reference(POOLERS, "AveragePooling", INPUTS, [{}])
def average_pooling(x, mask):
    return pool(lambda values: sum(values) / len(values), x, mask)


@reference(POOLERS, "MaxPooling", INPUTS, [{}])
def max_pooling(x, mask):
    return pool(max, x, mask)


@reference(POOLERS, "CLSPooling", {name: given for name, given in INPUTS.items() if name.startswith("steps")}, [{}])
def cls_pooling(x, mask):
    pooled = x[:, 0].copy()
    for i in range(len(x)):
        if mask is not None and not mask[i].any():
            pooled[i] = 0
    return pooled
