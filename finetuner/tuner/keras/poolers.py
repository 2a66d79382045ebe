"""The poolers of :mod:`finetuner.tuner.base.poolers`, for Keras."""

import math
from typing import Any

from keras import KerasTensor, Variable, backend, initializers, ops

from .. import base
from ..base.poolers import MIN_P
from .interop import PlainLayer

__all__ = ["AveragePooling", "CLSPooling", "GeM", "MaxPooling", "Pooler"]


class Pooler(base.Pooler, PlainLayer):
    def call(self, x: KerasTensor, mask: KerasTensor | None = None) -> KerasTensor:
        self.check(x.shape, None if mask is None else mask.shape)
        items = x if len(x.shape) == 3 else to_channels_last(x)
        if 0 in items.shape:
            return ops.sum(items, axis=1)
        counts = ops.ones_like(items[:, :, 0]) if mask is None else mask
        full = items if backend.standardize_dtype(items.dtype) == "float64" else ops.cast(items, "float32")
        return ops.cast(self.compute(full, ops.cast(counts, "bool")[:, :, None]), x.dtype)

    def new_weight(self, name: str, value: float) -> Variable:
        return self.add_weight(shape=(), initializer=initializers.Constant(value), dtype="float32", name=name)

    def value_of(self, weight: Variable) -> float:
        return float(ops.convert_to_numpy(weight.value))

    def get_config(self) -> dict[str, Any]:
        """The current arguments, and the layer's name."""
        return {**self.arguments(), "name": self.name}


class GeM(base.GeM, Pooler):
    def compute(self, x: KerasTensor, mask: KerasTensor) -> KerasTensor:
        p = self.exponent(x.dtype)
        x = ops.where(x > self.eps, x, self.eps)
        # Relative to the largest value, powers neither overflow nor vanish for any p.
        largest = ops.stop_gradient(ops.max(ops.where(mask, x, 0.0), axis=1, keepdims=True))
        largest = ops.where(largest > 0, largest, 1.0)
        powers = ops.where(mask, (ops.where(mask, x, largest) / largest) ** p, 0.0)
        count = ops.sum(ops.cast(mask, x.dtype), axis=1)
        mean = ops.sum(powers, axis=1) / ops.maximum(count, 1)
        root = ops.where(count > 0, mean, 1.0) ** (1 / p)
        return ops.where(count > 0, largest[:, 0] * root, 0.0)

    def exponent(self, dtype: Any) -> KerasTensor | float:
        """The exponent. A trained p below the minimum is replaced by it, and keeps its gradient."""
        if isinstance(self.p, float):
            return self.p
        p = ops.cast(self.p, dtype)
        return ops.where(p > MIN_P, p, MIN_P + (p - ops.stop_gradient(p)))


class AveragePooling(base.AveragePooling, Pooler):
    def compute(self, x: KerasTensor, mask: KerasTensor) -> KerasTensor:
        count = ops.sum(ops.cast(mask, x.dtype), axis=1)
        return ops.sum(ops.where(mask, x, 0.0), axis=1) / ops.maximum(count, 1)


class MaxPooling(base.MaxPooling, Pooler):
    def compute(self, x: KerasTensor, mask: KerasTensor) -> KerasTensor:
        return ops.where(ops.any(mask, axis=1), ops.max(ops.where(mask, x, -float("inf")), axis=1), 0.0)


class CLSPooling(base.CLSPooling, Pooler):
    def compute(self, x: KerasTensor, mask: KerasTensor) -> KerasTensor:
        return ops.where(ops.any(mask, axis=1), x[:, 0], 0.0)


def to_channels_last(x: KerasTensor) -> KerasTensor:
    """Feature maps ``[N, ..., C]`` or ``[N, C, ...]``, by Keras' image data format, as ``[N, S, C]``."""
    if backend.image_data_format() == "channels_first":
        x = ops.moveaxis(x, 1, -1)
    if None in x.shape[1:-1]:  # a TensorFlow graph for maps of any size
        return ops.reshape(x, (ops.shape(x)[0], -1, x.shape[-1]))
    is_empty = any(isinstance(size, int) and size == 0 for size in x.shape)  # then -1 is ambiguous
    rows = x.shape[0] if is_empty else -1
    return ops.reshape(x, (rows, math.prod(x.shape[1:-1]), x.shape[-1]))
