"""The heads of :mod:`finetuner.tuner.base.heads`, for PyTorch."""

from collections import OrderedDict

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from ..base import heads as base
from ..base.heads import EPSILON, MOMENTUM
from .functional import at_least_float32

__all__ = ["BNNeckHead", "Head", "LinearHead", "MLPHead"]


class Head(base.Head, nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.check(x.shape)
        return self.compute(at_least_float32(x.flatten(1)))

    def new_weight(self, name: str, values: np.ndarray) -> nn.Parameter:
        return nn.Parameter(torch.from_numpy(values))


class LinearHead(base.LinearHead, Head):
    def compute(self, x: torch.Tensor) -> torch.Tensor:
        return F.linear(x, self.weight, self.bias)


class BNNeckHead(base.BNNeckHead, Head):
    def compute(self, x: torch.Tensor) -> torch.Tensor:
        return self.norm(F.linear(x, self.weight))

    def new_norm(self) -> nn.Module:
        norm = nn.BatchNorm1d(self.out_features, eps=EPSILON, momentum=MOMENTUM)
        norm.bias.requires_grad_(False)
        return norm


class MLPHead(base.MLPHead, Head):
    def compute(self, x: torch.Tensor) -> torch.Tensor:
        hidden = F.relu(F.linear(x, self.hidden_weight, self.hidden_bias))
        return F.linear(hidden, self.weight, self.bias)


def with_head(model: nn.Module, head: Head) -> nn.Module:
    """A model followed by a head."""
    return nn.Sequential(OrderedDict(backbone=model, head=head))
