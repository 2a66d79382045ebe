"""The miners of :mod:`finetuner.tuner.base.miner`, for PyTorch."""

from collections.abc import Callable

import torch

from .. import base
from ..base.miner import EasyHard, tuple_indices
from .functional import Relations, farthest, nearest

__all__ = ["Miner", "SiameseEasyHardMiner", "TripletEasyHardMiner"]

Selection = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]


class Miner(base.Miner):
    @torch.no_grad()
    def select(
        self, labels: torch.Tensor, distances: torch.Tensor, reference_labels: torch.Tensor | None = None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        return self.refine(distances, *Relations(labels, reference_labels).rows())

    def mine(
        self, labels: torch.Tensor, distances: torch.Tensor, reference_labels: torch.Tensor | None = None
    ) -> tuple[torch.Tensor, ...]:
        positive, negative = (mask.cpu().numpy() for mask in self.select(labels, distances, reference_labels))
        found = tuple_indices(self.tuples, positive, negative, within=reference_labels is None)
        return tuple(torch.from_numpy(indices).to(distances.device) for indices in found)


class EasyHardMiner(EasyHard, Miner):
    def refine(
        self, distances: torch.Tensor, positive: torch.Tensor, negative: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        if self.pos_strategy == "semihard":
            negative = pick(self.neg_strategy, distances, negative, hard=nearest)
            limit = distance_of(distances, negative)
            inside = (distances < limit) & (distances > limit - (self.margin or torch.inf))
            return farthest(distances, positive & inside & negative.any(dim=1, keepdim=True)), negative
        positive = pick(self.pos_strategy, distances, positive, hard=farthest)
        if self.neg_strategy == "semihard":
            limit = distance_of(distances, positive)
            outside = (distances > limit) & (distances < limit + (self.margin or torch.inf))
            return positive, nearest(distances, negative & outside & positive.any(dim=1, keepdim=True))
        return positive, pick(self.neg_strategy, distances, negative, hard=nearest)


class TripletEasyHardMiner(base.TripletEasyHardMiner, EasyHardMiner):
    def refine(
        self, distances: torch.Tensor, positive: torch.Tensor, negative: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        positive, negative = super().refine(distances, positive, negative)
        both = positive.any(dim=1, keepdim=True) & negative.any(dim=1, keepdim=True)
        return positive & both, negative & both


class SiameseEasyHardMiner(base.SiameseEasyHardMiner, EasyHardMiner):
    pass


def pick(strategy: str, distances: torch.Tensor, mask: torch.Tensor, hard: Selection) -> torch.Tensor:
    """Mask of the items that ``strategy`` picks of ``mask``; ``hard`` is what picks the hardest."""
    if strategy == "all":
        return mask
    easy = nearest if hard is farthest else farthest
    return (hard if strategy == "hard" else easy)(distances, mask)


def distance_of(distances: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """The distance of each row's one selected item, 0 if it has none: ``[N, M]`` to ``[N, 1]``."""
    return torch.where(mask, distances, 0.0).sum(dim=1, keepdim=True)
