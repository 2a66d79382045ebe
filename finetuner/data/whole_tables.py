"""All columns of the rows of a table as they are written, for a table of embeddings."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from .arrow import read_arrow_as_is
from .common import TableOptions, require
from .delimited import find_layout, read_cells
from .json_lines import read_json
from .opening import format_suffix
from .tables import Part, Table, read_numpy
from .values import join, take_rows

__all__ = ["whole_columns"]


def whole_columns(table: Table, options: TableOptions) -> dict[str, Any]:
    """All columns of the rows that a table keeps. Cells may be empty, and of any type.

    Args:
        table: The table.
        options: How its files are read.

    Returns:
        The columns by name: lists, arrays, or Arrow columns if all files are Parquet or Arrow files.

    Raises:
        ValueError: If a file is broken.
    """
    parts = [_read(part, options) for part in table.parts]
    names = list(dict.fromkeys(name for columns in parts for name in columns))
    lengths = [len(next(iter(columns.values()))) for columns in parts]
    joined = {
        name: _join([columns.get(name, [None] * length) for columns, length in zip(parts, lengths, strict=True)])
        for name in names
    }
    if table.rows is None:
        return joined
    return {name: _take(values, table.rows) for name, values in joined.items()}


def _read(part: Part, options: TableOptions) -> dict[str, Any]:
    suffix = format_suffix(part.path)
    if suffix in (".csv", ".tsv", ".txt"):
        return read_cells(find_layout(part.path, options), part.names, may_be_empty=True)
    if suffix in (".jsonl", ".ndjson", ".json"):
        return {name: join(chunks) for name, chunks in read_json(part.path, options).items()}
    if suffix == ".npz":
        return read_numpy(part.path, lambda arrays: {name: arrays[name] for name in arrays.files}, options.max_bytes)
    return read_arrow_as_is(part.path, part.names, options)


def _join(parts: Sequence[Any]) -> Any:
    """One column of several files. Arrow columns of one type stay Arrow columns."""
    if len(parts) == 1:
        return parts[0]
    if all(hasattr(part, "chunks") and part.type == parts[0].type for part in parts):
        return require("pyarrow", "tables").chunked_array(
            [chunk for part in parts for chunk in part.chunks], parts[0].type
        )
    return join([part.to_pylist() if hasattr(part, "to_pylist") else part for part in parts])


def _take(values: Any, rows: np.ndarray) -> Any:
    return values.take(rows) if hasattr(values, "to_pylist") else take_rows(values, rows)
