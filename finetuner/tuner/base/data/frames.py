"""Tables in memory as data: their columns are read by the code for files, which is above this layer."""

import importlib
from collections.abc import Mapping, Sequence
from typing import Any

from ....checks import preview
from ....containers import is_table, kind_of

__all__ = ["Columns", "items_of_table", "read_table", "read_tables", "refuse_splits"]

Columns = str | Sequence[str]


def read_tables(
    train_data: Any,
    eval_data: Any,
    input_column: Columns | None,
    label_column: str | None,
    score_column: str | None,
    names: tuple[str, str] = ("train_data", "eval_data"),
) -> tuple[Any, Any]:
    """The datasets of training and evaluation data, or of queries and index, where these are tables.

    Args:
        train_data: The data.
        eval_data: The data, a pair of queries and gallery, a mapping of these, or None.
        input_column: See :func:`finetuner.data.frames.read_frame`, as for the other columns.
        label_column: The column with the classes.
        score_column: The column with the similarity of each pair.
        names: What error messages call them.

    Returns:
        The two. Data that is no table is unchanged.

    Raises:
        TypeError: If columns are given without a table.
        ValueError: If a column is unknown or must be named.
    """
    columns = {"input_column": input_column, "label_column": label_column, "score_column": score_column}

    def one(data: Any, name: str) -> Any:
        if is_table(data):
            return read_table(data, name, **columns)
        if isinstance(data, Mapping):
            return {key: one(value, f"{name}[{key!r}]") for key, value in data.items()}
        return tuple(one(part, name) for part in data) if isinstance(data, tuple) and any(map(is_table, data)) else data

    return read_table(train_data, names[0], **columns), one(eval_data, names[1])


def read_table(data: Any, name: str, **columns: Any) -> Any:
    """The dataset of a table, see :func:`finetuner.data.frames.read_frame`; other data unchanged.

    Raises:
        TypeError: If columns are given without a table.
        ValueError: If a column is unknown or must be named.
    """
    if is_table(data):
        return importlib.import_module("finetuner.data.frames").read_frame(data, name, **columns)
    refuse_splits(data, name)
    for option, value in columns.items():
        if value is not None:
            raise TypeError(
                f"{option} must be used with a datasets.Dataset or a frame as {name}, got {value!r} and "
                f"{type(data).__name__}"
            )
    return data


def refuse_splits(data: Any, name: str) -> None:
    """Raise ``ValueError`` for a ``datasets.DatasetDict``, which has several datasets."""
    if kind_of(data) == "datasets" and isinstance(data, Mapping):
        raise ValueError(f"{name} must be one split of a {type(data).__name__}, which has {preview(list(data))}")


def items_of_table(data: Any, input_column: Columns | None) -> Any:
    """The items in the columns of a table; other data, and a table without ``input_column``, unchanged.

    Raises:
        TypeError: If a column is given without a table.
        ValueError: If a column is unknown.
    """
    if input_column is None:
        return data
    if not is_table(data):
        return read_table(data, "x", input_column=input_column)
    return importlib.import_module("finetuner.data.frames").read_frame_items(data, "x", input_column)
