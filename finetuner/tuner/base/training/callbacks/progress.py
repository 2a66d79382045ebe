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
SHORT_EPOCH = 1.0  # seconds; after a shorter epoch, the next one shows no bar before this time has passed


class ProgressBar(Callback):
    """Shows a bar with the loss and the items per second, and prints a line per epoch.

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

    def __init__(self, console: Any = None, metrics: Sequence[str] = METRICS):
        self.console = console
        self.metrics = tuple(metrics)
        self.bar: Any = None

    def on_fit_begin(self, state: State) -> None:
        from rich.console import Console

        self.console = self.console or Console(stderr=True)
        if state.history and not state.step:
            self._print(self._line("before", state.history[-1], state.epochs))
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
        shown = [("loss", state.loss), *state.logs.items()]
        numbers = "  ".join(f"{name} {value:.4f}" for name, value in shown)
        numbers += f"  rate {state.tuner.engine.learning_rates()[0]:.2g}"
        numbers += f"  {self.items / (now - self.started):,.0f} items/s"
        begin = time.perf_counter()
        self.bar.update(self.task, completed=state.batch, numbers=numbers, refresh=True)
        end = time.perf_counter()
        self.next_update = end + max(INTERVAL, (end - begin) / MAX_SHARE)

    def on_evaluation_end(self, state: State) -> None:
        self._print(self._line(f"step {state.step}", state.history[-1], state.epochs))

    def on_epoch_end(self, state: State) -> None:
        self._close()
        self._print(self._line(state.epoch, state.history[-1], state.epochs))

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

        self.bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=30),
            MofNCompleteColumn(),
            TextColumn("{task.fields[numbers]}"),
            TimeRemainingColumn(),
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

    def _line(self, epoch: int | str, row: dict[str, Any], epochs: int) -> str:
        shown = [key for name in (*self.metrics, *LOGS) for key in row if key == name or key.endswith(f"/{name}")]
        numbers = [f"{name} {row[name]:.4f}" for name in shown]
        if "seconds" in row:
            numbers.append(f"{row['seconds']:.1f} s  {row['items_per_second']:,.0f} items/s")
        return "  ".join([self._name(epoch, epochs), *numbers])


def step_within(batch: int, batches: int, step: int) -> str:
    """Where in an epoch a training stopped, as text; empty for its end."""
    return f", step {step}" if batch < batches else ""
