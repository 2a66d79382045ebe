"""The framework's own losses in the form that tuners use, for Keras."""

from typing import Any

import keras
from keras import ops

from ..base.losses import native as base
from .functional import at_least_float32, masked_mean
from .interop import KerasLoss
from .layers import Loss
from .ops import Tensor

__all__ = ["NativeLoss"]


class NativeLoss(base.NativeLoss, Loss):
    names = (
        "BinaryCrossentropy",
        "CategoricalCrossentropy",
        "Huber",
        "LogCosh",
        "MeanAbsoluteError",
        "MeanSquaredError",
        "SparseCategoricalCrossentropy",
    )

    def __init__(self, loss: Any, need_logs: bool = False):
        super().__init__(loss, need_logs)
        if not self.is_native(loss):
            raise TypeError(f"loss must be one of keras.losses, got {type(loss).__name__}")

    @staticmethod
    def is_native(loss: object) -> bool:
        return isinstance(loss, keras.losses.Loss) and not isinstance(loss, KerasLoss)

    def call(self, outputs: Tensor, targets: Tensor, weights: Tensor | None = None) -> Tensor:
        self.check(outputs, targets, weights)
        outputs = at_least_float32(outputs)
        if len(targets.shape) == 1 and outputs.shape[1:] in ((), (1,)):
            # As a column: Keras' losses average over the last axis.
            outputs, targets = ops.reshape(outputs, (-1, 1)), ops.reshape(targets, (-1, 1))
        if len(outputs.shape) == len(targets.shape):
            targets = ops.cast(targets, outputs.dtype)
        if weights is None:
            return self.loss(targets, outputs)
        return masked_mean(self.loss.call(targets, outputs), weights)
