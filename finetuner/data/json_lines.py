"""JSON and JSON Lines: strings, numbers and lists as they are written."""

import json
from collections.abc import Iterable, Iterator
from itertools import chain, islice
from pathlib import Path
from typing import Any

from .common import TableOptions, error_line
from .opening import find_encoding, open_text
from .values import compact

__all__ = ["read_json"]

ROWS_AT_ONCE = 4096


def read_json(path: Path, options: TableOptions) -> dict[str, list[Any]]:
    """Read a JSON list of objects, or JSON Lines with one object a line, whatever the suffix is.

    Returns:
        The chunks of each column, see :func:`~finetuner.data.values.compact`. A missing value is None.

    Raises:
        ValueError: If the file is not JSON, or a row is not an object or names a key twice.
    """
    chunks: dict[str, list[Any]] = {}
    count = 0
    with open_text(path, find_encoding(path, options), options.max_bytes) as text:
        lines = enumerate(text, 1)
        first = next(((number, line) for number, line in lines if line.strip()), (0, ""))
        first = first[0], first[1].removeprefix("\ufeff")
        is_list = first[1].lstrip().startswith("[")
        rows = _rows_of_list(path, first[1] + text.read()) if is_list else _rows_of_lines(path, chain([first], lines))
        while chunk := list(islice(rows, ROWS_AT_ONCE)):
            for row in chunk:
                if not row.keys() <= chunks.keys():
                    for name in row:
                        chunks.setdefault(name, [[None] * count] if count else [])
            for name, column in chunks.items():
                column.append(compact([row.get(name) for row in chunk]))
            count += len(chunk)
    if not count:
        raise ValueError(f"{path} must have at least one row, got none")
    return chunks


def _rows_of_lines(path: Path, lines: Iterable[tuple[int, str]]) -> Iterator[dict[str, Any]]:
    decode = _decoder().decode
    for number, line in lines:
        if not line.strip():
            continue
        try:
            row = decode(line)
        except ValueError as error:
            hint = "; a row must be one line" if number == 1 else ""
            raise ValueError(f"{path} cannot be read: JSON error in line {number}: {error_line(error)}{hint}") from None
        if not isinstance(row, dict):
            raise ValueError(f"{path} must have one JSON object a line, got {line.strip():.40} in line {number}")
        yield row


def _rows_of_list(path: Path, text: str) -> Iterator[dict[str, Any]]:
    try:
        rows = _decoder().decode(text)
    except ValueError as error:
        raise ValueError(f"{path} cannot be read: JSON error: {error_line(error)}") from None
    for number, row in enumerate(rows):
        if not isinstance(row, dict):
            raise ValueError(f"{path} must be a list of JSON objects, got {row!r:.40} at {number}")
        yield row


def _decoder() -> json.JSONDecoder:
    return json.JSONDecoder(object_pairs_hook=_unique_keys, parse_constant=_refuse_constant)


def _unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    row = dict(pairs)
    if len(row) != len(pairs):
        keys = [key for key, _ in pairs]
        raise ValueError(f"the key {next(key for key in keys if keys.count(key) > 1)!r} occurs twice")
    return row


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")
