"""Callbacks: what else happens while a tuner trains."""

import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from . import checks

if TYPE_CHECKING:
    from .tuner import State

__all__ = ["BestModel", "Callback", "Checkpoint", "EarlyStopping", "ProgressBar"]


class Callback:
    """Interface of all callbacks: a hook each, which does nothing unless you override it.

    All are given the :class:`~finetuner.tuner.base.tuner.State` of the training, whose ``tuner``,
    ``epoch``, ``history`` and so on they may read; setting ``state.stop`` ends it after the epoch.
    """

    def on_fit_begin(self, state: "State") -> None:
        """Called once, before the first epoch."""

    def on_epoch_begin(self, state: "State") -> None:
        """Called before the first batch of an epoch."""

    def on_batch_end(self, state: "State") -> None:
        """Called after each step; reading ``state.loss`` waits for the device."""

    def on_epoch_end(self, state: "State") -> None:
        """Called after validation and evaluation, when ``state.history[-1]`` is this epoch's."""

    def on_fit_end(self, state: "State") -> None:
        """Called once at the end, whether it was reached, stopped, interrupted or failed."""


class Monitor(Callback):
    """Watches a number of the history and tells whether an epoch is the best so far."""

    def __init__(self, monitor: str = "val_loss", mode: str = "auto", min_delta: float = 0.0):
        self.monitor = monitor
        self.mode = checks.one_of("mode", mode, ("auto", "min", "max"))
        self.min_delta = checks.at_least("min_delta", min_delta, 0)
        self.best: float | None = None

    def on_fit_begin(self, state: "State") -> None:
        self.best = None

    def improves(self, state: "State") -> bool:
        """Whether the last epoch is better than all before it by more than ``min_delta``."""
        row = state.history[-1]
        if self.monitor not in row:
            raise ValueError(
                f"monitor must be a number of the history, got {self.monitor!r}; {checks.nearest(self.monitor, row)} "
                "(val_loss and the metrics need eval_data)"
            )
        falls = self.mode == "min" or (self.mode == "auto" and "loss" in self.monitor)
        gain = 0.0 if self.best is None else (self.best - row[self.monitor]) * (1 if falls else -1)
        if self.best is not None and not gain > self.min_delta:
            return False
        self.best = row[self.monitor]
        return True


class EarlyStopping(Monitor):
    """Ends the training when a number of the history has not improved for some epochs.

    Args:
        monitor: its name: ``"loss"``, ``"val_loss"`` or a metric.
        patience: after how many epochs without improvement to stop, at least 1.
        mode: ``"min"`` or ``"max"``; ``"auto"`` takes losses to fall and metrics to rise.
        min_delta: an improvement is more than this.
    """

    def __init__(self, monitor: str = "val_loss", patience: int = 3, mode: str = "auto", min_delta: float = 0.0):
        super().__init__(monitor, mode, min_delta)
        self.patience = checks.whole("patience", patience, 1)
        self.waited = 0

    def on_fit_begin(self, state: "State") -> None:
        super().on_fit_begin(state)
        self.waited = 0

    def on_epoch_end(self, state: "State") -> None:
        self.waited = 0 if self.improves(state) else self.waited + 1
        if self.waited >= self.patience:
            state.stop = True


class BestModel(Monitor):
    """Gives the model, in the end, the weights of the epoch that was best by a number of the history.

    Args:
        monitor: its name: ``"loss"``, ``"val_loss"`` or a metric.
        mode: ``"min"`` or ``"max"``; ``"auto"`` takes losses to fall and metrics to rise.
        min_delta: better is by more than this.
    """

    def __init__(self, monitor: str = "val_loss", mode: str = "auto", min_delta: float = 0.0):
        super().__init__(monitor, mode, min_delta)
        self.weights: Any = None

    def on_epoch_end(self, state: "State") -> None:
        if self.improves(state):
            self.weights = state.tuner.model_state()
            state.best_epoch = state.epoch

    def on_fit_end(self, state: "State") -> None:
        if self.weights is not None:
            state.tuner.load_model_state(self.weights)
        self.weights = None


