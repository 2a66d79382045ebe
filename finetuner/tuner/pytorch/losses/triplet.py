"""The losses of :mod:`finetuner.tuner.base.losses.triplet`, for PyTorch."""

from typing import Any

from ...base.losses import triplet as base
from ..blocks import mined_masks, reduce_blocks
from ..functional import common_float, hinge, reduce, row_distance, spread
from ..kernels import soft_triplets, triplets
from ..ops import (
    Tensor,
    cast,
    detached,
    no_autocast,
    ones_like,
    reduce_mean,
    row_slice,
    row_sums,
    softplus,
    where,
)
from ..relations import Masks, Relations
from .batch import BatchLoss

__all__ = ["SiameseLoss", "TripletLoss", "TripletMarginLoss"]


class TripletLoss(base.TripletLoss, BatchLoss):
    def forward(
        self,
        embeddings: Tensor,
        labels: Any = None,
        references: Tensor | None = None,
        reference_labels: Tensor | None = None,
        self_offset: int | None = None,
    ) -> Tensor:
        rows = self.explicit_triplets(embeddings, labels, references, reference_labels)
        if rows is None:
            return super().forward(embeddings, labels, references, reference_labels, self_offset)
        with no_autocast(embeddings):
            anchor, positive, negative = common_float(*rows)
            return self.compute_rows(anchor, positive, negative)

    def compute_rows(self, anchor: Tensor, positive: Tensor, negative: Tensor) -> Tensor:
        positive_distances = row_distance(anchor, positive, self.distance)
        negative_distances = row_distance(anchor, negative, self.distance)
        gap = positive_distances - negative_distances
        terms = softplus(gap) if self.margin is None else hinge(gap + self.margin)
        active = cast(detached(terms) > 0, terms.dtype)
        if self.need_logs:
            self.logs["active"] = reduce_mean(active)
            self.logs["positive_distance"] = reduce_mean(detached(positive_distances))
            self.logs["negative_distance"] = reduce_mean(detached(negative_distances))
            self.logs["spread"] = spread(detached(anchor))
        return reduce(terms, ones_like(terms), active, self.reduction)

    def terms(self, distances: Tensor, positive: Tensor, negative: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        if self.miner is not None:
            positive, negative = self.miner.refine(detached(distances), positive, negative)
        if self.margin is None:
            return soft_triplets(distances, positive, negative)
        return triplets(distances, positive, negative, self.margin)


class SiameseLoss(base.SiameseLoss, BatchLoss):
    def compute(self, queries: Tensor, references: Tensor, relations: Relations) -> Tensor:
        pairs: Masks | Relations = relations
        if self.miner is not None:
            pairs = mined_masks(self.miner, queries, references, relations, self.distance)
        start, count = relations.self_offset, queries.shape[0]
        if start is None:
            return self.reduce_terms(*self.sums(queries, references, pairs))
        if relations.self_comparison:
            return self.reduce_terms(*(number / 2 for number in self.sums(queries, references, pairs.symmetric())))
        # The masks contain each pair of the batch twice, once per direction, and each pair with another row once.
        own, others = pairs.split(start, count)
        inside = self.sums(queries, row_slice(references, start, count), own.symmetric())
        outside = self.sums(queries, references, others)
        return self.reduce_terms(*(a / 2 + b for a, b in zip(inside, outside, strict=True)))

    def sums(self, queries: Tensor, references: Tensor, pairs: Masks | Relations) -> tuple[Tensor, ...]:
        """The terms of all pairs, summed or per row."""
        per_row = self.reduction == "none"
        return reduce_blocks(self.terms, queries, references, pairs, self.distance, per_row)

    def terms(self, distances: Tensor, positive: Tensor, negative: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        terms = where(positive, distances, where(negative, hinge(self.margin - distances), 0.0))
        count = cast(row_sums(positive | negative), terms.dtype)
        active = cast(row_sums(detached(terms) > 0), terms.dtype)
        return row_sums(terms), count, active


TripletMarginLoss = TripletLoss
