"""Which columns and which rows of what was read become items."""

import fnmatch
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..arrays import take
from ..checks import closest_match, preview
from ..tuner.base.data import ClassDataset, Dataset
from .image_tables import ImageColumns
from .images import ImageFiles
from .tables import Table

__all__ = ["ItemReader", "select_classes"]


class ItemReader:
    """Converts columns that were read to items: text, numbers or images."""

    def __init__(self, table: Table, numeric: bool | Sequence[str], images: ImageColumns):
        self.table, self.images = table, images
        if not images.names and not any(part.path.suffix.lower() in (".parquet", ".arrow") for part in table.parts):
            self.refuse_unused()
        names = [numeric] if isinstance(numeric, str) else numeric
        self.numeric = names if isinstance(names, bool) else [table.resolve("numeric", name) for name in names]

    def items(self, names: str | list[str]) -> Any:
        """The items of a column, or a mapping for several."""
        if not isinstance(names, str):
            return {name: self.items(name) for name in names}
        if self.images.hold(names):
            return self.images.items(names)
        return self.table.items(names, self.numeric)

    def refuse_unused(self) -> None:
        """Raise ``ValueError`` for options of images if there was no image."""
        if not self.images.found:
            self.images.refuse()


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
