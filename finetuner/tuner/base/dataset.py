"""Datasets: items, and labels that say who belongs to whom.

A dataset hands out whole batches, so that arrays are indexed once a batch and not once an item. Labels
are coded on the host: whatever the user calls the classes, a loss sees ``0 .. C - 1`` as int32, which
every framework can hold, and :attr:`Dataset.classes` keeps the names.
"""

import copy
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from .checks import whole
from .items import coded, is_array, num_items, numbers, one_by_one, rows, takes_two

__all__ = [
    "ANCHOR",
    "MATCH",
    "NEGATIVE",
    "NO_MATCH",
    "POSITIVE",
    "ClassDataset",
    "Dataset",
    "InstanceDataset",
    "SessionDataset",
    "as_dataset",
    "as_items",
    "labels_in_common",
]

ANCHOR, MATCH, NO_MATCH = 0, 1, -1  # the roles of a session's items
POSITIVE, NEGATIVE = 2, -2  # of a match and a non-match that only answer


class Dataset(ABC):
    """Interface of all datasets.

    Args:
        x: the items: an array ``[N, ...]``, a sequence, or a mapping of arrays.
        augment: varies an item in training: ``augment(item)``, or ``augment(item, rng)`` with a seeded
            :class:`numpy.random.Generator`, by which the items of a run can be had again.

    Attributes:
        labels: ``[N]`` int32 classes, ``[N, 2]`` int32 session and role, or float32 numbers; what losses are given.
        classes: ``[C]``, the user's name of each class, session or instance.
        weights: ``[N]`` float32, how much each item counts; None where all count alike.
    """

    gives: tuple[str, ...] = ("relations",)  # what it tells of its items, see losses.TAKES
    size = 1  # how many rows an item has: a pair two, a triplet three
    views = 1  # how often a batch holds each of its items
    labels: np.ndarray
    classes: np.ndarray
    weights: np.ndarray | None = None

    def __init__(self, x: Any, augment: Callable[..., Any] | None = None):
        self.x = x
        if num_items(x) == 0:
            raise ValueError("a dataset must hold at least one item, got none")
        if augment is not None and not callable(augment):
            raise TypeError(f"augment must be a function of an item, got {augment!r}")
        self.augment = augment

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
        """How many rows the items have in all, of which :attr:`labels` holds one each."""
        return len(self) * self.size

    def batch(self, indices: np.ndarray, seed: Sequence[int] | None = None) -> Any:
        """The rows at ``indices``: as ``x`` holds them, or with a ``seed`` a list of them augmented."""
        return self._varied(rows(self.x, indices), len(indices), seed)

    def targets(self, indices: np.ndarray, form: str) -> tuple[np.ndarray, ...]:
        """What a loss that takes ``form`` is told of the rows at ``indices``: an array a argument."""
        labels = self.labels[indices]
        return (labels, self.weights[indices]) if form == "values" and self.weights is not None else (labels,)

    def _varied(self, items: Any, count: int, seed: Sequence[int] | None) -> Any:
        if self.augment is None or seed is None:
            return items
        rng = np.random.default_rng(list(seed))
        seeded = takes_two(self.augment)
        return [self.augment(item, rng) if seeded else self.augment(item) for item in one_by_one(items, count)]

    def _check_length(self, name: str, values: np.ndarray) -> None:
        if len(values) != len(self):
            raise ValueError(f"x and {name} must be of one length, got {len(self)} and {len(values)}")

    def _take_weights(self, weights: Any) -> None:
        if weights is not None:
            self.weights = numbers("weights", weights)
            self._check_length("weights", self.weights)
            if (self.weights < 0).any() or not self.weights.any():
                raise ValueError(f"weights must be at least 0 and not all 0, got {self.weights.min()} as the least")

    @abstractmethod
    def __repr__(self) -> str: ...


class ClassDataset(Dataset):
    """Items with a class each; those of one class belong together.

    Args:
        x: the items: an array ``[N, ...]``, a sequence, or a mapping of arrays.
        y: ``[N]``, the class of each: numbers or strings, in any order and with gaps.
        augment: varies an item in training: ``augment(item)``, or ``augment(item, rng)`` with a seeded
            :class:`numpy.random.Generator`.
        weights: ``[N]``, how much each item counts in a loss of the framework's own; at least 0.

    Raises:
        ValueError: if there is no item, ``x`` and ``y`` differ in length, a class is missing, or a weight is below 0.
        TypeError: if ``augment`` cannot be called, or the classes are of several types.
    """

    gives = ("relations", "classes", "values")

    def __init__(self, x: Any, y: Any, augment: Callable[..., Any] | None = None, weights: Any = None):
        super().__init__(x, augment)
        self.classes, self.labels = coded(y, "y")
        self._check_length("y", self.labels)
        self._take_weights(weights)

    def renumbered(self, names: list[Any]) -> "ClassDataset":
        """The same items with classes numbered as in ``names``, to which new ones are added at the end."""
        numbers = {name: number for number, name in enumerate(names)}
        for name in self.classes.tolist():
            if name not in numbers:
                numbers[name] = len(names)
                names.append(name)
        other = copy.copy(self)
        other.labels = np.array([numbers[name] for name in self.classes.tolist()], np.int32)[self.labels]
        other.classes = np.array(names)
        return other

    def __repr__(self) -> str:
        return f"ClassDataset({len(self)} items, {len(self.classes)} classes)"


