"""The adapters of :mod:`finetuner.tuner.base.adapters`, for PaddlePaddle."""

from typing import Any

import numpy as np
import paddle
from paddle import nn
from paddle.nn import functional as F

from ..base import adapters as base
from .functional import at_least_float32
from .models import call_model

__all__ = ["AdaptedModel", "Adapter", "LinearAdapter", "MLPAdapter"]


class Adapter(base.Adapter, nn.Layer):
    def new_weight(self, name: str, values: np.ndarray) -> paddle.Tensor:
        return self.create_parameter(
            list(values.shape),
            dtype="float32",
            default_initializer=nn.initializer.Assign(values.astype(np.float32)),
        )


class LinearAdapter(Adapter, base.LinearAdapter):
    def forward(self, x: paddle.Tensor) -> paddle.Tensor:
        return self.compute(x, self.weight, self.bias)

    def compute(self, x: paddle.Tensor, weight: paddle.Tensor, bias: paddle.Tensor) -> paddle.Tensor:
        self.check(x.shape, x.dtype)
        x = at_least_float32(x)
        return x + x @ weight.T + bias


class MLPAdapter(Adapter, base.MLPAdapter):
    def forward(self, x: paddle.Tensor) -> paddle.Tensor:
        return self.compute(x, self.weight1, self.bias1, self.weight2, self.bias2)

    def compute(
        self,
        x: paddle.Tensor,
        weight1: paddle.Tensor,
        bias1: paddle.Tensor,
        weight2: paddle.Tensor,
        bias2: paddle.Tensor,
    ) -> paddle.Tensor:
        self.check(x.shape, x.dtype)
        x = at_least_float32(x)
        return x + F.relu(x @ weight1.T + bias1) @ weight2.T + bias2


class AdaptedModel(base.AdaptedModel, nn.Layer):
    def forward(self, base_inputs: Any) -> paddle.Tensor:
        embeddings: paddle.Tensor = self.adapter(call_model(self.base, base_inputs))
        return embeddings
