"""What all losses share, for PaddlePaddle."""

from contextlib import AbstractContextManager

import numpy as np
import paddle
from paddle import nn

from ...base.losses import interface as base

__all__ = ["Loss", "WeightedLoss", "exact", "on_host"]


class Loss(base.Loss, nn.Layer):
    pass


class WeightedLoss(base.WeightedLoss, Loss):
    def make_weights(self, arrays: dict[str, np.ndarray]) -> None:
        place = next((p.place for p in self.parameters()), None)  # None is where Paddle puts all that is new
        for name, array in arrays.items():
            setattr(self, name, nn.Parameter(paddle.to_tensor(array, dtype="float32", place=place)))

    def weights_on_host(self) -> dict[str, np.ndarray]:
        return {name: p.numpy().copy() for name, p in self.named_parameters()}


def exact(x: paddle.Tensor) -> AbstractContextManager[None]:
    """A context without autocast."""
    return paddle.amp.auto_cast(enable=False)


def on_host(labels: paddle.Tensor) -> np.ndarray | None:
    """Labels as an array, if they can be had without waiting for a device or stopping a compiler; else None."""
    if not paddle.in_dynamic_mode() or not labels.place.is_cpu_place():
        return None
    return labels.numpy()
