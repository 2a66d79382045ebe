"""What all losses share, for PyTorch."""

from contextlib import AbstractContextManager

import numpy as np
import torch
from torch import nn

from ...base.losses import interface as base

__all__ = ["Loss", "WeightedLoss", "exact", "on_host"]


class Loss(base.Loss, nn.Module):
    pass


class WeightedLoss(base.WeightedLoss, Loss):
    def make_weights(self, arrays: dict[str, np.ndarray]) -> None:
        device = next((p.device for p in self.parameters()), torch.device("cpu"))
        for name, array in arrays.items():
            setattr(self, name, nn.Parameter(torch.tensor(array, dtype=torch.float32, device=device)))

    def weights_on_host(self) -> dict[str, np.ndarray]:
        return {name: p.detach().cpu().numpy().copy() for name, p in self.named_parameters()}


def exact(x: torch.Tensor) -> AbstractContextManager[None]:
    """A context without autocast."""
    return torch.autocast(x.device.type, enabled=False)


def on_host(labels: torch.Tensor) -> np.ndarray | None:
    """Labels as an array, if they can be had without waiting for a device or stopping a compiler; else None."""
    if labels.device.type != "cpu" or torch.compiler.is_compiling():
        return None
    return labels.detach().numpy()
