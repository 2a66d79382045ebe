"""Splits a model after the layers at its input that are never trained, for PaddlePaddle."""

from paddle import nn

from ..base.training.split_model import SplitModel, is_random_layer, leading, not_separable
from .gradient_cache import STATEFUL_LAYERS
from .models import named_weights

__all__ = ["split_frozen"]

KINDS = "an nn.Sequential"


def split_frozen(model: nn.Layer, trained: set[str]) -> SplitModel:
    """The model in two parts, see :meth:`finetuner.tuner.base.training.framework.Framework.split_frozen`."""
    ids = {id(p) for name, p in named_weights(model).items() if name in trained}
    if not is_chain(model):
        raise not_separable(KINDS, model)
    layers = layers_of_chain(model)
    count = leading([(name, obstacle(layer, ids)) for name, layer in layers])
    prefix, rest = (nn.Sequential(*(layer for _, layer in part)) for part in (layers[:count], layers[count:]))
    return SplitModel(prefix, rest, tuple(name for name, _ in layers[:count]))


def is_chain(layer: nn.Layer) -> bool:
    """Whether a layer does nothing but call its children one after the other."""
    hooks = (layer._forward_post_hooks, layer._forward_pre_hooks)
    return isinstance(layer, nn.Sequential) and type(layer).forward is nn.Sequential.forward and not any(hooks)


def layers_of_chain(chain: nn.Layer, prefix: str = "") -> list[tuple[str, nn.Layer]]:
    """The layers of a chain and of the chains in it, with their names."""
    found = []
    for name, layer in chain._sub_layers.items():
        if layer is not None:
            path = f"{prefix}{name}"
            found += layers_of_chain(layer, f"{path}.") if is_chain(layer) else [(path, layer)]
    return found


def obstacle(layer: nn.Layer, trained: set[int]) -> str | None:
    """Why the outputs of a layer cannot be kept; None if they can."""
    if any(id(p) in trained for p in layer.parameters()):
        return "is trained"
    for one in layer.sublayers(include_self=True):
        name = type(one).__name__
        if isinstance(one, STATEFUL_LAYERS) and one.training:
            return f"has statistics that are updated ({name})"
        rates = [getattr(one, "dropout", 0.0)] if isinstance(one, nn.MultiHeadAttention | nn.RNN | nn.LSTM) else []
        if one.training and (is_random_layer(one) or any(rates)):
            return f"draws random numbers in training ({name}); a layer whose weights are named in freeze does not"
    return None
