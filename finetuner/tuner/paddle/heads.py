"""The heads of :mod:`finetuner.tuner.base.heads`, for PaddlePaddle."""

import numpy as np
import paddle
from paddle import nn
from paddle.nn import functional as F

from ..base import heads as base
from ..base.heads import EPSILON, MOMENTUM
from .functional import at_least_float32

__all__ = ["BNNeckHead", "Head", "LinearHead", "MLPHead"]


class Head(base.Head, nn.Layer):
    def forward(self, x: paddle.Tensor) -> paddle.Tensor:
        self.check(x.shape)
        return self.compute(at_least_float32(x.flatten(1)))

    def new_weight(self, name: str, values: np.ndarray) -> paddle.Tensor:
        return self.create_parameter(
            list(values.shape), dtype="float32", default_initializer=nn.initializer.Assign(values)
        )


class LinearHead(base.LinearHead, Head):
    def compute(self, x: paddle.Tensor) -> paddle.Tensor:
        return F.linear(x, self.weight.T, self.bias)


class BNNeckHead(base.BNNeckHead, Head):
    def compute(self, x: paddle.Tensor) -> paddle.Tensor:
        return self.norm(F.linear(x, self.weight.T))

    def new_norm(self) -> nn.Layer:
        return nn.BatchNorm1D(self.out_features, epsilon=EPSILON, momentum=1 - MOMENTUM, bias_attr=False)


class MLPHead(base.MLPHead, Head):
    def compute(self, x: paddle.Tensor) -> paddle.Tensor:
        hidden = F.relu(F.linear(x, self.hidden_weight.T, self.hidden_bias))
        return F.linear(hidden, self.weight.T, self.bias)


def with_head(model: nn.Layer, head: Head) -> nn.Layer:
    """A model followed by a head."""
    return nn.Sequential(("backbone", model), ("head", head))
