"""From the data that users have to a dataset of ours."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ....arrays import is_array
from .datasets import ClassDataset, Dataset

__all__ = ["align_labels", "as_dataset", "as_unlabelled"]


class _Column(Sequence[Any]):
    """One element of each pair in a sequence, read on access."""

    def __init__(self, pairs: Any, side: int):
        self.pairs, self.side = pairs, side

    def __len__(self) -> int:
        return len(self.pairs)

    def __getitem__(self, index: Any) -> Any:
        return self.pairs[index][self.side]


def as_dataset(data: Any, name: str = "data") -> Dataset:
    """Convert a dataset of ours, a pair ``(x, y)``, or a map-style dataset of such pairs.

    A framework's map-style dataset (such as ``torch.utils.data.Dataset``) is read item by item. Its classes are taken
    from its attribute ``targets`` or ``labels``, or from one pass over it.

    Args:
        data: The data.
        name: What error messages call it.

    Raises:
        TypeError: If ``data`` is none of these.
        ValueError: If it is empty.

    Example:
        >>> as_dataset((np.zeros((4, 8)), [0, 0, 1, 1]))
        ClassDataset(4 items, 2 classes)
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


class _UnlabelledDataset(Dataset):
    """Items to be embedded, without labels."""

    def __init__(self, x: Any):
        super().__init__(x)
        self.labels = np.zeros(len(self), dtype=np.int32)
        self.classes = np.zeros(1, dtype=np.int32)

    def __repr__(self) -> str:
        return f"{len(self)} unlabelled items"


def as_unlabelled(x: Any) -> Dataset:
    """Convert items, or items with labels, to a dataset whose labels are not used."""
    if isinstance(x, Dataset):
        return x
    plain = isinstance(x, Mapping | list | tuple) or is_array(x) or not hasattr(x, "__getitem__")
    pairs = not plain and len(x) > 0 and isinstance(x[0], tuple | list) and len(x[0]) == 2
    return as_dataset(x) if pairs else _UnlabelledDataset(x)


def align_labels(datasets: Sequence[Dataset]) -> list[np.ndarray]:
    """The labels of several datasets, encoded by the class names of all of them, so they can be compared.

    Raises:
        ValueError: If the labels are of different kinds, or the names of different types.
    """
    if len({dataset.labels.ndim for dataset in datasets}) > 1:
        raise ValueError(f"datasets must have labels of one kind, got {', '.join(map(repr, datasets))}")
    if len({dataset.classes.dtype.kind in "US" for dataset in datasets}) > 1:
        raise ValueError("classes must have the same type to be compared, got texts and numbers")
    codes = np.unique(np.concatenate([dataset.classes for dataset in datasets]), return_inverse=True)[1]
    starts = np.cumsum([0, *(len(dataset.classes) for dataset in datasets)])
    aligned = []
    for dataset, start in zip(datasets, starts, strict=False):
        labels = dataset.labels.copy()
        names = labels[:, 0] if labels.ndim == 2 else labels
        names[:] = codes[start + names]
        aligned.append(labels)
    return aligned
