"""Tables in memory by the names of their columns: ``datasets.Dataset``, frames of pandas and Polars, Arrow tables."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..checks import preview
from ..containers import kind_of
from ..tuner.base.data import Dataset
from .arrow import to_columns
from .common import require
from .image_tables import ImageColumns
from .kinds import read_dataset
from .selection import ItemReader
from .tables import Part, Table

__all__ = ["read_frame", "read_frame_items"]

IMAGE_OPTIONS = {"image_size": None, "image_mode": None, "channels_first": True, "max_pixels": None, "transform": None}
PAIRS = ("anchor_column", "positive_column", "negative_column")
Columns = str | Sequence[str]


def read_frame(
    data: Any,
    name: str,
    *,
    input_column: Columns | None = None,
    label_column: str | None = None,
    score_column: str | None = None,
) -> Dataset:
    """The dataset of a table in memory, as :func:`~finetuner.data.load` reads it from a file.

    Args:
        data: The table.
        name: What error messages call it.
        input_column: The column with the items. Two columns without labels are pairs, and three are triplets. Several
            columns with labels give a mapping. The default is ``text``, or the only column beside the labels; or
            ``anchor``, ``positive`` and ``negative`` if there are such columns.
        label_column: The column with the classes. The default is ``label``.
        score_column: The column with the similarity of each pair.

    Raises:
        ValueError: If a column is unknown or must be named, or has missing values.
        ImportError: If pyarrow is not installed.
    """
    table = as_table(data, name)
    if input_column is None and label_column is None and {"anchor", "positive"} <= set(table.names):
        input_column = [column for column in ("anchor", "positive", "negative") if column in table.names]
        score_column = "score" if score_column is None and table.names.count("score") else score_column
    sides = () if isinstance(input_column, str) or input_column is None else tuple(input_column)
    if label_column is None and len(sides) in (2, 3):
        options = {**dict(zip(PAIRS, sides, strict=False)), "score_column": score_column}
        return read_dataset(table, options, None, item_reader(table).items)
    if score_column is not None:
        raise ValueError(f"score_column must be used with two columns as input_column, got {input_column!r}")
    label_column = "label" if label_column is None and "label" in table.names else label_column
    if input_column is None and "text" in table.names and label_column != "text":
        input_column = "text"
    return read_dataset(table, {"label_column": label_column}, input_column, item_reader(table).items)


def read_frame_items(data: Any, name: str, input_column: Columns) -> Any:
    """The items in the columns of a table in memory: a list, an array, or a mapping of these."""
    table = as_table(data, name)
    names = table.input_names(input_column, ())
    table.read([names] if isinstance(names, str) else names)
    return item_reader(table).items(names)


def item_reader(table: Table) -> ItemReader:
    """What converts columns to items."""
    return ItemReader(table, False, ImageColumns(table, (), dict(IMAGE_OPTIONS)))


def as_table(data: Any, name: str) -> Table:
    """The table of a frame. Its columns are converted when they are read."""
    pa, kind, path = require("pyarrow", "tables"), kind_of(data), Path(name)
    given = list(data.columns if kind in ("pandas", "polars") else data.column_names)
    original = dict(zip(map(str, given), given, strict=True))
    if len(original) < len(given):
        raise ValueError(f"{name} must have columns with different names, got {preview(given)}")
    classes: dict[str, list[str]] = {}
    if kind == "datasets":
        features = {column: feature for column, feature in data.features.items() if hasattr(feature, "int2str")}
        classes = {column: list(map(str, feature.names)) for column, feature in features.items()}

    def select(names: Sequence[str]) -> Any:
        columns = [original[column] for column in names]
        if kind == "datasets":
            return data.select_columns(columns).with_format("arrow")[:]
        if kind == "polars":
            return data.select(columns).to_arrow()
        if kind == "pyarrow":
            return data.select(columns)
        try:
            return pa.Table.from_pandas(data[columns].rename(columns=str), preserve_index=False)
        except pa.ArrowException as error:
            raise ValueError(f"columns of {name} must have values of one type: {error}") from None

    return Table([Part(path, list(original), lambda names: to_columns(select(names), names, classes, path))])
