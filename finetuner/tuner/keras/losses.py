"""The losses of :mod:`finetuner.tuner.base.losses`, for Keras."""

from keras import KerasTensor, ops

from .. import base
from .functional import (
    Relations,
    hinge,
    pairwise_distance,
    reduce,
    row_logsumexp,
    soft_triplets,
    triplets,
)
from .interop import LossLayer

__all__ = [
    "Loss",
    "MultiSimilarityLoss",
    "NTXentLoss",
    "SiameseLoss",
    "SupConLoss",
    "TripletLoss",
    "TripletMarginLoss",
]


class Loss(base.Loss, LossLayer):
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
        return self.compute(queries, references, relations)


class TripletLoss(base.TripletLoss, Loss):
    def compute(self, queries: KerasTensor, references: KerasTensor, relations: Relations) -> KerasTensor:
        distances = pairwise_distance(queries, references, self.distance)
        positive, negative = relations.rows()
        if self.miner is not None:
            positive, negative = self.miner.refine(ops.stop_gradient(distances), positive, negative)
        if self.margin is None:
            sums, count, active = soft_triplets(distances, positive, negative)
        else:
            sums, count, active = triplets(distances, positive, negative, self.margin)
        return reduce(sums, count, active, self.reduction)


class SiameseLoss(base.SiameseLoss, Loss):
    def compute(self, queries: KerasTensor, references: KerasTensor, relations: Relations) -> KerasTensor:
        distances = pairwise_distance(queries, references, self.distance)
        positive, negative = relations.rows()
        if self.miner is not None:
            positive, negative = self.miner.refine(ops.stop_gradient(distances), positive, negative)
        share = 1.0
        if relations.within:  # each pair stands in the masks twice, once from either end
            positive, negative = positive | ops.transpose(positive), negative | ops.transpose(negative)
            share = 0.5
        apart = hinge(self.margin - distances)
        terms = ops.where(positive, distances, ops.where(negative, apart, 0.0))
        count = ops.sum(ops.cast(positive | negative, terms.dtype), axis=1)
        active = ops.sum(ops.cast(ops.stop_gradient(terms) > 0, terms.dtype), axis=1)
        return reduce(share * ops.sum(terms, axis=1), share * count, share * active, self.reduction)


class NTXentLoss(base.NTXentLoss, Loss):
    def compute(self, queries: KerasTensor, references: KerasTensor, relations: Relations) -> KerasTensor:
        logits = -pairwise_distance(queries, references, "cosine") / self.temperature  # cos, but for a constant
        positive, negative = relations.rows()
        terms = ops.softplus(row_logsumexp(logits, negative) - logits)
        sums = ops.sum(ops.where(positive, terms, 0.0), axis=1)
        count = ops.sum(ops.cast(positive, sums.dtype), axis=1)
        return reduce(sums, count, count, "mean")


class SupConLoss(base.SupConLoss, Loss):
    def compute(self, queries: KerasTensor, references: KerasTensor, relations: Relations) -> KerasTensor:
        logits = -pairwise_distance(queries, references, "cosine") / self.temperature  # cos, but for a constant
        positive, negative = relations.rows()
        terms = row_logsumexp(logits, positive | negative) - logits
        count = ops.sum(ops.cast(positive, terms.dtype), axis=1)
        means = ops.sum(ops.where(positive, terms, 0.0), axis=1) / ops.maximum(count, 1)
        anchors = ops.cast(count > 0, terms.dtype)
        return reduce(means, anchors, anchors, "mean")


class MultiSimilarityLoss(base.MultiSimilarityLoss, Loss):
    def compute(self, queries: KerasTensor, references: KerasTensor, relations: Relations) -> KerasTensor:
        above = 1 - self.base - pairwise_distance(queries, references, "cosine")
        positive, negative = relations.rows()
        pull = ops.softplus(row_logsumexp(-self.alpha * above, positive)) / self.alpha
        push = ops.softplus(row_logsumexp(self.beta * above, negative)) / self.beta
        anchors = ops.cast(ops.any(positive | negative, axis=1), above.dtype)
        return reduce((pull + push)[:, 0], anchors, anchors, "mean")


TripletMarginLoss = TripletLoss


def at_least_float32(x: KerasTensor) -> KerasTensor:
    """``x`` itself in float32 or float64, and in float32 if it is narrower."""
    return x if x.dtype == "float64" else ops.cast(x, "float32")
