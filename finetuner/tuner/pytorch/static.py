"""The static embeddings of :mod:`finetuner.tuner.base.static`, for PyTorch."""

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from ..base import static as base
from .functional import at_least_float32, l2_normalize

__all__ = ["StaticEmbedding"]


class StaticEmbedding(base.StaticEmbedding, nn.Module):
    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor | None = None) -> torch.Tensor:
        return self.compute(self.table, input_ids, attention_mask)

    def compute(
        self, table: torch.Tensor, input_ids: torch.Tensor, attention_mask: torch.Tensor | None
    ) -> torch.Tensor:
        self.check(input_ids.shape, input_ids.dtype, None if attention_mask is None else attention_mask.shape)
        mask = torch.ones_like(input_ids).bool() if attention_mask is None else attention_mask.bool()
        rows = at_least_float32(F.embedding(torch.where(mask, input_ids, 0), table))
        count = mask.sum(dim=1, keepdim=True).to(rows.dtype)
        mean = torch.where(mask[:, :, None], rows, 0.0).sum(dim=1) / count.clamp(min=1)
        return l2_normalize(mean) if self.normalize else mean

    def new_table(self, values: np.ndarray) -> nn.Parameter:
        return nn.Parameter(torch.from_numpy(values))
