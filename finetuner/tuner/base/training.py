"""The one training loop: epochs, callbacks, validation, history. A backend gives the step."""

import time
import warnings
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from . import checks
from .callbacks import Callback
from .dataset import Dataset
from .loader import Batch, finite, not_finite_rows
from .relations import has_tuples
from .sampler import ClassSampler, Sampler, SessionSampler

if TYPE_CHECKING:
    from .tuner import Tuner

__all__ = ["NotFiniteError", "State", "Validation", "train"]


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
    pending: list[Any] = field(default_factory=list, repr=False)  # losses still on the device

    @property
    def loss(self) -> float:
        """Mean loss of the epoch so far; reading it waits for the device."""
        self.settle()
        return float(np.mean(self.losses)) if self.losses else float("nan")

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
        bad = np.flatnonzero(~np.isfinite(fetched))
        if len(bad):
            raise NotFiniteError(
                f"the loss must be finite, and is {fetched[bad[0]]} in batch {first + bad[0]} of epoch {self.epoch}"
            )


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
            state.losses, state.pending = [], []
            tell("on_epoch_begin")
            tuner.begin_epoch(int(np.random.SeedSequence([tuner.seed, tuner.epoch]).generate_state(1)[0]))
            started, items = time.perf_counter(), 0
            for batch in loader(tuner.epoch):
                warn_of_no_tuples(state, batch)
                state.pending.append(step(state, batch))
                state.batch += 1
                state.batch_items = len(batch.indices)
                items += state.batch_items
                tell("on_batch_end")
            row = {"epoch": state.epoch, "loss": state.loss}
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
        return state.tuner.train_step(batch.inputs, batch.labels)
    except NotFiniteError as error:
        if len(not_finite_rows(batch.inputs)):
            raise NotFiniteError(f"inputs must be finite, and {where} {bad_items(batch)} are not") from None
        raise NotFiniteError(
            f"{error} {where} (items {checks.some_of(batch.indices)} of the data), though the inputs are finite; "
            f"the model has the weights from before this {state.tuner.restored}; a lower learning rate may help"
        ) from None


def bad_items(batch: Batch) -> str:
    """Which items of the data are not finite."""
    return f"items {checks.some_of(batch.indices[not_finite_rows(batch.inputs)])} of the data"


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


class Validation:
    """Validation loss and retrieval metrics of held-out data, from one pass of the model over it.

    The loss is the mean over batches that are drawn once, so that epochs can be compared.

    Raises:
        ValueError: if nothing in the data belongs together.
    """

    def __init__(self, tuner: "Tuner", dataset: Dataset, batch_size: int, metrics: Iterable[str] | None):
        from ... import evaluation

        self.tuner, self.dataset = tuner, dataset
        self.metrics = tuple(evaluation.DEFAULT_METRICS if metrics is None else metrics)
        evaluation.check_metrics(self.metrics)
        self.indices = np.repeat(np.arange(len(dataset)), dataset.views)
        self.labels = dataset.labels[self.indices]
        self.plan: list[np.ndarray] = []
        try:
            sampler = SessionSampler if self.labels.ndim == 2 else ClassSampler
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # singletons are the index's distractors here
                self.plan = sampler(self.labels, batch_size).batches()
        except ValueError as error:
            raise ValueError(f"eval_data: {error}") from None

    def __call__(self) -> dict[str, float]:
        """``val_loss`` and the metrics of the model as it is."""
        from ... import evaluation

        seed = (self.tuner.seed,) if self.dataset.views > 1 else None  # views are made by augmenting
        embeddings = self.tuner.embeddings_of(self.dataset, self.indices, seed=seed)
        losses = [self.tuner.loss_of(embeddings[batch], self.labels[batch]) for batch in self.plan]
        metrics = evaluation.retrieval_metrics(
            embeddings, self.labels, metrics=self.metrics, distance=self.tuner.distance
        )
        return {"val_loss": float(np.mean(losses)), **metrics}
