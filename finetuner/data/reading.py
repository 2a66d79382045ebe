"""From a path to a dataset."""

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
from .tables import from_numpy, narrowed, read_table

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
    """Read labelled data: a class for each item, or a session and a role.

    Args:
        path: a table, an ``.npz``, or images in a folder or ``.zip``.
        input_column: the column of the items; several give a mapping with one array or list each. May be
            left out where only one column is left. Text becomes a list of ``str``, numbers an array
            ``[N]``, lists of numbers an array ``[N, D]``; float64 becomes float32.
        label_column: the column of the classes, numbers or strings.
        session_column: instead of classes, the column of the sessions ...
        role_column: ... and that of the roles: 0 for an anchor, 1 for a match, -1 for no match.
        classes: names or shell patterns, such as ``["Greek/*", "Latin/*"]``: only these are kept.
        image_size: ``(height, width)`` in pixels, or one number for both; None leaves images as they are.
        image_mode: ``"RGB"`` (default), ``"L"`` (grey) or ``"RGBA"``.
        channels_first: whether an image is ``[C, H, W]`` or ``[H, W, C]``.
        in_memory: whether images are decoded once, now, and not each time they are asked for.

    Returns:
        A :class:`ClassDataset`, or a :class:`SessionDataset` where sessions are named. Images are
        :class:`ImageFiles`, or an :class:`ImageArray` if ``in_memory``; their class is their folder.

    Raises:
        FileNotFoundError: if there is nothing at ``path``.
        ImportError: if the library that reads this kind is not installed.
        ValueError: if the kind is unknown; the file is broken or holds nothing; a column is not named,
            is unknown or has missing values; a pattern matches no class; or images differ in size.
    """
    path = existing_path(path)
    data: Dataset
    if _holds_images(path):
        _only_for("tables", path, input_column=input_column, label_column=label_column)
        _only_for("tables", path, session_column=session_column, role_column=role_column)
        files = ImageFiles(path, image_size=image_size, image_mode=image_mode, channels_first=channels_first)
        data = ClassDataset(files, files.class_names())
    else:
        _only_for("images", path, image_size=image_size, image_mode=image_mode)
        table = read_table(path)
        if session_column is None and role_column is None:
            label = table.named("label_column", label_column, default="y")
            data = ClassDataset(table.items(input_column, (label,)), table.column(label))
        else:
            _only_for("data without sessions", path, label_column=label_column, classes=classes)
            session = table.named("session_column", session_column)
            role = table.named("role_column", role_column)
            x = table.items(input_column, (session, role))
            data = SessionDataset(x, table.column(session), table.column(role))
    if classes is not None:
        data = _of_classes(data, [classes] if isinstance(classes, str) else list(classes), path)
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
    """Read items alone, as :func:`load` does, of data with or without labels.

    Images may lie anywhere in their folder here, and ``.npy`` is read too.

    Returns:
        What :func:`load` has for ``x``: a list, an array, a mapping of these, or images.

    Raises:
        FileNotFoundError, ImportError, ValueError: as :func:`load`.
    """
    path = existing_path(path)
    if _holds_images(path):
        _only_for("tables", path, input_column=input_column)
        files = ImageFiles(path, image_size=image_size, image_mode=image_mode, channels_first=channels_first)
        return files.in_memory() if in_memory else files
    _only_for("images", path, image_size=image_size, image_mode=image_mode)
    if path.suffix.lower() == ".npy":
        _only_for("tables", path, input_column=input_column)
        return narrowed(from_numpy(path, lambda array: array))
    return read_table(path).items(input_column, ())


def _holds_images(path: Path) -> bool:
    return path.is_dir() or path.suffix.lower() == ".zip"


def _only_for(kind: str, path: Path, **options: Any) -> None:
    """Refuse options that would go unheard."""
    for name, value in options.items():
        if value is not None:
            raise ValueError(f"{name} is only for {kind}, got {value!r} for {path}")


def _of_classes(data: Dataset, patterns: list[str], path: Path) -> ClassDataset:
    names = [str(name) for name in data.classes]
    if not patterns:
        raise ValueError("classes must hold at least one name or pattern, got none")
    kept: set[int] = set()
    for pattern in map(str, patterns):
        found = {i for i, name in enumerate(names) if name == pattern or fnmatch.fnmatchcase(name, pattern)}
        if not found:
            hint = closest_match(pattern, names)
            hint = hint if hint.startswith("did") else f"there are {preview(names)}"
            raise ValueError(f"classes must be of {path}, and none there matches {pattern!r}; {hint}")
        kept |= found
    at = np.flatnonzero(np.isin(data.labels, sorted(kept)))
    x = data.x.only(at) if isinstance(data.x, ImageFiles) else take(data.x, at)
    return ClassDataset(x, data.classes[data.labels[at]])
