"""Callbacks that watch a number of the history: early stopping and best model."""

import math
from typing import Any

from ..... import checks
from ..state import State
from .callback import Callback

__all__ = ["BestModel", "EarlyStopping"]


class Monitor(Callback):
    """Watches a number of the history: whether a row is the best so far.

    Rows without the number are skipped if the evaluation is not in each epoch. NaN is never the best.

    Args:
        monitor: The name of the number: ``"loss"``, ``"val_loss"`` or a metric.
        mode: ``"min"`` or ``"max"``. ``"auto"`` is ``"min"`` for losses and ``"max"`` for metrics.
        min_delta: An improvement must be larger than this.

    Raises:
        ValueError: If an argument is out of its range, or, during the training, if the history has no such number.

    Example:
        >>> monitor = Monitor("hit@1", min_delta=0.01)
        >>> [monitor.is_better(value) for value in (0.5, 0.505, 0.6)]
        [True, False, True]
    """

    def __init__(self, monitor: str = "val_loss", mode: str = "auto", min_delta: float = 0.0):
        self.monitor = monitor
        self.mode = checks.one_of("mode", mode, ("auto", "min", "max"))
        self.min_delta = checks.at_least("min_delta", min_delta, 0)
        self.best: float | None = None

    def state_dict(self) -> dict[str, Any]:
        return {"best": self.best}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.best = state["best"]

    def on_fit_begin(self, state: State) -> None:
        if not state.continued:  # a callback may have served another training before
            self.reset()

    def reset(self) -> None:
        """Forget what was seen."""
        self.best = None

    def value(self, state: State) -> float | None:
        """The number in the last row of the history; None if the row is one without an evaluation."""
        row = state.history[-1]
        if self.monitor in row:
            return float("nan") if row[self.monitor] is None else row[self.monitor]
        if any(self.monitor in earlier for earlier in state.history):
            return None
        raise ValueError(
            f"monitor must be a number of the history, got {self.monitor!r}; "
            f"{checks.closest_match(self.monitor, row)} (val_loss and the metrics need eval_data)"
        )

    def is_better(self, value: float) -> bool:
        """Whether ``value`` is better than all earlier ones by more than ``min_delta``. It is remembered if so."""
        lower_is_better = self.mode == "min" or (self.mode == "auto" and "loss" in self.monitor)
        if math.isnan(value):
            return False
        gain = math.inf if self.best is None else (self.best - value) * (1 if lower_is_better else -1)
        if not gain > self.min_delta:
            return False
        self.best = value
        return True


class EarlyStopping(Monitor):
    """Stops the training if a number of the history has not improved for several evaluations.

    Args:
        monitor: The name of the number: ``"loss"``, ``"val_loss"`` or a metric.
        patience: The number of evaluations (epochs, by default) without improvement after which to stop, at least 1.
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

    def state_dict(self) -> dict[str, Any]:
        return {**super().state_dict(), "waited": self.waited}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        super().load_state_dict(state)
        self.waited = state["waited"]

    def on_fit_begin(self, state: State) -> None:
        super().on_fit_begin(state)
        state.stop = state.stop or self.waited >= self.patience  # the run was saved when it had stopped

    def reset(self) -> None:
        super().reset()
        self.waited = 0

    def on_epoch_end(self, state: State) -> None:
        value = self.value(state)
        if value is not None:
            self.waited = 0 if self.is_better(value) else self.waited + 1
        if self.waited >= self.patience:
            state.stop = True

    on_evaluation_end = on_epoch_end


class BestModel(Monitor):
    """Restores the weights of the best evaluation at the end of training.

    A training that is continued goes on from the last weights, and knows the best ones.

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
        self.epoch: int | None = None
        self.step: int | None = None

    def state_dict(self) -> dict[str, Any]:
        return {**super().state_dict(), "weights": self.weights, "epoch": self.epoch, "step": self.step}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        super().load_state_dict(state)
        self.weights, self.epoch, self.step = state["weights"], state["epoch"], state["step"]

    def reset(self) -> None:
        super().reset()
        self.weights = self.epoch = self.step = None

    def on_epoch_end(self, state: State) -> None:
        value = self.value(state)
        if value is not None and self.is_better(value):
            self.weights = state.tuner.model_state()
            self.epoch, self.step = state.history[-1]["epoch"], state.history[-1]["step"]

    on_evaluation_end = on_epoch_end

    def on_fit_end(self, state: State) -> None:
        if self.weights is not None:
            state.tuner.use_weights(self.weights)
            state.best_epoch, state.best_step = self.epoch, self.step
