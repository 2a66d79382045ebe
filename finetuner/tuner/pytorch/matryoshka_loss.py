"""A loss of nested embeddings, for PyTorch."""

import torch

from ..base.losses import matryoshka as base
from .layers import Loss
from .ops import Tensor

__all__ = ["MatryoshkaLoss"]


class MatryoshkaLoss(base.MatryoshkaLoss, Loss):
    def forward(self, embeddings: Tensor, *targets: Tensor) -> Tensor:
        if not hasattr(self.loss, "on_batch"):  # PyTorch's own losses need int64 classes
            targets = tuple(t.long() if t.dtype == torch.int32 else t for t in targets)
        return self.add_up(embeddings, targets)
