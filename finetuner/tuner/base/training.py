"""The one training loop: epochs, callbacks, validation, history. A backend gives the step."""

import time
import warnings
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from . import checks
from .callbacks import Callback
from .loader import Batch, TwoSides, finite, not_finite_rows
from .relations import has_tuples
from .sampler import Sampler

if TYPE_CHECKING:
    from .tuner import Tuner
    from .validation import Validation

__all__ = ["NotFiniteError", "State", "train"]


class NotFiniteError(ValueError):
    """A step met NaN or infinity and was not taken: the model keeps the weights from before it."""


@dataclass
class State:
    """Where a training stands, for callbacks to read; setting ``stop`` ends it after the epoch.

    Attributes:
        tuner: who trains.
        epochs: the number of the last epoch to come.
        batches: how many the epoch has.
        epoch, batch: the numbers of the present ones, from 1.
        batch_items: how many items the present batch holds.
        history: a mapping an epoch, see :class:`~finetuner.tuner.base.run.Run`.
        best_epoch: whose weights a callback has kept.
    """

    tuner: "Tuner"
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
    total: float = field(default=0.0, repr=False)  # of the losses
    pending: list[Any] = field(default_factory=list, repr=False)  # losses still on the device
    noted: dict[str, list[Any]] = field(default_factory=dict, repr=False)  # what the loss tells of batches, likewise
    noted_sums: dict[str, float] = field(default_factory=dict, repr=False)

    @property
    def loss(self) -> float:
        """Mean loss of the epoch so far; reading it waits for the device."""
        self.settle()
        return self.total / len(self.losses) if self.losses else float("nan")

    @property
    def logs(self) -> dict[str, float]:
        """Means over the epoch so far of what a loss with ``need_logs`` tells; reading it waits for the device."""
        for name, values in self.noted.items():
            if values:
                self.noted_sums[name] = added(self.noted_sums.get(name, 0.0), self.tuner.as_floats(values))
        self.noted = {name: [] for name in self.noted}
        return {name: total / max(1, self.batch) for name, total in self.noted_sums.items()}

    @property
    def last_loss(self) -> float:
        """Loss of the last step; reading it waits for the device."""
        self.settle()
        return self.losses[-1]

    def settle(self) -> None:
        """Fetch the losses that are still on the device."""
        if not self.pending:
            return
        fetched = self.tuner.as_floats(self.pending)
        self.pending = []
        first = len(self.losses) + 1
        self.losses += fetched
        self.total = added(self.total, fetched)
        bad = np.flatnonzero(~np.isfinite(fetched))
        if len(bad):
            raise NotFiniteError(
                f"the loss must be finite, and is {fetched[bad[0]]} in batch {first + bad[0]} of epoch {self.epoch}"
            )


def added(total: float, values: Iterable[float]) -> float:
    """The sum, one value after the other: its bits are the same however often it is asked for in between."""
    for value in values:
        total += value
    return total


def train(
    state: State,
    callbacks: Sequence[Callback],
    sampler: Sampler,
    loader: Callable[[int], Iterable[Batch]],
    validate: "Validation | None",
) -> None:
    """Run the epochs after ``state.tuner.epoch`` up to ``state.epochs``; Ctrl-C ends them in order."""
    tuner = state.tuner

    def tell(hook: str) -> None:
        for callback in callbacks:
            getattr(callback, hook)(state)

    try:
        if validate is not None and not state.history:
            state.history.append({"epoch": tuner.epoch, **validate()})
        tell("on_fit_begin")
        while tuner.epoch < state.epochs and not state.stop:
            sampler.set_epoch(tuner.epoch)
            state.epoch, state.batch, state.batches = tuner.epoch + 1, 0, len(sampler)
            state.losses, state.total, state.pending, state.noted, state.noted_sums = [], 0.0, [], {}, {}
            tell("on_epoch_begin")
            tuner.begin_epoch(int(np.random.SeedSequence([tuner.seed, tuner.epoch]).generate_state(1)[0]))
            started, items = time.perf_counter(), 0
            for batch in loader(tuner.epoch):
                warn_of_no_tuples(state, batch)
                state.pending.append(step(state, batch))
                for name, value in tuner.noted().items():
                    state.noted.setdefault(name, []).append(value)
                state.batch += 1
                state.batch_items = len(batch.indices)
                items += state.batch_items
                tell("on_batch_end")
            row = {"epoch": state.epoch, "loss": state.loss, **state.logs}
            row["seconds"] = time.perf_counter() - started
            row["items_per_second"] = items / row["seconds"]
            tuner.epoch += 1
            if validate is not None:
                row |= validate()
            state.history.append(row)
            tell("on_epoch_end")
    except KeyboardInterrupt:
        state.interrupted = True
    finally:
        tell("on_fit_end")


def step(state: State, batch: Batch) -> Any:
    """One step, its failure told in terms of the user's data."""
    where = f"in batch {state.batch + 1} of epoch {state.epoch}"
    if not finite(batch.inputs):
        raise NotFiniteError(f"inputs must be finite, and {where} {bad_items(batch)} are not")
    try:
        return state.tuner.train_step(batch.inputs, batch.targets)
    except NotFiniteError as error:
        if len(not_finite_rows(batch.inputs)):
            raise NotFiniteError(f"inputs must be finite, and {where} {bad_items(batch)} are not") from None
        raise NotFiniteError(
            f"{error} {where} (items {checks.some_of(batch.items)} of the data), though the inputs are finite; "
            f"the model has the weights from before this {state.tuner.restored}; a lower learning rate may help"
        ) from None


def bad_items(batch: Batch) -> str:
    """Which items of the data are not finite."""
    bad = not_finite_rows(batch.inputs)
    items = batch.items if batch.size > 1 and isinstance(batch.inputs, TwoSides) else batch.indices // batch.size
    return f"items {checks.some_of(np.unique(items[bad]))} of the data"


def warn_of_no_tuples(state: State, batch: Batch) -> None:
    """Warn, once a run, of a batch that teaches the loss nothing."""
    tuples = getattr(state.tuner.loss, "tuples", None)
    if tuples is None or state.tuner.warned_of_no_tuples or has_tuples(batch.labels, tuples):
        return
    state.tuner.warned_of_no_tuples = True
    warnings.warn(
        f"batch {state.batch + 1} of epoch {state.epoch} holds no {tuples}, so its loss is 0 and it teaches nothing; "
        "a ClassSampler brings items of one class together",
        stacklevel=2,
    )
