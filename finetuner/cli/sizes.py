"""Sizes of embeddings on the command line: their options, and a table with a row for each size."""

from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any

from .names import DTYPES
from .options import EVALUATION, OTHER, option

__all__ = ["Dim", "Dims", "Dtype", "parse_numbers", "print_sizes", "rows_by_size"]

Dims = Annotated[
    list[str] | None,
    option(
        "--dims",
        EVALUATION,
        "Sizes of the embeddings, such as 384,128,32: the metrics of as many first components. Default: the whole.",
        "N,N",
    ),
]
Dim = Annotated[int | None, option("--dim", OTHER, "Number of components of an embedding, the first ones.", "N")]
Dtype = Annotated[
    str,
    option(
        "--dtype",
        OTHER,
        "Of the embeddings: float32; int8 or uint8, a byte a component; binary or ubinary, a bit a component.",
        "NAME",
        names=DTYPES,
    ),
]


def parse_numbers(flag: str, texts: Sequence[str] | None, kind: Callable[[str], Any]) -> list[Any] | None:
    """The numbers of an option such as ``--dims 384,128``, which may be repeated; None without it.

    Args:
        flag: The option, for the error message.
        texts: What was given.
        kind: ``int`` or ``float``.

    Raises:
        ValueError: If one is not a number.
    """
    if not texts:
        return None
    numbers = []
    for text in (part.strip() for given in texts for part in str(given).split(",")):
        try:
            numbers.append(kind(text))
        except ValueError:
            example = "whole numbers, such as 384,128" if kind is int else "numbers, such as 1,0.5"
            raise ValueError(f"{flag} must be {example}, got {text!r}") from None
    return numbers


def rows_by_size(metrics: Mapping[str, float], sizes: Sequence[int]) -> dict[str, dict[str, float]]:
    """The metrics of each size, which names such as ``dim_128/hit@1`` say.

    Args:
        metrics: What ``Encoder.evaluate`` returned for ``dims``.
        sizes: The sizes. The largest is that of names without a size.
    """
    from ..evaluation.sizes import PREFIX

    rows: dict[str, dict[str, float]] = {}
    for name, value in metrics.items():
        size, _, metric = name.rpartition("/")
        rows.setdefault(size.removeprefix(PREFIX) or str(max(sizes)), {})[metric] = value
    return rows


def print_sizes(metrics: Mapping[str, float], sizes: Sequence[int]) -> None:
    """Print a table with a row for each size. Where the terminal has no room for it, each number has its own line.

    Args:
        metrics: See :func:`rows_by_size`.
        sizes: See :func:`rows_by_size`.
    """
    from rich.console import Console
    from rich.table import Table

    from .terminal import GAP, print_metrics

    rows = rows_by_size(metrics, sizes)
    names = list(next(iter(rows.values())))
    widths = [max(len("size"), *map(len, rows)), *(max(len(name), len("0.0000")) for name in names)]
    console = Console(highlight=False)
    if sum(widths) + GAP * len(widths) > console.width:
        print_metrics({"value": metrics})
        return
    table = Table(box=None, header_style="bold", pad_edge=False, padding=(0, GAP, 0, 0))
    for title in ("size", *names):
        table.add_column(title, justify="right", no_wrap=True)
    for size, values in rows.items():
        table.add_row(size, *(f"{values[name]:.4f}" for name in names))
    console.print()
    console.print(table)
    console.print()
