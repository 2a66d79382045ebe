"""Data from standard input: ``--data -``."""

import shutil
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import typer

__all__ = ["FORMATS", "check_standard_input", "files_of"]

STDIN = Path("-")
FORMATS = ("csv", "tsv", "jsonl", "json", "txt", "parquet", "npz", "npy")


def check_standard_input(paths: Sequence[Path], kind: str | None, image_column: object = None) -> None:
    """Check the options of standard input.

    Args:
        paths: The data.
        kind: The format of standard input.
        image_column: Columns with paths of images, which are relative to the folder of a table.

    Raises:
        ValueError: If ``-`` is given without a format or with other data, or a format without ``-``.
        typer.BadParameter: If the format is unknown.
    """
    if STDIN not in paths:
        if kind is not None:
            raise ValueError(f"--format must be used with --data -, got {kind!r} with --data {paths[0]}")
        return
    formats = ", ".join(FORMATS[:-1]) + f" or {FORMATS[-1]}"
    if len(paths) > 1:
        raise ValueError("--data - must be the only --data, got others beside it")
    if kind is None:
        raise ValueError(f"--format must be given with --data -: {formats}")
    if kind not in FORMATS:
        raise typer.BadParameter(f"must be {formats}, got {kind!r}", param_hint="--format")
    if image_column:
        raise ValueError("--image-column must be used with a file, as its paths are relative to it, got --data -")


@contextmanager
def files_of(paths: Sequence[Path], kind: str | None) -> Iterator[list[Path]]:
    """The files of ``--data``. What standard input has is in a file meanwhile, which errors call standard input.

    Args:
        paths: The data.
        kind: The format of standard input, one of ``FORMATS``.

    Raises:
        ValueError: If the data cannot be read.
    """
    if STDIN not in paths:
        yield list(paths)
        return
    with tempfile.TemporaryDirectory(prefix="finetuner-") as folder:
        path = Path(folder, f"stdin.{kind}")
        with path.open("wb") as file:
            shutil.copyfileobj(sys.stdin.buffer, file)
        try:
            yield [path]
        except ValueError as error:
            raise ValueError(str(error).replace(str(path), "standard input")) from error
