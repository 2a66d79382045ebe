"""A progress bar."""

import time
from collections.abc import Sequence
from typing import Any

from ..state import State
from .callback import Callback

__all__ = ["ProgressBar"]

# The numbers in the line of an epoch, if the history has them.
METRICS = ("loss", "val_loss", "hit@1", "mAP@R", "spearman", "triplet_accuracy", "nDCG")
LOGS = ("active", "positive_distance", "negative_distance", "spread")  # of a loss with need_logs

INTERVAL = 0.2  # seconds between two updates of the bar
MAX_SHARE = 0.005  # of the time that updates may take; they become rarer if they take more
BAR, SHORT_BAR, NUMBERS = 30, 10, 44  # columns: of a bar, of a bar in a narrow terminal, and for numbers beside it
BAR_FROM, TIME_FROM = 70, 50  # columns of a terminal that has room for a bar, or for the remaining time

SHORT_EPOCH = 1.0  # seconds; after a shorter epoch, the next one shows no bar before this time has passed


class ProgressBar(Callback):
    """Shows a bar with the loss and the items per second, and prints a line per epoch.

    In a narrow terminal, numbers for which there is no room are left out of the bar, and the line of an epoch is broken
    between two numbers. A number is never cut.

    Args:
        console: A ``rich.console.Console``. The default writes to the standard error, so the standard output is left to
            the program.
        metrics: The numbers of the history to show in the line of an epoch.

    Example:
        >>> import io, rich.console
        >>> console = rich.console.Console(file=io.StringIO(), width=120)
        >>> run = train_a_model(callbacks=[ProgressBar(console)], epochs=1)
        >>> console.file.getvalue().startswith("epoch 1/1  loss ")
        True
    """

    first_process_only = True

    def __init__(self, console: Any = None, metrics: Sequence[str] = METRICS):
        self.console = console
        self.metrics = tuple(metrics)
        self.bar: Any = None

    def on_fit_begin(self, state: State) -> None:
        from rich.console import Console

        self.console = self.console or Console(stderr=True)
        for line in (state.tuner.engine.processes.line, state.tuner.defaults_line, state.tuner.prefix_line):
            if line:
                self._print(line)
        if state.history and not state.step:
            self._print_row("before", state.history[-1], state.epochs)
        elif state.step:
            self._print(f"continued after step {state.step}")

    def on_epoch_begin(self, state: State) -> None:
        short = bool(state.history) and state.history[-1].get("seconds", SHORT_EPOCH) < SHORT_EPOCH
        self.started, self.items = time.perf_counter(), 0
        self.next_update = self.started + (SHORT_EPOCH if short else INTERVAL)
        if self.console.is_terminal and not short:
            self._open(state)

    def on_batch_end(self, state: State) -> None:
        self.items += state.batch_items
        now = time.perf_counter()
        waiting = now < self.next_update and (self.bar is None or state.batch < state.batches)
        if not self.console.is_terminal or waiting:
            return
        if self.bar is None:
            self._open(state)
        loss, *logs = [f"{name} {value:.4f}" for name, value in (("loss", state.loss), *state.logs.items())]
        rate = f"rate {state.tuner.engine.learning_rates()[0]:.2g}"
        speed = f"{self.items / (now - self.started):,.0f} items/s"
        numbers = "  ".join(fitting([loss, *logs, rate, speed], [loss, speed, rate, *logs], self._room(state)))
        begin = time.perf_counter()
        self.bar.update(self.task, completed=state.batch, numbers=numbers, refresh=True)
        end = time.perf_counter()
        self.next_update = end + max(INTERVAL, (end - begin) / MAX_SHARE)

    def on_evaluation_end(self, state: State) -> None:
        self._print_row(f"step {state.step}", state.history[-1], state.epochs)

    def on_epoch_end(self, state: State) -> None:
        self._close()
        self._print_row(state.epoch, state.history[-1], state.epochs)

    def on_fit_end(self, state: State) -> None:
        self._close()
        if state.interrupted:
            self._print(f"interrupted in epoch {state.epoch}, after step {state.step}; what was trained is kept")
        elif state.stop and (state.epoch < state.epochs or state.batch < state.batches):
            self._print(
                f"stopped early, after epoch {state.epoch}" + step_within(state.batch, state.batches, state.step)
            )
        if state.best_epoch is not None:
            self._print(f"restored the weights of epoch {state.best_epoch}, step {state.best_step}")

    def _open(self, state: State) -> None:
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        width = self._bar_width(state)
        self.bar = Progress(
            *([TextColumn("{task.description}")] if self.console.width >= self._fixed_width(state) else []),
            *([BarColumn(bar_width=width)] if width else []),
            MofNCompleteColumn(),
            TextColumn("{task.fields[numbers]}"),
            *([TimeRemainingColumn()] if self.console.width >= TIME_FROM else []),
            console=self.console,
            transient=True,
            auto_refresh=False,
        )
        self.bar.start()
        self.task = self.bar.add_task(
            self._name(state.epoch, state.epochs), total=state.batches, completed=state.batch, numbers=""
        )

    def _close(self) -> None:
        if self.bar is not None:
            self.bar.stop()
            self.bar = None

    def _print(self, line: str) -> None:
        self.console.print(line, highlight=False, soft_wrap=True)

    def _name(self, epoch: int | str, epochs: int) -> str:
        width = len(str(epochs))
        name = epoch if isinstance(epoch, str) else f"epoch {epoch:{width}d}/{epochs}"
        return f"{name:<{7 + 2 * width}}"

    def _print_row(self, epoch: int | str, row: dict[str, Any], epochs: int) -> None:
        shown = [key for name in (*self.metrics, *LOGS) for key in row if key == name or key.endswith(f"/{name}")]
        parts = [self._name(epoch, epochs), *(f"{name} {row[name]:.4f}" for name in shown)]
        if "seconds" in row:
            parts += [f"{row['seconds']:.1f} s", f"{row['items_per_second']:,.0f} items/s"]
        width = self.console.width if self.console.is_terminal else None  # a file has long lines
        for line in lines_of(parts, width):
            self._print(line)

    def _fixed_width(self, state: State) -> int:
        """The width of the name and the count of batches, with spaces around them."""
        return len(self._name(state.epoch, state.epochs)) + 2 * len(str(state.batches)) + 3

    def _bar_width(self, state: State) -> int:
        """The width of the bar; 0 if there is no room for one."""
        if self.console.width < BAR_FROM:
            return 0
        room = self.console.width - self._fixed_width(state) - NUMBERS
        return min(max(room, SHORT_BAR), BAR)

    def _room(self, state: State) -> int:
        """The width that is left for numbers."""
        bar, remaining = self._bar_width(state), 9 * (self.console.width >= TIME_FROM)
        return int(self.console.width) - self._fixed_width(state) - (bar + 1 if bar else 0) - remaining


