"""Datasets whose items carry what a head is to say of them: a number, a vector, a relevance."""

from collections.abc import Callable
from typing import Any

import numpy as np

from .dataset import Dataset
from .items import coded, numbers

__all__ = ["RankingDataset", "TargetDataset"]


class TargetDataset(Dataset):
    """Items with a number or a vector each: what a head is to predict, or a teacher's embeddings.

    Args:
        x: the items: an array ``[N, ...]``, a sequence, or a mapping of arrays.
        targets: ``[N]`` or ``[N, K]`` numbers, kept as float32.
        weights: ``[N]``, how much each item counts in a loss of the framework's own; at least 0.
        augment: varies an item in training, as in :class:`~finetuner.tuner.base.dataset.ClassDataset`.

    Raises:
        ValueError: if there is no item, the lengths differ, or a number is not finite.
        TypeError: if targets are no numbers, or ``augment`` cannot be called.
    """

    gives = ("values", "vectors")

    def __init__(self, x: Any, targets: Any, weights: Any = None, augment: Callable[..., Any] | None = None):
        super().__init__(x, augment)
        self.labels = numbers("targets", targets, (1, 2))
        self._check_length("targets", self.labels)
        self._take_weights(weights)
        self.classes = np.zeros(0, np.int32)

    def __repr__(self) -> str:
        return f"TargetDataset({len(self)} items, targets {list(self.labels.shape)})"


class RankingDataset(Dataset):
    """Items that answer queries, each with its relevance: what a head's scores are to put in order.

    Args:
        x: the items (a query with an answer, or what tells of both): an array ``[N, ...]``, a sequence, or a mapping.
        relevance: ``[N]`` numbers, the more the better.
        groups: ``[N]``, the query of each: numbers or strings. Items of different queries are never compared.
        weights: ``[N]``, how much each item counts in a loss of the framework's own; at least 0.
        augment: varies an item in training, as in :class:`~finetuner.tuner.base.dataset.ClassDataset`.

    Raises:
        ValueError: if there is no item, the lengths differ, a query is missing, or a number is not finite.
        TypeError: if relevance is no numbers, ``augment`` cannot be called, or queries are of several types.
    """

    gives = ("relevance", "values")

    def __init__(
        self, x: Any, relevance: Any, groups: Any, weights: Any = None, augment: Callable[..., Any] | None = None
    ):
        super().__init__(x, augment)
        self.labels = numbers("relevance", relevance)
        self._check_length("relevance", self.labels)
        self.classes, self.groups = coded(groups, "groups")
        self._check_length("groups", self.groups)
        self._take_weights(weights)

    def targets(self, indices: np.ndarray, form: str) -> tuple[np.ndarray, ...]:
        """Relevance and groups of the rows at ``indices``, or for a loss of single values their values."""
        if form == "relevance":
            return self.labels[indices], self.groups[indices]
        return super().targets(indices, form)

    def __repr__(self) -> str:
        return f"RankingDataset({len(self)} items, {len(self.classes)} queries)"
