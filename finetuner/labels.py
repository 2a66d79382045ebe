"""Labels: the roles of a session's items, and how a user's class names become integers."""

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from .checks import preview
from .containers import from_container, is_missing

__all__ = [
    "ANCHOR",
    "MATCH",
    "NEGATIVE",
    "NO_MATCH",
    "OVERLAP_ROUNDING",
    "POSITIVE",
    "class_names",
    "distinct_sets",
    "encode_label_sets",
    "encode_labels",
    "has_label_sets",
    "plain_label",
    "rarest_labels",
    "sets_match",
    "without_two_columns",
]

ANCHOR, MATCH, NO_MATCH = 0, 1, -1  # the roles of a session's items
POSITIVE, NEGATIVE = 2, -2  # a match and a non-match that are references only, never anchors

OVERLAP_ROUNDING = 1e-6  # of the least overlap, which is float32: an overlap of 3 / 10 is at least 0.3
_EXACT_FLOAT = 2**53  # up to here, each integer is a float64 of its own


def encode_labels(y: Any, name: str) -> tuple[np.ndarray, np.ndarray]:
    """Encode labels as integers.

    Labels are compared as Python compares them, before any conversion: ``1`` and ``"1"`` are never merged.

    Args:
        y: ``[N]`` or ``[N, 1]`` numbers, strings or bytes: a list, an array, a tensor, or a column of a table.
        name: What error messages call them.

    Returns:
        The distinct values in sorted order, ``[C]``, and the position of each label among them, ``[N]`` int32.

    Raises:
        ValueError: If the shape is not ``[N]``, or a label is missing (None, NaN, NaT or ``pandas.NA``).
        TypeError: If the labels are of several types, or are neither numbers nor strings.

    Example:
        >>> classes, codes = encode_labels(["cat", "dog", "cat"], "y")
        >>> classes.tolist(), codes.tolist()
        (['cat', 'dog'], [0, 1, 0])
    """
    y = _one_column(from_container(name, y), name)
    if isinstance(y, np.ndarray) and y.dtype.kind in "biufUSM":
        missing = np.flatnonzero(np.isnat(y) if y.dtype.kind == "M" else y != y)
        _refuse_missing(missing, name)
        classes, codes = np.unique(y, return_inverse=True)
        return classes, codes.astype(np.int32)
    values = [plain_label(value) for value in y]
    _refuse_missing([i for i, value in enumerate(values) if is_missing(value)], name)
    _check_types(values, name)
    distinct = sorted(set(values))
    number = {value: code for code, value in enumerate(distinct)}
    return class_names(distinct), np.array([number[value] for value in values], np.int32)


def has_label_sets(y: Any) -> bool:
    """Whether labels, as :func:`from_container` returns them, are sets: several labels for an item.

    A set, or a boolean matrix ``[N, C]`` of which label an item has, is read as such. Lists and tuples are not: they
    may be pairs of another meaning.
    """
    if isinstance(y, np.ndarray) and y.ndim == 2:
        return y.dtype.kind == "b" and y.shape[1] != 1
    return isinstance(y, list | tuple | np.ndarray) and len(y) > 0 and isinstance(y[0], set | frozenset)


def encode_label_sets(y: Any, name: str) -> tuple[np.ndarray, np.ndarray]:
    """Encode label sets as a boolean matrix.

    Args:
        y: ``[N]`` sets of numbers or strings, or booleans ``[N, C]``.
        name: What error messages call them.

    Returns:
        The distinct labels in sorted order, ``[C]``, and which labels each item has, ``[N, C]`` booleans.

    Raises:
        TypeError: If some items have a set and others have not, or the labels are of several types.
        ValueError: If a set contains a missing label.

    Example:
        >>> labels, sets = encode_label_sets([{"red"}, {"blue", "red"}, set()], "y")
        >>> labels.tolist(), sets.tolist()
        (['blue', 'red'], [[False, True], [True, True], [False, False]])
    """
    if isinstance(y, np.ndarray) and y.dtype.kind == "b":
        return np.arange(y.shape[1]), y
    wrong = [i for i, value in enumerate(y) if not isinstance(value, set | frozenset)]
    if wrong:
        raise TypeError(f"{name} must be sets for all items or for none, and are not at items {preview(wrong)}")
    sets = [{plain_label(value) for value in labels} for labels in y]
    _refuse_missing([i for i, labels in enumerate(sets) if any(map(is_missing, labels))], name)
    distinct = set().union(*sets)
    _check_types(distinct, name)
    ordered = sorted(distinct)
    number = {value: code for code, value in enumerate(ordered)}
    matrix = np.zeros((len(sets), len(ordered)), bool)
    for row, labels in zip(matrix, sets, strict=True):
        row[[number[value] for value in labels]] = True
    return class_names(ordered), matrix


def distinct_sets(names: np.ndarray, sets: np.ndarray) -> np.ndarray:
    """The distinct sets of a matrix ``[N, C]`` with named columns, as an array of Python's sets."""
    distinct = np.unique(sets, axis=0)
    found = np.empty(len(distinct), dtype=object)
    found[:] = [frozenset(names[row].tolist()) for row in distinct]
    return found


