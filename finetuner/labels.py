"""Labels: the roles of a session's items, and how a user's class names become integers."""

from typing import Any

import numpy as np

from .arrays import is_array
from .checks import preview

__all__ = ["ANCHOR", "MATCH", "NEGATIVE", "NO_MATCH", "POSITIVE", "encode_labels"]

ANCHOR, MATCH, NO_MATCH = 0, 1, -1  # the roles of a session's items
POSITIVE, NEGATIVE = 2, -2  # a match and a non-match that are references only, never anchors


def encode_labels(y: Any, name: str) -> tuple[np.ndarray, np.ndarray]:
    """Encode labels as integers.

    Args:
        y: ``[N]`` numbers or strings.
        name: What error messages call them.

    Returns:
        The distinct values in sorted order, ``[C]``, and the position of each label among them, ``[N]`` int32.

    Raises:
        ValueError: If the shape is not ``[N]``, or a label is missing (None or NaN).
        TypeError: If the labels are of several types.
    """
    if is_array(y) and not isinstance(y, np.ndarray) and hasattr(y, "tolist"):
        y = y.tolist()  # a framework's tensor, possibly on a device
    y = np.asarray(y)
    if y.ndim != 1:
        raise ValueError(f"{name} must have shape [N], got {list(y.shape)}")
    missing = [i for i, value in enumerate(y.tolist()) if value is None or value != value]  # NaN differs from itself
    if missing:
        raise ValueError(f"{name} must not be missing, and is at items {preview(missing)}")
    try:
        classes, codes = np.unique(y, return_inverse=True)
    except TypeError:
        types = sorted({type(value).__name__ for value in y})
        raise TypeError(f"the values of {name} must have the same type, got {' and '.join(types)}") from None
    return classes, codes.astype(np.int32)
