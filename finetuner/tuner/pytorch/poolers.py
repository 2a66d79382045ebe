"""The poolers of :mod:`finetuner.tuner.base.poolers`, for PyTorch."""

import torch
from torch import nn

from .. import base
from ..base.poolers import MIN_P

__all__ = ["AveragePooling", "CLSPooling", "GeM", "MaxPooling", "Pooler"]


class Pooler(base.Pooler, nn.Module):
    def forward(self, x: torch.Tensor, mask: torch.Tensor | None = None) -> torch.Tensor:
        self.check(x.shape, None if mask is None else mask.shape)
        items = x if x.ndim == 3 else x.flatten(2).transpose(1, 2)
        if 0 in items.shape:
            return items.sum(dim=1)
        counts = torch.ones_like(items[:, :, 0]) if mask is None else mask
        with torch.autocast(x.device.type, enabled=False):
            full = items if items.dtype == torch.float64 else items.float()
            return self.compute(full, counts.bool()[:, :, None]).to(x.dtype)

    def new_weight(self, name: str, value: float) -> nn.Parameter:
        return nn.Parameter(torch.tensor(value, dtype=torch.float32))

    def value_of(self, weight: torch.Tensor) -> float:
        return float(weight.item())


class GeM(base.GeM, Pooler):
    def compute(self, x: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        p = self.exponent(x.dtype)
        x = torch.where(x > self.eps, x, self.eps)
        # Relative to the largest value, powers neither overflow nor vanish for any p.
        largest = torch.where(mask, x, 0.0).amax(dim=1, keepdim=True).detach()
        largest = torch.where(largest > 0, largest, 1.0)
        powers = torch.where(mask, (torch.where(mask, x, largest) / largest) ** p, 0.0)
        count = mask.sum(dim=1).to(x.dtype)
        mean = powers.sum(dim=1) / count.clamp(min=1)
        root = torch.where(count > 0, mean, 1.0) ** (1 / p)
        return torch.where(count > 0, largest[:, 0] * root, 0.0)

    def exponent(self, dtype: torch.dtype) -> torch.Tensor | float:
        """The exponent. A trained p below the minimum is replaced by it, and keeps its gradient."""
        if isinstance(self.p, float):
            return self.p
        p = self.p.to(dtype)
        return torch.where(p > MIN_P, p, MIN_P + (p - p.detach()))


class AveragePooling(base.AveragePooling, Pooler):
    def compute(self, x: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        count = mask.sum(dim=1).to(x.dtype)
        return torch.where(mask, x, 0.0).sum(dim=1) / count.clamp(min=1)


class MaxPooling(base.MaxPooling, Pooler):
    def compute(self, x: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        return torch.where(mask.any(dim=1), torch.where(mask, x, -torch.inf).amax(dim=1), 0.0)


class CLSPooling(base.CLSPooling, Pooler):
    def compute(self, x: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        return torch.where(mask.any(dim=1), x[:, 0], 0.0)
