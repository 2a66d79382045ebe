"""Tables and archives of arrays, read into memory by column. No cache stays on the disk."""

import logging
import tempfile
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ..checks import closest_match, preview
from .common import error_line, require

__all__ = ["Table", "as_model_input", "read_numpy", "read_table"]

# Only empty fields are missing values ("NA" and "None" are text), no column is an index, and the type of a column is
# inferred from all its rows, not from the first 10,000.
_CSV = {"keep_default_na": False, "na_values": [""], "index_col": False, "chunksize": None}
# A column with values of two types is an error, not a column of JSON text; and a table is never read as an agent trace.
_JSON = {"on_mixed_types": None, "parse_agent_traces": False}
_TABLES: dict[str, tuple[str, dict[str, Any]]] = {
    ".csv": ("csv", _CSV),
    ".tsv": ("csv", {**_CSV, "sep": "\t"}),
    ".jsonl": ("json", _JSON),
    ".ndjson": ("json", _JSON),
    ".json": ("json", _JSON),
    ".parquet": ("parquet", {"batch_size": 10_000}),  # the default is the size of the first row group, which may be 0
}


class Table(NamedTuple):
    """Named columns. ``column(name)`` converts a column to an array or a list."""

    path: Path
    names: list[str]
    column: Callable[[str], Any]

    def resolve(self, option: str, name: str | None, default: str | None = None) -> str:
        """The column for an ``option`` with the value ``name``. Only an ``.npz`` has a ``default`` column.

        Raises:
            ValueError: If there is no such column, or ``name`` is None and there is no default.
        """
        if name is None and self.path.suffix.lower() == ".npz" and default in self.names:
            name = default
        columns = ", ".join(map(repr, self.names))
        if name is None:
            raise ValueError(f"{option} must name a column of {self.path}, which has {columns}")
        if name not in self.names:
            hint = closest_match(name, self.names)
            raise ValueError(f"{option} must be a column of {self.path}, got {name!r}; {hint}")
        return name

    def inputs(self, columns: str | Sequence[str] | None, label_columns: Sequence[str]) -> Any:
        """The items: the values of one column, or a mapping if ``columns`` is a sequence.

        Raises:
            ValueError: If a column is unknown, or ``columns`` is None and more than one column is left for the items.
        """
        others = [name for name in self.names if name not in label_columns]
        if columns is None and len(others) == 1:
            columns = others[0]
        if columns is None or isinstance(columns, str):
            return as_model_input(self.column(self.resolve("input_column", columns, default="x")))
        names = [self.resolve("input_column", name) for name in columns]
        if not names:
            raise ValueError("input_column must name at least one column, got none")
        return {name: as_model_input(self.column(name)) for name in names}


def read_table(path: Path) -> Table:
    """Read the table or ``.npz`` at ``path``.

    Raises:
        ValueError: If the format is unknown, or the file is broken.
    """
    suffix = path.suffix.lower()
    if suffix in _TABLES:
        columns = _read_arrow(path, *_TABLES[suffix])
        return Table(path, columns.column_names, lambda name: _to_list_or_array(path, name, columns[name]))
    if suffix == ".npz":
        names = read_numpy(path, lambda arrays: arrays.files)
        return Table(path, names, lambda name: read_numpy(path, lambda arrays: arrays[name]))
    if suffix == ".npy":
        raise ValueError(f"path must have labels, and an .npy file has none: save x and y in an .npz, got {path}")
    known = ", ".join((*_TABLES, ".npz", ".npy"))
    raise ValueError(f"path must end in one of {known}, or be a folder or .zip of images, got {path}")


def read_numpy(path: Path, select: Callable[[Any], Any]) -> Any:
    """Apply ``select`` to the content of an ``.npz`` or ``.npy``. Arrays that it does not use are not read.

    Raises:
        ValueError: If the file is broken, or a selected array has Python objects.
    """
    try:
        with open(path, "rb") as file:
            return select(np.load(file, allow_pickle=False))
    except Exception as error:  # from zipfile, zlib or numpy
        message = error_line(error)
        if "Object arrays" in message:
            message = "it has arrays of Python objects, and pickles are not loaded; save numbers or strings"
        elif "pickle" in message:  # numpy's message for any unknown format
            message = "it is not in numpy's format"
        raise ValueError(f"{path} cannot be read: {message}") from None


