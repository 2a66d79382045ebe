"""Items in arrays, sequences and mappings: how many there are, and how some of them are taken."""

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from .checks import preview
from .containers import from_container, is_missing

__all__ = [
    "as_list",
    "is_array",
    "item_length",
    "item_lengths",
    "merge_items",
    "num_items",
    "take",
    "takes_two_arguments",
    "to_float_array",
]


def is_array(x: Any) -> bool:
    """Whether ``x`` is a numpy array, a framework's tensor, or another array of rows."""
    return hasattr(x, "shape") and hasattr(x, "dtype") and hasattr(x, "__getitem__")


def num_items(x: Any) -> int:
    """The number of items in an array, a sequence, or a mapping of arrays.

    Raises:
        ValueError: If the arrays of a mapping differ in length, or an array has no axes.
        TypeError: If ``x`` is none of these.
    """
    if isinstance(x, Mapping):
        lengths = {key: num_items(value) for key, value in x.items()}
        if len(set(lengths.values())) != 1:
            raise ValueError(f"x must hold arrays of the same length, got {lengths or 'an empty mapping'}")
        return next(iter(lengths.values()))
    if is_array(x):
        if not x.shape:
            raise ValueError("x must have one row per item, got an array without dimensions")
        return int(x.shape[0])
    if isinstance(x, str | bytes) or not (hasattr(x, "__len__") and hasattr(x, "__getitem__")):
        raise TypeError(f"x must be an array, a sequence or a mapping of arrays, got {type(x).__name__}")
    return len(x)


def take(x: Any, indices: np.ndarray) -> Any:
    """The items at ``indices``, by position: an array, a mapping of arrays, or a list, like ``x`` itself.

    Only numpy is known to take an array of positions for what it is. Other arrays are read row by row.
    """
    if isinstance(x, Mapping):
        return {key: take(value, indices) for key, value in x.items()}
    if isinstance(x, np.ndarray):
        return x[indices]
    rows = [x[int(i)] for i in indices]
    return np.stack([np.asarray(row) for row in rows]) if is_array(x) and rows else rows


def item_lengths(x: Any) -> np.ndarray | None:
    """The lengths ``[N]`` of items that differ in length: texts, or lists of token ids.

    None if the items have one length, or if it is not known without reading them, as in a dataset on disk. Of a
    mapping with several values, such as the output of a tokenizer, the longest counts.
    """
    if isinstance(x, Mapping):
        lengths = [found for value in x.values() if (found := item_lengths(value)) is not None]
        return np.max(lengths, axis=0) if lengths else None
    if isinstance(x, np.ndarray) and x.ndim == 1 and x.dtype.kind in "US":
        measured = np.char.str_len(x)
    elif isinstance(x, list | tuple) or (isinstance(x, np.ndarray) and x.dtype == object and x.ndim == 1):
        try:
            measured = np.array([item_length(item) for item in x], np.int64)
        except TypeError:
            return None
    else:
        return None
    return measured if len(measured) and measured.min() < measured.max() else None


def item_length(item: Any) -> int:
    """The length of one item; raise ``TypeError`` if it has none."""
    if isinstance(item, Mapping):
        return max(len(value) for value in item.values())
    return len(item)


def merge_items(parts: Sequence[tuple[np.ndarray, Any]], count: int) -> Any:
    """Merge parts, each with the positions of its items, into ``count`` items.

    The result is an array or a mapping of arrays if all parts are, and a list otherwise.
    """
    first = parts[0][1]
    if len(parts) == 1:
        return first
    if all(isinstance(part, Mapping) and part.keys() == first.keys() for _, part in parts):
        return {key: merge_items([(positions, part[key]) for positions, part in parts], count) for key in first}
    if all(isinstance(part, np.ndarray) and part.shape[1:] == first.shape[1:] for _, part in parts):
        array = np.empty((count, *first.shape[1:]), np.result_type(*(part for _, part in parts)))
        for positions, part in parts:
            array[positions] = part
        return array
    items: list[Any] = [None] * count
    for positions, part in parts:
        part_items = as_list(part, len(positions))
        for i, position in enumerate(positions):
            items[position] = part_items[i]
    return items


def as_list(items: Any, count: int) -> list[Any]:
    """A list of ``count`` items, from an array, a mapping of arrays, or a sequence."""
    if isinstance(items, Mapping):
        return [{key: value[i] for key, value in items.items()} for i in range(count)]
    return list(items)


def to_float_array(name: str, values: Any, ranks: Sequence[int] = (1,)) -> np.ndarray:
    """``values`` as a float32 array ``[N]``, or ``[N, K]`` if ``ranks`` allows it. ``[N, 1]`` is read as ``[N]`` else.

    Raises:
        ValueError: If the shape is another one, or a value is not finite in float32.
        TypeError: If the values are not numbers.
    """
    values = from_container(name, values)
    try:
        array = np.asarray(values)
    except ValueError:  # rows of different lengths
        array = np.array([None])
    if array.dtype.kind == "O" and array.ndim:
        missing = [i for i, value in enumerate(array) if np.ndim(value) == 0 and is_missing(value)]
        if missing and len(array) == len(values):
            raise ValueError(f"{name} must be finite, and are not at items {preview(missing)}")
        array = _numbers_of_objects(array)
    if array.dtype.kind not in "biuf":
        found = sorted({type(value).__name__ for value in values}) if hasattr(values, "__len__") else [array.dtype.name]
        raise TypeError(f"{name} must be numbers, got {preview(found)}")
    if array.ndim == 2 and array.shape[1] == 1 and 2 not in ranks:
        array = array[:, 0]
    if array.ndim not in ranks:
        wanted = " or ".join({1: "[N]", 2: "[N, K]"}[rank] for rank in ranks)
        raise ValueError(f"{name} must have shape {wanted}, got {list(array.shape)}")
    with np.errstate(over="ignore"):
        array = array.astype(np.float32)
    bad_rows = np.flatnonzero(~np.isfinite(array).all(axis=tuple(range(1, array.ndim))))
    if len(bad_rows):
        raise ValueError(f"{name} must be finite, and are not at items {preview(bad_rows)}")
    return array


def _numbers_of_objects(array: np.ndarray) -> np.ndarray:
    """An array of Python objects as one of numbers, if all are numbers (of Python, numpy, ``decimal``, or a tensor)."""
    rows = [from_container("a row", value) for value in array]
    if any(isinstance(row, str | bytes) or not hasattr(row, "__float__") and np.ndim(row) == 0 for row in rows):
        return array
    try:
        return np.array([np.asarray(row, np.float64) for row in rows])
    except (TypeError, ValueError):  # rows of different lengths, or of other objects
        return array


def takes_two_arguments(function: Callable[..., Any]) -> bool:
    """Whether ``function`` has exactly two positional parameters without a default."""
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):  # a built-in without a signature
        return False
    positional = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    return sum(p.kind in positional and p.default is p.empty for p in parameters) == 2
