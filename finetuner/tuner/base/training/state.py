"""The state of a training, which callbacks read."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from .framework import Framework

__all__ = ["NotFiniteError", "State"]


class NotFiniteError(ValueError):
    """A step met NaN or infinity and was not taken. The model has the weights from before it."""


@dataclass
class State:
    """The state of a training. Setting ``stop`` ends the training after the epoch.

    Attributes:
        tuner: The tuner.
        epochs: The number of the last epoch.
        batches: The number of batches in the epoch.
        epoch: The number of the current epoch, from 1.
        batch: The number of the current batch, from 1.
        batch_items: The number of rows in the current batch.
        history: One mapping per epoch, see :class:`~finetuner.tuner.base.training.run.Run`.
        stop: Whether to end the training after this epoch.
        interrupted: Whether Ctrl-C ended the training.
        best_epoch: The epoch whose weights a callback has kept.
    """

    tuner: Framework
    epochs: int
    batches: int = 0
    epoch: int = 0
    batch: int = 0
    batch_items: int = 0
    history: list[dict[str, Any]] = field(default_factory=list)
    stop: bool = False
    interrupted: bool = False
    best_epoch: int | None = None
    losses: list[float] = field(default_factory=list, repr=False)
    loss_sum: float = field(default=0.0, repr=False)
    device_losses: list[Any] = field(default_factory=list, repr=False)  # not fetched yet
    device_logs: dict[str, list[Any]] = field(default_factory=dict, repr=False)  # not fetched yet
    log_sums: dict[str, float] = field(default_factory=dict, repr=False)

    @property
    def loss(self) -> float:
        """Mean loss of the epoch so far. Reading it waits for the device."""
        self.fetch_losses()
        return self.loss_sum / len(self.losses) if self.losses else float("nan")

    @property
    def logs(self) -> dict[str, float]:
        """Mean statistics of a loss with ``need_logs`` over the epoch so far. Reading them waits for the device."""
        for name, values in self.device_logs.items():
            if values:
                self.log_sums[name] = running_sum(self.log_sums.get(name, 0.0), self.tuner.to_floats(values))
        self.device_logs = {name: [] for name in self.device_logs}
        return {name: total / max(1, self.batch) for name, total in self.log_sums.items()}

    @property
    def last_loss(self) -> float:
        """Loss of the last step. Reading it waits for the device."""
        self.fetch_losses()
        return self.losses[-1]

    def begin_epoch(self, epoch: int, batches: int) -> None:
        """Reset what belongs to an epoch."""
        self.epoch, self.batch, self.batches = epoch, 0, batches
        self.losses, self.loss_sum, self.device_losses = [], 0.0, []
        self.device_logs, self.log_sums = {}, {}

    def fetch_losses(self) -> None:
        """Fetch the losses that are still on the device.

        Raises:
            NotFiniteError: If one of them is not finite.
        """
        if not self.device_losses:
            return
        fetched = self.tuner.to_floats(self.device_losses)
        self.device_losses = []
        first = len(self.losses) + 1
        self.losses += fetched
        self.loss_sum = running_sum(self.loss_sum, fetched)
        bad = np.flatnonzero(~np.isfinite(fetched))
        if len(bad):
            raise NotFiniteError(
                f"the loss must be finite, and is {fetched[bad[0]]} in batch {first + bad[0]} of epoch {self.epoch}"
            )


def running_sum(total: float, values: Iterable[float]) -> float:
    """Add one value after the other: the bits of the sum do not depend on how often it is read in between."""
    for value in values:
        total += value
    return total
