"""CSV, TSV and plain lines: every cell is the text that is written."""

import csv
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ..checks import preview
from .common import TableOptions, tell
from .opening import find_encoding, format_suffix, open_text

__all__ = ["Layout", "find_layout", "read_cells"]

CANDIDATES = (",", ";", "\t", "|")  # the separators that are tried for a CSV
SEPARATOR_NAMES = {"\\t": "\t", "tab": "\t"}
ROWS_AT_ONCE = 4096


class Layout(NamedTuple):
    """How the cells of a file are written."""

    path: Path
    encoding: str
    max_bytes: int | None
    separator: str
    quoted: bool  # whether cells are quoted as in CSV; in a TSV a quote is a character like others
    names: list[str]
    places: list[int]  # of the named columns in a row
    width: int  # the number of cells in a row
    first_lines: int  # of the file before the header
    has_header: bool


def find_layout(path: Path, options: TableOptions) -> Layout:
    """Find the encoding, the separator and the columns of a CSV, TSV or text file.

    Raises:
        ValueError: If there is no header, a name occurs twice, or an option is wrong.
    """
    encoding = find_encoding(path, options)
    if format_suffix(path) == ".txt":
        return Layout(path, encoding, options.max_bytes, "", False, ["text"], [0], 1, 0, False)
    is_tsv = format_suffix(path) == ".tsv"
    separator = _check_separator(options.separator)
    quoted = not is_tsv or separator is not None
    with open_text(path, encoding, options.max_bytes, "") as text:
        skipped, line = 0, text.readline()
        while line and not line.strip("\ufeff\r\n"):
            skipped, line = skipped + 1, text.readline()
        line = line.removeprefix("\ufeff")
        if not is_tsv and line[:4].lower() == "sep=" and len(line.rstrip("\r\n")) == 5:  # Excel's first line
            separator, skipped, line = separator or line[4], skipped + 1, text.readline()
        if not line:
            raise ValueError(f"{path} must have at least one row, got none")
        if "\0" in line:
            raise ValueError(f"{path} must be text, and has bytes of 0; encoding='utf-16-le' is a frequent reason")
        if separator is None:
            separator = "\t" if is_tsv else _guess_separator(path, line, options.column_names)
        with _long_cells():
            header = next(_split((part for lines in ([line], text) for part in lines), separator, quoted))
    if not quoted and all(len(cell) > 1 and cell[0] == cell[-1] == '"' for cell in header):
        header = [_unquote(cell) for cell in header]
    has_header = options.column_names is None
    names = header if options.column_names is None else list(options.column_names)
    if not has_header and len(names) < len(header):
        raise ValueError(f"column_names must name the {len(header)} columns of {path}, got {', '.join(names)}")
    named = [(place, name) for place, name in enumerate(names) if name]
    twice = sorted({name for _, name in named if names.count(name) > 1})
    if twice or not named:
        what = f"{', '.join(map(repr, twice))} twice" if twice else "none"
        raise ValueError(f"columns of {path} must have names that occur once, got {what}")
    places, names = [place for place, _ in named], [name for _, name in named]
    return Layout(
        path, encoding, options.max_bytes, separator, quoted, names, places, len(header), skipped, has_header
    )._replace(width=max(len(header), max(places) + 1))


def read_cells(layout: Layout, names: Sequence[str], may_be_empty: bool = False) -> dict[str, list[str]]:
    """Read the columns ``names``.

    Raises:
        ValueError: If a cell is empty, a row has more cells than the header, or a quote is not closed.
    """
    places = [layout.places[layout.names.index(name)] for name in names]
    columns: list[list[str]] = [[] for _ in places]
    quotes = _TsvQuotes() if not layout.quoted and layout.separator else None
    with open_text(layout.path, layout.encoding, layout.max_bytes, "") as text, _long_cells():
        for _ in range(layout.first_lines):
            text.readline()
        rows = _split(text if quotes is None else quotes.watch(text), layout.separator, layout.quoted)
        if layout.has_header:
            next(rows)
        count = 0
        try:
            while chunk := list(islice(rows, ROWS_AT_ONCE)):
                if any(len(row) != layout.width for row in chunk):
                    chunk = _same_width(chunk, layout, count)
                count += len(chunk)
                for column, place in zip(columns, places, strict=True):
                    column.extend([row[place] for row in chunk])
        except csv.Error as error:
            reason = "a quote is not closed" if "unexpected end of data" in str(error) else str(error)
            raise ValueError(f"{layout.path} cannot be read: {reason} (after row {count})") from None
    if quotes is not None and quotes.are_written_by_a_program():
        tell(f"{layout.path.name} has quoted cells, whose quotes are removed")
        columns = [[_unquote(cell) for cell in column] for column in columns]
    for name, column in zip(names, columns, strict=True):
        if "" in column and not may_be_empty:
            missing = preview(np.array([i for i, cell in enumerate(column) if not cell]))
            raise ValueError(
                f"column {name!r} of {layout.path} must not have missing values, got them at rows (from 0) {missing}"
            )
    return dict(zip(names, columns, strict=True))