def fitting(parts: Sequence[str], priority: Sequence[str], width: int) -> list[str]:
    """The parts that fit into a line, by their priority, in their order.

    Example:
        >>> fitting(["loss 0.5", "rate 0.001", "9 items/s"], ["loss 0.5", "9 items/s", "rate 0.001"], 24)
        ['loss 0.5', '9 items/s']
    """
    chosen: set[str] = set()
    for part in priority:
        if sum(map(len, chosen)) + 2 * len(chosen) + len(part) <= width:
            chosen.add(part)
    return [part for part in parts if part in chosen]


def lines_of(parts: Sequence[str], width: int | None) -> list[str]:
    """Join parts with spaces between them to lines of at most ``width``, of which all but the first are indented.

    Example:
        >>> lines_of(["epoch 1/2", "loss 0.5", "hit@1 0.25"], 20)
        ['epoch 1/2  loss 0.5', '  hit@1 0.25']
    """
    lines = [parts[0]]
    for part in parts[1:]:
        if width is None or len(lines[-1]) + 2 + len(part) <= width:
            lines[-1] += f"  {part}"
        else:
            lines.append(f"  {part}")
    return lines


def step_within(batch: int, batches: int, step: int) -> str:
    """Where in an epoch a training stopped, as text; empty for its end."""
    return f", step {step}" if batch < batches else ""
