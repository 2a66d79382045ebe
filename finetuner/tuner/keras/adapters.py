"""The adapters of :mod:`finetuner.tuner.base.adapters`, for Keras."""

from typing import Any

import numpy as np
from keras import KerasTensor, Variable, backend, ops

from ..base import adapters as base
from .functional import at_least_float32
from .interop import PlainModel
from .models import call_model

__all__ = ["AdaptedModel", "Adapter", "LinearAdapter", "MLPAdapter"]


class Adapter(base.Adapter, PlainModel):
    def new_weight(self, name: str, values: np.ndarray) -> Variable:
        weight = self.add_weight(shape=values.shape, initializer="zeros", dtype="float32", name=name)
        weight.assign(values.astype(np.float32))
        self.built = True
        return weight

    def get_config(self) -> dict[str, Any]:
        """The arguments, and the model's name. Keras saves the weights beside."""
        return {**self.arguments(), "name": self.name}


class LinearAdapter(Adapter, base.LinearAdapter):
    def call(self, x: KerasTensor) -> KerasTensor:
        return self.compute(x, self.weight, self.bias)

    def compute(self, x: KerasTensor, weight: KerasTensor, bias: KerasTensor) -> KerasTensor:
        self.check(x.shape, backend.standardize_dtype(x.dtype))
        x = at_least_float32(x)
        return x + ops.matmul(x, ops.transpose(weight)) + bias


class MLPAdapter(Adapter, base.MLPAdapter):
    def call(self, x: KerasTensor) -> KerasTensor:
        return self.compute(x, self.weight1, self.bias1, self.weight2, self.bias2)

    def compute(
        self,
        x: KerasTensor,
        weight1: KerasTensor,
        bias1: KerasTensor,
        weight2: KerasTensor,
        bias2: KerasTensor,
    ) -> KerasTensor:
        self.check(x.shape, backend.standardize_dtype(x.dtype))
        x = at_least_float32(x)
        hidden = ops.relu(ops.matmul(x, ops.transpose(weight1)) + bias1)
        return x + ops.matmul(hidden, ops.transpose(weight2)) + bias2


class AdaptedModel(base.AdaptedModel, PlainModel):
    def build(self, input_shape: Any) -> None:
        """Nothing to do: the model and its adapter are built."""

    def call(self, base_inputs: Any, training: bool = False) -> KerasTensor:
        return self.adapter(call_model(self.base, base_inputs, training))
