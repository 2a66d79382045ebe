"""The state of a training: what callbacks read, and what a checkpoint keeps."""

from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from typing import Any, Protocol

import numpy as np

from .bad_items import NotFiniteError
from .engine import Engine

__all__ = ["Progress", "State", "TrainedModel"]


class TrainedModel(Protocol):
    """What loop and callbacks use of a tuner."""

    engine: Engine
    seed: int
    loss: Any
    config: Any
    prefix_line: str

    @property
    def defaults_line(self) -> str:
        """What was chosen for this kind of model, in words; empty for a model of the user."""

    def model_state(self) -> dict[str, Any]:
        """A copy of the model's weights on the host."""

    def use_weights(self, tensors: dict[str, Any]) -> None:
        """Give the model other weights. A training that is continued goes on from the present ones."""

    def save(self, path: Any) -> Any:
        """Save the run."""


@dataclass
class Progress:
    """How far a training is, after its last update of the weights.

    Attributes:
        epoch: The number of finished epochs.
        batch: The number of batches of the current epoch that have been used.
        step: The number of updates of the weights.
        first_epoch: ``epoch`` at the beginning of this fit.
        first_step: ``step`` at the beginning of this fit.
        losses: The number of losses in ``loss_sum``.
        loss_sum: The sum of the losses of the current epoch.
        log_sums: The sums of the statistics of the loss.
        items: The number of rows of the current epoch.
    """

    epoch: int = 0
    batch: int = 0
    step: int = 0
    first_epoch: int = 0
    first_step: int = 0
    losses: int = 0
    loss_sum: float = 0.0
    log_sums: dict[str, float] = field(default_factory=dict)
    items: int = 0

    def begin_epoch(self) -> None:
        """Go on to the next epoch."""
        self.epoch += 1
        self.restart_epoch()

    def restart_epoch(self) -> None:
        """Go back to the first batch of the current epoch."""
        self.batch = 0
        self.losses, self.loss_sum, self.log_sums, self.items = 0, 0.0, {}, 0

    def take_over(self, state: "State") -> None:
        """Take over the sums of the current epoch, which are kept on the device until they are needed."""
        if state.epoch == self.epoch + 1 and state.batch == self.batch:
            state.fetch_losses()
            state.fetch_logs()
            self.losses, self.loss_sum, self.items = state.loss_count, state.loss_sum, state.items
            self.log_sums = dict(state.log_sums)

    def state_dict(self) -> dict[str, Any]:
        """The state, as JSON can hold it."""
        return asdict(self)

    @classmethod
    def from_state(cls, state: Any) -> "Progress":
        """The progress with this :meth:`state_dict`; raise ``ValueError`` if it is not one."""
        fields = cls.__dataclass_fields__
        if not isinstance(state, dict) or state.keys() != fields.keys():
            raise ValueError(f"the progress of a run must have {', '.join(fields)}")
        for name in ("epoch", "batch", "step", "first_epoch", "first_step", "losses", "items"):
            if not isinstance(state[name], int) or not 0 <= state[name] < 2**53:
                raise ValueError(f"the progress of a run must have a whole number as {name}, got {state[name]!r}"[:200])
        if not isinstance(state["log_sums"], dict):
            raise ValueError("the progress of a run must have an object as log_sums")
        loss_sum = state["loss_sum"]
        return cls(**{**state, "loss_sum": float("nan") if loss_sum is None else float(loss_sum)})


