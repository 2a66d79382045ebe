"""The losses of :mod:`finetuner.tuner.base.losses.batch`, for Keras."""

from keras import KerasTensor, ops

from ...base.losses import batch as base
from ..blocks import in_blocks, of_distances, selected
from ..functional import (
    Masks,
    Relations,
    at_least_float32,
    hinge,
    reduce,
    row_distance,
    row_logsumexp,
    spread,
)
from ..kernels import soft_precision, soft_triplets, triplets
from .interface import Loss

__all__ = [
    "BatchLoss",
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
    def call(
        self,
        embeddings: KerasTensor,
        labels: KerasTensor,
        references: KerasTensor | None = None,
        reference_labels: KerasTensor | None = None,
    ) -> KerasTensor:
        self.check(embeddings, labels, references, reference_labels)
        relations = Relations(labels, reference_labels)
        queries = at_least_float32(embeddings)
        references = queries if references is None else at_least_float32(references)
        if self.need_logs:
            self.noted = of_distances(queries, references, relations, self.distance)
        return self.compute(queries, references, relations)

    def compute(self, queries: KerasTensor, references: KerasTensor, relations: Relations) -> KerasTensor:
        each = self.reduction == "none"
        return self.reduced(*in_blocks(self.terms, queries, references, relations, self.distance, each))

    def reduced(self, sums: KerasTensor, count: KerasTensor, active: KerasTensor) -> KerasTensor:
        if self.need_logs:
            self.noted["active"] = ops.sum(active) / ops.maximum(ops.sum(count), 1)
        return reduce(sums, count, active, self.reduction)


class TripletLoss(base.TripletLoss, BatchLoss):
    def call(
        self,
        embeddings: KerasTensor,
        labels: KerasTensor | None = None,
        references: KerasTensor | None = None,
        reference_labels: KerasTensor | None = None,
    ) -> KerasTensor:
        rows = self.explicit(embeddings, labels, references, reference_labels)
        if rows is None:
            return super().call(embeddings, labels, references, reference_labels)
        return self.compute_rows(*map(at_least_float32, rows))

    def compute_rows(self, anchor: KerasTensor, positive: KerasTensor, negative: KerasTensor) -> KerasTensor:
        near, far = row_distance(anchor, positive, self.distance), row_distance(anchor, negative, self.distance)
        terms = ops.softplus(near - far) if self.margin is None else hinge(near - far + self.margin)
        active = ops.cast(ops.stop_gradient(terms) > 0, terms.dtype)
        if self.need_logs:
            self.noted["active"] = ops.mean(active)
            self.noted["positive_distance"] = ops.mean(ops.stop_gradient(near))
            self.noted["negative_distance"] = ops.mean(ops.stop_gradient(far))
            self.noted["spread"] = spread(ops.stop_gradient(anchor))
        return reduce(terms, ops.ones_like(terms), active, self.reduction)

    def terms(
        self, distances: KerasTensor, positive: KerasTensor, negative: KerasTensor
    ) -> tuple[KerasTensor, KerasTensor, KerasTensor]:
        if self.miner is not None:
            positive, negative = self.miner.refine(ops.stop_gradient(distances), positive, negative)
        if self.margin is None:
            return soft_triplets(distances, positive, negative)
        return triplets(distances, positive, negative, self.margin)


class SiameseLoss(base.SiameseLoss, BatchLoss):
    def compute(self, queries: KerasTensor, references: KerasTensor, relations: Relations) -> KerasTensor:
        pairs: Masks | Relations = relations
        if self.miner is not None:
            pairs = selected(self.miner, queries, references, relations, self.distance)
        share = 1.0
        if relations.within:  # each pair stands in the masks twice, once from either end
            pairs, share = pairs.either_way(), 0.5
        each = self.reduction == "none"
        found = in_blocks(self.terms, queries, references, pairs, self.distance, each)
        return self.reduced(*(share * number for number in found))

    def terms(
        self, distances: KerasTensor, positive: KerasTensor, negative: KerasTensor
    ) -> tuple[KerasTensor, KerasTensor, KerasTensor]:
        apart = hinge(self.margin - distances)
        terms = ops.where(positive, distances, ops.where(negative, apart, 0.0))
        count = ops.sum(ops.cast(positive | negative, terms.dtype), axis=1)
        active = ops.sum(ops.cast(ops.stop_gradient(terms) > 0, terms.dtype), axis=1)
        return ops.sum(terms, axis=1), count, active


class NTXentLoss(base.NTXentLoss, BatchLoss):
    def terms(
        self, distances: KerasTensor, positive: KerasTensor, negative: KerasTensor
    ) -> tuple[KerasTensor, KerasTensor, KerasTensor]:
        logits = -distances / self.temperature  # cos, but for a constant
        terms = ops.softplus(row_logsumexp(logits, negative) - logits)
        sums = ops.sum(ops.where(positive, terms, 0.0), axis=1)
        count = ops.sum(ops.cast(positive, sums.dtype), axis=1)
        return sums, count, count


class SupConLoss(base.SupConLoss, BatchLoss):
    def terms(
        self, distances: KerasTensor, positive: KerasTensor, negative: KerasTensor
    ) -> tuple[KerasTensor, KerasTensor, KerasTensor]:
        logits = -distances / self.temperature  # cos, but for a constant
        terms = row_logsumexp(logits, positive | negative) - logits
        count = ops.sum(ops.cast(positive, terms.dtype), axis=1)
        means = ops.sum(ops.where(positive, terms, 0.0), axis=1) / ops.maximum(count, 1)
        anchors = ops.cast(count > 0, terms.dtype)
        return means, anchors, anchors


class MultiSimilarityLoss(base.MultiSimilarityLoss, BatchLoss):
    def terms(
        self, distances: KerasTensor, positive: KerasTensor, negative: KerasTensor
    ) -> tuple[KerasTensor, KerasTensor, KerasTensor]:
        above = 1 - self.base - distances
        pull = ops.softplus(row_logsumexp(-self.alpha * above, positive)) / self.alpha
        push = ops.softplus(row_logsumexp(self.beta * above, negative)) / self.beta
        anchors = ops.cast(ops.any(positive | negative, axis=1), above.dtype)
        return (pull + push)[:, 0] * anchors, anchors, anchors


class LiftedStructureLoss(base.LiftedStructureLoss, BatchLoss):
    def terms(
        self, distances: KerasTensor, positive: KerasTensor, negative: KerasTensor
    ) -> tuple[KerasTensor, KerasTensor, KerasTensor]:
        pull, push = row_logsumexp(distances, positive), row_logsumexp(self.margin - distances, negative)
        anchors = ops.cast(ops.any(positive, axis=1) & ops.any(negative, axis=1), distances.dtype)
        return hinge(pull + push)[:, 0], anchors, anchors


class SurrogatePrecision(base.SurrogatePrecision, BatchLoss):
    def terms(
        self, distances: KerasTensor, positive: KerasTensor, negative: KerasTensor
    ) -> tuple[KerasTensor, KerasTensor, KerasTensor]:
        anchors = ops.cast(ops.any(positive, axis=1), distances.dtype)
        precision = soft_precision(distances, positive, negative, self.k, self.temperature1, self.temperature2)
        return anchors - precision, anchors, anchors


TripletMarginLoss = TripletLoss
