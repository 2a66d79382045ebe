"""Replaces a model's last pooling layer, for Keras."""

import functools
import re
from typing import Any

import keras
from keras import KerasTensor, backend, layers, ops, tree

from ..base.poolers import last_pooling
from .interop import PlainLayer
from .poolers import Pooler

__all__ = ["PooledLayer", "replace_pooling"]

# The framework's pooling layers, and the number of axes that each pools over.
AXES = {cls: int(name[-2]) for name, cls in vars(layers).items() if re.fullmatch(r"\w*Pool(ing)?[123]D", name)}


class PooledLayer(PlainLayer):
    """A pooler with the input and output shapes of the layer that it replaces: each pooled axis has length 1."""

    def __init__(self, pooler: Pooler, data_format: str, keepdims: bool):
        super().__init__()
        self.pooler, self.data_format, self.keepdims = pooler, data_format, keepdims

    def build(self, x_shape: Any) -> None:
        """Nothing to do. Without this method Keras would call the pooler to find out."""

    def call(self, x: KerasTensor, mask: KerasTensor | None = None) -> KerasTensor:
        axes = len(x.shape) - 2
        channels_first = self.data_format == "channels_first"
        wanted = "channels_last" if axes == 1 else backend.image_data_format()
        if self.data_format != wanted:
            x = ops.moveaxis(x, 1, -1) if channels_first else ops.moveaxis(x, -1, 1)
        pooled = self.pooler(x, mask=mask if axes == 1 else None)
        for _ in range(axes * self.keepdims):
            pooled = ops.expand_dims(pooled, -1 if channels_first else 1)
        return pooled

    def compute_output_shape(self, x_shape: Any) -> tuple[int | None, ...]:
        """Used by layers that wrap another one, such as TimeDistributed."""
        ones = [1] * (len(x_shape) - 2) * self.keepdims
        first = self.data_format == "channels_first"
        return (x_shape[0], x_shape[1], *ones) if first else (x_shape[0], *ones, x_shape[-1])

    def compute_output_spec(self, x: KerasTensor, mask: KerasTensor | None = None) -> KerasTensor:
        """The output has the type of ``x``."""
        return KerasTensor(self.compute_output_shape(x.shape), dtype=x.dtype)


def replace_pooling(model: keras.Model, pooler: Pooler) -> keras.Model:
    """Replace the last pooling layer of a model by ``pooler``.

    The last layer is the last in the order in which the model holds its layers. A Sequential or functional model is
    rebuilt from the same layers as a plain one. Any other model is changed in place.

    Returns:
        The model with the same layers and weights.

    Raises:
        TypeError: If ``pooler`` is not of this library.
        ValueError: If the model has no pooling layer of the framework or of this library, or cannot be rebuilt.
    """
    old = last_pooling(layers_of(model), pooler, Pooler, tuple(AXES))
    if isinstance(old, Pooler):
        new: layers.Layer = pooler
    else:
        new = PooledLayer(pooler, old.data_format, getattr(old, "keepdims", True))
        new.name = old.name

    @functools.cache
    def replaced(layer: Any) -> Any:
        if layer is old:
            return new
        if not any(one is old for one in layers_of(layer)):
            return layer
        if isinstance(layer, keras.Sequential | keras.Function):
            return rebuild(layer, replaced)
        for inner in inner_layers(layer):
            if replaced(inner) is not inner:
                replace_sublayer(layer, inner, replaced(inner))
        return layer

    model = replaced(model)
    for layer in layers_of(model):
        if isinstance(layer, keras.Model):  # compiled functions still use the old layer
            layer.train_function = layer.test_function = layer.predict_function = None
    return model


def layers_of(layer: Any) -> list[Any]:
    """A layer and all layers inside it, in order."""
    return [layer, *(one for inner in inner_layers(layer) for one in layers_of(inner))]


def inner_layers(layer: Any) -> list[Any]:
    """The direct sublayers of a layer; none for an operation that is not a layer."""
    if isinstance(layer, keras.Model):
        return list(layer.layers)
    return layer._flatten_layers(include_self=False, recursive=False) if isinstance(layer, layers.Layer) else []


def rebuild(model: Any, replaced: Any) -> Any:
    """A Sequential or functional model with the same layers, except those that ``replaced`` exchanges."""
    own = next((cls for cls in type(model).__mro__ if "call" in vars(cls)), object)
    if not own.__module__.startswith("keras."):
        raise ValueError(f"a functional model must not override call to be rebuilt, as {own.__name__} does")
    inputs = None if isinstance(model, keras.Sequential) else model.input
    return keras.models.clone_model(model, input_tensors=inputs, clone_function=replaced)


def replace_sublayer(parent: Any, old: Any, new: Any) -> None:
    """Replace a sublayer in all attributes of a layer, and in the lists and mappings there."""
    parent._tracker.replace_tracked_value("layers", old, new)  # else it would keep both, or neither once built
    held = {**vars(parent), **vars(parent).get("_modules", {})}  # where the torch engine keeps layers
    for name, value in held.items():
        if name == "_modules" or name.startswith("_self_"):  # internals of TensorFlow
            continue
        if any(as_leaf is old for as_leaf in tree.flatten(value)):
            setattr(parent, name, tree.map_structure(lambda as_leaf: new if as_leaf is old else as_leaf, value))
