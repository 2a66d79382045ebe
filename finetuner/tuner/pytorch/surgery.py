"""Replaces the pooling layer of a model, for PyTorch."""

import re
from collections.abc import Iterable

import torch
from torch import nn

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
    """Replace the pooling layer of a model by ``pooler``, in place; see :func:`find_pooling` for which one.

    A layer that occurs several times is replaced once per parent, at its last occurrence.

    Returns:
        The model; or the new layer if the model was the pooling layer itself.

    Raises:
        TypeError: If ``pooler`` is not of this library.
        ValueError: If the model has no pooling layer, neither of the framework nor of this library.
    """
    return put_pooler(model, find_pooling(model, pooler).layer, pooler)[0]


def find_pooling(model: nn.Module, pooler: Pooler) -> Place:
    """The pooling layer that ``pooler`` is to replace, as far as the declared layers tell."""
    named = dict(model.named_modules(remove_duplicate=False))
    layers = list(named.values())
    windows = [position for position, layer in enumerate(layers) if is_spatial_convolution(layer)]
    places = []
    for position, (name, layer) in enumerate(named.items()):
        is_global = pools_globally(layer)
        if isinstance(layer, (Pooler, *AXES)) and is_global is not False:
            is_last = position > max(windows, default=-1)
            places.append(Place(name, layer, name.count("."), is_global is True, is_last))
    return best_place(places, pooler, Pooler, layers)


def pools_globally(layer: nn.Module) -> bool | None:
    """Whether a pooling layer makes one vector of inputs of any size; None if that depends on their size."""
    size = getattr(layer, "output_size", None)
    return True if isinstance(layer, Pooler) else is_global_size(size)


def precedes_pooling(layer: nn.Module) -> bool:
    """Whether a layer can only come before a global pooling: a pooling layer, or a convolution with a window."""
    return isinstance(layer, tuple(AXES)) or is_spatial_convolution(layer)


def put_pooler(model: nn.Module, old: nn.Module, pooler: Pooler) -> tuple[nn.Module, nn.Module]:
    """Put ``pooler`` in the place of a layer. Returns the model and the new layer."""
    if isinstance(old, Pooler):
        new: nn.Module = pooler
    else:
        new = PooledLayer(pooler, next(axes for cls, axes in AXES.items() if isinstance(old, cls)))
    new.train(old.training)
    return replace_layer(model, old, new), new


def replace_layer(model: nn.Module, old: nn.Module, new: nn.Module) -> nn.Module:
    """Replace a layer in all its parents. Returns the model, or ``new`` in place of ``old`` as the model."""
    for parent in list(model.modules()):
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
