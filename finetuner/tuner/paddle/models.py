"""What a tuner makes of models: one of two, and how one is called, for PaddlePaddle."""

from collections.abc import Mapping
from typing import Any

from paddle import nn

from ..base.framework import takes_keywords

__all__ = ["Towers", "called", "plain_forward"]


class Towers(nn.Layer):
    """Two models, one for each side of a pair."""

    def __init__(self, first: nn.Layer, second: nn.Layer):
        super().__init__()
        self.first, self.second = first, second

    def forward(self, first: Any, second: Any) -> tuple[Any, Any]:
        return called(self.first, first), called(self.second, second)


def plain_forward(model: nn.Layer) -> Any:
    """A model's ``forward``, of a compiled one what it was before, which tells its arguments."""
    return getattr(model.forward, "dygraph_function", model.forward)


def called(model: nn.Layer, inputs: Any) -> Any:
    """What ``model`` makes of inputs, of which a mapping is passed as keywords where it takes them so."""
    if isinstance(inputs, Mapping) and takes_keywords(plain_forward(model), inputs):
        return model(**inputs)
    return model(inputs)
