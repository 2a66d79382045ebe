"""The training loop: epochs, batches, callbacks, validation, history. A framework provides the step."""

import time
import warnings
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

from ....checks import preview
from ..data.batches import Batch, all_finite, non_finite_rows
from ..data.relations import has_tuples
from ..data.samplers import Sampler
from .bad_items import describe_bad_items
from .callbacks import Callback
from .state import NotFiniteError, State

__all__ = ["train"]


def train(
    state: State,
    callbacks: Sequence[Callback],
    sampler: Sampler,
    loader: Callable[[int], Iterable[Batch]],
    validate: Callable[[], dict[str, float]] | None,
) -> None:
    """Run the epochs after ``state.tuner.epoch`` up to ``state.epochs``. Ctrl-C ends the training cleanly.

    Args:
        state: The state of the training.
        callbacks: Their hooks are called in order.
        sampler: Its epoch is set before each epoch.
        loader: A function from the number of the epoch, from 0, to its batches.
        validate: A function that returns validation loss and metrics.
    """
    tuner = state.tuner

    def call_hooks(hook: str) -> None:
        for callback in callbacks:
            getattr(callback, hook)(state)

    try:
        if validate is not None and not state.history:
            state.history.append({"epoch": tuner.epoch, **validate()})
        call_hooks("on_fit_begin")
        while tuner.epoch < state.epochs and not state.stop:
            sampler.set_epoch(tuner.epoch)
            state.begin_epoch(tuner.epoch + 1, len(sampler))
            call_hooks("on_epoch_begin")
            tuner.begin_epoch(int(np.random.SeedSequence([tuner.seed, tuner.epoch]).generate_state(1)[0]))
            started, items = time.perf_counter(), 0
            for batch in loader(tuner.epoch):
                warn_if_no_tuples(state, batch)
                state.device_losses.append(step(state, batch))
                for name, value in tuner.loss_logs().items():
                    state.device_logs.setdefault(name, []).append(value)
                state.batch += 1
                state.batch_items = len(batch.indices)
                items += state.batch_items
                call_hooks("on_batch_end")
            row = {"epoch": state.epoch, "loss": state.loss, **state.logs}
            row["seconds"] = time.perf_counter() - started
            row["items_per_second"] = items / row["seconds"]
            tuner.epoch += 1
            if validate is not None:
                row |= validate()
            state.history.append(row)
            call_hooks("on_epoch_end")
    except KeyboardInterrupt:
        state.interrupted = True
    finally:
        call_hooks("on_fit_end")


def step(state: State, batch: Batch) -> Any:
    """Take one step. An error names the batch and the user's items."""
    where = f"in batch {state.batch + 1} of epoch {state.epoch}"
    if not all_finite(batch.inputs):
        raise NotFiniteError(f"inputs must be finite, and {where} {describe_bad_items(batch)} are not")
    try:
        return state.tuner.train_step(batch.inputs, batch.targets)
    except NotFiniteError as error:
        if len(non_finite_rows(batch.inputs)):
            raise NotFiniteError(f"inputs must be finite, and {where} {describe_bad_items(batch)} are not") from None
        raise NotFiniteError(
            f"{error} {where} (items {preview(batch.items)} of the data), though the inputs are finite; "
            f"the model has the weights from before this {state.tuner.rollback_scope}; a lower learning rate may help"
        ) from None


def warn_if_no_tuples(state: State, batch: Batch) -> None:
    """Warn, once per run, about a batch that the loss cannot learn from."""
    tuples = getattr(state.tuner.loss, "tuples", None)
    if tuples is None or state.tuner.warned_no_tuples or has_tuples(batch.labels, tuples):
        return
    state.tuner.warned_no_tuples = True
    warnings.warn(
        f"batch {state.batch + 1} of epoch {state.epoch} holds no {tuples}, so its loss is 0 and the model learns "
        "nothing from it; a ClassSampler puts items of one class into a batch",
        stacklevel=2,
    )
