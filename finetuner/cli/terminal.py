"""What the program prints: messages, warnings, errors in one line, tables of metrics. And its exit codes."""

import functools
import json
import math
import re
import signal
import traceback
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import typer

from .console_noise import ignore_framework_warnings
from .user_code import is_user_file

__all__ = [
    "FAILED",
    "INTERRUPTED",
    "error_line",
    "error_message",
    "exit_after_signal",
    "handle_errors",
    "ignore_signals",
    "is_first_process",
    "print_json",
    "print_message",
    "print_metrics",
]

FAILED = 1
INTERRUPTED = 128 + signal.SIGINT  # the exit code that shells use after Ctrl-C
SIGNALS = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]
EXPECTED_ERRORS = (ValueError, TypeError, OSError, ImportError)  # their message says what to do
ANSI_ESCAPES = re.compile(r"\x1b\[[0-9;]*m")
TRACEBACK_LINE = re.compile(r'^ *File "(.+)", line (\d+)', re.MULTILINE)
NAME_WIDTH, GAP = 12, 3  # of a table: the least width of the names, and the space between two columns
KERAS_PREFIXES = ("Exception encountered when calling ", "Could not automatically infer the output shape")


def is_first_process() -> bool:
    """Whether this is the process that prints and writes, of those that a launcher such as torchrun has started."""
    from ..tuner.base.processes import started_processes

    return (started_processes() or (0, 1))[0] == 0


def print_message(text: str, kind: str = "", color: str | None = None) -> None:
    """Print a line on standard error, after ``kind: `` if a kind is given. Of several processes, all print errors."""
    if kind != "error" and not is_first_process():
        return
    prefix = typer.style(f"{kind}: ", fg=color) if kind else ""
    typer.echo(prefix + text, err=True)


def handle_errors(command: Callable[..., None]) -> Callable[..., None]:
    """Decorate a command: it prints errors and warnings in one line, and ends with an exit code.

    With ``--debug`` an error is raised again, with its traceback.

    Args:
        command: The function of a command.

    Returns:
        A function with the same signature, for Typer.
    """

    @functools.wraps(command)
    def run(*args: Any, **options: Any) -> None:
        try:
            with warnings.catch_warnings():
                warnings.showwarning = show_warning
                ignore_framework_warnings()
                command(*args, **options)
        except KeyboardInterrupt:
            print_message("interrupted")
            raise typer.Exit(INTERRUPTED) from None
        except (typer.BadParameter, typer.Exit):
            raise
        except Exception as error:
            if options.get("debug"):
                raise
            print_message(error_line(error), "error", "red")
            raise typer.Exit(FAILED) from None

    return run


def show_warning(message: Warning | str, category: type[Warning], *where: Any, **more: Any) -> None:
    """Print a warning in one line. Replaces :func:`warnings.showwarning`."""
    print_message(str(message), "warning", "yellow")


def error_line(error: BaseException) -> str:
    """An error in one line, with its place in the user's code or a hint at ``--debug`` where that helps."""
    if place := user_code_line(error):
        return f"{describe_error(error)} ({place})"
    if isinstance(error, EXPECTED_ERRORS):
        return error_message(error)
    return f"{describe_error(error)} (--debug shows the traceback)"


def user_code_line(error: BaseException) -> str | None:
    """The last line of the user's own code in the traceback, as ``file:line``; None if there is none.

    It may be in a file that the user's file imports, or in the traceback of a worker process, which is a note.
    """
    frames = [(frame.filename, frame.lineno) for frame in traceback.extract_tb(error.__traceback__)]
    for note in getattr(error, "__notes__", ()):
        frames += [(file, int(line)) for file, line in TRACEBACK_LINE.findall(note)]
    if isinstance(error, SyntaxError):
        frames.append((error.filename or "", error.lineno))
    return next((f"{file}:{line}" for file, line in reversed(frames) if is_user_file(file)), None)


