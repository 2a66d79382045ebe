"""The exponential moving average of the weights."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from .engine import Engine

__all__ = ["WeightAverage"]


class WeightAverage:
    r"""Exponential moving average of a model's weights: :math:`a \leftarrow a + (1 - \beta) (w - a)` after each step.

    Args:
        engine: The engine with the model.
        decay: beta.
        state: The average to begin with, as ``framework.state`` returns it; None for the present weights.
    """

    def __init__(self, engine: Engine, decay: float, state: dict[str, Any] | None = None):
        self.engine, self.share = engine, 1.0 - decay
        self.average = engine.average_weights(None, 1.0) if state is None else engine.average_from_state(state)

    def update(self) -> None:
        """Move the average towards the weights."""
        self.average = self.engine.average_weights(self.average, self.share)

    def state(self) -> dict[str, Any]:
        """The averaged weights with the model's current buffers."""
        return self.engine.average_to_state(self.average)

    @contextmanager
    def in_use(self) -> Iterator[None]:
        """A context in which the model has the averaged weights."""
        framework, model = self.engine.framework, self.engine.model
        trained = framework.state(model)
        framework.load_state(model, self.state())
        try:
            yield
        finally:
            framework.load_state(model, trained)
