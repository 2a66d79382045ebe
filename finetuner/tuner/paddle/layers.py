"""The PaddlePaddle classes that losses and miners are based on."""

from typing import Any

import numpy as np
import paddle
from paddle import nn

from ..base.losses import loss as base

__all__ = ["Component", "Loss", "WeightedLoss"]

UNCOMPILED = ("check", "explicit_triplets")  # they look at shapes in plain Python, which to_static must not translate


class Component:
    """Base class of miners, which are not layers."""


class Loss(base.Loss, nn.Layer):
    def __init_subclass__(cls, **kwargs: Any):
        super().__init_subclass__(**kwargs)
        for name in UNCOMPILED:
            if hasattr(cls, name):
                setattr(cls, name, paddle.jit.not_to_static(getattr(cls, name)))

    @staticmethod
    def is_tensor(x: Any) -> bool:
        return hasattr(x, "shape") and hasattr(x, "stop_gradient")


class WeightedLoss(base.WeightedLoss, Loss):
    def make_weights(self, arrays: dict[str, np.ndarray]) -> None:
        place = next((p.place for p in self.parameters()), None)  # None is Paddle's default
        for name, array in arrays.items():
            setattr(self, name, nn.Parameter(paddle.to_tensor(array, dtype="float32", place=place)))

    def random_uniform(self, like: paddle.Tensor) -> paddle.Tensor:
        return paddle.rand(like.shape, dtype="float32")

    def remove_weights(self) -> None:
        for name in self.weights_on_host():
            setattr(self, name, None)
        self.in_features = self.num_classes = None

    def weights_on_host(self) -> dict[str, np.ndarray]:
        return {name: p.numpy().copy() for name, p in self.named_parameters()}
