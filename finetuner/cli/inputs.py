"""What the user passes: options as text, paths and data."""

import glob
import itertools
import json
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import typer

from .table_options import TABLE_OPTIONS, table_settings, told_by_readers
from .terminal import print_message

__all__ = [
    "COLUMN_OPTIONS",
    "IMAGE_OPTIONS",
    "TABLE_OPTIONS",
    "check_inputs",
    "check_output",
    "first_free_folder",
    "has_gallery",
    "parse_eval_data",
    "parse_freeze",
    "parse_image_size",
    "parse_learning_rates",
    "parse_options",
    "read_data",
    "read_eval_set",
]

COLUMN_OPTIONS = (
    *("input_column", "label_column", "session_column", "role_column", "anchor_column", "positive_column"),
    *("negative_column", "score_column", "target_column", "query_column", "relevance_column"),
)
IMAGE_OPTIONS = (
    *("image_column", "image_size", "image_mode", "in_memory", "channels_first", "max_pixels", "skip_broken"),
)


def parse_options(flag: str, pairs: list[str] | None) -> dict[str, Any]:
    """Parse ``KEY=VALUE`` pairs. A value is read as JSON, or as text if it is not JSON.

    Args:
        flag: The option of the command line, for the error message.
        pairs: The pairs; None for none.

    Raises:
        typer.BadParameter: If a pair is not ``KEY=VALUE``.

    Example:
        >>> parse_options("--loss-option", ["margin=0.3", "reduction=sum"])
        {'margin': 0.3, 'reduction': 'sum'}
    """
    parsed: dict[str, Any] = {}
    for pair in pairs or []:
        key, equals, value = pair.partition("=")
        if not key or not equals:
            raise typer.BadParameter(f"must be KEY=VALUE, got {pair!r}", param_hint=flag)
        try:
            parsed[key] = json.loads(value)
        except json.JSONDecodeError:
            parsed[key] = value
    return parsed


def parse_image_size(text: str) -> int | tuple[int, ...]:
    """Parse the size of an image: one number for both sides, or height and width.

    Raises:
        typer.BadParameter: If ``text`` has another form.

    Example:
        >>> parse_image_size("28"), parse_image_size("28x32")
        (28, (28, 32))
    """
    parts = text.lower().split("x")
    if len(parts) > 2 or not all(part.isdecimal() for part in parts):
        raise typer.BadParameter(f"must be SIZE or HEIGHTxWIDTH, got {text!r}", param_hint="--image-size")
    return int(parts[0]) if len(parts) == 1 else tuple(map(int, parts))


def parse_learning_rates(rate: float | None, pairs: list[str] | None) -> float | dict[str, float | None] | None:
    """Parse ``PATTERN=RATE`` pairs. A pattern may contain ``=``, too.

    Args:
        rate: The learning rate of the weights that match no pattern; None for the default of the model.
        pairs: The pairs; None for none.

    Raises:
        typer.BadParameter: If a pair is not ``PATTERN=RATE``.

    Example:
        >>> parse_learning_rates(1e-5, ["head=0.01"])
        {'head': 0.01, '': 1e-05}
    """
    rates: dict[str, float | None] = {}
    for pair in pairs or []:
        pattern, _, value = pair.rpartition("=")
        try:
            rates[pattern] = float(value)
        except ValueError:
            pattern = ""
        if not pattern:
            raise typer.BadParameter(f"must be PATTERN=RATE, got {pair!r}", param_hint="--learning-rate-of")
    return {**rates, "": rate} if rates else rate


def parse_freeze(patterns: list[str] | None) -> dict[str, float] | None:
    """Parse patterns of frozen weights: ``PATTERN``, or ``PATTERN=EPOCHS``.

    Example:
        >>> parse_freeze(["embeddings", "encoder=2"])
        {'embeddings': inf, 'encoder': 2}
    """
    frozen: dict[str, float] = {}
    for text in patterns or []:
        pattern, equals, epochs = text.rpartition("=")
        if equals and epochs.isdecimal():
            frozen[pattern] = int(epochs)
        else:
            frozen[text] = float("inf")
    return frozen or None


def parse_eval_data(texts: list[str] | None) -> dict[str, Path]:
    """Parse evaluation sets: one ``PATH``, whose name is empty, or ``NAME=PATH`` for each.

    Raises:
        typer.BadParameter: If there are several, and one has no name or the name of another.

    Example:
        >>> parse_eval_data(["banks=banks.csv", "news=news.csv"])
        {'banks': PosixPath('banks.csv'), 'news': PosixPath('news.csv')}
    """
    sets: dict[str, Path] = {}
    for text in texts or []:
        name, equals, path = text.partition("=")
        if not (equals and name and path) or Path(text).exists():
            name, path = "", text
        if len(texts or []) > 1 and (not name or name in sets):
            raise typer.BadParameter(f"must be NAME=PATH for several sets, got {text!r}", param_hint="--eval-data")
        sets[name] = Path(path)
    return sets


# Paths ---------------------------------------------------------------------------------------------------


def check_inputs(*paths: Path | None) -> None:
    """Check that input files or folders exist. This runs before a framework is imported, which takes seconds.

    Raises:
        FileNotFoundError: If one does not exist.
    """
    for path in paths:
        if path is not None and not path.exists() and not glob.glob(str(path), recursive=True):
            raise FileNotFoundError(f"{path} must be a file or a folder, and does not exist")


