"""A pooler in the place of a model's last pooling layer, for Keras."""

import functools
import re
from typing import Any

import keras
from keras import KerasTensor, backend, layers, ops, tree

from ..base.poolers import last_pooling
from .interop import PlainLayer
from .poolers import Pooler

__all__ = ["PooledLayer", "replace_pooling"]

# The framework's pooling layers, each with the number of axes that it pools over.
AXES = {cls: int(name[-2]) for name, cls in vars(layers).items() if re.fullmatch(r"\w*Pool(ing)?[123]D", name)}


class PooledLayer(PlainLayer):
    """A pooler that takes and returns what the layer did whose place it has, with each pooled axis at length 1."""

    def __init__(self, pooler: Pooler, data_format: str, keepdims: bool):
        super().__init__()
        self.pooler, self.data_format, self.keepdims = pooler, data_format, keepdims

    def build(self, x_shape: Any) -> None:
        """Nothing to do, which Keras would find out by calling the pooler."""

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
        """Asked for by layers around another, such as TimeDistributed."""
        ones = [1] * (len(x_shape) - 2) * self.keepdims
        first = self.data_format == "channels_first"
        return (x_shape[0], x_shape[1], *ones) if first else (x_shape[0], *ones, x_shape[-1])

    def compute_output_spec(self, x: KerasTensor, mask: KerasTensor | None = None) -> KerasTensor:
        """Of x's type, whatever Keras would take from the shape."""
        return KerasTensor(self.compute_output_shape(x.shape), dtype=x.dtype)


def replace_pooling(model: keras.Model, pooler: Pooler) -> keras.Model:
    """The model with ``pooler`` where its last pooling layer was: another model of the same layers and weights.

    That is the last in the order in which the model holds its layers. A Sequential or functional model is
    built anew, of the same layers, and is a plain one then; any other is changed in place.

    Raises:
        TypeError: if ``pooler`` is none of ours.
        ValueError: if the model has no pooling layer, of the framework or ours, or cannot be built anew.
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
                put(layer, inner, replaced(inner))
        return layer

    model = replaced(model)
    for layer in layers_of(model):
        if isinstance(layer, keras.Model):  # what it has compiled is of the layer that was there before
            layer.train_function = layer.test_function = layer.predict_function = None
    return model


def layers_of(layer: Any) -> list[Any]:
    """A layer and all that are in it, in their order."""
    return [layer, *(one for inner in inner_layers(layer) for one in layers_of(inner))]


def inner_layers(layer: Any) -> list[Any]:
    """The layers that a layer holds itself; of an operation that is no layer, none."""
    if isinstance(layer, keras.Model):
        return list(layer.layers)
    return layer._flatten_layers(include_self=False, recursive=False) if isinstance(layer, layers.Layer) else []


def rebuild(model: Any, replaced: Any) -> Any:
    """A Sequential or functional model of the same layers, but for those that are ``replaced``."""
    own = next((cls for cls in type(model).__mro__ if "call" in vars(cls)), object)
    if not own.__module__.startswith("keras."):
        raise ValueError(f"a functional model must not have a call of its own to be built anew, as {own.__name__} has")
    inputs = None if isinstance(model, keras.Sequential) else model.input
    return keras.models.clone_model(model, input_tensors=inputs, clone_function=replaced)


def put(parent: Any, old: Any, new: Any) -> None:
    """Let a layer hold ``new`` wherever it holds ``old``: in attributes, and in lists and mappings there."""
    parent._tracker.replace_tracked_value("layers", old, new)  # which would else keep both, or neither once built
    held = {**vars(parent), **vars(parent).get("_modules", {})}  # torch keeps layers by themselves
    for name, value in held.items():
        if name == "_modules" or name.startswith("_self_"):  # TensorFlow's
            continue
        if any(as_leaf is old for as_leaf in tree.flatten(value)):
            setattr(parent, name, tree.map_structure(lambda as_leaf: new if as_leaf is old else as_leaf, value))
