"""The losses of :mod:`finetuner.tuner.base.losses.triplet`, for PaddlePaddle."""

from typing import Any

from ...base.losses import triplet as base
from ...base.losses.reductions import ANY, NEGATIVE, HingeSum
from ..blocks import mined_masks, reduce_rows
from ..comparison import Comparison
from ..functional import common_float, hinge, reduce, row_distance, spread
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

    def terms(self, rows: Comparison) -> tuple[Tensor, Tensor, Tensor]:
        return rows.mined(self.miner).triplets(self.margin)


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
        return reduce_rows(self.terms, queries, references, pairs, self.distance, self.reduction == "none")

    def terms(self, rows: Comparison) -> tuple[Tensor, Tensor, Tensor]:
        ((negatives, active),) = rows.reduce(HingeSum(NEGATIVE, self.margin))
        distances, valid = rows.positives()
        positives = where(valid, distances, 0.0)
        active = active + cast(row_sums(detached(positives) > 0), active.dtype)
        return row_sums(positives) + negatives, rows.count(ANY), active


TripletMarginLoss = TripletLoss
