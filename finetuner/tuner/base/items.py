"""What datasets are made of: items in arrays, sequences or mappings, and names that become numbers."""

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from .checks import some_of

__all__ = ["coded", "is_array", "merged", "num_items", "numbers", "one_by_one", "rows", "takes_two"]


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


def merged(parts: Sequence[tuple[np.ndarray, Any]], count: int) -> Any:
    """``count`` items from parts with their places: an array or a mapping where all parts are such, else a list."""
    first = parts[0][1]
    if len(parts) == 1:
        return first
    if all(isinstance(part, Mapping) and part.keys() == first.keys() for _, part in parts):
        return {key: merged([(places, part[key]) for places, part in parts], count) for key in first}
    if all(isinstance(part, np.ndarray) and part.shape[1:] == first.shape[1:] for _, part in parts):
        array = np.empty((count, *first.shape[1:]), np.result_type(*(part for _, part in parts)))
        for places, part in parts:
            array[places] = part
        return array
    items: list[Any] = [None] * count
    for places, part in parts:
        one = one_by_one(part, len(places))
        for i, place in enumerate(places):
            items[place] = one[i]
    return items


def one_by_one(items: Any, count: int) -> list[Any]:
    """A list of ``count`` items, from an array, a mapping of arrays, or a list of them."""
    if isinstance(items, Mapping):
        return [{key: value[i] for key, value in items.items()} for i in range(count)]
    return list(items)


def numbers(name: str, values: Any, forms: Sequence[int] = (1,)) -> np.ndarray:
    """``values`` as float32 ``[N]``, or of another number of axes if ``forms`` says so.

    Raises:
        ValueError: if they have another shape, or are not finite.
        TypeError: if they are no numbers.
    """
    if is_array(values) and not isinstance(values, np.ndarray) and hasattr(values, "tolist"):
        values = values.tolist()  # of a framework, perhaps on a device
    try:
        array = np.asarray(values, np.float32)
    except (TypeError, ValueError):
        raise TypeError(f"{name} must be numbers, got {type(values).__name__} of {values[0]!r} and others") from None
    if array.ndim not in forms:
        wanted = " or ".join({1: "[N]", 2: "[N, K]"}[form] for form in forms)
        raise ValueError(f"{name} must have shape {wanted}, got {list(array.shape)}")
    wrong = np.flatnonzero(~np.isfinite(array.reshape(len(array), -1)).all(axis=1))
    if len(wrong):
        raise ValueError(f"{name} must be finite, and are not at items {some_of(wrong)}")
    return array


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


def takes_two(function: Callable[..., Any]) -> bool:
    """Whether ``function`` asks for a second positional argument that has no default."""
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):  # built in, without a signature
        return False
    positional = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    return sum(p.kind in positional and p.default is p.empty for p in parameters) == 2