@dataclass
class State:
    """The state of a training. Setting ``stop`` ends it after the current step.

    Attributes:
        tuner: The tuner.
        epochs: The number of the last epoch.
        max_steps: The number of the last step; None for no limit.
        batches: The number of batches in the epoch.
        epoch: The number of the current epoch, from 1.
        batch: The number of the current batch, from 1.
        step: The number of the current step, from 1. A step is an update of the weights.
        batch_items: The number of rows in the current batch.
        history: One mapping per epoch or evaluation, see :class:`~finetuner.tuner.base.training.run.Run`.
        log: One mapping per ``log_every`` steps.
        continued: Whether the fit goes on from a loaded run or in the middle of an epoch.
        stop: Whether to end the training after this step.
        interrupted: Whether Ctrl-C, SIGTERM or SIGHUP ended the training.
        best_epoch: The epoch whose weights a callback has kept.
        best_step: The step whose weights a callback has kept.
    """

    tuner: TrainedModel
    epochs: int
    max_steps: int | None = None
    batches: int = 0
    epoch: int = 0
    batch: int = 0
    step: int = 0
    batch_items: int = 0
    history: list[dict[str, Any]] = field(default_factory=list)
    log: list[dict[str, Any]] = field(default_factory=list)
    continued: bool = False
    stop: bool = False
    interrupted: bool = False
    best_epoch: int | None = None
    best_step: int | None = None
    learning_rate: float = 0.0
    items: int = field(default=0, repr=False)  # rows of the epoch
    loss_count: int = field(default=0, repr=False)
    loss_sum: float = field(default=0.0, repr=False)
    logged: tuple[int, float] = field(default=(0, 0.0), repr=False)  # count and sum at the last row of the log
    fetched_last: float = field(default=float("nan"), repr=False)
    device_losses: list[Any] = field(default_factory=list, repr=False)  # not fetched yet
    device_norm: Any = field(default=None, repr=False)
    device_logs: dict[str, list[Any]] = field(default_factory=dict, repr=False)  # not fetched yet
    log_sums: dict[str, float] = field(default_factory=dict, repr=False)

    @property
    def loss(self) -> float:
        """Mean loss of the epoch so far. Reading it waits for the device."""
        self.fetch_losses()
        return self.loss_sum / self.loss_count if self.loss_count else float("nan")

    @property
    def recent_loss(self) -> float:
        """Mean loss since the last row of the log. Reading it waits for the device."""
        self.fetch_losses()
        count, total = self.logged
        count, total = self.loss_count - count, self.loss_sum - total
        return total / count if count else float("nan")

    @property
    def logs(self) -> dict[str, float]:
        """Mean statistics of a loss with ``need_logs`` over the epoch so far. Reading them waits for the device."""
        self.fetch_logs()
        return {name: total / max(1, self.batch) for name, total in self.log_sums.items()}

    @property
    def last_loss(self) -> float:
        """Loss of the last step. Reading it waits for the device."""
        self.fetch_losses()
        return self.fetched_last

    @property
    def gradient_norm(self) -> float:
        """Norm of the gradient of all weights in the last step, before clipping. Reading it waits for the device."""
        return float("nan") if self.device_norm is None else self.tuner.engine.to_floats([self.device_norm])[0]

    def begin_epoch(self, progress: Progress, batches: int) -> None:
        """Reset what belongs to an epoch, to what it was when the epoch was interrupted."""
        self.epoch, self.batch, self.batches = progress.epoch + 1, progress.batch, batches
        self.loss_count, self.loss_sum, self.items = progress.losses, progress.loss_sum, progress.items
        self.logged = (self.loss_count, self.loss_sum)
        self.device_losses, self.device_logs, self.log_sums = [], {}, dict(progress.log_sums)

    def fetch_logs(self) -> None:
        """Fetch the statistics of the loss that are still on the device."""
        for name, values in self.device_logs.items():
            if values:
                self.log_sums[name] = running_sum(self.log_sums.get(name, 0.0), self.tuner.engine.to_floats(values))
        self.device_logs = {name: [] for name in self.device_logs}

    def fetch_losses(self) -> None:
        """Fetch the losses that are still on the device.

        Raises:
            NotFiniteError: If one of them is not finite.
        """
        if not self.device_losses:
            return
        fetched = self.tuner.engine.to_floats(self.device_losses)
        self.device_losses = []
        first = self.loss_count + 1
        self.loss_count += len(fetched)
        self.loss_sum, self.fetched_last = running_sum(self.loss_sum, fetched), fetched[-1]
        bad = np.flatnonzero(~np.isfinite(fetched))
        if len(bad):
            raise NotFiniteError(
                f"the loss and its gradient must be finite, and are not in batch {first + bad[0]} of epoch {self.epoch}"
            )


def running_sum(total: float, values: Iterable[float]) -> float:
    """Add one value after the other: the bits of the sum do not depend on how often it is read in between."""
    for value in values:
        total += value
    return total
