"""The miners of :mod:`finetuner.tuner.base.miner`, for Keras."""

import math
from collections.abc import Callable

from .. import base
from ..base.miner import EasyHard, tuple_indices
from .functional import farthest, nearest
from .layers import Component
from .ops import Tensor, detached, from_numpy, has_no_rows, reduce_any, reduce_sum, to_numpy, where
from .relations import Relations

__all__ = ["Miner", "SiameseEasyHardMiner", "TripletEasyHardMiner"]

Selection = Callable[[Tensor, Tensor], Tensor]


class Miner(base.Miner, Component):
    def select(
        self,
        labels: Tensor,
        distances: Tensor,
        reference_labels: Tensor | None = None,
        self_offset: int | None = None,
    ) -> tuple[Tensor, Tensor]:
        self.check(labels, distances, reference_labels, self_offset)
        relations = Relations(labels, reference_labels, self_offset=self_offset)
        positive, negative = relations.rows()
        if has_no_rows(relations.labels, relations.reference_labels):
            return positive, negative
        return self.refine(detached(distances), positive, negative)

    def mine(
        self,
        labels: Tensor,
        distances: Tensor,
        reference_labels: Tensor | None = None,
        self_offset: int | None = None,
    ) -> tuple[Tensor, ...]:
        masks = self.select(labels, distances, reference_labels, self_offset)
        positive, negative = map(to_numpy, masks)
        found = tuple_indices(self.tuples, positive, negative, 0 if reference_labels is None else self_offset)
        return tuple(from_numpy(indices, distances) for indices in found)


class EasyHardMiner(EasyHard, Miner):
    def refine(self, distances: Tensor, positive: Tensor, negative: Tensor) -> tuple[Tensor, Tensor]:
        margin = self.margin or math.inf
        if self.pos_strategy == "semihard":
            negative = pick(self.neg_strategy, distances, negative, hard=nearest)
            limit = selected_distance(distances, negative)
            in_range = (distances < limit) & (distances > limit - margin)
            has_negative = reduce_any(negative, axis=1, keepdims=True)
            return farthest(distances, positive & in_range & has_negative), negative
        positive = pick(self.pos_strategy, distances, positive, hard=farthest)
        if self.neg_strategy == "semihard":
            limit = selected_distance(distances, positive)
            in_range = (distances > limit) & (distances < limit + margin)
            has_positive = reduce_any(positive, axis=1, keepdims=True)
            return positive, nearest(distances, negative & in_range & has_positive)
        return positive, pick(self.neg_strategy, distances, negative, hard=nearest)


class TripletEasyHardMiner(base.TripletEasyHardMiner, EasyHardMiner):
    def refine(self, distances: Tensor, positive: Tensor, negative: Tensor) -> tuple[Tensor, Tensor]:
        positive, negative = super().refine(distances, positive, negative)
        both = reduce_any(positive, axis=1, keepdims=True) & reduce_any(negative, axis=1, keepdims=True)
        return positive & both, negative & both


class SiameseEasyHardMiner(base.SiameseEasyHardMiner, EasyHardMiner):
    pass


def pick(strategy: str, distances: Tensor, mask: Tensor, hard: Selection) -> Tensor:
    """Mask of the items that a strategy selects from ``mask``. ``hard`` selects the hardest item."""
    if strategy == "all":
        return mask
    easy = nearest if hard is farthest else farthest
    return (hard if strategy == "hard" else easy)(distances, mask)


def selected_distance(distances: Tensor, mask: Tensor) -> Tensor:
    """The distance of the one selected item of each row, 0 without one: ``[N, M]`` to ``[N, 1]``."""
    return reduce_sum(where(mask, distances, 0.0), axis=1, keepdims=True)
