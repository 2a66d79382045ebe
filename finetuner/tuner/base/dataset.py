"""Datasets: items, and labels that say who belongs to whom.

A dataset hands out whole batches, so that arrays are indexed once a batch and not once an item. Labels
are coded on the host: whatever the user calls the classes, a loss sees ``0 .. C - 1`` as int32, which
every framework can hold, and :attr:`Dataset.classes` keeps the names.
"""

import inspect
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from .checks import some_of, whole

__all__ = [
    "ANCHOR",
    "MATCH",
    "NO_MATCH",
    "ClassDataset",
    "Dataset",
    "InstanceDataset",
    "SessionDataset",
    "as_dataset",
    "as_items",
    "labels_in_common",
]

ANCHOR, MATCH, NO_MATCH = 0, 1, -1  # the roles of a session's items


def is_array(x: Any) -> bool:
    """Whether ``x`` can be indexed with an integer array: numpy's, or a framework's tensor."""
    return hasattr(x, "shape") and hasattr(x, "dtype") and hasattr(x, "__getitem__")


def num_items(x: Any) -> int:
    """Number of items in an array, a sequence, or a mapping of arrays of one length."""
    if isinstance(x, Mapping):
        lengths = {key: num_items(value) for key, value in x.items()}
        if len(set(lengths.values())) != 1:
            raise ValueError(f"x must hold arrays of one length, got {lengths or 'an empty mapping'}")
        return next(iter(lengths.values()))
    if is_array(x):
        if not x.shape:
            raise ValueError("x must have one row an item, got an array without dimensions")
        return int(x.shape[0])
    if isinstance(x, str | bytes) or not (hasattr(x, "__len__") and hasattr(x, "__getitem__")):
        raise TypeError(f"x must be an array, a sequence or a mapping of arrays, got {type(x).__name__}")
    return len(x)


def rows(x: Any, indices: np.ndarray) -> Any:
    """The items at ``indices``: an array, a mapping of arrays, or a list, as ``x`` is."""
    if isinstance(x, Mapping):
        return {key: rows(value, indices) for key, value in x.items()}
    return x[indices] if is_array(x) else [x[int(i)] for i in indices]


def coded(y: Any, name: str) -> tuple[np.ndarray, np.ndarray]:
    """Distinct values of ``y`` in order, and the place of each item's in them as int32."""
    if is_array(y) and not isinstance(y, np.ndarray) and hasattr(y, "tolist"):
        y = y.tolist()  # of a framework, perhaps on a device
    y = np.asarray(y)
    if y.ndim != 1:
        raise ValueError(f"{name} must have shape [N], got {list(y.shape)}")
    missing = [i for i, value in enumerate(y.tolist()) if value is None or value != value]  # NaN is not itself
    if missing:
        raise ValueError(f"{name} must not be missing, and is at items {some_of(missing)}")
    try:
        classes, codes = np.unique(y, return_inverse=True)
    except TypeError:
        kinds = sorted({type(value).__name__ for value in y})
        raise TypeError(f"{name} must be of one type, got {' and '.join(kinds)}") from None
    return classes, codes.astype(np.int32)


class Dataset(ABC):
    """Interface of all datasets.

    Args:
        x: the items: an array ``[N, ...]``, a sequence, or a mapping of arrays.
        augment: varies an item in training: ``augment(item)``, or ``augment(item, rng)`` with a seeded
            :class:`numpy.random.Generator`, by which the items of a run can be had again.

    Attributes:
        labels: ``[N]`` int32 classes, or ``[N, 2]`` int32 session and role; what losses are given.
        classes: ``[C]``, the user's name of each class, session or instance.
    """

    views = 1  # how often a batch holds each of its items
    labels: np.ndarray
    classes: np.ndarray

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

    def batch(self, indices: np.ndarray, seed: Sequence[int] | None = None) -> Any:
        """The items at ``indices``: as ``x`` holds them, or with a ``seed`` a list of them augmented."""
        items = rows(self.x, indices)
        if self.augment is None or seed is None:
            return items
        if isinstance(items, Mapping):
            items = [{key: value[i] for key, value in items.items()} for i in range(len(indices))]
        rng = np.random.default_rng(list(seed))
        seeded = takes_two(self.augment)
        return [self.augment(item, rng) if seeded else self.augment(item) for item in items]

    def _check_length(self, name: str, values: np.ndarray) -> None:
        if len(values) != len(self):
            raise ValueError(f"x and {name} must be of one length, got {len(self)} and {len(values)}")

    @abstractmethod
    def __repr__(self) -> str: ...


class ClassDataset(Dataset):
    """Items with a class each; those of one class belong together.

    Args:
        x: the items: an array ``[N, ...]``, a sequence, or a mapping of arrays.
        y: ``[N]``, the class of each: numbers or strings, in any order and with gaps.
        augment: varies an item in training: ``augment(item)``, or ``augment(item, rng)`` with a seeded
            :class:`numpy.random.Generator`.

    Raises:
        ValueError: if there is no item, ``x`` and ``y`` differ in length, or a class is missing.
        TypeError: if ``augment`` cannot be called, or the classes are of several types.
    """

    def __init__(self, x: Any, y: Any, augment: Callable[..., Any] | None = None):
        super().__init__(x, augment)
        self.classes, self.labels = coded(y, "y")
        self._check_length("y", self.labels)

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


def takes_two(function: Callable[..., Any]) -> bool:
    """Whether ``function`` asks for a second positional argument that has no default."""
    try:
        parameters = inspect.signature(function).parameters.values()
    except ValueError:  # built in, without a signature
        return False
    positional = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    return sum(p.kind in positional and p.default is p.empty for p in parameters) == 2
