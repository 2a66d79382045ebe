"""The miners of :mod:`finetuner.tuner.base.miner`, for Keras."""

from collections.abc import Callable

from keras import KerasTensor, ops

from .. import base
from ..base.miner import EasyHard, tuple_indices
from .functional import Relations, farthest, nearest
from .interop import Configured

__all__ = ["Miner", "SiameseEasyHardMiner", "TripletEasyHardMiner"]

Selection = Callable[[KerasTensor, KerasTensor], KerasTensor]


class Miner(base.Miner, Configured):
    def select(
        self, labels: KerasTensor, distances: KerasTensor, reference_labels: KerasTensor | None = None
    ) -> tuple[KerasTensor, KerasTensor]:
        return self.refine(ops.stop_gradient(distances), *Relations(labels, reference_labels).rows())

    def mine(
        self, labels: KerasTensor, distances: KerasTensor, reference_labels: KerasTensor | None = None
    ) -> tuple[KerasTensor, ...]:
        masks = self.select(labels, distances, reference_labels)
        positive, negative = (ops.convert_to_numpy(mask) for mask in masks)
        found = tuple_indices(self.tuples, positive, negative, within=reference_labels is None)
        return tuple(ops.convert_to_tensor(indices) for indices in found)


class EasyHardMiner(EasyHard, Miner):
    def refine(
        self, distances: KerasTensor, positive: KerasTensor, negative: KerasTensor
    ) -> tuple[KerasTensor, KerasTensor]:
        if self.pos_strategy == "semihard":
            negative = pick(self.neg_strategy, distances, negative, hard=nearest)
            limit = distance_of(distances, negative)
            inside = (distances < limit) & (distances > limit - (self.margin or float("inf")))
            return farthest(distances, positive & inside & ops.any(negative, axis=1, keepdims=True)), negative
        positive = pick(self.pos_strategy, distances, positive, hard=farthest)
        if self.neg_strategy == "semihard":
            limit = distance_of(distances, positive)
            outside = (distances > limit) & (distances < limit + (self.margin or float("inf")))
            return positive, nearest(distances, negative & outside & ops.any(positive, axis=1, keepdims=True))
        return positive, pick(self.neg_strategy, distances, negative, hard=nearest)


class TripletEasyHardMiner(base.TripletEasyHardMiner, EasyHardMiner):
    def refine(
        self, distances: KerasTensor, positive: KerasTensor, negative: KerasTensor
    ) -> tuple[KerasTensor, KerasTensor]:
        positive, negative = super().refine(distances, positive, negative)
        both = ops.any(positive, axis=1, keepdims=True) & ops.any(negative, axis=1, keepdims=True)
        return positive & both, negative & both


class SiameseEasyHardMiner(base.SiameseEasyHardMiner, EasyHardMiner):
    pass


def pick(strategy: str, distances: KerasTensor, mask: KerasTensor, hard: Selection) -> KerasTensor:
    """Mask of the items that ``strategy`` picks of ``mask``; ``hard`` is what picks the hardest."""
    if strategy == "all":
        return mask
    easy = nearest if hard is farthest else farthest
    return (hard if strategy == "hard" else easy)(distances, mask)


def distance_of(distances: KerasTensor, mask: KerasTensor) -> KerasTensor:
    """The distance of each row's one selected item, 0 if it has none: ``[N, M]`` to ``[N, 1]``."""
    return ops.sum(ops.where(mask, distances, 0.0), axis=1, keepdims=True)
