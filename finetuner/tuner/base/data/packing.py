"""Groups of items, and batches that consist of whole groups."""

import copy
from collections.abc import Callable

import numpy as np

__all__ = ["Groups"]


class Groups:
    """Items sorted by group, in one flat array. There may be as many groups as items, too many for an array each.

    Args:
        codes: ``[N]`` integers, the group of each item.
    """

    def __init__(self, codes: np.ndarray):
        self.items = np.argsort(codes, kind="stable")
        changes = np.diff(codes[self.items]) != 0
        self.starts = np.r_[0, np.flatnonzero(changes) + 1][: len(codes)]
        self.sizes = np.diff(np.r_[self.starts, len(codes)])

    def contains(self, mask: np.ndarray) -> np.ndarray:
        """Which groups contain an item of a mask: ``[N]`` to ``[G]`` booleans."""
        return np.logical_or.reduceat(mask[self.items], self.starts)

    def subset(self, mask: np.ndarray) -> "Groups":
        """The groups selected by a mask ``[G]``."""
        other = copy.copy(self)
        other.starts, other.sizes = self.starts[mask], self.sizes[mask]
        return other

    def split(
        self,
        rng: np.random.Generator,
        batch_size: int,
        parts: Callable[[np.ndarray, np.random.Generator], list[np.ndarray]],
    ) -> "Groups":
        """The same groups, those that are larger than a batch replaced by their ``parts``."""
        large = self.sizes > batch_size
        members = [self.items[start : start + size] for start, size in zip(self.starts, self.sizes, strict=True)]
        found = [
            part
            for group, is_large in zip(members, large, strict=True)
            for part in (parts(group, rng) if is_large else [group])
        ]
        other = copy.copy(self)
        other.items, other.sizes = np.concatenate(found), np.array([len(part) for part in found])
        other.starts = np.cumsum(other.sizes) - other.sizes
        return other

    def pack(
        self,
        rng: np.random.Generator,
        batch_size: int,
        truncate: Callable[[np.ndarray, np.random.Generator], np.ndarray],
    ) -> list[np.ndarray]:
        """Batches of whole groups in random order. A batch ends where the next group would not fit.

        ``truncate`` shortens a group that is larger than a batch to ``batch_size`` items.
        """
        order = rng.permutation(len(self.sizes))
        starts, sizes = self.starts[order], np.minimum(self.sizes[order], batch_size)
        ends = np.cumsum(sizes)
        items = self.items[np.arange(ends[-1]) + np.repeat(starts - (ends - sizes), sizes)]
        for position in np.flatnonzero(self.sizes[order] > batch_size):
            group = self.items[starts[position] : starts[position] + self.sizes[order[position]]]
            items[ends[position] - batch_size : ends[position]] = truncate(group, rng)
        stops = [0]
        while stops[-1] < len(items):
            following = np.searchsorted(ends, stops[-1] + batch_size, side="right")
            stops.append(int(ends[following - 1]))
        return np.split(items, stops[1:-1])
