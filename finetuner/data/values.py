"""Columns of tables: text as a list, numbers as an array, and lists that differ in length as lists."""

import copy
import re
from collections.abc import Sequence
from itertools import chain
from typing import Any

import numpy as np

from ..checks import preview

__all__ = [
    "Decimals",
    "as_items",
    "as_numbers",
    "compact",
    "join",
    "looks_numeric",
    "no_missing",
    "take_rows",
    "to_column",
]

EXACT_FLOAT = 2**53  # up to here each integer is a float64 of its own
INTEGER = re.compile(r"[+-]?[0-9]+")
NUMBER = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?")


class Decimals(list[str]):
    """Decimal numbers of a typed file, as text. They are exact as labels, and numbers as items."""


def compact(values: list[Any]) -> Any:
    """``values`` as an array if they are lists of numbers of one length. Else they are returned as they are."""
    if values and isinstance(values[0], list) and set(map(type, values)) == {list} and len(set(map(len, values))) == 1:
        types = set(map(type, chain.from_iterable(values)))
        array = np.array(values) if types in ({float}, {int}) else None
        if array is not None and array.dtype == (np.float64 if types == {float} else np.int64):  # not beyond 64 bits
            return array
    return values


def join(chunks: Sequence[Any]) -> Any:
    """Join chunks of one column: arrays of one kind as an array, others as a list."""
    first = chunks[0]
    if len(chunks) == 1:
        return first
    arrays = [(chunk.dtype.kind, chunk.shape[1:]) for chunk in chunks if isinstance(chunk, np.ndarray)]
    if len(arrays) == len(chunks) and len(set(arrays)) == 1:
        return np.concatenate(chunks)
    return type(first if isinstance(first, list) else [])(
        value for chunk in chunks for value in (chunk.tolist() if isinstance(chunk, np.ndarray) else chunk)
    )


def take_rows(values: Any, rows: np.ndarray) -> Any:
    """The values of a column at these rows, as an array or a list of the same type."""
    if isinstance(values, np.ndarray):
        return values[rows]
    taken = copy.copy(values)
    taken[:] = [values[i] for i in rows]
    return taken


def no_missing(title: str, missing: Any) -> None:
    """Raise ``ValueError`` that names the rows in ``missing``, if there are any."""
    if len(missing):
        raise ValueError(f"{title} must not have missing values, got them at rows (from 0) {preview(missing)}")


def to_column(title: str, values: Any, rows: Any = None) -> Any:
    """Convert the values of a typed file: a list of ``str``, an array of numbers, or a list of lists.

    Args:
        title: What error messages call the column.
        values: Python values, or an array.
        rows: The row of each value, for error messages; None for its position.

    Raises:
        ValueError: If values are missing, are of several types, or are integers that no 64 bits can hold.
    """
    if type(values) is not list:  # an array, or a list whose type says more
        return values
    missing = [i for i, value in enumerate(values) if value is None]
    no_missing(title, np.unique(missing if rows is None else rows[missing]) if missing else ())
    types = set(map(type, values))
    if types <= {str}:
        return values
    if types == {bool}:
        return np.array(values)
    if types == {int}:
        return _integers(title, values)
    if types <= {int, float}:
        large = next((value for value in values if isinstance(value, int) and abs(value) > EXACT_FLOAT), None)
        if large is not None:
            raise ValueError(f"{title} must not mix fractions and integers above 2**53, got {large}; write it as text")
        return np.array(values, np.float64)
    if types == {list}:
        return _lists(title, values, rows)
    found = ", ".join(sorted(_type_name(kind) for kind in types))
    raise ValueError(f"{title} must have text, numbers or lists of numbers, all of one type, got {found}")


def _integers(title: str, values: list[int]) -> np.ndarray:
    least, most = min(values), max(values)
    if least >= -(2**63) and most < 2**63:
        return np.array(values, np.int64)
    if least >= 0 and most < 2**64:
        return np.array(values, np.uint64)
    wrong = least if abs(least) > abs(most) else most
    raise ValueError(f"{title} must have integers of 64 bits, got {wrong}; write such numbers as text")


def _lists(title: str, values: list[list[Any]], rows: Any) -> Any:
    lengths = np.array([len(value) for value in values])
    rows = np.repeat(np.arange(len(values)) if rows is None else rows, lengths)
    flat = to_column(title, list(chain.from_iterable(values)), rows)
    if isinstance(flat, np.ndarray) and (lengths == lengths[0]).all():
        return flat.reshape(len(values), lengths[0], *flat.shape[1:])
    if isinstance(flat, np.ndarray) and flat.ndim == 1:  # of one type, so that no list has other types than another
        return [part.tolist() for part in np.split(flat, np.cumsum(lengths)[:-1])]
    return values


def _type_name(kind: type) -> str:
    return {"str": "text", "dict": "objects", "list": "lists"}.get(kind.__name__, kind.__name__)


# What columns are used for -------------------------------------------------------------------------------


def as_items(title: str, values: Any, numeric: bool = False) -> Any:
    """Convert a column for a model: arrays of strings to lists, and float64 to float32.

    Args:
        title: What error messages call the column.
        values: The column.
        numeric: Whether text is to be read as numbers.

    Raises:
        ValueError: If text is not a number, or the column has lists of text.
    """
    if isinstance(values, np.ndarray) and values.dtype.kind == "U":
        values = values.tolist()
    if isinstance(values, Decimals) or (numeric and isinstance(values, list) and _is_text(values)):
        values = as_numbers(title, values)
    is_ragged = isinstance(values, list) and values and isinstance(values[0], list)
    if is_ragged and any(isinstance(one, str | list) for value in values for one in value[:1]):
        raise ValueError(f"{title} must have text, numbers or lists of numbers, got lists of text or of lists")
    if isinstance(values, np.ndarray) and values.dtype == np.float64:
        return values.astype(np.float32)
    return values


def as_numbers(title: str, values: Any) -> np.ndarray:
    """Convert a column to numbers. Text must be a number as programs write it, such as ``-12``, ``0.5`` or ``1e-3``.

    Returns:
        An array: int64 if all values are integers, else float64.

    Raises:
        ValueError: If a value is not a number, or an integer is above 64 bits.
    """
    if isinstance(values, np.ndarray) and values.dtype.kind in "biuf":
        return values
    if isinstance(values, np.ndarray):
        values = values.tolist()
    if not (isinstance(values, list) and _is_text(values)):
        raise ValueError(f"{title} must have numbers, got {type(values[0]).__name__}")
    texts = [value.strip() for value in values]
    wrong = next((i for i, text in enumerate(texts) if not NUMBER.fullmatch(text)), None)
    if wrong is not None:
        raise ValueError(f"{title} must have numbers, got {values[wrong]!r:.80} at row {wrong} (from 0)")
    if all(map(INTEGER.fullmatch, texts)):
        return _integers(title, [int(text) for text in texts])
    numbers = np.array([float(text) for text in texts])
    if not np.isfinite(numbers).all():
        raise ValueError(f"{title} must have finite numbers, got {texts[int(np.argmin(np.isfinite(numbers)))]!r:.80}")
    return numbers


def looks_numeric(values: Any) -> bool:
    """Whether the first thousand values are text that could be read as numbers."""
    return type(values) is list and _is_text(values[:1]) and all(map(NUMBER.fullmatch, values[:1000]))


def _is_text(values: list[Any]) -> bool:
    return not values or isinstance(values[0], str)
