"""Tables and archives of arrays, read into memory by column. No cache stays on the disk."""

import zipfile
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ..checks import closest_match, integer
from .arrow import arrow_names, read_arrow
from .common import TableOptions, error_line, tell
from .delimited import find_layout, read_cells
from .image_columns import ImageBytes
from .json_lines import read_json
from .opening import ALWAYS_ALLOWED, MAX_RATIO, check_regular, format_suffix
from .sources import TABLE_SUFFIXES, title_of
from .values import as_items, as_numbers, join, looks_numeric, take_rows, to_column

__all__ = ["DELIMITED", "TEXT", "Part", "Table", "read_numpy", "read_table", "table_options"]

DELIMITED = (".csv", ".tsv")
TEXT = (*DELIMITED, ".jsonl", ".ndjson", ".json", ".txt")


class Part(NamedTuple):
    """One file of a table."""

    path: Path
    names: list[str]
    read: Callable[[Sequence[str]], dict[str, Any]]  # the columns with these names
    read_optional: Callable[[str], Any] | None = None  # a column that may have empty cells


class Table:
    """Named columns of one or more files.

    Args:
        parts: The files. The first one says which columns there are.
    """

    def __init__(self, parts: Sequence[Part]):
        self.parts, self.names = list(parts), parts[0].names
        self.title = title_of([part.path for part in parts])
        self._columns: dict[str, Any] = {}
        self._rows: np.ndarray | None = None

    @property
    def names_read(self) -> list[str]:
        """The columns that were read."""
        return list(self._columns)

    @property
    def rows(self) -> np.ndarray | None:
        """The positions of the rows that are kept; None for all."""
        return self._rows

    def keep(self, rows: np.ndarray) -> None:
        """Keep only the rows at these positions, in the columns that were read and in those that will be."""
        self._columns = {name: take_rows(values, rows) for name, values in self._columns.items()}
        self._rows = rows if self._rows is None else self._rows[rows]

    def read_all(self, name: str) -> Any:
        """A column with all rows, also those that are not kept. Cells of text files may be empty."""
        return join(
            [part.read([name])[name] if part.read_optional is None else part.read_optional(name) for part in self.parts]
        )

    def resolve(self, option: str, name: str | None, default: str | None = None) -> str:
        """The column for an ``option`` with the value ``name``. Only an ``.npz`` has a ``default`` column.

        Raises:
            ValueError: If there is no such column, or ``name`` is None and there is no default.
        """
        if name is None and self.parts[0].path.suffix.lower() == ".npz" and default in self.names:
            name = default
        columns = ", ".join(map(repr, self.names))
        if name is None:
            raise ValueError(f"{option} must name a column of {self.title}, which has {columns}")
        for part in self.parts:
            if name not in part.names:
                hint = closest_match(name, part.names)
                raise ValueError(f"{option} must be a column of {part.path}, got {name!r}; {hint}")
        return name

    def input_names(self, columns: str | Sequence[str] | None, others: Iterable[str]) -> str | list[str]:
        """The columns of the items: one name, or a list for a mapping.

        Args:
            columns: What the user gave.
            others: The columns that are not items unless ``columns`` names them.

        Raises:
            ValueError: If a column is unknown, or ``columns`` is None and more than one column is left for the items.
        """
        left = [name for name in self.names if name not in others]
        if columns is None and len(left) == 1:
            columns = left[0]
        if columns is None or isinstance(columns, str):
            return self.resolve("input_column", columns, default="x")
        names = [self.resolve("input_column", name) for name in columns]
        if not names:
            raise ValueError("input_column must name at least one column, got none")
        return names

    def read(self, names: Iterable[str]) -> None:
        """Read these columns of all files, in one pass over each.

        Raises:
            ValueError: If a file is broken, values are missing, or a column has text in one file and numbers in others.
        """
        names = list(dict.fromkeys(names))
        parts = [part.read(names) for part in self.parts]
        for name in names:
            kinds = {(isinstance(part[name], np.ndarray) and part[name].dtype.kind not in "SU") for part in parts}
            if len(kinds) > 1:
                raise ValueError(f"column {name!r} of {self.title} must have one type, got text and numbers")
            values = join([part[name] for part in parts])
            # Shards may have integers in one file and fractions in another.
            values = to_column(f"column {name!r} of {self.title}", values) if len(parts) > 1 else values
            if not len(values):
                raise ValueError(f"{self.title} must have at least one row, got none")
            self._columns[name] = values if self._rows is None else take_rows(values, self._rows)

    def column(self, name: str) -> Any:
        """A column that was read: a list of ``str``, an array, or a list of lists."""
        return self._columns[name]

    def numbers(self, name: str) -> np.ndarray:
        """A column that was read, as numbers."""
        return as_numbers(f"column {name!r} of {self.title}", self._columns[name])

    def labels(self, name: str) -> Any:
        """A column that was read, as labels: text, numbers, or sets if it has lists.

        Raises:
            ValueError: If it has numbers that are not finite.
        """
        values = self._columns[name]
        if isinstance(values, ImageBytes):
            raise ValueError(f"column {name!r} of {self.title} must have text or numbers as labels, got bytes")
        if isinstance(values, np.ndarray):
            if values.dtype.kind == "f" and not np.isfinite(values).all():
                raise ValueError(f"column {name!r} of {self.title} must have finite labels, got {values.min()}")
            return [set(row) for row in values.tolist()] if values.ndim == 2 and values.dtype != bool else values
        return [set(row) for row in values] if isinstance(values[0], list) else list(values)

    def items(self, name: str, numeric: bool | Sequence[str] = False) -> Any:
        """A column that was read, as items for a model.

        Args:
            name: The column.
            numeric: Whether text is read as numbers: in all columns, or in the columns with these names.

        Raises:
            ValueError: If text is not a number, or the values cannot be items.
        """
        as_number = numeric if isinstance(numeric, bool) else name in numeric
        values = self._columns[name]
        if not as_number and looks_numeric(values):
            tell(f"column {name!r} is text; numeric (--numeric) reads its cells as numbers")
        return as_items(f"column {name!r} of {self.title}", values, as_number)


