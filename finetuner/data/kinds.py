"""Which dataset the columns of a table make: classes, sessions, pairs, triplets, targets, relevance or no labels."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from ..tuner.base.data import (
    ClassDataset,
    Dataset,
    InstanceDataset,
    PairDataset,
    RankingDataset,
    SessionDataset,
    TargetDataset,
    TripletDataset,
)
from .tables import Table

__all__ = ["COLUMNS", "kind_of_data", "read_dataset", "same_item"]

# The options of each kind. The first one of a kind is required.
KINDS = {
    "classes": ("label_column",),
    "sessions": ("session_column", "role_column"),
    "pairs": ("positive_column", "anchor_column", "negative_column", "score_column"),
    "targets": ("target_column",),
    "relevance": ("relevance_column", "query_column"),
    "unlabelled": ("unlabelled",),
}
COLUMNS = tuple(option for options in KINDS.values() for option in options if option != "unlabelled")


def same_item(item: Any) -> Any:
    """The view of an item that is the item itself."""
    return item


def kind_of_data(options: Mapping[str, Any]) -> str:
    """The kind of data, a key of ``KINDS``: that of the options that are given, or ``"classes"``.

    Raises:
        ValueError: If options of two kinds are given.
    """
    given = {kind: [name for name in names if options.get(name)] for kind, names in KINDS.items()}
    kinds = [kind for kind, names in given.items() if names]
    if len(kinds) > 1:
        first, second = (given[kind][0] for kind in kinds[:2])
        raise ValueError(f"{second} must not be used with {first}: data is of one kind, got {' and '.join(kinds[:2])}")
    return kinds[0] if kinds else "classes"


def read_dataset(
    table: Table,
    options: Mapping[str, Any],
    input_column: str | Sequence[str] | None,
    as_items: Callable[[str | list[str]], Any],
    augment: Callable[..., Any] | None = None,
    views: int = 2,
) -> Dataset:
    """Read the columns that a dataset needs, and make it.

    Args:
        table: The table.
        options: The columns by their options, see ``KINDS``, and ``unlabelled``.
        input_column: The columns of the items.
        as_items: A function from the names of columns, once they are read, to items.
        augment: A function that varies an item in training.
        views: The views of an item without a label in a batch.

    Raises:
        ValueError: If a column is missing or unknown, options of two kinds are given, or the data is wrong.
    """
    kind = kind_of_data(options)
    if kind == "pairs":
        return _read_tuples(table, options, input_column, as_items, augment)
    default = "y" if kind == "classes" else None
    names: list[str] = []
    if kind == "targets" and not isinstance(options["target_column"], str):
        names = [table.resolve("target_column", name) for name in options["target_column"]]
    elif kind != "unlabelled":
        names = [table.resolve(option, options.get(option), default) for option in KINDS[kind]]
    items = table.input_names(input_column, names)
    table.read([*([items] if isinstance(items, str) else items), *names])
    x = as_items(items)
    if kind == "sessions":
        return SessionDataset(x, table.labels(names[0]), table.numbers(names[1]), augment=augment)
    if kind == "targets":
        targets = [table.numbers(name) for name in names]
        joined = targets[0] if len(targets) == 1 else np.stack(targets, axis=1)
        return TargetDataset(x, joined, augment=augment)
    if kind == "relevance":
        return RankingDataset(x, table.numbers(names[0]), table.labels(names[1]), augment=augment)
    if kind == "unlabelled":
        return InstanceDataset(x, augment or same_item, views)
    return ClassDataset(x, table.labels(names[0]), augment=augment)


def _read_tuples(
    table: Table, options: Mapping[str, Any], input_column: Any, as_items: Any, augment: Any
) -> PairDataset | TripletDataset:
    if input_column is not None and options.get("anchor_column") is not None:
        raise ValueError(f"input_column must not be used with anchor_column, got {input_column!r}")
    given = {**options, "anchor_column": options.get("anchor_column") or input_column}
    sides = ["anchor_column", "positive_column"]
    if given.get("negative_column") is not None:
        sides.append("negative_column")
    names: list[str] = []
    for option in sides:
        if not isinstance(given[option], str | None):
            raise ValueError(f"{option} must be one column, got {', '.join(given[option])}")
        names.append(table.resolve(option, given.get(option)))
    score = given.get("score_column")
    if score is not None and len(sides) == 3:
        raise ValueError(f"score_column must be used with pairs, got {score!r} with negative_column")
    if score is not None:
        score = table.resolve("score_column", score)
    table.read([*names, *([] if score is None else [score])])
    anchor, positive, *negative = (as_items(name) for name in names)
    if negative:
        return TripletDataset(anchor, positive, negative[0], augment=augment)
    return PairDataset(anchor, positive, score=None if score is None else table.numbers(score), augment=augment)
