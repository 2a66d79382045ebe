"""Tables with paths of images, and with columns that say which rows are for training, queries and gallery."""

import os
from collections.abc import Sequence
from typing import Any

import numpy as np

from ..checks import closest_match, one_of, preview
from .common import refuse_options
from .image_columns import EncodedImages, ImageBytes
from .images import ImageFiles, rows_without
from .opening import format_suffix
from .sources import are_images, find_files
from .tables import Table, read_table, table_options

__all__ = ["PARTS", "ImageColumns", "has_query_and_gallery", "select_rows"]

PARTS = {"query": "is_query", "gallery": "is_gallery"}
YES, NO = ("true", "1", "1.0", "yes", "t", "y"), ("false", "0", "0.0", "no", "f", "n", "", "nan", "none")


class ImageColumns:
    """The columns of a table that hold images: as paths relative to the folder of the table, or as files.

    Args:
        table: The table.
        names: The columns with paths.
        options: ``image_size`` and the others, see :class:`ImageFiles`.
        skip_broken: Whether rows with an image that cannot be read are left out, with a warning.
    """

    def __init__(self, table: Table, names: Sequence[str], options: dict[str, Any], skip_broken: bool = False):
        self.table, self.options, self.skip_broken = table, options, skip_broken
        self.names = [table.resolve("image_column", name) for name in names]
        self.found = False

    def refuse(self) -> None:
        """Raise ``ValueError`` if an option of images is given."""
        options = {name: value for name, value in self.options.items() if name != "channels_first"}
        refuse_options("images", self.table.parts[0].path, **options, skip_broken=self.skip_broken)

    def hold(self, name: str) -> bool:
        """Whether a column that was read has images."""
        return name in self.names or isinstance(self.table.column(name), ImageBytes)

    def items(self, name: str) -> ImageFiles:
        """The images of a column that was read.

        Raises:
            ValueError: If a path is no text, or an image is missing or broken, see :class:`ImageFiles`.
        """
        self.found = True
        if self.skip_broken:
            self.skip_broken = False
            self._skip()
        images = self.images(name)
        images.check_files()
        return images

    def images(self, name: str) -> ImageFiles:
        """The images of a column, of which no file is looked at."""
        values = self.table.column(name)
        if isinstance(values, ImageBytes):
            return EncodedImages(values, check=False, **self.options)
        if not isinstance(values, list) or not all(isinstance(value, str) for value in values):
            raise ValueError(f"column {name!r} of {self.table.title} must have paths of images, got other values")
        folder = self.table.parts[0].path.parent
        return ImageFiles.of_paths(folder, [value.replace("\\", os.sep) for value in values], **self.options)

    def _skip(self) -> None:
        """Leave out the rows of the table in which an image of any column is broken."""
        errors: dict[int, str] = {}
        count = 0
        for name in filter(self.hold, self.table.names_read):
            images = self.images(name)
            errors |= dict(images.errors())
            count = len(images)
        kept = rows_without(errors, count, self.table.title)
        if errors:
            self.table.keep(np.array(kept))


def select_rows(table: Table, split: str | None, part: str | None = None, split_column: str = "split") -> None:
    """Have a table read only the rows of a split, or of its queries or its gallery.

    Args:
        table: The table.
        split: The value of the column ``split_column``; None for all rows.
        part: ``"query"`` for the rows whose ``is_query`` is true, ``"gallery"`` for those of ``is_gallery``, None for
            both and the others.
        split_column: The column of the splits.

    Raises:
        ValueError: If a column is missing, no row is left, or a value of ``is_query`` or ``is_gallery`` is not clear.
    """
    if split is None and part is None:
        return
    masks = [np.ones(0, bool)]
    if split is not None:
        values = [str(value) for value in _values(table, split_column, "split")]
        masks.append(np.array([value == str(split) for value in values]))
        if not masks[-1].any():
            known = sorted(set(values))
            hint = hint if (hint := closest_match(split, known)).startswith("did") else f"it has {preview(known)}"
            raise ValueError(f"split must be a value of {split_column!r} of {table.title}, got {split!r}; {hint}")
    if part is not None:
        column = PARTS[one_of("part", part, list(PARTS))]
        masks.append(_truths(table, column, _values(table, column, "part")))
    mask = np.logical_and.reduce(masks[1:])
    if not mask.any():
        raise ValueError(f"{table.title} must have rows with {PARTS[str(part)]} in split {split!r}, got none")
    table.keep(np.flatnonzero(mask))


def has_query_and_gallery(path: Any, split: str | None = None, **options: Any) -> bool:
    """Whether a table says which rows of a split are queries and which are the gallery, and these are not the same.

    Args:
        path: The files of the table, see :func:`~finetuner.data.load`. Images in a folder have neither.
        split: The value of the column ``split``; None for all rows.
        **options: ``encoding`` and the others of :func:`~finetuner.data.load` for tables.

    Raises:
        ValueError: If some rows are both, and others are not. In a search they would find themselves.
    """
    files = find_files(path)
    if are_images(files) or format_suffix(files[0]) not in (".csv", ".tsv", ".parquet", ".arrow"):
        return False  # JSON would have to be read as a whole
    table = read_table(files, table_options(**options))
    if not set(PARTS.values()) <= set(table.names):
        return False
    query, gallery = (_truths(table, column, _values(table, column, "part")) for column in PARTS.values())
    if split is not None:
        rows = np.array([str(value) == str(split) for value in _values(table, "split", "split")])
        query, gallery = query[rows], gallery[rows]
    both = query & gallery
    if both.any() and not (query == gallery).all():
        raise ValueError(
            f"{table.title} must have rows that are all queries and gallery, or rows that are one of them; "
            f"got {both.sum():,} rows that are both and {(query ^ gallery).sum():,} that are one"
        )
    return bool(query.any() and gallery.any() and not both.any())


def _values(table: Table, name: str, option: str) -> Sequence[Any]:
    """A column of all rows, with empty cells."""
    return list(table.read_all(table.resolve(option, name)))


def _truths(table: Table, name: str, values: Sequence[Any]) -> np.ndarray:
    words = [str(value).strip().lower() for value in values]
    wrong = sorted({word for word in words if word not in YES + NO})
    if wrong:
        raise ValueError(f"column {name!r} of {table.title} must have true and false, got {preview(wrong, 3)}")
    return np.array([word in YES for word in words])
