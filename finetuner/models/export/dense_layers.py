"""Adapters and heads as dense layers, which other libraries have."""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from ...tuner.base import adapters, heads

__all__ = ["DenseLayer", "dense_layers"]


class DenseLayer(NamedTuple):
    """A layer ``activation(weight @ x + bias)``. The activation is the name of a class of ``torch.nn``."""

    weight: np.ndarray
    bias: np.ndarray
    activation: str = "Identity"


def dense_layers(module: Any, as_array: Callable[[Any], np.ndarray]) -> list[DenseLayer]:
    """The dense layers that compute the same as an adapter or a head in evaluation.

    Args:
        module: The adapter or the head.
        as_array: Returns a weight as an array.

    Raises:
        ValueError: If it is neither.
    """
    if isinstance(module, adapters.LinearAdapter):
        return [DenseLayer(as_array(module.weight) + np.eye(module.dim), as_array(module.bias))]
    if isinstance(module, adapters.MLPAdapter):  # x = max(x, 0) - max(-x, 0) goes through the hidden layer
        identity, zeros = np.eye(module.dim), np.zeros(2 * module.dim)
        first = np.concatenate([as_array(module.weight1), identity, -identity])
        second = np.concatenate([as_array(module.weight2), identity, -identity], axis=1)
        return [
            DenseLayer(first, np.concatenate([as_array(module.bias1), zeros]), "ReLU"),
            DenseLayer(second, as_array(module.bias2)),
        ]
    if isinstance(module, heads.LinearHead):
        return [DenseLayer(as_array(module.weight), as_array(module.bias))]
    if isinstance(module, heads.MLPHead):
        hidden = DenseLayer(as_array(module.hidden_weight), as_array(module.hidden_bias), "ReLU")
        return [hidden, DenseLayer(as_array(module.weight), as_array(module.bias))]
    if isinstance(module, heads.BNNeckHead):
        norm = module.norm
        scale = as_array(norm.weight) / np.sqrt(as_array(norm.running_var) + heads.EPSILON)
        return [DenseLayer(as_array(module.weight) * scale[:, None], -as_array(norm.running_mean) * scale)]
    raise ValueError(f"sentence-transformers has no layer for a {type(module).__name__}; 'onnx' can hold it")
