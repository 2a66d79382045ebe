"""The interface of all callbacks."""

from ..state import State

__all__ = ["Callback"]


class Callback:
    """Interface of all callbacks. Each hook does nothing unless a subclass overrides it.

    Every hook gets the :class:`~finetuner.tuner.base.training.state.State` of the training, with ``tuner``, ``epoch``,
    ``history`` and so on. Setting ``state.stop`` ends the training after the epoch.

    Example:
        >>> class StopAfter(Callback):
        ...     def __init__(self, epochs):
        ...         self.epochs = epochs
        ...
        ...     def on_epoch_end(self, state):
        ...         state.stop = state.epoch >= self.epochs
        >>> train_a_model(callbacks=[StopAfter(2)], epochs=5).history[-1]["epoch"]
        2
    """

    def on_fit_begin(self, state: State) -> None:
        """Called once, before the first epoch."""

    def on_epoch_begin(self, state: State) -> None:
        """Called before the first batch of an epoch."""

    def on_batch_end(self, state: State) -> None:
        """Called after each step. Reading ``state.loss`` waits for the device."""

    def on_epoch_end(self, state: State) -> None:
        """Called after validation and evaluation. ``state.history[-1]`` is the row of this epoch."""

    def on_fit_end(self, state: State) -> None:
        """Called once at the end, also after a stop, an interrupt or an error."""
