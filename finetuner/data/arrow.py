"""Arrow columns of Parquet files and of folders that ``datasets`` saved."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from .common import TableOptions, require
from .image_columns import ImageBytes
from .opening import ALWAYS_ALLOWED, MAX_RATIO, check_regular, read_errors
from .values import Decimals, no_missing

__all__ = ["arrow_names", "read_arrow", "read_arrow_as_is", "to_columns"]


def arrow_names(path: Path) -> list[str]:
    """The columns of a Parquet or Arrow file, without the index that pandas adds.

    Raises:
        ImportError: If pyarrow is not installed.
        ValueError: If the file is broken.
    """
    check_regular(path)
    with _arrow_errors(path):
        names = [name for name in _schema(path).names if not name.startswith("__index_level_")]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ValueError(f"columns of {path} must have names that occur once, got {', '.join(map(repr, twice))} twice")
    return names


def read_arrow(path: Path, names: Sequence[str], options: TableOptions) -> dict[str, Any]:
    """Read columns of a Parquet or Arrow file: a list of ``str``, an array of numbers, a list of lists, or images.

    Raises:
        ValueError: If the file is broken, values are missing, or a type is not known.
    """
    with _arrow_errors(path):
        schema = _schema(path)
        table = _read(path, list(names), options.max_bytes)
        table.validate(full=True)  # a broken file could make Arrow read beyond its memory
    return to_columns(table, names, _class_names(schema), path)


def to_columns(table: Any, names: Sequence[str], classes: Mapping[str, list[str]], path: Path) -> dict[str, Any]:
    """Convert columns of an Arrow table: a list of ``str``, an array of numbers, a list of lists, or images.

    Args:
        table: The table.
        names: The columns.
        classes: The names of the classes of those columns that have numbers of classes.
        path: What error messages call the table.

    Raises:
        ValueError: If values are missing, or a type is not known.
    """
    columns: dict[str, Any] = {}
    for name in names:
        title, column = f"column {name!r} of {path}", table[name]
        if name in classes:
            columns[name] = _named_classes(title, column, classes[name])
        else:
            columns[name] = _image_files(title, column, path) or _to_values(title, column)
    return columns


def read_arrow_as_is(path: Path, names: Sequence[str], options: TableOptions) -> dict[str, Any]:
    """Read columns of a Parquet or Arrow file as Arrow columns of any type. Classes become their names.

    Raises:
        ValueError: If the file is broken.
    """
    with _arrow_errors(path):
        classes = _class_names(_schema(path))
        table = _read(path, list(names), options.max_bytes)
        table.validate(full=True)
    pa = require("pyarrow", "tables")
    columns: dict[str, Any] = {name: table[name] for name in names}
    for name in classes.keys() & columns.keys():
        known = dict(enumerate(classes[name]))
        columns[name] = pa.chunked_array([pa.array(map(known.get, columns[name].to_pylist()), pa.string())])
    return columns


def _arrow_errors(path: Path) -> Any:
    lib = require("pyarrow", "tables")
    return read_errors(path, lib.ArrowException)


def _schema(path: Path) -> Any:
    if path.suffix.lower() == ".parquet":
        parquet = require("pyarrow.parquet", "tables")
        with open(path, "rb") as file:
            return parquet.ParquetFile(file).schema_arrow
    with _open_ipc(path) as reader:
        return reader.schema


def _read(path: Path, names: list[str], max_bytes: int | None) -> Any:
    if path.suffix.lower() != ".parquet":
        with _open_ipc(path) as reader:
            return reader.read_all().select(names)
    parquet = require("pyarrow.parquet", "tables")
    with open(path, "rb") as source:
        file = parquet.ParquetFile(source)
        metadata = file.metadata
        size = sum(metadata.row_group(i).total_byte_size for i in range(metadata.num_row_groups))
        limit = max_bytes or max(ALWAYS_ALLOWED, MAX_RATIO * path.stat().st_size)
        if max(size, 8 * metadata.num_rows * len(names)) > limit:
            raise ValueError(
                f"{path} must not unpack to more than {limit:,} bytes, and does; max_bytes (--max-bytes) raises "
                "the limit"
            )
        # A dot in a name would be read as the path of a field.
        return file.read(names if not any("." in name for name in names) else None).select(names)


def _open_ipc(path: Path) -> Any:
    ipc = require("pyarrow.ipc", "tables")
    with open(path, "rb") as file:
        is_file = file.read(6) == b"ARROW1"
    memory = require("pyarrow", "tables").memory_map(str(path.resolve()))
    return ipc.open_file(memory) if is_file else ipc.open_stream(memory)


# Features of Hugging Face ------------------------------------------------------------------------------


def _class_names(schema: Any) -> dict[str, list[str]]:
    """The names of the classes of each column that is a ``ClassLabel`` of ``datasets``."""
    try:
        features = json.loads((schema.metadata or {}).get(b"huggingface", b"{}"))["info"]["features"]
        found = {name: feature for name, feature in features.items() if feature.get("_type") == "ClassLabel"}
        return {name: list(map(str, feature["names"])) for name, feature in found.items() if feature.get("names")}
    except (AttributeError, KeyError, TypeError, ValueError):
        return {}  # of another program: the columns are read by their Arrow types


def _named_classes(title: str, column: Any, names: list[str]) -> list[str]:
    numbers = column.to_pylist()
    no_missing(title, [i for i, number in enumerate(numbers) if number is None or number == -1])
    wrong = next((number for number in numbers if not 0 <= number < len(names)), None)
    if wrong is not None:
        raise ValueError(f"{title} must have classes from 0 to {len(names) - 1}, which have names, got {wrong}")
    return [names[number] for number in numbers]


def _image_files(title: str, column: Any, path: Path) -> ImageBytes | None:
    """The files in a column of bytes, or of objects with ``bytes`` and ``path`` as ``datasets`` writes them."""
    types, compute = require("pyarrow.types", "tables"), require("pyarrow.compute", "tables")
    column = _plain(column)
    if types.is_struct(column.type) and {field.name for field in column.type} == {"bytes", "path"}:
        no_missing(title, np.flatnonzero(column.is_null()))
        column = compute.struct_field(column, "bytes")
    if not (types.is_binary(column.type) or types.is_large_binary(column.type)):
        return None
    no_missing(title, np.flatnonzero(column.is_null()))
    return ImageBytes(column.to_pylist(), path)


# Values ------------------------------------------------------------------------------------------------


def _to_values(title: str, column: Any) -> Any:
    """Convert a column by its Arrow type."""
    compute = require("pyarrow.compute", "tables")
    lengths: list[Any] = []
    values = _plain(column)
    rows = None
    while True:
        if values.null_count:
            places = np.flatnonzero(values.is_null())
            no_missing(title, np.unique(places if rows is None else rows[places]))
        if not _is_list(values.type):
            break
        lengths.append(np.asarray(compute.list_value_length(values)))
        rows = np.repeat(np.arange(len(column)) if rows is None else rows, lengths[-1])
        values = _plain(compute.list_flatten(values))
    if any((sizes != sizes[0]).any() for sizes in lengths if len(sizes)):
        if len(lengths) == 1 and not isinstance(_leaves(title, values, column.type), Decimals):
            return _plain(column).to_pylist()
        raise ValueError(f"{title} must have lists of the same length, or lists of numbers, got {column.type}")
    leaves = _leaves(title, values, column.type)
    if not lengths:
        return leaves
    if isinstance(leaves, np.ndarray):
        return leaves.reshape(len(column), *(int(sizes[0]) for sizes in lengths))
    if len(lengths) == 1 and not isinstance(leaves, Decimals):
        return _plain(column).to_pylist()
    raise ValueError(f"{title} must have text, numbers or lists of numbers, got {column.type}")


def _plain(column: Any) -> Any:
    """A column without a dictionary or an extension type around its values."""
    pa, types = require("pyarrow", "tables"), require("pyarrow.types", "tables")
    if isinstance(column, pa.Array):
        column = pa.chunked_array([column])
    if isinstance(column.type, pa.BaseExtensionType):
        storage = column.type.storage_type
        column = pa.chunked_array([chunk.storage for chunk in column.chunks], storage)
    if types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    return column


def _is_list(kind: Any) -> bool:
    types = require("pyarrow.types", "tables")
    return bool(types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind))


def _leaves(title: str, values: Any, kind: Any) -> Any:
    """Values that are not lists."""
    types = require("pyarrow.types", "tables")
    if str(values.type) in ("string", "large_string", "string_view"):
        return values.to_pylist()
    if types.is_integer(values.type) or types.is_boolean(values.type):
        return values.to_numpy()
    if types.is_floating(values.type):
        array = values.to_numpy()
        return array.astype(np.float32) if array.dtype == np.float16 else array
    if types.is_decimal(values.type):
        return Decimals(format(value, "f") for value in values.to_pylist())
    if types.is_date(values.type) or types.is_timestamp(values.type) or types.is_time(values.type):
        return values.cast("string").to_pylist()  # such as 2024-01-31 or 2024-01-31 10:00:00
    raise ValueError(f"{title} must have text, numbers or lists of numbers, got {kind}")
