"""Datasets: items, and labels that say which items belong together.

A dataset returns whole batches, so arrays are indexed once per batch and not once per item. Labels are encoded on the
host: whatever the user calls the classes, a loss sees int32 numbers from 0, which every framework can represent.
:attr:`Dataset.classes` keeps the names.

The rest of the library asks a dataset what it needs to know: which targets it has, which sampler and which evaluator
fit. It never asks for its class, so a user's own subclass works everywhere.
"""

import copy
import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from .... import checks
from ....arrays import num_items, take, to_float_array
from ....containers import from_container
from ....evaluation.evaluators import Evaluator, RetrievalEvaluator
from ....labels import (
    ANCHOR,
    MATCH,
    NO_MATCH,
    class_names,
    distinct_sets,
    encode_label_sets,
    encode_labels,
    has_label_sets,
    rarest_labels,
    without_two_columns,
)
from .augmentation import augmented_items
from .samplers import ClassSampler, InstanceSampler, RandomSampler, Sampler, SessionSampler

__all__ = ["ClassDataset", "Dataset", "InstanceDataset", "SessionDataset"]


class Dataset(ABC):
    """Interface of all datasets. A subclass sets ``labels`` and ``classes`` and may override the methods.

    Args:
        x: The items: an array ``[N, ...]``, a sequence, or a mapping of arrays.
        augment: A function that varies an item in training: ``augment(item)``, or ``augment(item, rng)`` with a
            seeded :class:`numpy.random.Generator`, which makes a run reproducible.

    Attributes:
        labels: What losses get: ``[N]`` int32 classes, ``[N, 2]`` int32 sessions and roles, ``[N, C]`` booleans or
            float32 label sets, or float32 numbers.
        classes: ``[C]``, the user's name of each class, session or instance; of label sets, the distinct sets.
        label_names: Of label sets, the name of each column of ``labels``.
        weights: ``[N]`` float32, the weight of each item; None if all items count the same.
        target_types: What the dataset knows about its items, keys of
            :data:`~finetuner.tuner.base.target_types.TARGET_TYPES`.
        rows_per_item: The rows of an item: 2 for a pair, 3 for a triplet.
        views: How many views of an item a batch contains.

    Raises:
        ValueError: If there is no item.
        TypeError: If ``augment`` is not callable.
    """

    target_types: tuple[str, ...] = ("relations",)
    rows_per_item = 1
    views = 1
    labels: np.ndarray
    classes: np.ndarray
    weights: np.ndarray | None = None
    label_names: np.ndarray

    def __init__(self, x: Any, augment: Callable[..., Any] | None = None):
        self.x = x = from_container("x", x)
        if num_items(x) == 0:
            raise ValueError("a dataset must hold at least one item, got none")
        if augment is not None and not callable(augment):
            raise TypeError(f"augment must be a function of an item, got {augment!r}")
        self.augment = augment

    @abstractmethod
    def __repr__(self) -> str: ...

    def __len__(self) -> int:
        return num_items(self.x)

    def __getitem__(self, index: int) -> tuple[Any, Any]:
        """The item at ``index`` and its label."""
        if not -len(self) <= index < len(self):
            raise IndexError(f"index must lie within the {len(self)} items, got {index}")
        items = self.batch(np.array([index % len(self)]))
        item = {key: value[0] for key, value in items.items()} if isinstance(items, Mapping) else items[0]
        return item, self.labels[index]

    @property
    def num_rows(self) -> int:
        """The number of rows of all items. :attr:`labels` has one entry per row."""
        return len(self) * self.rows_per_item

    @property
    def evaluation_rows(self) -> np.ndarray:
        """The rows that are embedded for an evaluation. Each row occurs as often as it has views."""
        return np.repeat(np.arange(self.num_rows), self.views)

    @property
    def has_class_numbers(self) -> bool:
        """Whether the labels are class numbers, positions in :attr:`classes`."""
        return self.labels.ndim == 1 and self.labels.dtype.kind == "i"

    def batch(self, indices: np.ndarray, seed: Sequence[int] | None = None) -> Any:
        """The rows at ``indices``, in the container type of ``x``; with a ``seed``, a list of augmented rows.

        Args:
            indices: ``[N]``.
            seed: The seed of the run, the epoch, and last the place of the first row in the plan of the epoch. Each row
                draws from its own place. None for rows as they are.
        """
        if self.augment is None or seed is None:
            return take(self.x, indices)
        return augmented_items(self.augment, self.x, indices, seed)

    def targets(self, indices: np.ndarray, target_type: str) -> tuple[np.ndarray, ...]:
        """What a loss with this target type gets for the rows at ``indices``: one array per argument."""
        labels = self.labels[indices]
        if target_type == "values" and self.weights is not None:
            return labels, self.weights[indices]
        return (labels,)

    def default_sampler(self, batch_size: int, num_items_per_class: int | None = None, seed: int = 0) -> Sampler:
        """The sampler that puts items which belong together into one batch.

        Args:
            batch_size: The maximal number of items in a batch.
            num_items_per_class: See :class:`ClassSampler`; None for data without classes.
            seed: Seed of the random generator.

        Raises:
            ValueError: If no items belong together, or a number is out of its range.
        """
        classes = self._sampler_classes(self.labels)
        by_class = "relations" in self.target_types and classes is not None
        if num_items_per_class is not None and not (by_class and self.views == 1 and self.rows_per_item == 1):
            raise ValueError(f"num_items_per_class must be used with a ClassDataset, got {self!r}")
        if self.rows_per_item > 1:
            return RandomSampler(len(self), batch_size, seed=seed, rows_per_item=self.rows_per_item)
        if by_class and self.views > 1:
            return InstanceSampler(len(self), batch_size, self.views, seed)
        if by_class:
            assert classes is not None
            return ClassSampler(classes, batch_size, num_items_per_class, seed)
        if "relations" in self.target_types:
            return SessionSampler(self.labels, batch_size, seed)
        raise ValueError(f"sampler 'class' must have classes, sessions or groups to bring together, got {self!r}")

    def validation_batches(self, target_type: str, batch_size: int, num_classes: int) -> list[np.ndarray]:
        """The batches that the validation loss is averaged over.

        Args:
            target_type: Of the loss.
            batch_size: The maximal number of items in a batch.
            num_classes: The number of classes that the loss knows. Items of other classes are left out if the loss
                needs classes.

        Returns:
            Positions in :attr:`evaluation_rows`, an array per batch. There is no batch if the loss cannot use any item.
        """
        if self.rows_per_item > 1:
            sampler = RandomSampler(len(self), batch_size, shuffle=False, rows_per_item=self.rows_per_item)
            return sampler.batches()
        if target_type == "relations":
            labels = self.labels[self.evaluation_rows]
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # items without a positive are distractors here
                classes = self._sampler_classes(labels)
                if classes is None:
                    return SessionSampler(labels, batch_size).batches()
                return ClassSampler(classes, batch_size).batches()
        positions = np.arange(len(self.evaluation_rows))
        if target_type == "classes":
            positions = np.flatnonzero(self.labels < num_classes)
        plan = RandomSampler(len(positions), batch_size, shuffle=False).batches() if len(positions) else []
        return [positions[batch] for batch in plan]

    def evaluator(self, metrics: Iterable[str] | None = None) -> Evaluator | None:
        """What measures embeddings of :attr:`evaluation_rows`; None if the data has no measure.

        Args:
            metrics: Names of retrieval metrics, see :func:`~finetuner.evaluation.retrieval_metrics`.

        Raises:
            ValueError: For an unknown metric, or retrieval metrics of data in which nothing can be retrieved.
        """
        if "relations" in self.target_types:
            return RetrievalEvaluator(self.labels[self.evaluation_rows], metrics)
        self._refuse_metrics(metrics)
        return None

    def relabel(self, names: list[Any]) -> "Dataset":
        """The same items with classes numbered as in ``names``. New classes are appended to ``names``."""
        numbers = {name: number for number, name in enumerate(names)}
        for name in self.classes.tolist():
            if name not in numbers:
                numbers[name] = len(names)
                names.append(name)
        other = copy.copy(self)
        other.labels = np.array([numbers[name] for name in self.classes.tolist()], np.int32)[self.labels]
        other.classes = class_names(names)
        return other

    @staticmethod
    def _sampler_classes(labels: np.ndarray) -> np.ndarray | None:
        """The class of each row for a sampler, of label sets the rarest label; None for sessions."""
        if labels.ndim == 2 and labels.dtype.kind in "bf":
            return rarest_labels(labels)
        return labels if labels.ndim == 1 else None

    def _refuse_metrics(self, metrics: Iterable[str] | None) -> None:
        if metrics is not None:
            raise ValueError(f"metrics must be used with data in which something can be retrieved, got {self!r}")

    def _check_length(self, name: str, values: np.ndarray) -> None:
        if len(values) != len(self):
            raise ValueError(f"x and {name} must have the same length, got {len(self)} and {len(values)}")

    def _set_weights(self, weights: Any) -> None:
        if weights is not None:
            self.weights = to_float_array("weights", weights)
            self._check_length("weights", self.weights)
            if (self.weights < 0).any() or not self.weights.any():
                raise ValueError(f"weights must be at least 0 and not all 0, got {self.weights.min()} as the least")


