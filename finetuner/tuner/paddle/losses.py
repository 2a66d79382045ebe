"""The losses of :mod:`finetuner.tuner.base.losses`, for PaddlePaddle."""

import paddle
from paddle import nn
from paddle.nn import functional as F

from .. import base
from .functional import (
    Relations,
    hinge,
    pairwise_distance,
    reduce,
    row_logsumexp,
    soft_triplets,
    triplets,
    where,
)

__all__ = [
    "Loss",
    "MultiSimilarityLoss",
    "NTXentLoss",
    "SiameseLoss",
    "SupConLoss",
    "TripletLoss",
    "TripletMarginLoss",
]


class Loss(base.Loss, nn.Layer):
    check = paddle.jit.not_to_static(base.Loss.check)  # a size that a compiler leaves open is -1 to it, not a tensor

    def forward(
        self,
        embeddings: paddle.Tensor,
        labels: paddle.Tensor,
        references: paddle.Tensor | None = None,
        reference_labels: paddle.Tensor | None = None,
    ) -> paddle.Tensor:
        self.check(embeddings, labels, references, reference_labels)
        relations = Relations(labels, reference_labels)
        with paddle.amp.auto_cast(enable=False):
            queries = at_least_float32(embeddings)
            references = queries if references is None else at_least_float32(references)
            return self.compute(queries, references, relations)


class TripletLoss(base.TripletLoss, Loss):
    def compute(self, queries: paddle.Tensor, references: paddle.Tensor, relations: Relations) -> paddle.Tensor:
        distances = pairwise_distance(queries, references, self.distance)
        positive, negative = relations.rows()
        if self.miner is not None:
            positive, negative = self.miner.refine(distances.detach(), positive, negative)
        if self.margin is None:
            sums, count, active = soft_triplets(distances, positive, negative)
        else:
            sums, count, active = triplets(distances, positive, negative, self.margin)
        return reduce(sums, count, active, self.reduction)


class SiameseLoss(base.SiameseLoss, Loss):
    def compute(self, queries: paddle.Tensor, references: paddle.Tensor, relations: Relations) -> paddle.Tensor:
        distances = pairwise_distance(queries, references, self.distance)
        positive, negative = relations.rows()
        if self.miner is not None:
            positive, negative = self.miner.refine(distances.detach(), positive, negative)
        share = 1.0
        if relations.within:  # each pair stands in the masks twice, once from either end
            positive, negative = positive | positive.T, negative | negative.T
            share = 0.5
        apart = hinge(self.margin - distances)
        terms = where(positive, distances, where(negative, apart, 0.0))
        count = (positive | negative).sum(axis=1).astype(terms.dtype)
        active = (terms.detach() > 0).sum(axis=1).astype(terms.dtype)
        return reduce(share * terms.sum(axis=1), share * count, share * active, self.reduction)


class NTXentLoss(base.NTXentLoss, Loss):
    def compute(self, queries: paddle.Tensor, references: paddle.Tensor, relations: Relations) -> paddle.Tensor:
        logits = -pairwise_distance(queries, references, "cosine") / self.temperature  # cos, but for a constant
        positive, negative = relations.rows()
        terms = F.softplus(row_logsumexp(logits, negative) - logits)
        sums = where(positive, terms, 0.0).sum(axis=1)
        count = positive.sum(axis=1).astype(sums.dtype)
        return reduce(sums, count, count, "mean")


class SupConLoss(base.SupConLoss, Loss):
    def compute(self, queries: paddle.Tensor, references: paddle.Tensor, relations: Relations) -> paddle.Tensor:
        logits = -pairwise_distance(queries, references, "cosine") / self.temperature  # cos, but for a constant
        positive, negative = relations.rows()
        terms = row_logsumexp(logits, positive | negative) - logits
        count = positive.sum(axis=1).astype(terms.dtype)
        means = where(positive, terms, 0.0).sum(axis=1) / count.clip(min=1)
        anchors = (count > 0).astype(terms.dtype)
        return reduce(means, anchors, anchors, "mean")


class MultiSimilarityLoss(base.MultiSimilarityLoss, Loss):
    def compute(self, queries: paddle.Tensor, references: paddle.Tensor, relations: Relations) -> paddle.Tensor:
        above = 1 - self.base - pairwise_distance(queries, references, "cosine")
        positive, negative = relations.rows()
        pull = F.softplus(row_logsumexp(-self.alpha * above, positive)) / self.alpha
        push = F.softplus(row_logsumexp(self.beta * above, negative)) / self.beta
        anchors = (positive | negative).any(axis=1).astype(above.dtype)
        return reduce((pull + push)[:, 0], anchors, anchors, "mean")


TripletMarginLoss = TripletLoss


def at_least_float32(x: paddle.Tensor) -> paddle.Tensor:
    """``x`` itself in float32 or float64, and in float32 if it is narrower."""
    return x if x.dtype == paddle.float64 else x.astype("float32")
