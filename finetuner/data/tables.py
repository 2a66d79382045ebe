"""Tables and archives of arrays: columns by name, read into memory and leaving nothing on the disk."""

import logging
import tempfile
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ..checks import closest_match, preview
from .common import needed, reason

__all__ = ["Table", "from_numpy", "narrowed", "read_table"]

# Only an empty field is missing ("NA" and "None" are words), no column is an index, and all of a column
# tells its kind, not its first 10,000 rows.
_CSV = {"keep_default_na": False, "na_values": [""], "index_col": False, "chunksize": None}
# Labels of two kinds are an error, not JSON in a string; and a table is never a chat's log.
_JSON = {"on_mixed_types": None, "parse_agent_traces": False}
_TABLES: dict[str, tuple[str, dict[str, Any]]] = {
    ".csv": ("csv", _CSV),
    ".tsv": ("csv", {**_CSV, "sep": "\t"}),
    ".jsonl": ("json", _JSON),
    ".ndjson": ("json", _JSON),
    ".json": ("json", _JSON),
    ".parquet": ("parquet", {"batch_size": 10_000}),  # else that of the first row group, even 0
}


class Table(NamedTuple):
    """Columns by name, each made an array or a list when it is asked for."""

    path: Path
    names: list[str]
    column: Callable[[str], Any]

    def named(self, option: str, name: str | None, default: str | None = None) -> str:
        """The name of the column that ``option`` asks for; only an archive's arrays have defaults."""
        if name is None and self.path.suffix.lower() == ".npz" and default in self.names:
            name = default
        columns = ", ".join(map(repr, self.names))
        if name is None:
            raise ValueError(f"{option} must name a column of {self.path}, which has {columns}")
        if name not in self.names:
            hint = closest_match(name, self.names)
            raise ValueError(f"{option} must be a column of {self.path}, got {name!r}; {hint}")
        return name

    def items(self, wanted: str | Sequence[str] | None, taken: Sequence[str]) -> Any:
        """What the columns ``wanted`` hold: one column's values, or a mapping of several's."""
        left = [name for name in self.names if name not in taken]
        if wanted is None and len(left) == 1:
            wanted = left[0]
        if wanted is None or isinstance(wanted, str):
            return narrowed(self.column(self.named("input_column", wanted, default="x")))
        names = [self.named("input_column", name) for name in wanted]
        if not names:
            raise ValueError("input_column must name at least one column, got none")
        return {name: narrowed(self.column(name)) for name in names}


def read_table(path: Path) -> Table:
    """The table or archive at ``path``; raise ``ValueError`` if its kind is not known or it is broken."""
    kind = path.suffix.lower()
    if kind in _TABLES:
        columns = _columns(path, *_TABLES[kind])
        return Table(path, columns.column_names, lambda name: _values(path, name, columns[name]))
    if kind == ".npz":
        names = from_numpy(path, lambda arrays: arrays.files)
        return Table(path, names, lambda name: from_numpy(path, lambda arrays: arrays[name]))
    if kind == ".npy":
        raise ValueError(f"labels are needed, and an .npy file has none: save x and y in an .npz, got {path}")
    known = ", ".join((*_TABLES, ".npz", ".npy"))
    raise ValueError(f"path must end in one of {known}, or be a folder or .zip of images, got {path}")


def from_numpy(path: Path, part: Callable[[Any], Any]) -> Any:
    """The part that is wanted of an ``.npz``, whose other arrays stay unread, or of an ``.npy``."""
    try:
        with open(path, "rb") as file:
            return part(np.load(file, allow_pickle=False))
    except Exception as error:  # of zipfile, zlib and numpy
        told = reason(error)
        if "Object arrays" in told:
            told = "it holds arrays of Python objects, whose pickles are not read; save numbers or strings"
        elif "pickle" in told:  # numpy's guess at all that it does not know
            told = "it is not in numpy's format"
        raise ValueError(f"{path} cannot be read: {told}") from None


def _columns(path: Path, reader: str, options: dict[str, Any]) -> Any:
    """All of a table, as an Arrow table, leaving nothing on the disk."""
    datasets = needed("datasets", "tables")
    module = needed(f"datasets.packaged_modules.{reader}.{reader}", "tables")
    known = vars(getattr(module, f"{reader.title()}Config"))  # an older version knows fewer options
    options = {name: value for name, value in options.items() if name in known}
    with tempfile.TemporaryDirectory() as cache, _quiet(datasets):
        # Under a plain name: of a path with "[1]" or "::" in it, the reader would make a pattern or a URL.
        link = Path(cache, f"table{path.suffix.lower()}")
        link.symlink_to(path.resolve())
        try:  # not streaming, which imports torch
            read = getattr(datasets.Dataset, f"from_{reader}")
            found = read(str(link), cache_dir=cache, keep_in_memory=True, **options).with_format("arrow")[:]
        except Exception as error:  # of pandas, pyarrow and datasets
            said = reason(error.__cause__ or error)
            empty = isinstance(error, StopIteration) or "corresponds to no data" in said
            told = "must hold at least one row, got none" if empty else f"cannot be read: {said}"
            raise ValueError(f"{path} {told}") from None
    return found


@contextmanager
def _quiet(datasets: Any) -> Iterator[None]:
    """Without bars, and without a log of what is raised too; the one warning that matters is raised."""
    logger, bars = logging.getLogger("datasets"), not datasets.are_progress_bars_disabled()
    level = logger.level
    with warnings.catch_warnings():
        warnings.filterwarnings("error", "Length of header")  # a row with more fields would be cut
        warnings.filterwarnings("ignore", "Cannot disable progress bars")  # set so by the environment
        logger.setLevel(logging.CRITICAL)
        datasets.disable_progress_bars()
        try:
            yield
        finally:
            logger.setLevel(level)
            if bars:
                datasets.enable_progress_bars()


def _values(path: Path, name: str, column: Any) -> Any:
    """An Arrow column as a list of ``str``, or as an array ``[N]`` or ``[N, D]``."""
    where = f"column {name!r} of {path}"
    types, compute = needed("pyarrow.types", "tables"), needed("pyarrow.compute", "tables")
    if types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    if types.is_temporal(column.type):  # the reader of JSON makes times of words that look like them
        column = column.cast("string")
    lists = types.is_list, types.is_large_list, types.is_fixed_size_list
    values, shape = column, [len(column)]
    while True:
        if values.null_count:
            missing = np.unique(np.flatnonzero(values.is_null()) * shape[0] // len(values))
            raise ValueError(f"{where} must not miss values, and does at rows (from 0) {preview(missing)}")
        if not any(is_list(values.type) for is_list in lists):
            break
        lengths = np.unique(compute.list_value_length(values))
        if len(lengths) != 1:
            raise ValueError(f"{where} must hold lists of one length, got {preview(lengths)}")
        values = compute.list_flatten(values)
        shape.append(int(lengths[0]))
    if len(shape) == 1 and str(values.type) in ("string", "large_string", "string_view"):
        return values.to_pylist()
    if types.is_decimal(values.type):
        values = values.cast("float64")
    if not (types.is_integer(values.type) or types.is_floating(values.type) or types.is_boolean(values.type)):
        raise ValueError(f"{where} must hold text, numbers or lists of numbers, got {column.type}")
    return values.to_numpy().reshape(shape)


def narrowed(values: Any) -> Any:
    """Values as models take them: words in a list, and no float64."""
    if isinstance(values, list):
        return values
    if values.dtype.kind == "U":
        return values.tolist()
    return values.astype(np.float32) if values.dtype == np.float64 else values