def check_output(path: Path, kind: str | Sequence[str] = "folder") -> None:
    """Check that an output can be written. This runs before anything is computed.

    Args:
        path: A folder, which must be new or empty, or a file, which must be new.
        kind: ``"folder"``, or the suffixes that the file may have.

    Raises:
        FileExistsError: If something is at ``path``.
        OSError: If it is in a folder that is not writable.
        ValueError: If it has another suffix.
    """
    from ..files import check_new_folder

    if kind == "folder":
        check_new_folder(path)
    elif path.suffix not in kind:
        others = ", ".join(kind[:-1])
        raise ValueError(f"--output must end in {others}{' or ' * bool(others)}{kind[-1]}, got {path}")
    elif path.exists():
        raise FileExistsError(f"{path} must be a new file, and it exists; nothing was written")
    parent = next(folder for folder in path.absolute().parents if folder.exists())
    if not parent.is_dir() or not os.access(parent, os.W_OK | os.X_OK):
        raise OSError(f"{path} must be in a writable folder, and {parent} is not one")


def first_free_folder(name: str, start: int = 1) -> Path:
    """The first of ``name``, ``name-2``, ``name-3``, ... that does not exist. ``start`` is the first number to try."""
    names = (name if number == 1 else f"{name}-{number}" for number in itertools.count(start))
    return next(path for path in map(Path, names) if not path.exists())


# Data ----------------------------------------------------------------------------------------------------


def read_data(
    path: Path | Sequence[Path],
    settings: Mapping[str, Any],
    classes: list[str] | None,
    title: str,
    labelled: bool = True,
    augment: Callable[..., Any] | None = None,
    columns: dict[str, Any] | None = None,
) -> Any:
    """Read files or a folder, and print one line about them.

    Args:
        path: The file or folder, or several files of one table.
        settings: The options of the command. Those for columns, tables and images are used.
        classes: Names or patterns of the classes to keep; None for all.
        title: What the printed line calls the data.
        labelled: Whether to read labels too.
        augment: A function that varies an item in training.
        columns: If given, all columns of the table are put into it. The data must not be ``labelled`` then.

    Returns:
        A dataset, or the items alone if not ``labelled``.

    Raises:
        FileNotFoundError, ImportError, ValueError: See :func:`finetuner.data.load`. The message names ``path``.
    """
    from ..data import load
    from ..data.reading import load_inputs, load_inputs_and_columns

    names = (*COLUMN_OPTIONS, *IMAGE_OPTIONS)
    options: dict[str, Any] = {name: settings.get(name) or None for name in names}
    options["in_memory"], options["channels_first"] = bool(options["in_memory"]), not settings.get("channels_last")
    options["skip_broken"] = bool(options["skip_broken"])
    for name in ("input_column", "image_column", "target_column"):
        if isinstance(options[name], list) and len(options[name]) == 1:
            options[name] = options[name][0]
    if isinstance(options["image_size"], str):
        options["image_size"] = parse_image_size(options["image_size"])
    rows: dict[str, Any] = {name: settings.get(name) for name in ("split", "part")}
    paths = [path] if isinstance(path, Path) else list(path)
    try:
        options |= table_settings(paths, settings)
        with told_by_readers() as told:
            if labelled:
                unlabelled = bool(settings.get("unlabelled"))
                data = load(paths, **options, **rows, classes=classes, unlabelled=unlabelled, augment=augment)
            else:
                items = ("input_column", *TABLE_OPTIONS, *IMAGE_OPTIONS)
                options = {name: options[name] for name in items} | rows
                if columns is None:
                    data = load_inputs(paths, **options)
                else:
                    data, found = load_inputs_and_columns(paths, **options)
                    columns.update(found)
    except (TypeError, ValueError) as error:
        if any(str(one) in str(error) for one in paths):
            raise
        kind = TypeError if isinstance(error, TypeError) else ValueError  # a UnicodeDecodeError needs more than a text
        raise kind(f"{paths[0]}: {error}") from error
    print_message("; ".join([f"{title:<6} {data if labelled else f'{len(data)} items'}", *dict.fromkeys(told)]))
    return data


def has_gallery(path: Path | Sequence[Path], settings: Mapping[str, Any]) -> bool:
    """Whether the rows of a table are queries and a gallery that is searched, by its ``is_query`` and ``is_gallery``.

    Raises:
        FileNotFoundError, ImportError, ValueError: If the table cannot be read.
    """
    from ..data.image_tables import has_query_and_gallery

    paths = [path] if isinstance(path, Path) else list(path)
    options = {name: value for name, value in table_settings(paths, settings).items() if name != "numeric"}
    return has_query_and_gallery(paths, settings.get("split"), **options)


def read_eval_set(
    path: Path | Sequence[Path], settings: Mapping[str, Any], classes: list[str] | None, title: str
) -> Any:
    """Read data for an evaluation: a dataset, or a pair of queries and gallery if the table has them."""
    if not has_gallery(path, settings):
        return read_data(path, settings, classes, title)
    parts = {"query": title, "gallery": "index"}
    return tuple(read_data(path, {**settings, "part": part}, classes, name) for part, name in parts.items())
