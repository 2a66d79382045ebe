"""Replaces the pooling layer of a model, for Keras."""

import functools
import re
from collections.abc import Iterator
from typing import Any

import keras
from keras import KerasTensor, backend, layers, ops, tree

from ..base.poolers import Place, best_place, is_global_size, is_spatial_convolution
from .interop import PlainLayer
from .poolers import Pooler

__all__ = [
    "PooledLayer",
    "find_pooling",
    "layers_of",
    "precedes_pooling",
    "put_back",
    "put_pooler",
    "replace_pooling",
]

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
    """Replace the pooling layer of a model by ``pooler``; see :func:`find_pooling` for which one.

    A Sequential or functional model is rebuilt from the same layers as a plain one. Any other model is changed in
    place.

    Returns:
        The model with the same layers and weights.

    Raises:
        TypeError: If ``pooler`` is not of this library.
        ValueError: If the model has no pooling layer of the framework or of this library, or cannot be rebuilt.
    """
    return put_pooler(model, find_pooling(model, pooler).layer, pooler)[0]


def find_pooling(model: keras.Model, pooler: Pooler) -> Place:
    """The pooling layer that ``pooler`` is to replace, as far as the declared layers tell.

    A graph of layers tells all: its pooling layer is one through which every path to the output goes.
    """
    inside = layers_of(model)
    windows = [position for position, layer in enumerate(inside) if is_spatial_convolution(layer)]
    places = []
    for layer, depth, is_only_path in only_paths(model):
        is_global = pools_globally(layer)
        if is_pooling(layer) and is_global is not False:
            positions = [position for position, one in enumerate(inside) if one is layer]
            is_last = positions[-1] > max(windows, default=-1)
            is_certain = is_only_path and is_global is True and len(positions) == 1
            places.append(Place(layer.name, layer, depth, is_global is True, is_last, is_certain))
    return best_place(places[::-1], pooler, Pooler, inside)


def is_pooling(layer: Any) -> bool:
    """Whether a layer is a pooling layer of Keras or a pooler of this library."""
    return isinstance(layer, (Pooler, *AXES))


def pools_globally(layer: Any) -> bool | None:
    """Whether a pooling layer makes one vector of inputs of any size; None if that depends on their size."""
    if isinstance(layer, Pooler) or type(layer).__name__.startswith("Global"):
        return True
    if hasattr(layer, "output_size"):
        return is_global_size(layer.output_size)
    shapes = [node.outputs[0].shape for node in getattr(layer, "_inbound_nodes", ())]
    first = getattr(layer, "data_format", None) == "channels_first"
    known = {is_global_size(shape[2:] if first else shape[1:-1]) for shape in shapes}
    return False if known == {False} else None


def precedes_pooling(layer: Any) -> bool:
    """Whether a layer can only come before a global pooling: a pooling layer, or a convolution with a window."""
    return isinstance(layer, tuple(AXES)) or is_spatial_convolution(layer)


def put_pooler(model: keras.Model, old: Any, pooler: Pooler) -> tuple[keras.Model, Any]:
    """Put ``pooler`` in the place of a layer. Returns the model and the new layer."""
    if isinstance(old, Pooler):
        new: layers.Layer = pooler
    else:
        new = PooledLayer(pooler, old.data_format, getattr(old, "keepdims", True))
        new.name = old.name
    return replace_layer(model, old, new), new


def replace_layer(model: keras.Model, old: Any, new: Any) -> keras.Model:
    """Replace a layer in all its parents. Returns the model, rebuilt if it is Sequential or functional."""

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
    forget_compiled(model)
    return model


def put_back(model: keras.Model, new: Any, old: Any) -> None:
    """Put a replaced layer back in place. A model that has been rebuilt for the new layer keeps it."""
    for parent in layers_of(model):
        rebuilt = isinstance(parent, keras.Sequential | keras.Function)
        if not rebuilt and any(one is new for one in inner_layers(parent)):
            replace_sublayer(parent, new, old)
    forget_compiled(model)


def forget_compiled(model: keras.Model) -> None:
    """Drop the compiled functions of a model, which still use a replaced layer."""
    for layer in layers_of(model):
        if isinstance(layer, keras.Model):
            layer.train_function = layer.test_function = layer.predict_function = None


def only_paths(layer: Any, depth: int = 0, is_only_path: bool = True) -> Iterator[tuple[Any, int, bool]]:
    """The layers with everything that may be a pooling through which every path goes, from the output to the input.

    Of a layer that is neither Sequential nor functional, these are all layers inside, since only a forward pass tells.

    Yields:
        A layer, the number of layers around it, and whether every path goes through it.
    """
    inner = inner_layers(layer)[::-1]
    if isinstance(layer, keras.Function) and overrides_call(layer) is None:
        inner = only_operations(layer)
    elif inner and not isinstance(layer, keras.Sequential | layers.TimeDistributed | PooledLayer):
        is_only_path = False
    yield layer, depth, is_only_path
    for one in inner:
        yield from only_paths(one, depth + 1, is_only_path)


def only_operations(model: Any) -> list[Any]:
    """The operations with pooling of a functional model through which every path goes once, from the output on."""
    nodes = [node for _, same in sorted(model._nodes_by_depth.items()) for node in same][::-1]  # from the input
    found: list[Any] = []
    operations = dict.fromkeys(node.operation for node in nodes if not node.is_input)
    for operation in (one for one in operations if any(is_pooling(layer) for layer in layers_of(one))):
        free = {id(x) for x in model.inputs}  # what is computed without it
        fed: set[int] = set()  # what is computed from its output
        again = False
        for node in nodes:
            sources = {id(x) for x in node.input_tensors}
            results = {id(x) for x in node.outputs}
            own = node.operation is operation
            again = again or (own and bool(sources & fed))
            if not own and sources & free:
                free |= results
            if own or sources & fed:
                fed |= results
        if not again and not any(id(x) in free for x in model.outputs):
            found.append(operation)
    return found[::-1]


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
    own = overrides_call(model)
    if own is not None:
        raise ValueError(f"a functional model must not override call to be rebuilt, as {own.__name__} does")
    inputs = None if isinstance(model, keras.Sequential) else model.input
    return keras.models.clone_model(model, input_tensors=inputs, clone_function=replaced)


def overrides_call(model: Any) -> Any:
    """The class by which a functional model overrides Keras' own call; None if there is none."""
    own = next((cls for cls in type(model).__mro__ if "call" in vars(cls)), object)
    return None if own.__module__.startswith("keras.") else own


def replace_sublayer(parent: Any, old: Any, new: Any) -> None:
    """Replace a sublayer in all attributes of a layer, and in the lists and mappings there."""
    parent._tracker.replace_tracked_value("layers", old, new)  # else it would keep both, or neither once built
    held = {**vars(parent), **vars(parent).get("_modules", {})}  # where the torch engine keeps layers
    for name, value in held.items():
        if name == "_modules" or name.startswith("_self_"):  # internals of TensorFlow
            continue
        if any(as_leaf is old for as_leaf in tree.flatten(value)):
            setattr(parent, name, tree.map_structure(lambda as_leaf: new if as_leaf is old else as_leaf, value))
