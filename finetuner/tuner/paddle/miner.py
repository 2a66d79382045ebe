"""The miners of :mod:`finetuner.tuner.base.miner`, for PaddlePaddle."""

from collections.abc import Callable

import paddle

from .. import base
from ..base.miner import EasyHard, tuple_indices
from .functional import Relations, farthest, nearest, where

__all__ = ["Miner", "SiameseEasyHardMiner", "TripletEasyHardMiner"]

Selection = Callable[[paddle.Tensor, paddle.Tensor], paddle.Tensor]


class Miner(base.Miner):
    @paddle.no_grad()
    def select(
        self, labels: paddle.Tensor, distances: paddle.Tensor, reference_labels: paddle.Tensor | None = None
    ) -> tuple[paddle.Tensor, paddle.Tensor]:
        return self.refine(distances, *Relations(labels, reference_labels).rows())

    def mine(
        self, labels: paddle.Tensor, distances: paddle.Tensor, reference_labels: paddle.Tensor | None = None
    ) -> tuple[paddle.Tensor, ...]:
        positive, negative = (mask.numpy() for mask in self.select(labels, distances, reference_labels))
        found = tuple_indices(self.tuples, positive, negative, within=reference_labels is None)
        return tuple(paddle.to_tensor(indices, place=distances.place) for indices in found)


class EasyHardMiner(EasyHard, Miner):
    def refine(
        self, distances: paddle.Tensor, positive: paddle.Tensor, negative: paddle.Tensor
    ) -> tuple[paddle.Tensor, paddle.Tensor]:
        if self.pos_strategy == "semihard":
            negative = pick(self.neg_strategy, distances, negative, hard=nearest)
            limit = distance_of(distances, negative)
            inside = (distances < limit) & (distances > limit - (self.margin or paddle.inf))
            return farthest(distances, positive & inside & negative.any(axis=1, keepdim=True)), negative
        positive = pick(self.pos_strategy, distances, positive, hard=farthest)
        if self.neg_strategy == "semihard":
            limit = distance_of(distances, positive)
            outside = (distances > limit) & (distances < limit + (self.margin or paddle.inf))
            return positive, nearest(distances, negative & outside & positive.any(axis=1, keepdim=True))
        return positive, pick(self.neg_strategy, distances, negative, hard=nearest)


class TripletEasyHardMiner(base.TripletEasyHardMiner, EasyHardMiner):
    def refine(
        self, distances: paddle.Tensor, positive: paddle.Tensor, negative: paddle.Tensor
    ) -> tuple[paddle.Tensor, paddle.Tensor]:
        positive, negative = super().refine(distances, positive, negative)
        both = positive.any(axis=1, keepdim=True) & negative.any(axis=1, keepdim=True)
        return positive & both, negative & both


class SiameseEasyHardMiner(base.SiameseEasyHardMiner, EasyHardMiner):
    pass


def pick(strategy: str, distances: paddle.Tensor, mask: paddle.Tensor, hard: Selection) -> paddle.Tensor:
    """Mask of the items that ``strategy`` picks of ``mask``; ``hard`` is what picks the hardest."""
    if strategy == "all":
        return mask
    easy = nearest if hard is farthest else farthest
    return (hard if strategy == "hard" else easy)(distances, mask)


def distance_of(distances: paddle.Tensor, mask: paddle.Tensor) -> paddle.Tensor:
    """The distance of each row's one selected item, 0 if it has none: ``[N, M]`` to ``[N, 1]``."""
    return where(mask, distances, 0.0).sum(axis=1, keepdim=True)
