"""Splits a model after the layers at its input that are never trained, for PyTorch."""

from torch import nn
from torch.nn.modules import batchnorm

from ..base.training.split_model import SplitModel, is_random_layer, leading
from .frozen_graph import split_graph
from .frozen_text import split_text_model
from .models import named_weights
from .text import TextModel

__all__ = ["split_frozen"]

KINDS = "an nn.Sequential, a model that torch.fx can trace, or a BERT-like text model of finetuner.load_model"


def split_frozen(model: nn.Module, trained: set[str]) -> SplitModel:
    """The model in two parts, see :meth:`finetuner.tuner.base.training.framework.Framework.split_frozen`."""
    ids = {id(p) for name, p in named_weights(model).items() if name in trained}
    if type(model) is TextModel:
        return split_text_model(model, KINDS, lambda layer: obstacle(layer, ids))
    layers = layers_of_chain(model) if is_chain(model) else []
    reasons = [(name, obstacle(layer, ids)) for name, layer in layers]
    barred = [layer for (_, layer), (_, reason) in zip(layers, reasons, strict=True) if reason]
    if not layers or (barred and list(barred[0].children())):  # perhaps its first layers are frozen
        try:
            return split_graph(model, KINDS, lambda layer: obstacle(layer, ids), ids)
        except ValueError:
            if not layers or reasons[0][1]:
                raise
    count = leading(reasons)
    prefix, rest = (nn.Sequential(*(layer for _, layer in part)) for part in (layers[:count], layers[count:]))
    return SplitModel(prefix, rest, tuple(name for name, _ in layers[:count]))


def is_chain(layer: nn.Module) -> bool:
    """Whether a layer does nothing but call its children one after the other."""
    hooks = (layer._forward_hooks, layer._forward_pre_hooks, layer._backward_hooks, layer._backward_pre_hooks)
    return isinstance(layer, nn.Sequential) and type(layer).forward is nn.Sequential.forward and not any(hooks)


def layers_of_chain(chain: nn.Module, prefix: str = "") -> list[tuple[str, nn.Module]]:
    """The layers of a chain and of the chains in it, with their names."""
    found = []
    for name, layer in chain._modules.items():
        if layer is not None:
            path = f"{prefix}{name}"
            found += layers_of_chain(layer, f"{path}.") if is_chain(layer) else [(path, layer)]
    return found


def obstacle(layer: nn.Module, trained: set[int]) -> str | None:
    """Why the outputs of a layer cannot be kept; None if they can."""
    if any(id(p) in trained for p in layer.parameters()):
        return "is trained"
    for one in layer.modules():
        name = type(one).__name__
        if isinstance(one, batchnorm._BatchNorm) and (one.training or one.running_mean is None):
            return f"has statistics of each batch ({name})"
        if isinstance(one, batchnorm._NormBase) and one.training and one.track_running_stats:
            return f"has statistics that are updated ({name})"
        rates = [getattr(one, "dropout", 0.0)] if isinstance(one, nn.MultiheadAttention | nn.RNNBase) else []
        if one.training and (is_random_layer(one) or any(rates)):
            return f"draws random numbers in training ({name}); a layer whose weights are named in freeze does not"
    return None
