"""Items of a dataset that are exactly equal."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from ....arrays import num_items

__all__ = ["number_items"]


def number_items(x: Any) -> np.ndarray:
    """Number the different items of a container: equal items get the same number.

    Items are compared if they are in memory: rows of arrays, and text, bytes, numbers and arrays in a list or a tuple.
    Items of any other container, such as files that are read when they are needed, count as different.

    Args:
        x: The items: an array ``[N, ...]``, a sequence, or a mapping of them.

    Returns:
        ``[N]`` int32. An item has the position of the first item that equals it.

    Example:
        >>> number_items(["a plane", "a dog", "a plane"]).tolist()
        [0, 1, 0]
        >>> number_items({"image": np.array([[1, 2], [1, 2], [3, 4]]), "text": ["a", "b", "c"]}).tolist()
        [0, 1, 2]
    """
    keys = _keys(x)
    if keys is None:
        return np.arange(num_items(x), dtype=np.int32)
    first: dict[Any, int] = {}
    return np.array([first.setdefault(key, position) for position, key in enumerate(keys)], np.int32)


def _keys(x: Any) -> list[Any] | None:
    """A hashable key for each item, equal where the items are; None if the items cannot be compared."""
    if isinstance(x, Mapping):
        columns = [_keys(value) for value in x.values()]
        known = [column for column in columns if column is not None]
        return list(zip(*known, strict=True)) if known and len(known) == len(columns) else None
    if isinstance(x, np.ndarray) and x.dtype != object:
        return [row.tobytes() for row in np.ascontiguousarray(x).reshape(len(x), -1)]
    if not isinstance(x, list | tuple | np.ndarray):
        return None
    keys: list[Any] = []
    for item in x:
        if isinstance(item, np.ndarray) and item.dtype != object:
            keys.append((item.shape, item.dtype.str, item.tobytes()))
        elif isinstance(item, str | bytes | int | float | np.generic):
            keys.append((type(item), item))
        else:
            return None
    return keys
