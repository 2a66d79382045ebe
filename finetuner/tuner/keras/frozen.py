"""Splits a model after the layers at its input that are never trained, for Keras."""

from typing import Any

import keras
from keras import layers

from ..base.training.split_model import SplitModel, is_random_layer, no_prefix, not_separable
from .models import TrainingModel, named_variables
from .surgery import layers_of, overrides_call

__all__ = ["split_frozen"]

KINDS = "a functional or Sequential model"


def split_frozen(model: keras.Model, trained: set[str]) -> SplitModel:
    """The model in two parts, see :meth:`finetuner.tuner.base.training.framework.Framework.split_frozen`."""
    ids = {id(variable) for name, variable in named_variables(model).items() if name in trained}
    function = as_function(model)
    if function is None or len(function.outputs) != 1:
        raise not_separable(KINDS, model)
    parts = split_function(function, ids)
    if parts is None:
        raise no_prefix(first_obstacle(function, ids))
    prefix, rest, names = parts
    return SplitModel(TrainingModel(prefix, None), rest, names)


def as_function(model: Any) -> Any:
    """The graph of a functional or Sequential model; None for any other one."""
    if not isinstance(model, keras.Sequential | keras.Function) or overrides_call(model) is not None:
        return None
    return model._functional if isinstance(model, keras.Sequential) else model


def split_function(function: Any, trained: set[int]) -> tuple[Any, Any, tuple[str, ...]] | None:
    """Split a graph at the last tensor through which every path goes, and before which nothing is trained.

    Returns:
        Both parts, and the names of the layers in the first; None if there is no such tensor.
    """
    nodes = [node for _, same in sorted(function._nodes_by_depth.items(), reverse=True) for node in same]
    cut, inside = last_cut(function, nodes, trained)
    names = tuple(node.operation.name for node in nodes if id(node) in inside and not node.is_input)
    start = cut if cut is not None else (function.inputs[0] if len(function.inputs) == 1 else None)
    following = [node for node in nodes if start is not None and any(x is start for x in node.input_tensors)]
    if len(following) == 1 and len(following[0].input_tensors) == 1:  # perhaps a model whose first layers are frozen
        inner = as_function(following[0].operation)
        parts = None if inner is None or len(inner.outputs) != 1 else split_function(inner, trained)
        if parts is not None:
            prefix, rest, inner_names = parts
            outputs = function.outputs[0]
            after = following[0].outputs[0]
            given = keras.Input(batch_shape=rest.inputs[0].shape, dtype=rest.inputs[0].dtype)
            embeddings = rest(given)
            if after is not outputs:
                embeddings = keras.Model(after, outputs)(embeddings)
            name = following[0].operation.name
            model = keras.Model(function._inputs_struct, prefix(start))
            return model, keras.Model(given, embeddings), (*names, *(f"{name}/{one}" for one in inner_names))
    if cut is None:
        return None
    return keras.Model(function._inputs_struct, cut), keras.Model(cut, function.outputs[0]), names


def last_cut(function: Any, nodes: list[Any], trained: set[int]) -> tuple[Any, set[int]]:
    """The last tensor at which a graph can be split, and the ids of the nodes before it; None if there is none."""
    origin = {id(x): node for node in nodes for x in node.outputs}
    before: dict[int, set[int]] = {}  # of each node, it and all nodes that it needs
    for node in nodes:
        before[id(node)] = {id(node)}.union(*(before[id(origin[id(x)])] for x in node.input_tensors))
    barred = {id(node) for node in nodes if not node.is_input and obstacle(node.operation, trained)}
    given = {id(node) for node in nodes if node.is_input}
    best, best_inside = None, set[int]()
    for node in nodes:
        inside = before[id(node)]
        if node.is_input or inside & barred or not given <= inside or len(inside) <= len(best_inside):
            continue
        for x in node.outputs:
            used = [y for other in nodes if id(other) not in inside for y in other.input_tensors]
            used += function.outputs
            crossing = [y for y in used if y is not x and id(origin[id(y)]) in inside]
            if not crossing and x is not function.outputs[0] and getattr(x, "_keras_mask", None) is None:
                best, best_inside = x, inside
    return best, best_inside


def first_obstacle(function: Any, trained: set[int]) -> str:
    """Why a graph cannot be split."""
    nodes = [node for _, same in sorted(function._nodes_by_depth.items(), reverse=True) for node in same]
    first = next((node.operation for node in nodes if not node.is_input), None)
    reason = None if first is None else obstacle(first, trained)
    if first is not None and reason:
        return f"{first.name} {reason}"
    return "no single tensor without a mask goes from them to the others"


def obstacle(layer: Any, trained: set[int]) -> str | None:
    """Why the outputs of a layer cannot be kept; None if they can."""
    found = layers_of(layer)
    if any(id(variable) in trained for one in found for variable in getattr(one, "variables", ())):
        return "is trained"
    for one in found:
        name = type(one).__name__
        if isinstance(one, layers.BatchNormalization) and one.trainable:
            return f"has statistics that are updated ({name})"
        if isinstance(one, layers.SpectralNormalization):
            return f"has weights that are updated ({name})"
        if is_random_layer(one) or getattr(one, "_seed_generators", None):
            return f"draws random numbers in training ({name})"
        if getattr(one, "activity_regularizer", None) is not None:
            return f"adds to the loss ({name})"
    return None
