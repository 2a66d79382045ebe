"""Trackers: callbacks that pass the numbers of a training on, and one that writes them to a CSV file."""

import csv
import io
import os
import sys
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ..state import State
from .callback import Callback

__all__ = ["CSVLogger", "Tracker"]

NOT_EVALUATION = {"epoch", "step", "loss", "seconds", "items_per_second"}  # of a row of the history


class Tracker(Callback, ABC):
    """Interface of all trackers: four methods, which are called with the settings and the numbers of a training.

    A tracker of your own overrides :meth:`log`, and of :meth:`start`, :meth:`log_settings` and :meth:`finish` what it
    needs. The hooks of the training call them in this order: ``start``, ``log_settings``, ``log`` any number of times,
    ``finish``. An error in one of them ends the training.

    ``log`` gets these numbers, as they are in the rows of ``run.log`` and ``run.history``:

    - of each row of the log ``train/loss``, ``train/learning_rate``, ``train/gradient_norm``,
      ``train/items_per_second``, and on an accelerator ``train/memory`` in bytes;
    - of each evaluation ``eval/val_loss`` and the metrics, such as ``eval/hit@1``, or ``eval/bank/hit@1`` of the
      evaluation set ``bank``. The evaluation before the training has step 0;
    - with an evaluation and at the end of an epoch, the statistics of a loss with ``need_logs``, such as
      ``train/active``.

    Attributes:
        run_id: What the library calls the tracked run. :meth:`start` sets it. It is saved with the run, so a training
            that is resumed in another process can continue the tracked run. It is None when a training begins at
            step 0.

    Example:
        >>> class Printer(Tracker):
        ...     def log(self, numbers, step):
        ...         print(step, *numbers)
        ...
        ...     def finish(self, status):
        ...         print(status)
        >>> run = train_a_model(callbacks=[Printer()], epochs=1)
        1 train/loss train/learning_rate train/gradient_norm train/items_per_second...
        finished
    """

    first_process_only = True
    run_id: str | None = None
    running = False
    outer_error: BaseException | None = None

    def start(self, step: int) -> None:
        """Open the tracked run: continue the run ``run_id``, or start a new one if it is None.

        Args:
            step: The number of steps that the training has already taken. Numbers of later steps, if any were logged,
                are those of an earlier process, whose training goes on from a checkpoint before them.
        """

    def log_settings(self, settings: dict[str, Any]) -> None:
        """Log the settings of the run, ``run.config``: nested mappings that JSON can hold."""

    @abstractmethod
    def log(self, numbers: dict[str, float], step: int) -> None:
        """Log numbers.

        Args:
            numbers: A mapping from names to numbers. They may be NaN or infinite.
            step: The number of steps of the training, from 0. It does not decrease. It may repeat.
        """

    def finish(self, status: str) -> None:
        """Close the tracked run.

        Args:
            status: ``"finished"``; ``"interrupted"`` after Ctrl-C, SIGTERM or SIGHUP; ``"failed"`` after an error.
        """

    def state_dict(self) -> dict[str, Any]:
        return {"run_id": self.run_id}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.run_id = state["run_id"]

    def on_fit_begin(self, state: State) -> None:
        self.outer_error = sys.exception()  # fit may be called where an error is handled
        if not state.step:
            self.run_id = None
        self.start(state.step)
        self.running = True
        self.log_settings(state.tuner.config)
        if state.history and not state.step:
            self.log_row("eval", state.history[0], NOT_EVALUATION, 0)

    def on_log(self, state: State) -> None:
        self.log_row("train", state.log[-1], {"epoch", "step"}, state.step)

    def on_epoch_end(self, state: State) -> None:
        row, statistics = state.history[-1], set(state.logs)
        self.log_row("train", row, row.keys() - statistics, state.step)
        self.log_row("eval", row, NOT_EVALUATION | statistics, state.step)

    on_evaluation_end = on_epoch_end

    def on_fit_end(self, state: State) -> None:
        if not self.running:  # the training failed before its start
            return
        self.running = False
        error, self.outer_error = sys.exception() is not self.outer_error, None
        self.finish("interrupted" if state.interrupted else "failed" if error else "finished")

    def log_row(self, prefix: str, row: Mapping[str, Any], without: Iterable[str], step: int) -> None:
        """Log the numbers of a row of the log or the history, if there are any."""
        numbers = {f"{prefix}/{name}": as_float(value) for name, value in row.items() if name not in without}
        if numbers:
            self.log(numbers, step)


class CSVLogger(Tracker):
    """Writes the numbers of a training to a CSV file, with the standard library alone.

    Each call of ``log`` is a row. The first column is ``step``. Numbers that a row does not have are empty, and numbers
    that are not finite are ``nan``, ``inf`` or ``-inf``. A new training replaces the file. A training that is resumed
    keeps the rows up to the step from which it goes on, and appends.

    Args:
        path: The file. Its folder is created.

    Raises:
        ValueError: When the training begins, if ``path`` is a file that no ``CSVLogger`` wrote. It is left unchanged.

    Example:
        >>> run = train_a_model(callbacks=[CSVLogger("log.csv")], epochs=2)
        >>> lines = Path("log.csv").read_text().splitlines()
        >>> len(lines), lines[0][:15]
        (3, 'step,train/loss')
    """

    def __init__(self, path: str | Path):
        self.path = Path(path)
        self.columns = ["step"]
        self.rows: int | None = None  # in the file, without the names

    def state_dict(self) -> dict[str, Any]:
        return {"rows": self.rows}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.rows = state["rows"]

    def start(self, step: int) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.columns, rows = self.read()
        kept = [row for row in rows[: self.rows] if int(row[0]) <= step] if step else []
        if not kept:
            self.columns = ["step"]
        self.rows = len(kept)
        self.write(kept)

    def log(self, numbers: dict[str, float], step: int) -> None:
        new = [name for name in numbers if name not in self.columns]
        if new:
            rows = self.read()[1]
            self.columns += new
            self.write([*row, *[""] * len(new)] for row in rows)
        with self.path.open("a", newline="", encoding="utf-8") as file:
            csv.writer(file, lineterminator="\n").writerow(
                [step, *(numbers.get(name, "") for name in self.columns[1:])]
            )
        self.rows = (self.rows or 0) + 1

    def read(self) -> tuple[list[str], list[list[str]]]:
        """The names of the columns, and the rows; a last line that a killed process left incomplete is dropped."""
        text = self.path.read_text(encoding="utf-8", errors="replace") if self.path.exists() else ""
        columns, *rows = list(csv.reader(io.StringIO(text[: text.rfind("\n") + 1]))) or [["step"]]
        if columns[:1] != ["step"] or not all(name.startswith(("train/", "eval/")) for name in columns[1:]):
            raise ValueError(
                f"path must be a new file or one that a CSVLogger wrote, and {self.path} has other columns"
            )
        return columns, rows

    def write(self, rows: Iterable[Sequence[str]]) -> None:
        """Replace the file by the columns and these rows. The file is complete at any time."""
        new = self.path.with_name(f".{self.path.name}.new")
        with new.open("w", newline="", encoding="utf-8") as file:
            csv.writer(file, lineterminator="\n").writerows([self.columns, *rows])
        os.replace(new, self.path)


def as_float(value: Any) -> float:
    """A number of a row; NaN for None, which a file of JSON has in its place."""
    return float("nan") if value is None else float(value)
