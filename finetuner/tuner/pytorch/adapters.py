"""The adapters of :mod:`finetuner.tuner.base.adapters`, for PyTorch."""

from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from ..base import adapters as base
from .functional import at_least_float32
from .models import call_model

__all__ = ["AdaptedModel", "Adapter", "LinearAdapter", "MLPAdapter"]


class Adapter(base.Adapter, nn.Module):
    def new_weight(self, name: str, values: np.ndarray) -> nn.Parameter:
        return nn.Parameter(torch.from_numpy(values.astype(np.float32)))


class LinearAdapter(Adapter, base.LinearAdapter):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.compute(x, self.weight, self.bias)

    def compute(self, x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
        self.check(x.shape, x.dtype)
        x = at_least_float32(x)
        return x + x @ weight.T + bias


class MLPAdapter(Adapter, base.MLPAdapter):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.compute(x, self.weight1, self.bias1, self.weight2, self.bias2)

    def compute(
        self,
        x: torch.Tensor,
        weight1: torch.Tensor,
        bias1: torch.Tensor,
        weight2: torch.Tensor,
        bias2: torch.Tensor,
    ) -> torch.Tensor:
        self.check(x.shape, x.dtype)
        x = at_least_float32(x)
        return x + F.relu(x @ weight1.T + bias1) @ weight2.T + bias2


class AdaptedModel(base.AdaptedModel, nn.Module):
    def forward(self, base_inputs: Any) -> torch.Tensor:
        embeddings: torch.Tensor = self.adapter(call_model(self.base, base_inputs))
        return embeddings