def sets_match(sets: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Which label sets belong together: ``[N, C]`` and ``[M, C]`` to ``[N, M]`` booleans.

    Booleans match if they have a common label. Numbers, 0 where an item does not have a label, match if they have a
    common label and the Jaccard overlap of the sets is at least the number in the query's row, which is the same for
    all its labels. A number of 1 or more asks for a common label alone.

    Example:
        >>> sets = np.array([[True, True, False], [False, True, True]])
        >>> sets_match(sets, sets).tolist()
        [[True, True], [True, True]]
        >>> sets_match(sets * 0.5, sets * 0.5).tolist()
        [[True, False], [False, True]]
    """
    own, others = sets != 0, other != 0
    common = own.astype(np.float32) @ others.astype(np.float32).T
    if sets.dtype.kind == "b":
        return common > 0
    least = (sets.sum(axis=1) / np.maximum(own.sum(axis=1), 1))[:, None]
    total = own.sum(axis=1)[:, None] + others.sum(axis=1)[None, :] - common
    return (common > 0) & ((least >= 1) | (common >= (least - OVERLAP_ROUNDING) * total))


def without_two_columns(sets: np.ndarray) -> np.ndarray:
    """Float label sets with a third, empty column if there are two: floats ``[N, 2]`` could be sessions and roles."""
    return np.pad(sets, ((0, 0), (0, 1))) if sets.dtype.kind == "f" and sets.shape[1] == 2 else sets


def rarest_labels(sets: np.ndarray) -> np.ndarray:
    """One class for each label set, its rarest label that another item has: ``[N, C]`` to ``[N]`` int32.

    An item without such a label has a class of its own.
    """
    has = sets != 0
    counts = has.sum(axis=0)
    cost = np.where(has & (counts > 1), counts, len(sets) + 1)
    if not sets.shape[1]:
        return np.arange(len(sets), dtype=np.int32)
    rarest = cost.argmin(axis=1)
    alone = cost[np.arange(len(sets)), rarest] > len(sets)
    return np.where(alone, sets.shape[1] + np.arange(len(sets)), rarest).astype(np.int32)


def plain_label(value: Any) -> Any:
    """A label of one item as a plain Python value: a tensor or an array with one element becomes this element.

    Example:
        >>> plain_label(np.array([3])), plain_label(np.str_("a"))
        (3, 'a')
    """
    value = from_container("y", value) if not isinstance(value, str | bytes | int | float | set | frozenset) else value
    if isinstance(value, np.ndarray) and value.size == 1:
        value = value.reshape(-1)[0]
    return value.item() if isinstance(value, np.generic) and value.dtype.kind not in "mM" else value


def _one_column(y: Any, name: str) -> Any:
    """``y`` as a sequence of labels; one column of a table or of a matrix becomes this column."""
    if isinstance(y, Mapping) and len(y) == 1:
        y = next(iter(y.values()))
    if isinstance(y, Mapping | str | bytes) or not hasattr(y, "__len__"):
        raise TypeError(f"{name} must have a label for each item, [N], got {type(y).__name__}")
    if isinstance(y, np.ndarray):
        if y.ndim == 2 and y.shape[1] == 1:
            y = y[:, 0]
        if y.ndim != 1:
            hint = "; for one-hot labels pass argmax(axis=1), for several labels per item booleans" * (y.ndim == 2)
            raise ValueError(f"{name} must have shape [N], got {list(y.shape)}{hint}")
    return y


def _refuse_missing(items: Any, name: str) -> None:
    if len(items):
        raise ValueError(f"{name} must not be missing, and is at items {preview(items)}")


def _check_types(values: Iterable[Any], name: str) -> None:
    """Raise ``TypeError`` unless all labels are strings, all bytes, all booleans, all dates or all numbers."""
    kinds = {type(value) for value in values}
    wrong = sorted(kind.__name__ for kind in kinds if not issubclass(kind, str | bytes | int | float | np.datetime64))
    if wrong:
        shape = f"; {name} must have shape [N]" * bool({"list", "tuple", "ndarray"} & set(wrong))
        sets = "; several labels of an item are given as a set" * bool({"list", "tuple"} & set(wrong))
        raise TypeError(f"{name} must be numbers or strings, got {', '.join(wrong)}{shape}{sets}")
    groups = {
        next(base for base in (bool, str, bytes, np.datetime64, object) if issubclass(kind, base)) for kind in kinds
    }
    if len(groups) > 1:
        names = " and ".join(sorted(kind.__name__ for kind in kinds))
        raise TypeError(f"the values of {name} must have the same type, got {names}")
    if {int, float} <= kinds:
        large = [value for value in values if isinstance(value, int) and abs(value) > _EXACT_FLOAT]
        if large:
            raise ValueError(f"{name} must not mix floats with integers above 2**53, got {large[0]}")


def class_names(distinct: list[Any]) -> np.ndarray:
    """Labels as an array. Labels that no type of numpy can hold, or of several types, stay Python's."""
    kinds = {type(value) for value in distinct}
    if len(kinds) > 1 and not kinds <= {int, float}:
        return np.array(distinct, dtype=object)
    integers = distinct and all(type(value) is int for value in distinct)
    if integers and not (min(distinct) >= -(2**63) and max(distinct) < 2**63):
        return np.array(distinct, dtype=object)
    return np.array(distinct)
