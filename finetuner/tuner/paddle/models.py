"""Models: two towers, calls, and the names of weights, for PaddlePaddle."""

from collections.abc import Mapping
from typing import Any

import paddle
from paddle import nn

from ..base.training.framework import accepts_keywords

__all__ = ["TwoTower", "call_model", "named_weights", "plain_forward", "plain_model"]


class TwoTower(nn.Layer):
    """Two models, one per side of a pair."""

    def __init__(self, first: nn.Layer, second: nn.Layer):
        super().__init__()
        self.first, self.second = first, second

    def forward(self, first: Any, second: Any) -> tuple[Any, Any]:
        return call_model(self.first, first), call_model(self.second, second)


def call_model(model: nn.Layer, inputs: Any) -> Any:
    """Call ``model``. A mapping is passed as keyword arguments if the model has such arguments."""
    if isinstance(inputs, Mapping) and accepts_keywords(plain_forward(model), inputs):
        return model(**inputs)
    return model(inputs)


def plain_model(model: nn.Layer) -> nn.Layer:
    """The model inside a ``DataParallel``. A compiled one is itself the model."""
    while isinstance(model, paddle.DataParallel):
        model = model._layers
    return model


def plain_forward(model: nn.Layer) -> Any:
    """A model's ``forward``; of a model compiled by ``to_static``, the original one with its arguments."""
    forward = plain_model(model).forward
    return getattr(forward, "dygraph_function", forward)


def named_weights(module: Any) -> dict[str, paddle.Tensor]:
    """The parameters of a model or a loss by name; empty for a loss that is a plain function."""
    if not isinstance(module, nn.Layer):
        return {}
    return dict(plain_model(module).named_parameters())
