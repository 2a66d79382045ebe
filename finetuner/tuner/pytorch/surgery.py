"""A pooler in the place of a model's last pooling layer, for PyTorch."""

import re
from collections.abc import Iterable

import torch
from torch import nn

from ..base.poolers import last_pooling
from .poolers import Pooler

__all__ = ["PooledLayer", "check_optimizer_covers_poolers", "replace_pooling"]

# The framework's pooling layers, each with the number of axes that it pools over.
AXES = {cls: int(name[-2]) for name, cls in vars(nn).items() if re.fullmatch(r"\w*Pool[123]d", name)}


class PooledLayer(nn.Module):
    """A pooler that takes and returns what the layer did whose place it has, with each pooled axis at length 1."""

    def __init__(self, pooler: Pooler, axes: int):
        super().__init__()
        self.pooler, self.axes = pooler, axes

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if x.ndim != 2 + self.axes:
            raise ValueError(f"x must be a batch with {self.axes} axes to pool, [N, C, ...], got {list(x.shape)}")
        pooled = self.pooler(x.transpose(1, 2) if self.axes == 1 else x)
        return pooled.reshape(*pooled.shape, *[1] * self.axes)


def replace_pooling(model: nn.Module, pooler: Pooler) -> nn.Module:
    """The model, changed in place, with ``pooler`` where its last pooling layer was.

    That is the last in the order in which the model holds its layers. A layer in several places, such as a
    container holds twice, is replaced in the last of each that holds it.

    Raises:
        TypeError: if ``pooler`` is none of ours.
        ValueError: if the model has no pooling layer, of the framework or ours.
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
    """Raise ``ValueError`` if a pooler of the model has a weight to train that is not one of ``parameters``."""
    held = {id(p) for p in parameters}
    for layer in model.modules():
        if isinstance(layer, Pooler) and any(p.requires_grad and id(p) not in held for p in layer.parameters()):
            raise ValueError(
                f"optimizer must hold the weights of {type(layer).__name__}, which is trained, and does not: give a "
                "name or a class, or make the pooler first"
            )