class ClassDataset(Dataset):
    """Items with one class each, or with a set of labels each.

    Items of the same class belong together. Items with label sets belong together if they have a common label.

    Args:
        x: The items: an array ``[N, ...]``, a sequence, a mapping of arrays, or a column or frame of a table.
        y: ``[N]``, the class of each item: numbers or strings, in any order and with gaps. For several labels per item,
            ``[N]`` sets, or ``[N, C]`` booleans.
        augment: A function that varies an item in training: ``augment(item)``, or ``augment(item, rng)`` with a
            seeded :class:`numpy.random.Generator`.
        weights: ``[N]``, the weight of each item in one of the framework's own losses; at least 0.
        min_overlap: Of label sets, the least Jaccard overlap (common labels / all labels of both) of items that belong
            together, above 0 and at most 1; None for any common label.

    Raises:
        ValueError: If there is no item, ``x`` and ``y`` differ in length, a class is missing, or a weight is negative.
        TypeError: If ``augment`` is not callable, or the classes are of several types.

    Example:
        >>> data = ClassDataset([[0.0], [0.1], [5.0], [5.1]], ["cat", "cat", "dog", "dog"])
        >>> data
        ClassDataset(4 items, 2 classes)
        >>> data.labels.tolist(), data.classes.tolist()
        ([0, 0, 1, 1], ['cat', 'dog'])
        >>> ClassDataset(np.zeros((3, 8)), [{"red"}, {"red", "round"}, {"round"}])
        ClassDataset(3 items, sets of 2 labels)
    """

    target_types: tuple[str, ...] = ("relations", "classes", "values")

    def __init__(
        self,
        x: Any,
        y: Any,
        augment: Callable[..., Any] | None = None,
        weights: Any = None,
        min_overlap: float | None = None,
    ):
        super().__init__(x, augment)
        y = from_container("y", y)
        self.min_overlap = min_overlap
        if has_label_sets(y):
            self.target_types = ("relations",)
            self.label_names, self.labels = encode_label_sets(y, "y")
            self.classes = distinct_sets(self.label_names, self.labels)
            if min_overlap is not None:
                self.labels = self._labels_with_overlap(checks.above("min_overlap", min_overlap, 0))
        else:
            if min_overlap is not None:
                raise ValueError(f"min_overlap must be used with label sets, got {min_overlap} with classes")
            self.classes, self.labels = encode_labels(y, "y")
        self._check_length("y", self.labels)
        self._set_weights(weights)

    def _labels_with_overlap(self, overlap: float) -> np.ndarray:
        """Float32 labels, see :func:`~finetuner.labels.sets_match`, or classes if equal sets are asked for."""
        if overlap > 1:
            raise ValueError(f"min_overlap must be at most 1, got {overlap}")
        if overlap < 1:
            return without_two_columns(self.labels * np.float32(overlap))
        empty = ~self.labels.any(axis=1)  # a set without labels matches nothing
        codes = np.unique(self.labels, axis=0, return_inverse=True)[1].reshape(-1)
        codes = np.where(empty, len(codes) + np.arange(len(codes)), codes)
        return np.unique(codes, return_inverse=True)[1].astype(np.int32)

    def __repr__(self) -> str:
        if "classes" not in self.target_types:
            return f"{type(self).__name__}({len(self)} items, sets of {len(self.label_names)} labels)"
        return f"{type(self).__name__}({len(self)} items, {len(self.classes)} classes)"


