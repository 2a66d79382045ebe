"""Replaces a model's last pooling layer, for PaddlePaddle."""

import re
from collections.abc import Iterable

import paddle
from paddle import nn

from ..base.poolers import last_pooling
from .poolers import Pooler

__all__ = ["PooledLayer", "check_optimizer_covers_poolers", "replace_pooling"]

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
    """Replace the last pooling layer of a model by ``pooler``, in place.

    The last layer is the last in the order in which the model registers its layers. A layer that occurs several times
    is replaced once per parent, at its last occurrence.

    Returns:
        The model; or the new layer if the model was the pooling layer itself.

    Raises:
        TypeError: If ``pooler`` is not of this library.
        ValueError: If the model has no pooling layer, neither of the framework nor of this library.
    """
    layers = [layer for _, layer in model.named_sublayers(include_self=True, remove_duplicate=False)]
    old = last_pooling(layers, pooler, Pooler, tuple(AXES))
    if isinstance(old, Pooler):
        new: nn.Layer = pooler
    else:
        layout = getattr(old, "data_format", getattr(old, "_data_format", "NC"))
        new = PooledLayer(pooler, next(axes for cls, axes in AXES.items() if isinstance(old, cls)), layout[1] != "C")
    if not old.training:
        new.eval()
    for parent in layers:
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
