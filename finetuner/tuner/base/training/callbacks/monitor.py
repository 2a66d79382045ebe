"""Callbacks that watch a number of the history: early stopping and best model."""

from typing import Any

from ..... import checks
from ..state import State
from .callback import Callback

__all__ = ["BestModel", "EarlyStopping"]


class Monitor(Callback):
    """Watches a number of the history and knows whether an epoch is the best so far."""

    def __init__(self, monitor: str = "val_loss", mode: str = "auto", min_delta: float = 0.0):
        self.monitor = monitor
        self.mode = checks.one_of("mode", mode, ("auto", "min", "max"))
        self.min_delta = checks.at_least("min_delta", min_delta, 0)
        self.best: float | None = None

    def on_fit_begin(self, state: State) -> None:
        self.best = None

    def improved(self, state: State) -> bool:
        """Whether the last epoch is better than all earlier ones by more than ``min_delta``."""
        row = state.history[-1]
        if self.monitor not in row:
            raise ValueError(
                f"monitor must be a number of the history, got {self.monitor!r}; "
                f"{checks.closest_match(self.monitor, row)} (val_loss and the metrics need eval_data)"
            )
        lower_is_better = self.mode == "min" or (self.mode == "auto" and "loss" in self.monitor)
        gain = 0.0 if self.best is None else (self.best - row[self.monitor]) * (1 if lower_is_better else -1)
        if self.best is not None and not gain > self.min_delta:
            return False
        self.best = row[self.monitor]
        return True


class EarlyStopping(Monitor):
    """Stops the training if a number of the history has not improved for several epochs.

    Args:
        monitor: The name of the number: ``"loss"``, ``"val_loss"`` or a metric.
        patience: The number of epochs without improvement after which to stop, at least 1.
        mode: ``"min"`` or ``"max"``. ``"auto"`` is ``"min"`` for losses and ``"max"`` for metrics.
        min_delta: An improvement must be larger than this.

    Raises:
        ValueError: If an argument is out of its range, or, during the training, if the history has no such number.

    Example:
        >>> run = train_a_model(callbacks=[EarlyStopping("loss", patience=1, min_delta=10.0)], epochs=5)
        >>> run.history[-1]["epoch"]
        2
    """

    def __init__(self, monitor: str = "val_loss", patience: int = 3, mode: str = "auto", min_delta: float = 0.0):
        super().__init__(monitor, mode, min_delta)
        self.patience = checks.integer("patience", patience, 1)
        self.waited = 0

    def on_fit_begin(self, state: State) -> None:
        super().on_fit_begin(state)
        self.waited = 0

    def on_epoch_end(self, state: State) -> None:
        self.waited = 0 if self.improved(state) else self.waited + 1
        if self.waited >= self.patience:
            state.stop = True


class BestModel(Monitor):
    """Restores the weights of the best epoch at the end of training.

    Args:
        monitor: The name of the number of the history: ``"loss"``, ``"val_loss"`` or a metric.
        mode: ``"min"`` or ``"max"``. ``"auto"`` is ``"min"`` for losses and ``"max"`` for metrics.
        min_delta: An improvement must be larger than this.

    Raises:
        ValueError: If an argument is out of its range, or, during the training, if the history has no such number.

    Example:
        >>> run = train_a_model(callbacks=[BestModel("loss", mode="max")], epochs=3)
        >>> losses = [row["loss"] for row in run.history]
        >>> run.best_epoch == 1 + losses.index(max(losses))
        True
    """

    def __init__(self, monitor: str = "val_loss", mode: str = "auto", min_delta: float = 0.0):
        super().__init__(monitor, mode, min_delta)
        self.weights: Any = None

    def on_epoch_end(self, state: State) -> None:
        if self.improved(state):
            self.weights = state.tuner.model_state()
            state.best_epoch = state.epoch

    def on_fit_end(self, state: State) -> None:
        if self.weights is not None:
            state.tuner.load_model_state(self.weights)
        self.weights = None
