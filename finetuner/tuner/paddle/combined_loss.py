"""A weighted sum of losses, for PaddlePaddle."""

from ..base.losses import combined as base
from .layers import Loss
from .ops import Tensor

__all__ = ["CombinedLoss"]


class CombinedLoss(base.CombinedLoss, Loss):
    def forward(self, embeddings: Tensor, *targets: Tensor) -> Tensor:
        return self.combine(embeddings, targets)
