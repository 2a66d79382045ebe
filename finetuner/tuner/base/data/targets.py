"""Datasets whose items have a target: a number, a vector, or a relevance."""

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from .... import checks
from ....arrays import to_float_array
from ....evaluation.evaluators import Evaluator, RankingEvaluator
from ....evaluation.ranking import GAINS
from ....labels import encode_labels
from .datasets import Dataset
from .samplers import GroupSampler, Sampler

__all__ = ["RankingDataset", "TargetDataset"]


class TargetDataset(Dataset):
    """Items with a number or a vector each: the target of a regression, or a teacher's embedding.

    Args:
        x: The items: an array ``[N, ...]``, a sequence, or a mapping of arrays.
        targets: ``[N]`` or ``[N, K]`` numbers, stored as float32.
        weights: ``[N]``, the weight of each item in one of the framework's own losses; at least 0.
        augment: A function that varies an item in training, see :class:`ClassDataset`.

    Raises:
        ValueError: If there is no item, the lengths differ, or a number is not finite.
        TypeError: If targets are not numbers, or ``augment`` is not callable.

    Example:
        >>> TargetDataset(np.zeros((3, 8)), targets=[0.5, 1.0, 2.0])
        TargetDataset(3 items, targets [3])
    """

    target_types = ("values", "vectors")

    def __init__(self, x: Any, targets: Any, weights: Any = None, augment: Callable[..., Any] | None = None):
        super().__init__(x, augment)
        self.labels = to_float_array("targets", targets, (1, 2))
        self._check_length("targets", self.labels)
        self._set_weights(weights)
        self.classes = np.zeros(0, np.int32)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({len(self)} items, targets {list(self.labels.shape)})"


class RankingDataset(Dataset):
    """Answers to queries, each with its relevance. A model is trained to rank the answers of each query.

    Args:
        x: The items (a query with an answer, or features of both): an array ``[N, ...]``, a sequence, or a mapping.
        relevance: ``[N]`` numbers; a higher number is more relevant.
        groups: ``[N]``, the query of each item: numbers or strings. Items of different queries are never compared.
        weights: ``[N]``, the weight of each item in one of the framework's own losses; at least 0.
        augment: A function that varies an item in training, see :class:`ClassDataset`.
        gain: Of a relevance r in nDCG: ``"exponential"``, 2^r - 1, or ``"linear"``, r.

    Raises:
        ValueError: If there is no item, the lengths differ, a query is missing, or a number is not finite.
        TypeError: If relevance is not numbers, ``augment`` is not callable, or queries are of several types.

    Example:
        >>> RankingDataset(np.zeros((4, 8)), relevance=[2, 0, 1, 0], groups=["q1", "q1", "q2", "q2"])
        RankingDataset(4 items, 2 queries)
    """

    target_types = ("relevance", "values")

    def __init__(
        self,
        x: Any,
        relevance: Any,
        groups: Any,
        weights: Any = None,
        augment: Callable[..., Any] | None = None,
        gain: str = "exponential",
    ):
        super().__init__(x, augment)
        self.gain = checks.one_of("gain", gain, GAINS)
        self.labels = to_float_array("relevance", relevance)
        self._check_length("relevance", self.labels)
        self.classes, self.groups = encode_labels(groups, "groups")
        self._check_length("groups", self.groups)
        self._set_weights(weights)

    def targets(self, indices: np.ndarray, target_type: str) -> tuple[np.ndarray, ...]:
        """Relevance and query of the rows at ``indices``; for a loss of single values, the relevance."""
        if target_type == "relevance":
            return self.labels[indices], self.groups[indices]
        return super().targets(indices, target_type)

    def default_sampler(self, batch_size: int, num_items_per_class: int | None = None, seed: int = 0) -> Sampler:
        """Batches of all answers to a query, see :class:`GroupSampler`."""
        if num_items_per_class is not None:
            raise ValueError(f"num_items_per_class must be used with a ClassDataset, got {self!r}")
        return GroupSampler(self.groups, batch_size, seed)

    def validation_batches(self, target_type: str, batch_size: int, num_classes: int) -> list[np.ndarray]:
        """The batches that the validation loss is averaged over; for a ranking loss, of whole queries."""
        if target_type == "relevance":
            return GroupSampler(self.groups, batch_size).batches()
        return super().validation_batches(target_type, batch_size, num_classes)

    def evaluator(self, metrics: Iterable[str] | None = None) -> Evaluator:
        """nDCG of the order in which the model's scores rank the answers of each query."""
        self._refuse_metrics(metrics)
        return RankingEvaluator(self.labels, self.groups, self.gain)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({len(self)} items, {len(self.classes)} queries)"
