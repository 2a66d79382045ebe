"""The losses of :mod:`finetuner.tuner.base.losses.batch`, for PyTorch."""

from typing import Any

from ...base.losses import batch as base
from ..blocks import distance_statistics, mined_masks, reduce_blocks
from ..functional import at_least_float32, hinge, reduce, row_distance, row_logsumexp, spread
from ..kernels import soft_precision, soft_triplets, triplets
from ..layers import Loss
from ..ops import (
    Tensor,
    at_least,
    cast,
    detached,
    no_autocast,
    ones_like,
    reduce_any,
    reduce_mean,
    reduce_sum,
    row_sums,
    softplus,
    where,
)
from ..relations import Masks, Relations

__all__ = [
    "LiftedStructureLoss",
    "MultiSimilarityLoss",
    "NTXentLoss",
    "SiameseLoss",
    "SupConLoss",
    "SurrogatePrecision",
    "TripletLoss",
    "TripletMarginLoss",
]


class BatchLoss(base.BatchLoss, Loss):
    def forward(
        self,
        embeddings: Tensor,
        labels: Tensor,
        references: Tensor | None = None,
        reference_labels: Tensor | None = None,
    ) -> Tensor:
        self.check(embeddings, labels, references, reference_labels)
        relations = Relations(labels, reference_labels)
        with no_autocast(embeddings):
            queries = at_least_float32(embeddings)
            references = queries if references is None else at_least_float32(references)
            if self.need_logs:
                self.logs = distance_statistics(queries, references, relations, self.distance)
            return self.compute(queries, references, relations)

    def compute(self, queries: Tensor, references: Tensor, relations: Relations) -> Tensor:
        per_row = self.reduction == "none"
        return self.reduce_terms(*reduce_blocks(self.terms, queries, references, relations, self.distance, per_row))

    def reduce_terms(self, sums: Tensor, count: Tensor, active: Tensor) -> Tensor:
        if self.need_logs:
            self.logs["active"] = reduce_sum(active) / at_least(reduce_sum(count), 1)
        return reduce(sums, count, active, self.reduction)


class TripletLoss(base.TripletLoss, BatchLoss):
    def forward(
        self,
        embeddings: Tensor,
        labels: Any = None,
        references: Tensor | None = None,
        reference_labels: Tensor | None = None,
    ) -> Tensor:
        rows = self.explicit_triplets(embeddings, labels, references, reference_labels)
        if rows is None:
            return super().forward(embeddings, labels, references, reference_labels)
        with no_autocast(embeddings):
            return self.compute_rows(*map(at_least_float32, rows))

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
        share = 1.0
        if relations.self_comparison:  # the masks contain each pair twice, once per direction
            pairs, share = pairs.symmetric(), 0.5
        per_row = self.reduction == "none"
        numbers = reduce_blocks(self.terms, queries, references, pairs, self.distance, per_row)
        return self.reduce_terms(*(share * number for number in numbers))

    def terms(self, distances: Tensor, positive: Tensor, negative: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        terms = where(positive, distances, where(negative, hinge(self.margin - distances), 0.0))
        count = cast(row_sums(positive | negative), terms.dtype)
        active = cast(row_sums(detached(terms) > 0), terms.dtype)
        return row_sums(terms), count, active


class NTXentLoss(base.NTXentLoss, BatchLoss):
    def terms(self, distances: Tensor, positive: Tensor, negative: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        logits = -distances / self.temperature  # cos / temperature, up to a constant
        terms = softplus(row_logsumexp(logits, negative) - logits)
        sums = row_sums(where(positive, terms, 0.0))
        count = cast(row_sums(positive), sums.dtype)
        return sums, count, count


class SupConLoss(base.SupConLoss, BatchLoss):
    def terms(self, distances: Tensor, positive: Tensor, negative: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        logits = -distances / self.temperature  # cos / temperature, up to a constant
        terms = row_logsumexp(logits, positive | negative) - logits
        count = cast(row_sums(positive), terms.dtype)
        means = row_sums(where(positive, terms, 0.0)) / at_least(count, 1)
        anchors = cast(count > 0, terms.dtype)
        return means, anchors, anchors


class MultiSimilarityLoss(base.MultiSimilarityLoss, BatchLoss):
    def terms(self, distances: Tensor, positive: Tensor, negative: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        similarity = 1 - self.base - distances  # cos - base
        positive_term = softplus(row_logsumexp(-self.alpha * similarity, positive)) / self.alpha
        negative_term = softplus(row_logsumexp(self.beta * similarity, negative)) / self.beta
        anchors = cast(reduce_any(positive | negative, axis=1), similarity.dtype)
        return (positive_term + negative_term)[:, 0] * anchors, anchors, anchors


class LiftedStructureLoss(base.LiftedStructureLoss, BatchLoss):
    def terms(self, distances: Tensor, positive: Tensor, negative: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        positive_term = row_logsumexp(distances, positive)
        negative_term = row_logsumexp(self.margin - distances, negative)
        anchors = cast(reduce_any(positive, axis=1) & reduce_any(negative, axis=1), distances.dtype)
        return hinge(positive_term + negative_term)[:, 0], anchors, anchors


class SurrogatePrecision(base.SurrogatePrecision, BatchLoss):
    def terms(self, distances: Tensor, positive: Tensor, negative: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        anchors = cast(reduce_any(positive, axis=1), distances.dtype)
        precision = soft_precision(distances, positive, negative, self.k, self.temperature1, self.temperature2)
        return anchors - precision, anchors, anchors


TripletMarginLoss = TripletLoss
