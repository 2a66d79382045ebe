"""Datasets whose items are pairs or triplets: rows that stay together, whatever the order of the items."""

from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import numpy as np

from .dataset import ANCHOR, NEGATIVE, POSITIVE, Dataset
from .items import merged, num_items, numbers, rows

__all__ = ["PairDataset", "TripletDataset", "TupleDataset"]


class TupleDataset(Dataset):
    """Interface of datasets whose items have several sides; row ``size * i + s`` is side s of item i."""

    names: ClassVar[tuple[str, ...]]

    def __init__(self, sides: Sequence[Any], augment: Callable[..., Any] | None = None):
        super().__init__(sides[0], augment)
        self.sides, self.size = tuple(sides), len(sides)
        lengths = [num_items(side) for side in sides]
        if len(set(lengths)) > 1:
            raise ValueError(f"{', '.join(self.names)} must be of one length, got {lengths}")

    def __getitem__(self, index: int) -> tuple[Any, Any]:
        """The sides of the item at ``index``, and the label of its first row."""
        if not -len(self) <= index < len(self):
            raise IndexError(f"index must lie within the {len(self)} items, got {index}")
        place = index % len(self)
        found = [rows(side, np.array([place])) for side in self.sides]
        items = tuple({key: value[0] for key, value in x.items()} if isinstance(x, dict) else x[0] for x in found)
        return items, self.labels[place * self.size]

    def batch(self, indices: np.ndarray, seed: Sequence[int] | None = None) -> Any:
        """The rows at ``indices``: in an array or a mapping where all sides are such, else in a list."""
        side = indices % self.size
        places = {s: np.flatnonzero(side == s) for s in np.unique(side)}
        parts = [(place, rows(self.sides[s], indices[place] // self.size)) for s, place in places.items()]
        return self._varied(merged(parts, len(indices)), len(indices), seed)


class PairDataset(TupleDataset):
    """Pairs of items, with a score of how much they belong together, or without one where they do.

    Args:
        first: the items of one side: an array ``[N, ...]``, a sequence, or a mapping of arrays.
        second: those of the other, in the same order; they may be of another kind where a model has two inputs.
        score: ``[N]`` numbers; without them the two of a pair belong together, and to no other pair.
        augment: varies an item in training, as in :class:`~finetuner.tuner.base.dataset.ClassDataset`.

    Raises:
        ValueError: if there is no pair, the lengths differ, or a score is not finite.
        TypeError: if scores are no numbers, or ``augment`` cannot be called.
    """

    names = ("first", "second")

    def __init__(self, first: Any, second: Any, score: Any = None, augment: Callable[..., Any] | None = None):
        super().__init__((first, second), augment)
        self.classes = np.arange(len(self), dtype=np.int32)
        self.scored = score is not None
        self.gives = ("scores",) if self.scored else ("relations", "pairs")
        values = numbers("score", score) if self.scored else self.classes
        self._check_length("score", values)
        self.labels = np.repeat(values, 2)

    def __repr__(self) -> str:
        return f"PairDataset({len(self)} pairs{', scored' * self.scored})"


class TripletDataset(TupleDataset):
    """Explicit triplets: an anchor, what belongs to it, and what does not.

    Args:
        anchor: the anchors: an array ``[N, ...]``, a sequence, or a mapping of arrays.
        positive: what belongs to each.
        negative: what does not.
        augment: varies an item in training, as in :class:`~finetuner.tuner.base.dataset.ClassDataset`.

    Raises:
        ValueError: if there is no triplet, or the lengths differ.
        TypeError: if ``augment`` cannot be called.
    """

    names = ("anchor", "positive", "negative")

    def __init__(self, anchor: Any, positive: Any, negative: Any, augment: Callable[..., Any] | None = None):
        super().__init__((anchor, positive, negative), augment)
        self.classes = np.arange(len(self), dtype=np.int32)
        roles = np.tile(np.array([ANCHOR, POSITIVE, NEGATIVE], np.int32), len(self))
        self.labels = np.stack([np.repeat(self.classes, 3), roles], axis=1)

    def __repr__(self) -> str:
        return f"TripletDataset({len(self)} triplets)"