def table_options(
    encoding: str | None = None,
    separator: str | None = None,
    column_names: Sequence[str] | None = None,
    max_bytes: int | None = None,
) -> TableOptions:
    """The options of tables, checked."""
    if isinstance(column_names, str):
        column_names = column_names.split(",")
    return TableOptions(
        encoding,
        separator,
        None if column_names is None else list(column_names),
        None if max_bytes is None else integer("max_bytes", max_bytes, 1),
    )


def read_table(files: Sequence[Path], options: TableOptions | None = None) -> Table:
    """Read the columns of tables or ``.npz`` files, which are parts of one table. Their rows are read later.

    Raises:
        ValueError: If a format is unknown, a file is broken, or an option is not for this format.
    """
    options = options or TableOptions()
    suffixes = {format_suffix(path) for path in files}
    for name, formats, title in (
        ("separator", DELIMITED, "CSV and TSV"),
        ("column_names", DELIMITED, "CSV and TSV"),
        ("encoding", TEXT, "text files"),
    ):
        if (value := getattr(options, name)) is not None and not suffixes.intersection(formats):
            raise ValueError(f"{name} is only for {title}, got {value!r} for {files[0]}")
    return Table([_read_part(path, options) for path in files])


def _read_part(path: Path, options: TableOptions) -> Part:
    suffix = format_suffix(path)
    if suffix in (".csv", ".tsv", ".txt"):
        layout = find_layout(path, options)
        return Part(
            path,
            layout.names,
            lambda names: read_cells(layout, names),
            lambda name: read_cells(layout, [name], may_be_empty=True)[name],
        )
    if suffix in (".jsonl", ".ndjson", ".json"):
        chunks = read_json(path, options)
        return Part(
            path,
            list(chunks),
            lambda names: {name: to_column(f"column {name!r} of {path}", join(chunks[name])) for name in names},
            lambda name: ["" if value is None else value for value in join(chunks[name])],
        )
    if path.suffix.lower() in (".parquet", ".arrow"):
        return Part(path, arrow_names(path), lambda names: read_arrow(path, names, options))
    if path.suffix.lower() == ".npz":
        known = read_numpy(path, lambda arrays: arrays.files, options.max_bytes)
        return Part(
            path,
            known,
            lambda names: read_numpy(path, lambda arrays: {name: arrays[name] for name in names}, options.max_bytes),
        )
    if path.suffix.lower() == ".npy":
        raise ValueError(f"path must have labels, and an .npy file has none: save x and y in an .npz, got {path}")
    known_suffixes = ", ".join((*TABLE_SUFFIXES, ".npz", ".npy"))
    raise ValueError(f"path must end in one of {known_suffixes}, or be a folder or .zip of images, got {path}")


def read_numpy(path: Path, select: Callable[[Any], Any], max_bytes: int | None = None) -> Any:
    """Apply ``select`` to the content of an ``.npz`` or ``.npy``. Arrays that it does not use are not read.

    Args:
        path: The file.
        select: A function of what :func:`numpy.load` returns.
        max_bytes: The most bytes that it may unpack to, see :func:`~finetuner.data.opening.open_bytes`.

    Raises:
        ValueError: If the file is broken, a selected array has Python objects, or it unpacks to more.
    """
    check_regular(path)
    limit = max_bytes or max(ALWAYS_ALLOWED, MAX_RATIO * path.stat().st_size)
    try:
        with open(path, "rb") as file:
            if zipfile.is_zipfile(file) and sum(info.file_size for info in zipfile.ZipFile(file).infolist()) > limit:
                raise ValueError(f"it unpacks to more than {limit:,} bytes; max_bytes (--max-bytes) raises the limit")
            file.seek(0)
            return select(np.load(file, allow_pickle=False))
    except Exception as error:  # from zipfile, zlib or numpy
        message = error_line(error)
        if "Object arrays" in message:
            message = "it has arrays of Python objects, and pickles are not loaded; save numbers or strings"
        elif "pickle" in message:  # numpy's message for any unknown format
            message = "it is not in numpy's format"
        raise ValueError(f"{path} cannot be read: {message}") from None
