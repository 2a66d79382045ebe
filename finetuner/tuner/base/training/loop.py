"""The training loop: epochs, steps, callbacks, validation, history, log. An engine provides the step."""

import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ....checks import preview
from ..data.batches import Batch, all_finite, non_finite_rows
from ..data.relations import has_tuples
from ..data.samplers import Sampler
from ..processes import Processes
from .averaging import WeightAverage
from .bad_items import NotFiniteError, describe_bad_items, save_batch
from .callbacks import Callback
from .engine import StepResult
from .interrupts import Interrupts
from .state import Progress, State
from .triggers import Every

__all__ = ["Loop"]


@dataclass
class Loop:
    """One fit: from the present progress to the last epoch or step.

    Args:
        state: The state of the training, for callbacks.
        progress: How far the training is. It changes with each update of the weights.
        callbacks: Their hooks are called in order.
        sampler: Its epoch is set before each epoch.
        loader: A function from the number of the epoch, from 0, and of the first batch to the batches.
        validate: A function that returns validation losses and metrics; None without evaluation data.
        factor: The factor of the learning rates at each step of the fit, from 0; None to leave them as they are.
        average: The average of the weights; None without one.
        accumulate: The number of batches in a step.
        evaluate_every: When to evaluate.
        log_every: When to add a row to the log.
        replay_folder: Where a batch is saved whose step failed.
    """

    state: State
    progress: Progress
    callbacks: Sequence[Callback]
    sampler: Sampler
    loader: Callable[[int, int], Iterable[Batch]]
    validate: Callable[[], dict[str, float]] | None
    factor: Callable[[int], float] | None
    average: WeightAverage | None
    accumulate: int
    evaluate_every: Every
    log_every: Every
    replay_folder: str
    warned_no_tuples: bool = False
    stop_agreed: bool = False  # of several processes, whose callbacks may not all ask for it

    def run(self) -> int | None:
        """Train. Ctrl-C, SIGTERM and SIGHUP end the training after the current step.

        Returns:
            The number of the signal; None if there was none.
        """
        state, progress = self.state, self.progress
        state.step = progress.step
        with Interrupts(several=self.processes.count > 1) as interrupts:
            try:
                if self.validate is not None and not state.history:
                    state.history.append({"epoch": progress.epoch, "step": progress.step, **self.evaluate()})
                self.call_hooks("on_fit_begin")
                while progress.epoch < state.epochs and not self.finished:
                    self.run_epoch(interrupts)
                    self.agree(interrupts)
            except KeyboardInterrupt:
                state.interrupted = True
            finally:
                interrupts.held = True  # the end is not interrupted, but by a second signal
                self.call_hooks("on_fit_end")
        return interrupts.received if state.interrupted else None

    @property
    def processes(self) -> Processes:
        """The processes that train the model."""
        return self.state.tuner.engine.processes

    @property
    def finished(self) -> bool:
        """Whether the training is to end at once."""
        state = self.state
        stop = state.stop if self.processes.count == 1 else self.stop_agreed
        return stop or (state.max_steps is not None and state.step >= state.max_steps)

    @property
    def evaluated(self) -> bool:
        """Whether the last row of the history is of the present step."""
        return bool(self.state.history) and self.state.history[-1]["step"] == self.state.step

    def run_epoch(self, interrupts: Interrupts) -> None:
        """Run what is left of the current epoch."""
        state, progress, engine = self.state, self.progress, self.state.tuner.engine
        self.sampler.set_epoch(progress.epoch)
        state.begin_epoch(progress, len(self.sampler))
        if not state.batches:
            raise ValueError("an epoch must have at least one batch, and the sampler gave none")
        self.call_hooks("on_epoch_begin")
        random = np.random.default_rng([state.tuner.seed, progress.epoch])
        seeds = random.integers(2**31, size=state.batches).tolist()
        engine.freeze(state.epoch)
        epoch_seed = int(np.random.SeedSequence([state.tuner.seed, progress.epoch]).generate_state(1)[0])
        engine.begin_epoch(None if progress.batch else epoch_seed)
        self.started = self.log_started = time.perf_counter()
        self.items_before = self.log_items = state.items
        if progress.batch:  # the training was interrupted or saved before the evaluation of its last step
            interrupts.hold()
            self.evaluate_if_due()
            interrupts.release()
        for batch in () if self.finished else self.batches(interrupts):
            self.take_step(batch, seeds[state.batch])
            if progress.batch == state.batch:  # not among the batches of one step
                interrupts.release()
                if self.finished:
                    break
        interrupts.hold()
        state.fetch_losses()
        if not state.log or state.log[-1]["step"] != state.step:
            self.add_log_row()
        self.end_epoch(interrupts)
        interrupts.release()

    def batches(self, interrupts: Interrupts) -> Iterator[Batch]:
        """The batches that are left of the epoch. An error or a signal in one process ends the training in all."""
        loaded: Iterator[Batch] | None = None
        while True:
            batch, error = None, None
            try:
                if loaded is None:
                    loaded = iter(self.loader(self.progress.epoch, self.progress.batch))
                batch = next(loaded, None)
                if batch is not None:
                    self.check_inputs(batch)
            except Exception as caught:
                error = caught
            interrupts.hold()
            self.agree(interrupts, error)
            if batch is None or self.finished:
                return
            yield batch

    def agree(self, interrupts: Interrupts, error: Exception | None = None) -> None:
        """End the training in all processes after the same step, if one of them is to end."""
        state = self.state
        if self.progress.batch != state.batch and state.batch < state.batches:  # among the batches of one step
            self.processes.exchange(error)
            return
        signal = interrupts.received if interrupts.several else None
        stop, signal = self.processes.exchange(error, state.stop, signal or 0)
        state.stop = self.stop_agreed = bool(stop)
        if signal:
            interrupts.received = signal
            raise KeyboardInterrupt

    def end_epoch(self, interrupts: Interrupts) -> None:
        """Validate, and add a row to the history, at the end of an epoch or of the training."""
        state, progress = self.state, self.progress
        ended = state.batch == state.batches
        if not ended and self.evaluated:
            return  # a callback has stopped the training after an evaluation
        row = self.history_row()
        last = self.finished or (ended and progress.epoch + 1 >= state.epochs)
        if self.validate is not None and (last or self.evaluate_every.fires(state.step, state.epoch, ended)):
            interrupts.release()  # an interrupted validation is repeated when the training is continued
            row |= self.evaluate()
            interrupts.hold()
        state.history.append(row)
        if ended:
            progress.begin_epoch()
        self.call_hooks("on_epoch_end" if ended else "on_evaluation_end")

    def take_step(self, batch: Batch, seed: int) -> None:
        """Use a batch, and do what is due after it."""
        state = self.state
        self.warn_if_no_tuples(batch)
        engine = state.tuner.engine
        update = (state.batch + 1) % self.accumulate == 0 or state.batch + 1 == state.batches
        if self.factor is not None and update:
            engine.set_learning_rates(self.factor(state.step - self.progress.first_step))
        engine.seed_step(seed)
        result = self.checked_step(batch, update)
        state.device_losses.append(result.loss)
        for name, value in engine.loss_logs().items():
            state.device_logs.setdefault(name, []).append(value)
        state.batch += 1
        state.batch_items = len(batch.indices)
        state.items += state.batch_items
        if update:
            state.device_norm = result.gradient_norm
            state.step += 1
            if self.average is not None:
                self.average.update()
            self.progress.step, self.progress.batch = state.step, state.batch
            if self.log_every.fires(state.step, state.epoch, False):
                self.add_log_row()
        self.call_hooks("on_batch_end")
        if update:
            self.evaluate_if_due()

    def evaluate_if_due(self) -> None:
        """Evaluate within an epoch, unless the step has been evaluated."""
        state = self.state
        due = self.evaluate_every.fires(state.step, state.epoch, False) and not self.evaluated
        if self.validate is not None and due and state.batch < state.batches and not self.finished:
            state.history.append(self.history_row() | self.evaluate())
            self.call_hooks("on_evaluation_end")

    @property
    def place(self) -> str:
        """Where the next batch is, for an error message."""
        return f"in batch {self.state.batch + 1} of epoch {self.state.epoch}"

    def check_inputs(self, batch: Batch) -> None:
        """Raise :class:`NotFiniteError`, with the user's items, if inputs are not finite."""
        if not all_finite(batch.inputs):
            raise NotFiniteError(f"inputs must be finite, and {self.place} {describe_bad_items(batch)} are not")

    def checked_step(self, batch: Batch, update: bool) -> StepResult:
        """Take one step. An error names the batch, the user's items, and the file with the batch."""
        state, where = self.state, self.place
        try:
            return state.tuner.engine.step(batch.inputs, batch.targets, update, batch.rows_per_item)
        except NotFiniteError as error:
            if len(non_finite_rows(batch.inputs)):
                raise NotFiniteError(
                    f"inputs must be finite, and {where} {describe_bad_items(batch)} are not"
                ) from None
            file = save_batch(batch, self.replay_folder, state.step + 1)
            raise NotFiniteError(
                f"{error} {where} (items {preview(batch.items)} of the data), though the inputs are finite; the model "
                f"has the weights from before this batch, which is in {file}; a lower learning rate may help"
            ) from None

    def evaluate(self) -> dict[str, float]:
        """Validation losses and metrics, of the averaged weights if there are any."""
        assert self.validate is not None
        if self.average is None:
            return self.validate()
        with self.average.in_use():
            return self.validate()

    def history_row(self) -> dict[str, Any]:
        """A row of the history, without the validation."""
        state = self.state
        row = {"epoch": state.epoch, "step": state.step, "loss": state.loss, **state.logs}
        row["seconds"] = time.perf_counter() - self.started
        row["items_per_second"] = (state.items - self.items_before) / row["seconds"]
        return self.processes.from_first(row)  # times differ

    def add_log_row(self) -> None:
        """Add a row to the log."""
        state, engine, now = self.state, self.state.tuner.engine, time.perf_counter()
        state.learning_rate = engine.learning_rates()[0]
        row = {
            "step": state.step,
            "epoch": state.epoch,
            "loss": state.recent_loss,
            "learning_rate": state.learning_rate,
            "gradient_norm": state.gradient_norm,
            "items_per_second": (state.items - self.log_items) / max(now - self.log_started, 1e-9),
        }
        memory = engine.peak_memory()
        if memory is not None:
            row["memory"] = memory
        state.log.append(self.processes.from_first(row))
        state.logged, self.log_started, self.log_items = (state.loss_count, state.loss_sum), now, state.items
        self.call_hooks("on_log")

    def warn_if_no_tuples(self, batch: Batch) -> None:
        """Warn, once per run, about a batch that the loss cannot learn from."""
        state = self.state
        tuples = getattr(state.tuner.loss, "tuples", None)
        if tuples is None or self.warned_no_tuples or has_tuples(batch.labels, tuples):
            return
        self.warned_no_tuples = True
        warnings.warn(
            f"batch {state.batch + 1} of epoch {state.epoch} holds no {tuples}, so its loss is 0 and the model learns "
            "nothing from it; a ClassSampler puts items of one class into a batch",
            stacklevel=2,
        )

    def call_hooks(self, hook: str) -> None:
        """Call a hook of all callbacks."""
        for callback in self.callbacks:
            if self.processes.is_first or not callback.first_process_only:
                getattr(callback, hook)(self.state)
