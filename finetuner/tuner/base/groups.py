"""Items that belong to groups, and batches of whole groups."""

import copy
from collections.abc import Callable

import numpy as np

__all__ = ["Groups"]


class Groups:
    """Items by their group, laid end to end: groups are as many as items may be, too many for an array each.

    Args:
        codes: ``[N]`` integers, the group of each item.
    """

    def __init__(self, codes: np.ndarray):
        self.items = np.argsort(codes, kind="stable")
        changes = np.diff(codes[self.items]) != 0
        self.starts = np.r_[0, np.flatnonzero(changes) + 1][: len(codes)]
        self.sizes = np.diff(np.r_[self.starts, len(codes)])

    def holding(self, chosen: np.ndarray) -> np.ndarray:
        """Which groups hold any of the ``chosen`` items, a mask ``[N]``: another, ``[G]``."""
        return np.logical_or.reduceat(chosen[self.items], self.starts)

    def only(self, chosen: np.ndarray) -> "Groups":
        """The groups of a mask ``[G]``."""
        other = copy.copy(self)
        other.starts, other.sizes = self.starts[chosen], self.sizes[chosen]
        return other

    def packed(
        self,
        rng: np.random.Generator,
        batch_size: int,
        fitting: Callable[[np.ndarray, np.random.Generator], np.ndarray],
    ) -> list[np.ndarray]:
        """Batches of whole groups in random order, each as full as it gets before the next would not fit.

        Of a group that is larger than a batch there is what ``fitting`` makes of it.
        """
        order = rng.permutation(len(self.sizes))
        starts, sizes = self.starts[order], np.minimum(self.sizes[order], batch_size)
        ends = np.cumsum(sizes)
        items = self.items[np.arange(ends[-1]) + np.repeat(starts - (ends - sizes), sizes)]
        for place in np.flatnonzero(self.sizes[order] > batch_size):
            group = self.items[starts[place] : starts[place] + self.sizes[order[place]]]
            items[ends[place] - batch_size : ends[place]] = fitting(group, rng)
        stops = [0]
        while stops[-1] < len(items):
            following = np.searchsorted(ends, stops[-1] + batch_size, side="right")
            stops.append(int(ends[following - 1]))
        return np.split(items, stops[1:-1])
