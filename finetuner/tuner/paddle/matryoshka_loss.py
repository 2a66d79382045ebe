"""A loss of nested embeddings, for PaddlePaddle."""

from ..base.losses import matryoshka as base
from .layers import Loss
from .ops import Tensor

__all__ = ["MatryoshkaLoss"]


class MatryoshkaLoss(base.MatryoshkaLoss, Loss):
    def forward(self, embeddings: Tensor, *targets: Tensor) -> Tensor:
        return self.add_up(embeddings, targets)
