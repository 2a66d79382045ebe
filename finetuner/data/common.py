"""Helpers for the readers of tables and images."""

import importlib
import logging
from pathlib import Path
from typing import Any, NamedTuple

__all__ = ["TableOptions", "error_line", "refuse_options", "require", "tell"]


class TableOptions(NamedTuple):
    """How to read the files of a table. None means that the reader decides."""

    encoding: str | None = None  # of text files, a name that Python knows
    separator: str | None = None  # between two cells of CSV and TSV
    column_names: list[str] | None = None  # of CSV and TSV files without a header
    max_bytes: int | None = None  # that a compressed file may unpack to


def require(module: str, kind: str) -> Any:
    """Import a module that reads ``kind``, ``"tables"`` or ``"images"``.

    Raises:
        ImportError: If it is not installed. The message says how to install it.
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError:
        library = {"tables": "pyarrow", "images": "Pillow"}[kind]
        raise ImportError(f'reading {kind} needs {library}: pip install "finetuner[data]"') from None


def refuse_options(kind: str, path: Path, **options: Any) -> None:
    """Raise ``ValueError`` for options that this kind of data does not use."""
    for name, value in options.items():
        if value is not None and value is not False:
            raise ValueError(f"{name} is only for {kind}, got {value!r} for {path}")


def error_line(error: BaseException) -> str:
    """The first line of an error message, or the name of the error if it has no message."""
    return str(error).strip().partition("\n")[0] or type(error).__name__


def tell(message: str) -> None:
    """Log what a reader inferred or left out, with the logger ``finetuner.data``. The command line prints it."""
    logging.getLogger("finetuner.data").info(message)