def error_message(error: BaseException) -> str:
    """The first line of an error's message. The prefixes that Keras adds are left out."""
    if isinstance(error, SyntaxError):
        return error.msg  # its text has the file and the line, too
    if isinstance(error, OSError) and error.strerror and error.filename:
        return f"{error.filename}: {error.strerror}"
    lines = [line for line in map(str.strip, ANSI_ESCAPES.sub("", str(error)).splitlines()) if line]
    while len(lines) > 1 and lines[0].startswith(KERAS_PREFIXES):
        del lines[0]
    return lines[0] if lines else type(error).__name__


def describe_error(error: BaseException) -> str:
    """The class and the message of an error. If Keras lacks its engine: how to install one."""
    from ..tuner import no_engine

    if advice := no_engine(error):
        return advice
    name, message = type(error).__name__, error_message(error)
    return name if message == name else f"{name}: {message}"


@contextmanager
def ignore_signals() -> Iterator[None]:
    """Ignore Ctrl-C, SIGTERM and SIGHUP, for example while a run is written."""
    before = {number: signal.signal(number, signal.SIG_IGN) for number in SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)


def exit_after_signal(interrupted: bool, number: int | None) -> None:
    """Exit as a program does that a signal has ended, if one has. Without a number it was Ctrl-C."""
    if interrupted:
        raise typer.Exit(INTERRUPTED if number is None else 128 + number)


def metric_rows(columns: Mapping[str, Mapping[str, float]]) -> tuple[list[str], dict[str, list[Any]]]:
    """The titles of a table of metrics, and its numbers as text by the name of the metric.

    Args:
        columns: The values of the metrics by title of the column. All columns have the same metrics. Two columns are
            before and after; a third one shows their difference.
    """
    from rich.text import Text

    has_change = len(columns) == 2
    rows: dict[str, list[Any]] = {}
    for name in next(iter(columns.values())):
        values = [column[name] for column in columns.values()]
        rows[name] = [Text(f"{value:.4f}") for value in values]
        if has_change:
            change = values[1] - values[0]
            improved = (change < 0) if "loss" in name else (change > 0)
            rows[name].append(Text(f"{change:+.4f}", style="green" if improved else "red" if change else ""))
    return [*columns, *["change"] * has_change], rows


def print_metrics(metrics: Mapping[str, Mapping[str, float]]) -> None:
    """Print a table with one row per metric, or nothing if there are no metrics.

    A long name is folded. A number is never cut: where the terminal has no room for the table, each has its own line.

    Args:
        metrics: See :func:`metric_rows`.
    """
    if not metrics:
        return
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console(highlight=False)
    titles, rows = metric_rows(metrics)
    widths = [max(map(len, [title, *cells])) for title, *cells in zip(titles, *rows.values(), strict=True)]
    console.print()
    if NAME_WIDTH + sum(widths) + GAP * len(widths) <= console.width:
        table = Table(box=None, header_style="bold", pad_edge=False, padding=(0, GAP, 0, 0))
        table.add_column("metric", overflow="fold")
        for title in titles:
            table.add_column(title, justify="right", no_wrap=True)
        for name, cells in rows.items():
            table.add_row(name, *cells)
        console.print(table)
    elif len(titles) == 1:
        for name, (cell,) in rows.items():
            console.print(Text.assemble(name, " ", cell), soft_wrap=True)
    else:
        for name, cells in rows.items():
            console.print(Text(name), soft_wrap=True)
            for title, cell in zip(titles, cells, strict=True):
                console.print(Text.assemble("  ", f"{title:<6}", " ", cell), soft_wrap=True)
    console.print()


def print_json(metrics: Mapping[str, float]) -> None:
    """Print metrics as one JSON object. NaN, which JSON does not have, is printed as null."""
    typer.echo(json.dumps({name: value if math.isfinite(value) else None for name, value in metrics.items()}))
