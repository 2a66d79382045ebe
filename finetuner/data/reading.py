"""Read a path into a dataset."""

import fnmatch
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..arrays import take
from ..checks import closest_match, preview
from ..files import existing_path
from ..tuner.base.data import ClassDataset, Dataset, SessionDataset
from .images import ImageFiles
from .tables import as_model_input, read_numpy, read_table

__all__ = ["load", "load_inputs"]


def load(
    path: str | os.PathLike[str],
    *,
    input_column: str | Sequence[str] | None = None,
    label_column: str | None = None,
    session_column: str | None = None,
    role_column: str | None = None,
    classes: str | Sequence[str] | None = None,
    image_size: int | tuple[int, int] | None = None,
    image_mode: str | None = None,
    channels_first: bool = True,
    in_memory: bool = False,
) -> Dataset:
    r"""Read labelled data: a class for each item, or a session and a role for each item.

    The class of an image is its folder. Float64 inputs become float32.

    Args:
        path: A table, an ``.npz``, or images in a folder or ``.zip``.
        input_column: The column with the items. Several columns give a mapping of arrays and lists. It may be omitted
            if the labels leave only one column. Text becomes a list of ``str``, numbers become an array ``[N]``, and
            lists of numbers become an array ``[N, D]``.
        label_column: The column with the classes, numbers or strings.
        session_column: The column with the sessions. Use it in place of ``label_column``.
        role_column: The column with the roles of the items: 0 for an anchor, 1 for a match, -1 for no match. Required
            with ``session_column``.
        classes: Class names or shell patterns, such as ``["Greek/*", "Latin/*"]``. Items of other classes are dropped.
        image_size: ``(height, width)`` in pixels, or one integer for both. None keeps the size of the images.
        image_mode: ``"RGB"`` (the default), ``"L"`` (grey) or ``"RGBA"``.
        channels_first: Whether an image is ``[C, H, W]`` or ``[H, W, C]``.
        in_memory: Whether to decode all images now, rather than on each access.

    Returns:
        A :class:`ClassDataset`, or a :class:`SessionDataset` if ``session_column`` is given. Its ``x`` is a list, an
        array, a mapping of these, an :class:`ImageFiles`, or, if ``in_memory``, an :class:`ImageArray`.

    Raises:
        FileNotFoundError: If ``path`` does not exist.
        ImportError: If the library that reads this format is not installed.
        TypeError: If ``image_size`` is not an integer or a pair of integers.
        ValueError: If the format is unknown, the file is broken or empty, a column is not given, is unknown or has
            missing values, a pattern matches no class, or images differ in size.

    Example:
        >>> from pathlib import Path
        >>> _ = Path("animals.csv").write_text("text,label\nmeow,cat\nwoof,dog\npurr,cat\n")
        >>> data = load("animals.csv", input_column="text", label_column="label")
        >>> data
        ClassDataset(3 items, 2 classes)
        >>> data.x
        ['meow', 'woof', 'purr']
        >>> load("animals.csv", label_column="label", classes="c*").x
        ['meow', 'purr']
    """
    path = existing_path(path)
    data: Dataset
    if _is_image_path(path):
        _refuse_options("tables", path, input_column=input_column, label_column=label_column)
        _refuse_options("tables", path, session_column=session_column, role_column=role_column)
        files = ImageFiles(path, image_size=image_size, image_mode=image_mode, channels_first=channels_first)
        data = ClassDataset(files, files.class_names())
    else:
        _refuse_options("images", path, image_size=image_size, image_mode=image_mode)
        table = read_table(path)
        if session_column is None and role_column is None:
            label = table.resolve("label_column", label_column, default="y")
            data = ClassDataset(table.inputs(input_column, (label,)), table.column(label))
        else:
            _refuse_options("data without sessions", path, label_column=label_column, classes=classes)
            session = table.resolve("session_column", session_column)
            role = table.resolve("role_column", role_column)
            x = table.inputs(input_column, (session, role))
            data = SessionDataset(x, table.column(session), table.column(role))
    if classes is not None:
        data = _select_classes(data, [classes] if isinstance(classes, str) else list(classes), path)
    if in_memory and isinstance(data.x, ImageFiles):
        data.x = data.x.in_memory()
    return data


def load_inputs(
    path: str | os.PathLike[str],
    *,
    input_column: str | Sequence[str] | None = None,
    image_size: int | tuple[int, int] | None = None,
    image_mode: str | None = None,
    channels_first: bool = True,
    in_memory: bool = False,
) -> Any:
    """Read items without labels.

    The data may also have labels; then ``input_column`` selects the items. Images may be anywhere in their folder.

    Args:
        path: A table, an ``.npz``, an ``.npy``, or images in a folder or ``.zip``.
        input_column: The column with the items, see :func:`load`.
        image_size: The size of the images, see :func:`load`.
        image_mode: ``"RGB"`` (the default), ``"L"`` (grey) or ``"RGBA"``.
        channels_first: Whether an image is ``[C, H, W]`` or ``[H, W, C]``.
        in_memory: Whether to decode all images now, rather than on each access.

    Returns:
        A list, an array, a mapping of these, an :class:`ImageFiles`, or, if ``in_memory``, an :class:`ImageArray`.

    Raises:
        FileNotFoundError: If ``path`` does not exist.
        ImportError: If the library that reads this format is not installed.
        TypeError: If ``image_size`` is not an integer or a pair of integers.
        ValueError: If the data cannot be read, see :func:`load`.

    Example:
        >>> np.save("vectors.npy", np.eye(2))
        >>> load_inputs("vectors.npy")
        array([[1., 0.],
               [0., 1.]], dtype=float32)
    """
    path = existing_path(path)
    if _is_image_path(path):
        _refuse_options("tables", path, input_column=input_column)
        files = ImageFiles(path, image_size=image_size, image_mode=image_mode, channels_first=channels_first)
        return files.in_memory() if in_memory else files
    _refuse_options("images", path, image_size=image_size, image_mode=image_mode)
    if path.suffix.lower() == ".npy":
        _refuse_options("tables", path, input_column=input_column)
        return as_model_input(read_numpy(path, lambda array: array))
    return read_table(path).inputs(input_column, ())


def _is_image_path(path: Path) -> bool:
    return path.is_dir() or path.suffix.lower() == ".zip"


def _refuse_options(kind: str, path: Path, **options: Any) -> None:
    """Raise ``ValueError`` for options that this kind of data does not use."""
    for name, value in options.items():
        if value is not None:
            raise ValueError(f"{name} is only for {kind}, got {value!r} for {path}")


def _select_classes(data: Dataset, patterns: list[str], path: Path) -> ClassDataset:
    """The items whose class is one of ``patterns``, or matches one of them."""
    names = [str(name) for name in data.classes]
    if not patterns:
        raise ValueError("classes must have at least one name or pattern, got none")
    selected: set[int] = set()
    for pattern in map(str, patterns):
        matching = {i for i, name in enumerate(names) if name == pattern or fnmatch.fnmatchcase(name, pattern)}
        if not matching:
            hint = closest_match(pattern, names)
            hint = hint if hint.startswith("did") else f"its classes are {preview(names)}"
            raise ValueError(f"classes must match classes of {path}, got {pattern!r}, which matches none; {hint}")
        selected |= matching
    rows = np.flatnonzero(np.isin(data.labels, sorted(selected)))
    x = data.x.subset(rows) if isinstance(data.x, ImageFiles) else take(data.x, rows)
    return ClassDataset(x, data.classes[data.labels[rows]])