def _read_arrow(path: Path, reader: str, options: dict[str, Any]) -> Any:
    """Read a table into an Arrow table in memory."""
    datasets = require("datasets", "tables")
    module = require(f"datasets.packaged_modules.{reader}.{reader}", "tables")
    known = vars(getattr(module, f"{reader.title()}Config"))  # older versions have fewer options
    options = {name: value for name, value in options.items() if name in known}
    with tempfile.TemporaryDirectory() as cache, _silence(datasets):
        # The link has a plain name: the reader takes a path with "[1]" or "::" for a pattern or a URL.
        link = Path(cache, f"table{path.suffix.lower()}")
        link.symlink_to(path.resolve())
        try:  # without streaming, which imports torch
            read = getattr(datasets.Dataset, f"from_{reader}")
            table = read(str(link), cache_dir=cache, keep_in_memory=True, **options).with_format("arrow")[:]
        except Exception as error:  # from pandas, pyarrow or datasets
            line = error_line(error.__cause__ or error)
            empty = isinstance(error, StopIteration) or "corresponds to no data" in line
            message = "must have at least one row, got none" if empty else f"cannot be read: {line}"
            raise ValueError(f"{path} {message}") from None
    return table


@contextmanager
def _silence(datasets: Any) -> Iterator[None]:
    """Silence progress bars and logs of ``datasets``, and turn the one warning that matters into an error."""
    logger, bars = logging.getLogger("datasets"), not datasets.are_progress_bars_disabled()
    level = logger.level
    with warnings.catch_warnings():
        warnings.filterwarnings("error", "Length of header")  # a row has more fields than the header and loses some
        warnings.filterwarnings("ignore", "Cannot disable progress bars")  # an environment variable controls them
        logger.setLevel(logging.CRITICAL)
        datasets.disable_progress_bars()
        try:
            yield
        finally:
            logger.setLevel(level)
            if bars:
                datasets.enable_progress_bars()


def _to_list_or_array(path: Path, name: str, column: Any) -> Any:
    """Convert an Arrow column to a list of ``str``, or to an array ``[N]`` or ``[N, D]``."""
    title = f"column {name!r} of {path}"
    types, compute = require("pyarrow.types", "tables"), require("pyarrow.compute", "tables")
    if types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    if types.is_temporal(column.type):  # the JSON reader converts text that looks like a time
        column = column.cast("string")
    lists = types.is_list, types.is_large_list, types.is_fixed_size_list
    values, shape = column, [len(column)]
    while True:
        if values.null_count:
            missing = np.unique(np.flatnonzero(values.is_null()) * shape[0] // len(values))
            raise ValueError(f"{title} must not have missing values, got them at rows (from 0) {preview(missing)}")
        if not any(is_list(values.type) for is_list in lists):
            break
        lengths = np.unique(compute.list_value_length(values))
        if len(lengths) != 1:
            raise ValueError(f"{title} must have lists of the same length, got {preview(lengths)}")
        values = compute.list_flatten(values)
        shape.append(int(lengths[0]))
    if len(shape) == 1 and str(values.type) in ("string", "large_string", "string_view"):
        return values.to_pylist()
    if types.is_decimal(values.type):
        values = values.cast("float64")
    if not (types.is_integer(values.type) or types.is_floating(values.type) or types.is_boolean(values.type)):
        raise ValueError(f"{title} must have text, numbers or lists of numbers, got {column.type}")
    return values.to_numpy().reshape(shape)


def as_model_input(values: Any) -> Any:
    """Convert values for a model: arrays of strings to lists, and float64 to float32."""
    if isinstance(values, list):
        return values
    if values.dtype.kind == "U":
        return values.tolist()
    return values.astype(np.float32) if values.dtype == np.float64 else values