class InstanceDataset(Dataset):
    """Items without labels; the views of one item belong together.

    Args:
        x: the items: an array ``[N, ...]``, a sequence, or a mapping of arrays.
        augment: makes a view of an item: ``augment(item)``, or ``augment(item, rng)`` with a seeded
            :class:`numpy.random.Generator`.
        views: how many views of an item a batch holds, at least 2.

    Raises:
        TypeError: if ``augment`` cannot be called.
        ValueError: if there is no item, or ``views`` is below 2.
    """

    def __init__(self, x: Any, augment: Callable[..., Any], views: int = 2):
        super().__init__(x, augment)
        if augment is None:
            raise TypeError("augment must be a function of an item, got None")
        self.views = whole("views", views, 2)
        self.labels = np.arange(len(self), dtype=np.int32)
        self.classes = self.labels

    def __repr__(self) -> str:
        return f"InstanceDataset({len(self)} items, {self.views} views each)"


class SessionDataset(Dataset):
    """Items in sessions, as a search log has them: an anchor, and what matched it or did not.

    Within a session the anchor and its matches belong together, and do not belong to the items that
    did not match. Of items of different sessions nothing is known.

    Args:
        x: the items: an array ``[N, ...]``, a sequence, or a mapping of arrays.
        sessions: ``[N]``, the session of each: numbers or strings.
        roles: ``[N]``, 0 for an anchor, 1 for a match, -1 for an item that does not match.
        augment: varies an item in training, as in :class:`ClassDataset`.

    Raises:
        ValueError: if there is no item, the lengths differ, a session is missing, or a role is none.
        TypeError: if ``augment`` cannot be called, or the sessions are of several types.
    """

    def __init__(self, x: Any, sessions: Any, roles: Any, augment: Callable[..., Any] | None = None):
        super().__init__(x, augment)
        self.classes, codes = coded(sessions, "sessions")
        roles = np.asarray(roles)
        self._check_length("sessions", codes)
        self._check_length("roles", roles)
        wrong = ~np.isin(roles, (ANCHOR, MATCH, NO_MATCH))
        if wrong.any():
            first = int(np.flatnonzero(wrong)[0])
            raise ValueError(
                f"roles must be 0 (anchor), 1 (match) or -1 (no match), got {roles[first]} at item {first}"
            )
        self.labels = np.stack([codes, roles.astype(np.int32)], axis=1)

    def __repr__(self) -> str:
        return f"SessionDataset({len(self)} items, {len(self.classes)} sessions)"


class _Column(Sequence[Any]):
    """One side of a sequence of pairs, fetched when it is asked for."""

    def __init__(self, pairs: Any, side: int):
        self.pairs, self.side = pairs, side

    def __len__(self) -> int:
        return len(self.pairs)

    def __getitem__(self, index: Any) -> Any:
        return self.pairs[index][self.side]


def as_dataset(data: Any, name: str = "data") -> Dataset:
    """Make a dataset of what users have: a dataset of ours, ``(x, y)``, or one that yields pairs.

    A framework's map-style dataset (``torch.utils.data.Dataset`` and its like) stays where it is and is
    read item by item; its classes come from its ``targets`` or ``labels``, or from one pass over it.

    Raises:
        TypeError: if ``data`` is none of these.
    """
    if isinstance(data, Dataset):
        return data
    if isinstance(data, tuple) and len(data) == 2:
        return ClassDataset(*data)
    if isinstance(data, Mapping) or is_array(data) or not (hasattr(data, "__getitem__") and hasattr(data, "__len__")):
        raise TypeError(
            f"{name} must be a ClassDataset, InstanceDataset or SessionDataset, a pair (x, y), or a dataset "
            f"of such pairs, got {type(data).__name__}"
        )
    if len(data) == 0:
        raise ValueError(f"{name} must hold at least one item, got none")
    first = data[0]
    if not isinstance(first, tuple | list) or len(first) != 2:
        raise TypeError(f"{name} must yield pairs of an item and its class, got {type(first).__name__}")
    labels = getattr(data, "targets", None)
    labels = getattr(data, "labels", None) if labels is None else labels
    if labels is None or len(labels) != len(data):
        labels = [int(y) if hasattr(y, "__index__") else y for y in _Column(data, 1)]
    return ClassDataset(_Column(data, 0), labels)


class Items(Dataset):
    """Items of which nothing is known, to be embedded."""

    def __init__(self, x: Any):
        super().__init__(x)
        self.labels = np.zeros(len(self), dtype=np.int32)
        self.classes = np.zeros(1, dtype=np.int32)

    def __repr__(self) -> str:
        return f"Items({len(self)})"


def as_items(x: Any) -> Dataset:
    """Make a dataset of items alone, or of items with labels that will not be looked at."""
    if isinstance(x, Dataset):
        return x
    plain = isinstance(x, Mapping | list | tuple) or is_array(x) or not hasattr(x, "__getitem__")
    pairs = not plain and len(x) > 0 and isinstance(x[0], tuple | list) and len(x[0]) == 2
    return as_dataset(x) if pairs else Items(x)


def labels_in_common(datasets: Sequence[Dataset]) -> list[np.ndarray]:
    """The labels of each dataset, coded by the names of all, so that they can be compared."""
    if len({dataset.labels.ndim for dataset in datasets}) > 1:
        raise ValueError(f"datasets must have labels of one kind, got {', '.join(map(repr, datasets))}")
    kinds = {dataset.classes.dtype.kind in "US" for dataset in datasets}
    if len(kinds) > 1:
        raise ValueError("classes must be of one type to be compared, got texts and numbers")
    codes = np.unique(np.concatenate([dataset.classes for dataset in datasets]), return_inverse=True)[1]
    starts = np.cumsum([0, *(len(dataset.classes) for dataset in datasets)])
    shared = []
    for dataset, start in zip(datasets, starts, strict=False):
        labels = dataset.labels.copy()
        names = labels[:, 0] if labels.ndim == 2 else labels
        names[:] = codes[start + names]
        shared.append(labels)
    return shared
