"""The command ``check``: look through data once, and print what is broken or looks wrong."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from . import options as o
from .terminal import FAILED, handle_errors

if TYPE_CHECKING:
    from ..data.inspection import Inspection

__all__ = ["check"]

SHOWN = 5  # examples of each finding
NAME_WIDTH, TITLE_WIDTH, GAP = (
    16,
    8,
    3,
)  # of a table: the least widths of names and titles, and the space between columns

DataSets = Annotated[
    list[Path],
    typer.Argument(help="A table, an .npz, or a folder or .zip of images. Several: items in two of them are reported."),
]
Details = Annotated[bool, typer.Option("--all", help="Show all findings, not only the first of each kind.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print all findings as one JSON object instead of a table.")]


@handle_errors
def check(
    data: DataSets,
    *,
    input_column: o.InputColumn = None,
    image_column: o.ImageColumn = None,
    label_column: o.LabelColumn = None,
    encoding: o.Encoding = None,
    separator: o.Separator = None,
    column_names: o.ColumnNames = None,
    max_bytes: o.MaxBytes = None,
    split: o.Split = None,
    max_pixels: o.MaxPixels = None,
    show_all: Details = False,
    as_json: AsJson = False,
    debug: o.Debug = False,
) -> None:
    """Look through data once, and report what is broken or looks wrong.

    Reports items that cannot be read, the sizes of images, files that are left
    out, labels that are nearly equal, classes with one item, and items that are
    equal, within the data and between several DATA, such as training and test.

    The exit code is 1 if an item is broken.
    """
    from ..data.inspection import inspect_data

    reports = inspect_data(
        data,
        input_column=input_column,
        image_column=image_column,
        label_column=label_column,
        encoding=encoding,
        separator=separator,
        column_names=[name for text in column_names for name in text.split(",")] if column_names else None,
        max_bytes=max_bytes,
        split=split,
        max_pixels=max_pixels,
    )
    if as_json:
        typer.echo(json.dumps({"data": [report.as_dict() for report in reports]}, ensure_ascii=True))
    else:
        print_reports(reports, None if show_all else SHOWN)
    if any(report.broken for report in reports):
        raise typer.Exit(FAILED)


def print_reports(reports: Sequence["Inspection"], limit: int | None) -> None:
    """Print a table with a column for each set of data, and examples of each finding below."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console(highlight=False)
    columns = [summary(report) for report in reports]
    names = [name for name in columns[0] if any(column[name] is not None for column in columns)]
    widths = [max(len(number(column[name])) for name in names) for column in columns]
    if NAME_WIDTH + sum(max(width, TITLE_WIDTH) + GAP for width in widths) <= console.width:
        groups = [list(range(len(reports)))]
    else:  # no room: a table for each
        groups = [[place] for place in range(len(reports))]
    for places in groups:
        table = Table(box=None, header_style="bold", pad_edge=False, padding=(0, GAP, 0, 0))
        table.add_column("", overflow="fold")
        for place in places:
            heading = Text(printable(reports[place].title))
            table.add_column(heading, justify="right", overflow="fold", min_width=widths[place])
        for name in names:
            values = [columns[place][name] for place in places]
            table.add_row(name, *(Text(number(value), style=style(name, value)) for value in values))
        console.print(table)
        if places != groups[-1]:
            console.print()
    for report in reports:
        for title, lines in details(report).items():
            console.print(Text(f"\n{printable(report.title)}: {title}", style="bold"))
            for line in lines[:limit]:
                console.print(Text(f"  {line}"), soft_wrap=True)
            if limit is not None and len(lines) > limit:
                console.print(f"  and {len(lines) - limit:,} more (--all shows them)")


def summary(report: "Inspection") -> dict[str, int | None]:
    """The numbers of a report by their names in the table; None for one that does not apply."""
    labelled = report.classes is not None
    return {
        "items": report.items,
        "broken": len(report.broken),
        "files left out": sum(report.left_out.values()) if report.sizes else None,
        "sizes of images": len(report.sizes) or None,
        "classes": report.classes,
        "items in the smallest class": report.smallest_class,
        "items in the largest class": report.largest_class,
        "classes with one item": len(report.single_item_classes) if labelled else None,
        "groups of similar labels": len(report.similar_labels) if labelled else None,
        "groups of equal items": len(report.duplicates),
        "of these with different labels": len(report.conflicts) if labelled else None,
        "items in other data too": sum(report.shared.values()) or None,
    }


def number(value: int | None) -> str:
    """A number as text; empty for None."""
    return "" if value is None else f"{value:,}"


def style(name: str, value: int | None) -> str:
    """The color of a number: red for what is broken, yellow for what looks wrong."""
    if not value:
        return ""
    doubtful = ("classes with one item", "groups of", "of these", "items in other", "files left out")
    return "red" if name == "broken" else "yellow" if name.startswith(doubtful) else ""


def details(report: "Inspection") -> dict[str, list[str]]:
    """The findings of a report as lines, by their titles."""
    found: dict[str, list[str]] = {
        "broken": [printable(error) for error in report.broken.values()],
        "files left out": counted(report.left_out),
        "sizes of images": counted(report.sizes) if len(report.sizes) > 1 else [],
        "folders that look like splits and are read as classes": list(map(printable, report.splits)),
        "classes with one item": list(map(printable, report.single_item_classes)),
        "labels that are nearly equal": [", ".join(map(repr, group)) for group in report.similar_labels],
        "equal items with different labels": groups(report.conflicts),
        "equal items": groups([group for group in report.duplicates if group not in report.conflicts]),
        "items in other data too": counted(report.shared),
    }
    return {title: lines for title, lines in found.items() if lines}


def counted(counts: Mapping[str, int]) -> list[str]:
    """Names with their numbers, as lines."""
    return [f"{printable(name)} {count:,}" for name, count in counts.items()]


def groups(names: Sequence[Sequence[str]]) -> list[str]:
    """Groups of items, as lines."""
    return [", ".join(map(printable, group[:SHOWN])) + (", ..." if len(group) > SHOWN else "") for group in names]


def printable(text: Any) -> str:
    """A text of the user's data without characters that a terminal would obey."""
    return "".join(char if char.isprintable() else ascii(char)[1:-1] for char in str(text))
