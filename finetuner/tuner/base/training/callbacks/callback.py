"""The interface of all callbacks."""

from typing import Any

from ..state import State

__all__ = ["Callback"]


class Callback:
    """Interface of all callbacks. Each hook does nothing unless a subclass overrides it.

    Every hook gets the :class:`~finetuner.tuner.base.training.state.State` of the training, with ``tuner``, ``epoch``,
    ``step``, ``history`` and so on. Setting ``state.stop`` ends the training after the current step.

    A callback that remembers something between two hooks returns it from :meth:`state_dict`. It is saved with the run,
    so that a training that is resumed goes on as if it had not been stopped.

    Of several processes that train together, each calls the hooks, and ``state`` has the same numbers in all of them.

    Attributes:
        first_process_only: Whether the hooks are called in the first process only, such as to write files.

    Example:
        >>> class StopAfter(Callback):
        ...     def __init__(self, steps):
        ...         self.steps = steps
        ...
        ...     def on_batch_end(self, state):
        ...         state.stop = state.step >= self.steps
        >>> train_a_model(callbacks=[StopAfter(2)], epochs=5).history[-1]["step"]
        2
    """

    first_process_only: bool = False

    def on_fit_begin(self, state: State) -> None:
        """Called once, before the first epoch."""

    def on_epoch_begin(self, state: State) -> None:
        """Called before the first batch of an epoch."""

    def on_batch_end(self, state: State) -> None:
        """Called after each batch. Reading ``state.loss`` waits for the device."""

    def on_log(self, state: State) -> None:
        """Called every ``log_every`` steps and at the end of an epoch. ``state.log[-1]`` is the new row."""

    def on_evaluation_end(self, state: State) -> None:
        """Called after an evaluation that is not at the end of an epoch. ``state.history[-1]`` is its row."""

    def on_epoch_end(self, state: State) -> None:
        """Called after validation and evaluation. ``state.history[-1]`` is the row of this epoch."""

    def on_fit_end(self, state: State) -> None:
        """Called once at the end, also after a stop, an interrupt or an error."""

    def state_dict(self) -> dict[str, Any]:
        """What the callback remembers: numbers, texts, lists and mappings of these, and tensors of the model."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Set what :meth:`state_dict` returned. Called before :meth:`on_fit_begin` of a training that is continued."""
