"""The heads of :mod:`finetuner.tuner.base.heads`, for Keras."""

from typing import Any

import keras
import numpy as np
from keras import KerasTensor, Variable, layers, ops

from ..base import heads as base
from ..base.heads import EPSILON, MOMENTUM
from .functional import at_least_float32
from .interop import PlainLayer

__all__ = ["BNNeckHead", "Head", "LinearHead", "MLPHead"]


class Head(base.Head, PlainLayer):
    def call(self, x: KerasTensor) -> KerasTensor:
        self.check(x.shape)
        return self.compute(at_least_float32(ops.reshape(x, (-1, self.in_features))))

    def new_weight(self, name: str, values: np.ndarray) -> Variable:
        weight = self.add_weight(shape=values.shape, initializer="zeros", dtype="float32", name=name)
        weight.assign(values)
        return weight

    def build(self, x_shape: Any) -> None:
        """Nothing to do: the weights are made with the layer."""

    def get_config(self) -> dict[str, Any]:
        """The arguments, and the layer's name."""
        return {**self.arguments(), "name": self.name}


class LinearHead(base.LinearHead, Head):
    def compute(self, x: KerasTensor) -> KerasTensor:
        return x @ ops.transpose(self.weight) + self.bias


class BNNeckHead(base.BNNeckHead, Head):
    def compute(self, x: KerasTensor) -> KerasTensor:
        return self.norm(x @ ops.transpose(self.weight))

    def new_norm(self) -> layers.Layer:
        norm = layers.BatchNormalization(momentum=1 - MOMENTUM, epsilon=EPSILON, center=False)
        norm.build((None, self.out_features))
        return norm


class MLPHead(base.MLPHead, Head):
    def compute(self, x: KerasTensor) -> KerasTensor:
        hidden = ops.relu(x @ ops.transpose(self.hidden_weight) + self.hidden_bias)
        return hidden @ ops.transpose(self.weight) + self.bias


def with_head(model: keras.Model, head: Head) -> keras.Model:
    """A model followed by a head."""
    return keras.Model(model.inputs, head(model.outputs[0]))
