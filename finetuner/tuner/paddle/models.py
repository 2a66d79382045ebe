"""Models: two towers, calls, and the names of weights, for PaddlePaddle."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import paddle
from paddle import nn

from ..base.training.framework import accepts_keywords

__all__ = [
    "TwoTower",
    "call_model",
    "evaluation_mode",
    "frozen_layers",
    "layers_in_evaluation_mode",
    "named_weights",
    "plain_forward",
    "plain_model",
]


# Libraries whose pre-trained models are returned in evaluation mode.
EVALUATION_BY_DEFAULT = {"paddleformers", "paddlenlp"}


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


def layers_in_evaluation_mode(model: nn.Layer) -> list[nn.Layer]:
    """The layers that the user has put into evaluation mode, in a model that is in training mode.

    They stay in evaluation mode while the rest is trained. A pre-trained model of a library that returns its models in
    evaluation mode is no such layer, unless it is frozen.
    """
    if not model.training:
        libraries = {cls.__module__.partition(".")[0] for cls in type(model).__mro__}
        if libraries & EVALUATION_BY_DEFAULT and any(not p.stop_gradient for p in model.parameters()):
            return []
        return [layer for layer in model.sublayers(include_self=True) if not layer.training]
    return [layer for child in model.children() for layer in layers_in_evaluation_mode(child)]


def frozen_layers(model: nn.Layer, frozen: set[str]) -> list[nn.Layer]:
    """The layers whose weights are all frozen, if some have names in ``frozen``. They are without dropout."""
    ids = {id(p) for name, p in named_weights(model).items() if name in frozen}
    return [
        layer
        for layer in model.sublayers(include_self=True)
        if all(p.stop_gradient for p in layer.parameters()) and any(id(p) in ids for p in layer.parameters())
    ]


@contextmanager
def evaluation_mode(model: nn.Layer) -> Iterator[None]:
    """A context in which the model is in evaluation mode. Afterwards, each layer has the mode that it had before."""
    modes = [(layer, layer.training) for layer in model.sublayers(include_self=True)]
    model.eval()
    try:
        yield
    finally:
        for layer, training in modes:
            layer.training = training


def named_weights(module: Any) -> dict[str, paddle.Tensor]:
    """The parameters of a model or a loss by name; empty for a loss that is a plain function."""
    if not isinstance(module, nn.Layer):
        return {}
    return dict(plain_model(module).named_parameters())
