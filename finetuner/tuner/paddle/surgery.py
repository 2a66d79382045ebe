"""Replaces the pooling layer of a model, for PaddlePaddle."""

import re
from collections.abc import Iterable

import paddle
from paddle import nn

from ..base.poolers import Place, best_place, is_global_size, is_spatial_convolution
from .poolers import Pooler

__all__ = [
    "PooledLayer",
    "check_optimizer_covers_poolers",
    "find_pooling",
    "precedes_pooling",
    "put_pooler",
    "replace_layer",
    "replace_pooling",
]

# The framework's pooling layers, and the number of axes that each pools over.
AXES = {cls: int(name[-2]) for name, cls in vars(nn).items() if re.fullmatch(r"(?!MaxUn)\w*Pool[123]D", name)}


class PooledLayer(nn.Layer):
    """A pooler with the input and output shapes of the layer that it replaces: each pooled axis has length 1."""

    def __init__(self, pooler: Pooler, axes: int, channels_last: bool):
        super().__init__()
        self.pooler, self.axes, self.channels_last = pooler, axes, channels_last

    def forward(self, x: paddle.Tensor) -> paddle.Tensor:
        if x.ndim != 2 + self.axes:
            raise ValueError(f"x must be a batch with {self.axes} axes to pool, [N, C, ...], got {list(x.shape)}")
        if self.axes == 1:
            items = x if self.channels_last else x.transpose([0, 2, 1])
        else:
            items = x.moveaxis(-1, 1) if self.channels_last else x
        first = 1 if self.channels_last else 2
        return self.pooler(items).unsqueeze(list(range(first, first + self.axes)))


def replace_pooling(model: nn.Layer, pooler: Pooler) -> nn.Layer:
    """Replace the pooling layer of a model by ``pooler``, in place; see :func:`find_pooling` for which one.

    A layer that occurs several times is replaced once per parent, at its last occurrence.

    Returns:
        The model; or the new layer if the model was the pooling layer itself.

    Raises:
        TypeError: If ``pooler`` is not of this library.
        ValueError: If the model has no pooling layer, neither of the framework nor of this library.
    """
    return put_pooler(model, find_pooling(model, pooler).layer, pooler)[0]


def find_pooling(model: nn.Layer, pooler: Pooler) -> Place:
    """The pooling layer that ``pooler`` is to replace, as far as the declared layers tell."""
    named = dict(model.named_sublayers(include_self=True, remove_duplicate=False))
    layers = list(named.values())
    windows = [position for position, layer in enumerate(layers) if is_spatial_convolution(layer)]
    places = []
    for position, (name, layer) in enumerate(named.items()):
        is_global = pools_globally(layer)
        if isinstance(layer, (Pooler, *AXES)) and is_global is not False:
            is_last = position > max(windows, default=-1)
            places.append(Place(name, layer, name.count("."), is_global is True, is_last))
    return best_place(places, pooler, Pooler, layers)


def pools_globally(layer: nn.Layer) -> bool | None:
    """Whether a pooling layer makes one vector of inputs of any size; None if that depends on their size."""
    size = getattr(layer, "output_size", getattr(layer, "_output_size", None))
    return True if isinstance(layer, Pooler) else is_global_size(size)


def precedes_pooling(layer: nn.Layer) -> bool:
    """Whether a layer can only come before a global pooling: a pooling layer, or a convolution with a window."""
    return isinstance(layer, tuple(AXES)) or is_spatial_convolution(layer)


def put_pooler(model: nn.Layer, old: nn.Layer, pooler: Pooler) -> tuple[nn.Layer, nn.Layer]:
    """Put ``pooler`` in the place of a layer. Returns the model and the new layer."""
    if isinstance(old, Pooler):
        new: nn.Layer = pooler
    else:
        layout = getattr(old, "data_format", getattr(old, "_data_format", "NC"))
        new = PooledLayer(pooler, next(axes for cls, axes in AXES.items() if isinstance(old, cls)), layout[1] != "C")
    if not old.training:
        new.eval()
    return replace_layer(model, old, new), new


def replace_layer(model: nn.Layer, old: nn.Layer, new: nn.Layer) -> nn.Layer:
    """Replace a layer in all its parents. Returns the model, or ``new`` in place of ``old`` as the model."""
    for parent in model.sublayers(include_self=True):
        names = [name for name, layer in parent._sub_layers.items() if layer is old]
        if names:
            setattr(parent, names[-1], new)
    return new if old is model else model


def check_optimizer_covers_poolers(model: nn.Layer, parameters: Iterable[paddle.Tensor]) -> None:
    """Raise ``ValueError`` if a pooler of the model has a trainable weight that is not one of ``parameters``."""
    held = {id(p) for p in parameters}
    for layer in model.sublayers(include_self=True):
        if isinstance(layer, Pooler) and any(not p.stop_gradient and id(p) not in held for p in layer.parameters()):
            raise ValueError(
                f"optimizer must hold the weights of {type(layer).__name__}, which is trained, and does not: pass a "
                "name or a class, or create the pooler first"
            )
