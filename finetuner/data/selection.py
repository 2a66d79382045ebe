"""Which columns and which rows of what was read become items."""

import fnmatch
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..arrays import take
from ..checks import closest_match, preview
from ..tuner.base.data import ClassDataset, Dataset
from .image_columns import EncodedImages, ImageBytes
from .images import ImageFiles
from .tables import Table

__all__ = ["ItemReader", "refuse_options", "select_classes"]


class ItemReader:
    """Converts columns that were read to items: text, numbers or images."""

    def __init__(self, table: Table, numeric: bool | Sequence[str], images: dict[str, Any]):
        self.table, self.images, self.found_images = table, images, False
        if not any(part.path.suffix.lower() in (".parquet", ".arrow") for part in table.parts):
            self.refuse_unused()
        names = [numeric] if isinstance(numeric, str) else numeric
        self.numeric = names if isinstance(names, bool) else [table.resolve("numeric", name) for name in names]

    def items(self, names: str | list[str]) -> Any:
        """The items of a column, or a mapping for several."""
        if not isinstance(names, str):
            return {name: self.items(name) for name in names}
        values = self.table.column(names)
        if isinstance(values, ImageBytes):
            self.found_images = True
            return EncodedImages(values, **self.images)
        return self.table.items(names, self.numeric)

    def refuse_unused(self) -> None:
        """Raise ``ValueError`` for options of images if there was no image."""
        if not self.found_images:
            options = {name: self.images[name] for name in ("image_size", "image_mode")}
            refuse_options("images", self.table.parts[0].path, **options)


def refuse_options(kind: str, path: Path, **options: Any) -> None:
    """Raise ``ValueError`` for options that this kind of data does not use."""
    for name, value in options.items():
        if value is not None:
            raise ValueError(f"{name} is only for {kind}, got {value!r} for {path}")


def select_classes(data: Dataset, patterns: list[str], path: Path) -> ClassDataset:
    """The items whose class is one of ``patterns``, or matches one of them."""
    names = [str(name) for name in data.classes]
    if not patterns:
        raise ValueError("classes must have at least one name or pattern, got none")
    if data.labels.ndim != 1:
        raise ValueError(f"classes must be used with one class per item, got {data!r}")
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
    return ClassDataset(x, data.classes[data.labels[rows]], augment=data.augment)
