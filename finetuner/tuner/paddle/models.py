"""Models that a tuner makes: two towers, for PaddlePaddle."""

from collections.abc import Mapping
from typing import Any

from paddle import nn

from ..base.training.framework import accepts_keywords

__all__ = ["TwoTower", "call_model", "plain_forward"]


class TwoTower(nn.Layer):
    """Two models, one per side of a pair."""

    def __init__(self, first: nn.Layer, second: nn.Layer):
        super().__init__()
        self.first, self.second = first, second

    def forward(self, first: Any, second: Any) -> tuple[Any, Any]:
        return call_model(self.first, first), call_model(self.second, second)


def plain_forward(model: nn.Layer) -> Any:
    """A model's ``forward``; of a model compiled by ``to_static``, the original one with its arguments."""
    return getattr(model.forward, "dygraph_function", model.forward)


def call_model(model: nn.Layer, inputs: Any) -> Any:
    """Call ``model``. A mapping is passed as keyword arguments if the model has such arguments."""
    if isinstance(inputs, Mapping) and accepts_keywords(plain_forward(model), inputs):
        return model(**inputs)
    return model(inputs)