def _split(lines: Iterable[str], separator: str, quoted: bool) -> Iterator[list[str]]:
    """The rows of cells. Blank lines are no rows."""
    if quoted:
        return filter(None, csv.reader(lines, delimiter=separator, strict=True))
    stripped = filter(None, (line.rstrip("\r\n") for line in lines))
    return (line.split(separator) if separator else [line] for line in stripped)


def _same_width(rows: list[list[str]], layout: Layout, start: int) -> list[list[str]]:
    """Fill up short rows with empty cells, and cut off empty cells that have no column."""
    for i, row in enumerate(rows):
        if any(row[layout.width :]) or (len(row) < layout.width and not layout.quoted):
            raise ValueError(
                f"{layout.path} must have {layout.width} cells in each row, got {len(row)} in row {start + i} (from 0)"
                f"; the separator is {layout.separator!r}"
                + ("" if layout.quoted else "; separator='tab' (--separator tab) reads a TSV with quoted cells")
            )
    return [(row + [""] * layout.width)[: layout.width] if len(row) != layout.width else row for row in rows]


def _check_separator(separator: str | None) -> str | None:
    if separator is None:
        return None
    separator = SEPARATOR_NAMES.get(separator, separator)
    if len(separator) != 1 or separator in '"\r\n':
        raise ValueError(f"separator must be one character, or 'tab', got {separator!r}")
    return separator


def _guess_separator(path: Path, line: str, column_names: list[str] | None) -> str:
    """The separator of a CSV from its first line: a comma if that gives several columns."""
    widths = {separator: len(next(csv.reader([line], delimiter=separator))) for separator in CANDIDATES}
    if column_names is not None:
        return next((separator for separator in CANDIDATES if widths[separator] == len(column_names)), ",")
    best = "," if widths[","] > 1 else max(CANDIDATES, key=lambda separator: widths[separator])
    if best != ",":
        tell(f"{path.name} has the separator {best!r}")
    return best


class _TsvQuotes:
    """Finds out whether the quotes in a TSV are marks that a program added around cells, or characters of the text.

    They are marks only if no other reading is likely: each cell with a quote is quoted as a whole, and either each
    such cell needs it (pandas quotes cells with quotes; Excel those with quotes or commas), or all cells are quoted.
    """

    def __init__(self) -> None:
        self.num_quoted = self.num_plain = self.num_without_need = self.num_for_comma = self.plain_commas = 0
        self.lone = False

    def watch(self, lines: Iterable[str]) -> Iterator[str]:
        """Pass on the lines."""
        for line in lines:
            if '"' in line:
                self.look_at(line.rstrip("\r\n").split("\t"))
            else:
                self.num_plain += 1
                self.plain_commas += "," in line
            yield line

    def look_at(self, cells: list[str]) -> None:
        """Count the cells of a line with quotes."""
        for cell in cells:
            if '"' not in cell:
                self.num_plain += 1
                self.plain_commas += "," in cell
                continue
            self.num_quoted += 1
            inner = cell[1:-1].replace('""', "")
            if len(cell) < 2 or cell[0] != '"' or cell[-1] != '"' or '"' in inner:
                self.lone = True
            elif '"' not in cell[1:-1]:
                self.num_for_comma += "," in cell
                self.num_without_need += "," not in cell

    def are_written_by_a_program(self) -> bool:
        """Whether the quotes are to be removed."""
        if self.lone or not self.num_quoted:
            return False
        needed = not self.num_without_need and not (self.num_for_comma and self.plain_commas)
        return needed or not self.num_plain


def _unquote(cell: str) -> str:
    return cell[1:-1].replace('""', '"') if cell[:1] == '"' else cell


@contextmanager
def _long_cells() -> Iterator[None]:
    """Without the limit of 131,072 characters a cell, which the module ``csv`` has for all its users together."""
    limit = csv.field_size_limit(min(sys.maxsize, 2**31 - 1))
    try:
        yield
    finally:
        csv.field_size_limit(limit)