class InstanceDataset(Dataset):
    """Items without labels. The views of one item belong together.

    Args:
        x: The items: an array ``[N, ...]``, a sequence, or a mapping of arrays.
        augment: A function that makes a view of an item: ``augment(item)``, or ``augment(item, rng)`` with a seeded
            :class:`numpy.random.Generator`.
        views: How many views of an item a batch contains, at least 2.

    Raises:
        TypeError: If ``augment`` is not callable.
        ValueError: If there is no item, or ``views`` is below 2.

    Example:
        >>> InstanceDataset(np.zeros((3, 8)), augment=lambda item, rng: item + rng.normal(size=8))
        InstanceDataset(3 items, 2 views each)
    """

    def __init__(self, x: Any, augment: Callable[..., Any], views: int = 2):
        super().__init__(x, augment)
        if augment is None:
            raise TypeError("augment must be a function of an item, got None")
        self.views = checks.integer("views", views, 2)
        self.labels = np.arange(len(self), dtype=np.int32)
        self.classes = self.labels

    def __repr__(self) -> str:
        return f"{type(self).__name__}({len(self)} items, {self.views} views each)"


class SessionDataset(Dataset):
    """Items in sessions, as in a search log: an anchor, items that match it, and items that do not.

    Within a session, the anchor and its matches are positives of each other, and the other items are their negatives.
    Items of different sessions are not related.

    Args:
        x: The items: an array ``[N, ...]``, a sequence, or a mapping of arrays.
        sessions: ``[N]``, the session of each item: numbers or strings.
        roles: ``[N]``: 0 for an anchor, 1 for a match, -1 for an item that does not match.
        augment: A function that varies an item in training, see :class:`ClassDataset`.

    Raises:
        ValueError: If there is no item, the lengths differ, a session is missing, or a role is not one of the three.
        TypeError: If ``augment`` is not callable, or the sessions are of several types.

    Example:
        >>> SessionDataset(np.zeros((3, 8)), sessions=["query 1"] * 3, roles=[0, 1, -1])
        SessionDataset(3 items, 1 sessions)
    """

    def __init__(self, x: Any, sessions: Any, roles: Any, augment: Callable[..., Any] | None = None):
        super().__init__(x, augment)
        self.classes, codes = encode_labels(sessions, "sessions")
        roles = to_float_array("roles", roles)
        self._check_length("sessions", codes)
        self._check_length("roles", roles)
        wrong = ~np.isin(roles, (ANCHOR, MATCH, NO_MATCH))
        if wrong.any():
            first = int(np.flatnonzero(wrong)[0])
            raise ValueError(
                f"roles must be 0 (anchor), 1 (match) or -1 (no match), got {roles[first]:g} at item {first}"
            )
        self.labels = np.stack([codes, roles.astype(np.int32)], axis=1)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({len(self)} items, {len(self.classes)} sessions)"
