"""The options that say how tables are read, and what the readers tell."""

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

__all__ = ["TABLE_OPTIONS", "table_settings", "told_by_readers"]

TABLE_OPTIONS = ("numeric", "encoding", "separator", "column_names", "max_bytes")


def table_settings(paths: Sequence[Path], settings: Mapping[str, Any]) -> dict[str, Any]:
    """The options for reading ``paths``, as :func:`finetuner.data.load` takes them.

    A command has one option for all its data, and ``--run`` brings those of the training. So an option that no file of
    ``paths`` has a use for, such as the separator of JSON, is left out.

    Args:
        paths: The files, patterns or folders.
        settings: The options of the command.

    Raises:
        FileNotFoundError: If there is nothing at a path.
    """
    from ..data.opening import format_suffix
    from ..data.sources import find_files
    from ..data.tables import DELIMITED, TEXT

    options = {name: settings.get(name) or None for name in TABLE_OPTIONS}
    options["numeric"] = bool(options["numeric"])
    if options["column_names"] is not None:
        options["column_names"] = [name for text in options["column_names"] for name in text.split(",")]
    files = find_files(paths)
    suffixes = {format_suffix(path) for path in files}
    if not suffixes.intersection(DELIMITED):
        options["separator"] = options["column_names"] = None
    if not suffixes.intersection(TEXT):
        options["encoding"] = None
    if all(path.is_dir() for path in files):
        options["max_bytes"] = None
    return options


@contextmanager
def told_by_readers() -> Iterator[list[str]]:
    """What the readers tell about the data meanwhile: what they inferred, and what they left out."""
    told: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: told.append(record.getMessage())  # type: ignore[method-assign]
    logger = logging.getLogger("finetuner.data")
    level, propagate = logger.level, logger.propagate
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    logger.propagate = False
    try:
        yield told
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)
        logger.propagate = propagate
