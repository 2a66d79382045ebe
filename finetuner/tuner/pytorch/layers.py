"""The PyTorch classes that losses and miners are based on."""

from typing import Any

import numpy as np
import torch
from torch import nn

from ..base.losses import loss as base

__all__ = ["Component", "Loss", "WeightedLoss"]


class Component:
    """Base class of miners, which are not modules."""


class Loss(base.Loss, nn.Module):
    @staticmethod
    def is_tensor(x: Any) -> bool:
        return isinstance(x, torch.Tensor)


class WeightedLoss(base.WeightedLoss, Loss):
    def make_weights(self, arrays: dict[str, np.ndarray]) -> None:
        device = next((p.device for p in self.parameters()), torch.device("cpu"))
        for name, array in arrays.items():
            setattr(self, name, nn.Parameter(torch.tensor(array, dtype=torch.float32, device=device)))

    def random_uniform(self, like: torch.Tensor) -> torch.Tensor:
        return torch.rand(like.shape, dtype=torch.float32, device=like.device)

    def remove_weights(self) -> None:
        for name in self.weights_on_host():
            setattr(self, name, None)
        self.in_features = self.num_classes = None

    def weights_on_host(self) -> dict[str, np.ndarray]:
        return {name: p.detach().cpu().numpy().copy() for name, p in self.named_parameters()}
