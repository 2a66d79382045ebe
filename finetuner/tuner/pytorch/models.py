"""Models: two towers, calls, and the names of weights, for PyTorch."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from torch import nn

from ..base.training.framework import accepts_keywords

__all__ = [
    "TwoTower",
    "call_model",
    "evaluation_mode",
    "frozen_layers",
    "layers_in_evaluation_mode",
    "named_weights",
    "plain_model",
    "plain_name",
]


# Libraries whose pre-trained models are returned in evaluation mode.
EVALUATION_BY_DEFAULT = {"transformers"}


class TwoTower(nn.Module):
    """Two models, one per side of a pair."""

    def __init__(self, first: nn.Module, second: nn.Module):
        super().__init__()
        self.first, self.second = first, second

    def forward(self, first: Any, second: Any) -> tuple[Any, Any]:
        return call_model(self.first, first), call_model(self.second, second)


def call_model(model: nn.Module, inputs: Any) -> Any:
    """Call ``model``. A mapping is passed as keyword arguments if the model has such arguments."""
    if isinstance(inputs, Mapping) and accepts_keywords(plain_model(model).forward, inputs):
        return model(**inputs)
    return model(inputs)


def plain_model(model: nn.Module) -> nn.Module:
    """The model inside a compiled one, ``DataParallel`` or ``DistributedDataParallel``."""
    inner: Any = model
    while True:
        if isinstance(inner, nn.DataParallel | nn.parallel.DistributedDataParallel):
            inner = inner.module
        elif hasattr(inner, "_orig_mod"):  # torch.compile
            inner = inner._orig_mod
        else:
            return inner


def plain_name(name: str) -> str:
    """The name of a weight without the parts that ``torch.compile`` adds for layers that it has compiled."""
    return name.replace("_orig_mod.", "")


def layers_in_evaluation_mode(model: nn.Module) -> list[nn.Module]:
    """The layers that the user has put into evaluation mode, in a model that is in training mode.

    They stay in evaluation mode while the rest is trained. A pre-trained model of a library that returns its models in
    evaluation mode is no such layer, unless it is frozen.
    """
    if not model.training:
        libraries = {cls.__module__.partition(".")[0] for cls in type(model).__mro__}
        if libraries & EVALUATION_BY_DEFAULT and any(p.requires_grad for p in model.parameters()):
            return []
        return [layer for layer in model.modules() if not layer.training]
    return [layer for child in model.children() for layer in layers_in_evaluation_mode(child)]


def frozen_layers(model: nn.Module, frozen: set[str]) -> list[nn.Module]:
    """The layers whose weights are all frozen, if some have names in ``frozen``. They are without dropout."""
    ids = {id(p) for name, p in named_weights(model).items() if name in frozen}
    return [
        layer
        for layer in model.modules()
        if not any(p.requires_grad for p in layer.parameters()) and any(id(p) in ids for p in layer.parameters())
    ]


@contextmanager
def evaluation_mode(model: nn.Module) -> Iterator[None]:
    """A context in which the model is in evaluation mode. Afterwards, each layer has the mode that it had before."""
    modes = [(layer, layer.training) for layer in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for layer, training in modes:
            layer.training = training


def named_weights(module: Any) -> dict[str, nn.Parameter]:
    """The parameters of a model or a loss by name; empty for a loss that is a plain function."""
    if not isinstance(module, nn.Module):
        return {}
    return {plain_name(name): p for name, p in plain_model(module).named_parameters()}