class Checkpoint(Callback):
    """Saves the tuner every few epochs, as ``folder/epoch-3``, to go on from after a crash.

    Args:
        folder: where to.
        every: how many epochs lie between.
        keep: how many of the newest to keep; None for all.
    """

    def __init__(self, folder: str | Path, every: int = 1, keep: int | None = None):
        self.folder = Path(folder)
        self.every = checks.whole("every", every, 1)
        self.keep = None if keep is None else checks.whole("keep", keep, 1)
        self.saved: list[Path] = []

    def on_epoch_end(self, state: "State") -> None:
        if state.epoch % self.every:
            return
        path = self.folder / f"epoch-{state.epoch}"
        state.tuner.save(path)
        self.saved.append(path)
        while self.keep is not None and len(self.saved) > self.keep:
            oldest = self.saved.pop(0)
            for file in oldest.iterdir():
                file.unlink()
            oldest.rmdir()


# What an epoch's line shows, where it is there.
SHOWN = ("loss", "val_loss", "hit@1", "mAP@R", "spearman", "triplet_accuracy", "nDCG")
LOGS = ("active", "positive_distance", "negative_distance", "spread")  # of a loss with need_logs

# The bar is drawn so often, in seconds, and less often where that would take more than this share of the time.
# After an epoch that was briefer the next has none before it is longer: to open and close it takes as long as steps.
EVERY, SHARE, BRIEF = 0.2, 0.005, 1.0


class ProgressBar(Callback):
    """Shows a bar with loss and items per second, and leaves a line an epoch.

    Args:
        console: a ``rich.console.Console``; by default one on the standard error, so that what a program
            prints stays its own.
        metrics: which numbers of the history to show in an epoch's line, by their beginnings.
    """

    def __init__(self, console: Any = None, metrics: Sequence[str] = SHOWN):
        self.console = console
        self.metrics = tuple(metrics)
        self.bar: Any = None

    def on_fit_begin(self, state: "State") -> None:
        from rich.console import Console

        self.console = self.console or Console(stderr=True)
        if state.history:
            self._print(self._line("before", state.history[-1], state.epochs))

    def on_epoch_begin(self, state: "State") -> None:
        brief = bool(state.history) and state.history[-1].get("seconds", BRIEF) < BRIEF
        self.started, self.items = time.perf_counter(), 0
        self.due = self.started + (BRIEF if brief else EVERY)
        if self.console.is_terminal and not brief:
            self._open(state)

    def _open(self, state: "State") -> None:
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
        self.task = self.bar.add_task(self._name(state.epoch, state.epochs), total=state.batches, numbers="")

    def on_batch_end(self, state: "State") -> None:
        self.items += state.batch_items
        now = time.perf_counter()
        if not self.console.is_terminal or (now < self.due and (self.bar is None or state.batch < state.batches)):
            return
        if self.bar is None:
            self._open(state)
        told = [("loss", state.loss), *state.logs.items()]
        numbers = "  ".join(f"{name} {value:.4f}" for name, value in told)
        numbers += f"  {self.items / (now - self.started):,.0f} items/s"
        begun = time.perf_counter()
        self.bar.update(self.task, completed=state.batch, numbers=numbers, refresh=True)
        drawn = time.perf_counter()
        self.due = drawn + max(EVERY, (drawn - begun) / SHARE)

    def on_epoch_end(self, state: "State") -> None:
        self._close()
        self._print(self._line(state.epoch, state.history[-1], state.epochs))

    def on_fit_end(self, state: "State") -> None:
        self._close()
        if state.interrupted:
            self._print(f"interrupted in epoch {state.epoch}; what was trained is kept")
        elif state.stop and state.epoch < state.epochs:
            self._print(f"stopped early, after epoch {state.epoch}")
        if state.best_epoch is not None:
            self._print(f"kept the weights of epoch {state.best_epoch}")

    def _print(self, line: str) -> None:
        self.console.print(line, highlight=False, soft_wrap=True)

    def _close(self) -> None:
        if self.bar is not None:
            self.bar.stop()
            self.bar = None

    def _name(self, epoch: int | str, epochs: int) -> str:
        width = len(str(epochs))
        name = epoch if isinstance(epoch, str) else f"epoch {epoch:{width}d}/{epochs}"
        return f"{name:<{7 + 2 * width}}"

    def _line(self, epoch: int | str, row: dict[str, Any], epochs: int) -> str:
        numbers = [f"{name} {row[name]:.4f}" for name in (*self.metrics, *LOGS) if name in row]
        if "seconds" in row:
            numbers.append(f"{row['seconds']:.1f} s  {row['items_per_second']:,.0f} items/s")
        return "  ".join([self._name(epoch, epochs), *numbers])
