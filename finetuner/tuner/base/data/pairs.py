"""Datasets whose items are pairs or triplets: rows that stay together in a batch, whatever the order of the items."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any, ClassVar

import numpy as np

from ....arrays import merge_items, num_items, take, to_float_array
from ....containers import from_container
from ....evaluation.evaluators import Evaluator, PairRetrievalEvaluator, PairScoreEvaluator, TripletEvaluator
from ....labels import ANCHOR, NEGATIVE, POSITIVE
from .augmentation import augmented_items
from .datasets import Dataset
from .duplicates import number_items

__all__ = ["PairDataset", "TripletDataset", "TupleDataset"]


class TupleDataset(Dataset):
    """Interface of datasets whose items have several sides. Row ``sides * i + s`` is side s of item i."""

    side_names: ClassVar[tuple[str, ...]]

    def __init__(self, sides: Sequence[Any], augment: Callable[..., Any] | None = None):
        sides = [from_container(name, side) for name, side in zip(self.side_names, sides, strict=True)]
        super().__init__(sides[0], augment)
        self.sides, self.rows_per_item = tuple(sides), len(sides)
        lengths = [num_items(side) for side in sides]
        if len(set(lengths)) > 1:
            raise ValueError(f"{', '.join(self.side_names)} must have the same length, got {lengths}")

    def __getitem__(self, index: int) -> tuple[Any, Any]:
        """The sides of the item at ``index``, and the label of its first row."""
        if not -len(self) <= index < len(self):
            raise IndexError(f"index must lie within the {len(self)} items, got {index}")
        position = index % len(self)
        rows = [take(side, np.array([position])) for side in self.sides]
        items = tuple({key: value[0] for key, value in x.items()} if isinstance(x, dict) else x[0] for x in rows)
        return items, self.labels[position * self.rows_per_item]

    def batch(self, indices: np.ndarray, seed: Sequence[int] | None = None) -> Any:
        """The rows at ``indices``: an array or a mapping if all sides are, else a list."""
        side = indices % self.rows_per_item
        positions = {s: np.flatnonzero(side == s) for s in np.unique(side)}
        parts = []
        for s, where in positions.items():
            x, items = self.sides[s], indices[where] // self.rows_per_item
            if self.augment is None or seed is None:
                parts.append((where, take(x, items)))
            else:
                parts.append((where, augmented_items(self.augment, x, items, seed, where)))
        return merge_items(parts, len(indices))


class PairDataset(TupleDataset):
    """Pairs of items. Without scores, the two items of a pair belong together, and items of other pairs do not.

    Args:
        first: The first items: an array ``[N, ...]``, a sequence, or a mapping of arrays.
        second: The second items, in the same order. They may be of another kind if the model has two inputs.
        score: ``[N]`` numbers, how similar the items of each pair are.
        augment: A function that varies an item in training, see :class:`ClassDataset`.

    Raises:
        ValueError: If there is no pair, the lengths differ, or a score is not finite.
        TypeError: If scores are not numbers, or ``augment`` is not callable.

    Example:
        >>> PairDataset(["a plane", "a dog"], ["an aircraft", "a cat"], score=[5.0, 2.0])
        PairDataset(2 pairs, scored)
    """

    side_names = ("first", "second")

    def __init__(self, first: Any, second: Any, score: Any = None, augment: Callable[..., Any] | None = None):
        super().__init__((first, second), augment)
        self.classes = np.arange(len(self), dtype=np.int32)
        self.scored = score is not None
        self.target_types = ("scores",) if self.scored else ("relations", "pairs")
        values = to_float_array("score", score) if self.scored else self.classes
        self._check_length("score", values)
        self.labels = np.repeat(values, 2)

    def evaluator(self, metrics: Iterable[str] | None = None) -> Evaluator:
        """Correlation of similarity and score; without scores, retrieval of the second items by the first."""
        if not self.scored:
            return PairRetrievalEvaluator(np.repeat(number_items(self.sides[1]), 2), metrics)
        self._refuse_metrics(metrics)
        return PairScoreEvaluator(self.labels[0::2])

    def __repr__(self) -> str:
        return f"{type(self).__name__}({len(self)} pairs{', scored' * self.scored})"


class TripletDataset(TupleDataset):
    """Explicit triplets: an anchor, an item that belongs to it, and an item that does not.

    Args:
        anchor: The anchors: an array ``[N, ...]``, a sequence, or a mapping of arrays.
        positive: For each anchor, an item that belongs to it.
        negative: For each anchor, an item that does not.
        augment: A function that varies an item in training, see :class:`ClassDataset`.

    Raises:
        ValueError: If there is no triplet, or the lengths differ.
        TypeError: If ``augment`` is not callable.

    Example:
        >>> TripletDataset(anchor=np.zeros((5, 8)), positive=np.ones((5, 8)), negative=np.full((5, 8), 2.0))
        TripletDataset(5 triplets)
    """

    side_names = ("anchor", "positive", "negative")

    def __init__(self, anchor: Any, positive: Any, negative: Any, augment: Callable[..., Any] | None = None):
        super().__init__((anchor, positive, negative), augment)
        self.classes = np.arange(len(self), dtype=np.int32)
        roles = np.tile(np.array([ANCHOR, POSITIVE, NEGATIVE], np.int32), len(self))
        self.labels = np.stack([np.repeat(self.classes, 3), roles], axis=1)

    def evaluator(self, metrics: Iterable[str] | None = None) -> Evaluator:
        """The share of triplets whose positive is closer to the anchor than the negative."""
        self._refuse_metrics(metrics)
        return TripletEvaluator()

    def __repr__(self) -> str:
        return f"{type(self).__name__}({len(self)} triplets)"
