"""From the data that users have to a dataset of ours."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ....arrays import is_array
from ....containers import from_container
from ....labels import plain_label, without_two_columns
from .datasets import ClassDataset, Dataset
from .frames import refuse_splits

__all__ = ["align_labels", "as_dataset", "as_unlabelled"]


NUM_COMPARED = 16  # items of a dataset whose labels are compared with those that it declares


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
    from its attribute ``targets`` or ``labels`` if some items show that it yields these, else from one pass over it.

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
    refuse_splits(data, name)
    indexed = hasattr(data, "__getitem__") and hasattr(data, "__len__")
    if isinstance(data, Mapping) or is_array(data) or not indexed or _is_column(data):
        raise TypeError(
            f"{name} must be a ClassDataset, InstanceDataset or SessionDataset, a pair (x, y), or a dataset "
            f"of such pairs, got {type(data).__name__}"
        )
    if len(data) == 0:
        raise ValueError(f"{name} must hold at least one item, got none")
    first = data[0]
    if not isinstance(first, tuple | list) or len(first) != 2:
        raise TypeError(f"{name} must yield pairs of an item and its class, got {type(first).__name__}")
    labels = _declared_labels(data)
    return ClassDataset(_Column(data, 0), list(_Column(data, 1)) if labels is None else labels)


def _is_column(data: Any) -> bool:
    """Whether ``data`` is a tensor, or a column or a frame of a table."""
    return not isinstance(data, list | tuple) and from_container("data", data) is not data


def _declared_labels(data: Any) -> list[Any] | None:
    """The labels that a dataset has as an attribute, if they are those that it yields; None if not.

    A dataset may change a label when it yields it, by a ``target_transform`` for instance. A few items are compared.
    """
    for name in ("targets", "labels"):
        labels = from_container(name, getattr(data, name, None))
        if not hasattr(labels, "__len__") or not hasattr(labels, "__getitem__") or isinstance(labels, Mapping):
            continue
        if len(labels) != len(data):
            continue
        positions = np.unique(np.linspace(0, len(data) - 1, NUM_COMPARED).astype(int)).tolist()
        if all(_same_label(labels[position], data[position][1]) for position in positions):
            return [plain_label(label) for label in labels]
    return None


def _same_label(declared: Any, yielded: Any) -> bool:
    declared, yielded = plain_label(declared), plain_label(yielded)
    same = type(declared) is type(yielded) and declared == yielded
    return isinstance(same, bool) and same


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
    x = from_container("x", x)
    plain = isinstance(x, Mapping | list | tuple) or is_array(x) or not hasattr(x, "__getitem__")
    pairs = not plain and len(x) > 0 and isinstance(x[0], tuple | list) and len(x[0]) == 2
    return as_dataset(x) if pairs else _UnlabelledDataset(x)


def align_labels(datasets: Sequence[Dataset]) -> list[np.ndarray]:
    """The labels of several datasets, encoded by the class names of all of them, so they can be compared.

    Raises:
        ValueError: If the labels are of different kinds, or the names of different types.
    """
    kinds = {(dataset.labels.ndim, dataset.labels.dtype.kind in "bf") for dataset in datasets}
    if len(kinds) > 1:
        raise ValueError(f"datasets must have labels of one kind, got {', '.join(map(repr, datasets))}")
    is_sets = (2, True) in kinds
    own_names = [dataset.label_names if is_sets else dataset.classes for dataset in datasets]
    if len({names.dtype.kind in "US" for names in own_names}) > 1:
        raise ValueError("classes must have the same type to be compared, got texts and numbers")
    names, codes = np.unique(np.concatenate(own_names), return_inverse=True)
    starts = np.cumsum([0, *map(len, own_names)])
    aligned = []
    for dataset, own, start in zip(datasets, own_names, starts, strict=False):
        labels = dataset.labels.copy()
        if is_sets:  # with a column for each label of all datasets
            labels = np.zeros((len(labels), len(names)), labels.dtype)
            labels[:, codes[start : start + len(own)]] = dataset.labels[:, : len(own)]
            labels = without_two_columns(labels)
        else:
            numbers = labels[:, 0] if labels.ndim == 2 else labels
            numbers[:] = codes[start + numbers]
        aligned.append(labels)
    return aligned
