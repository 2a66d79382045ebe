"""Replaces a model's last pooling layer, for PyTorch."""

import re
from collections.abc import Iterable

import torch
from torch import nn

from ..base.poolers import last_pooling
from .poolers import Pooler

__all__ = ["PooledLayer", "check_optimizer_covers_poolers", "replace_pooling"]

# The framework's pooling layers, and the number of axes that each pools over.
AXES = {cls: int(name[-2]) for name, cls in vars(nn).items() if re.fullmatch(r"\w*Pool[123]d", name)}


class PooledLayer(nn.Module):
    """A pooler with the input and output shapes of the layer that it replaces: each pooled axis has length 1."""

    def __init__(self, pooler: Pooler, axes: int):
        super().__init__()
        self.pooler, self.axes = pooler, axes

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if x.ndim != 2 + self.axes:
            raise ValueError(f"x must be a batch with {self.axes} axes to pool, [N, C, ...], got {list(x.shape)}")
        pooled = self.pooler(x.transpose(1, 2) if self.axes == 1 else x)
        return pooled.reshape(*pooled.shape, *[1] * self.axes)


def replace_pooling(model: nn.Module, pooler: Pooler) -> nn.Module:
    """Replace the last pooling layer of a model by ``pooler``, in place.

    The last layer is the last in the order in which the model registers its layers. A layer that occurs several times
    is replaced once per parent, at its last occurrence.

    Returns:
        The model; or the new layer if the model was the pooling layer itself.

    Raises:
        TypeError: If ``pooler`` is not of this library.
        ValueError: If the model has no pooling layer, neither of the framework nor of this library.
    """
    layers = [layer for _, layer in model.named_modules(remove_duplicate=False)]
    old = last_pooling(layers, pooler, Pooler, tuple(AXES))
    if isinstance(old, Pooler):
        new: nn.Module = pooler
    else:
        new = PooledLayer(pooler, next(axes for cls, axes in AXES.items() if isinstance(old, cls)))
    new.train(old.training)
    for parent in layers:
        names = [name for name, layer in parent._modules.items() if layer is old]
        if names:
            setattr(parent, names[-1], new)
    return new if old is model else model


def check_optimizer_covers_poolers(model: nn.Module, parameters: Iterable[torch.Tensor]) -> None:
    """Raise ``ValueError`` if a pooler of the model has a trainable weight that is not one of ``parameters``."""
    held = {id(p) for p in parameters}
    for layer in model.modules():
        if isinstance(layer, Pooler) and any(p.requires_grad and id(p) not in held for p in layer.parameters()):
            raise ValueError(
                f"optimizer must hold the weights of {type(layer).__name__}, which is trained, and does not: pass a "
                "name or a class, or create the pooler first"
            )
