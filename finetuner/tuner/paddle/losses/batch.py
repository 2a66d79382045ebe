"""The losses of :mod:`finetuner.tuner.base.losses.batch`, for PaddlePaddle."""

import paddle
from paddle.nn import functional as F

from ...base.losses import batch as base
from ..blocks import in_blocks, of_distances, selected
from ..functional import (
    Masks,
    Relations,
    at_least_float32,
    detached,
    hinge,
    reduce,
    row_distance,
    row_logsumexp,
    row_sums,
    spread,
    where,
)
from ..kernels import soft_precision, soft_triplets, triplets
from .interface import Loss, exact

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
    check = paddle.jit.not_to_static(base.BatchLoss.check)

    def forward(
        self,
        embeddings: paddle.Tensor,
        labels: paddle.Tensor,
        references: paddle.Tensor | None = None,
        reference_labels: paddle.Tensor | None = None,
    ) -> paddle.Tensor:
        self.check(embeddings, labels, references, reference_labels)
        relations = Relations(labels, reference_labels)
        with exact(embeddings):
            queries = at_least_float32(embeddings)
            references = queries if references is None else at_least_float32(references)
            if self.need_logs:
                self.noted = of_distances(queries, references, relations, self.distance)
            return self.compute(queries, references, relations)

    def compute(self, queries: paddle.Tensor, references: paddle.Tensor, relations: Relations) -> paddle.Tensor:
        each = self.reduction == "none"
        return self.reduced(*in_blocks(self.terms, queries, references, relations, self.distance, each))

    def reduced(self, sums: paddle.Tensor, count: paddle.Tensor, active: paddle.Tensor) -> paddle.Tensor:
        if self.need_logs:
            self.noted["active"] = active.sum() / count.sum().clip(min=1)
        return reduce(sums, count, active, self.reduction)


class TripletLoss(base.TripletLoss, BatchLoss):
    explicit = paddle.jit.not_to_static(base.TripletLoss.explicit)

    def forward(
        self,
        embeddings: paddle.Tensor,
        labels: paddle.Tensor | None = None,
        references: paddle.Tensor | None = None,
        reference_labels: paddle.Tensor | None = None,
    ) -> paddle.Tensor:
        rows = self.explicit(embeddings, labels, references, reference_labels)
        if rows is None:
            return super().forward(embeddings, labels, references, reference_labels)
        with exact(embeddings):
            return self.compute_rows(*map(at_least_float32, rows))

    def compute_rows(self, anchor: paddle.Tensor, positive: paddle.Tensor, negative: paddle.Tensor) -> paddle.Tensor:
        near, far = row_distance(anchor, positive, self.distance), row_distance(anchor, negative, self.distance)
        terms = F.softplus(near - far) if self.margin is None else hinge(near - far + self.margin)
        active = (detached(terms) > 0).astype(terms.dtype)
        if self.need_logs:
            self.noted["active"] = active.mean()
            self.noted["positive_distance"] = detached(near).mean()
            self.noted["negative_distance"] = detached(far).mean()
            self.noted["spread"] = spread(detached(anchor))
        return reduce(terms, paddle.ones_like(terms), active, self.reduction)

    def terms(
        self, distances: paddle.Tensor, positive: paddle.Tensor, negative: paddle.Tensor
    ) -> tuple[paddle.Tensor, paddle.Tensor, paddle.Tensor]:
        if self.miner is not None:
            positive, negative = self.miner.refine(detached(distances), positive, negative)
        if self.margin is None:
            return soft_triplets(distances, positive, negative)
        return triplets(distances, positive, negative, self.margin)


class SiameseLoss(base.SiameseLoss, BatchLoss):
    def compute(self, queries: paddle.Tensor, references: paddle.Tensor, relations: Relations) -> paddle.Tensor:
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
        self, distances: paddle.Tensor, positive: paddle.Tensor, negative: paddle.Tensor
    ) -> tuple[paddle.Tensor, paddle.Tensor, paddle.Tensor]:
        apart = hinge(self.margin - distances)
        terms = where(positive, distances, where(negative, apart, 0.0))
        count = row_sums(positive | negative).astype(terms.dtype)
        active = row_sums(detached(terms) > 0).astype(terms.dtype)
        return row_sums(terms), count, active


class NTXentLoss(base.NTXentLoss, BatchLoss):
    def terms(
        self, distances: paddle.Tensor, positive: paddle.Tensor, negative: paddle.Tensor
    ) -> tuple[paddle.Tensor, paddle.Tensor, paddle.Tensor]:
        logits = -distances / self.temperature  # cos, but for a constant
        terms = F.softplus(row_logsumexp(logits, negative) - logits)
        sums = row_sums(where(positive, terms, 0.0))
        count = row_sums(positive).astype(sums.dtype)
        return sums, count, count


class SupConLoss(base.SupConLoss, BatchLoss):
    def terms(
        self, distances: paddle.Tensor, positive: paddle.Tensor, negative: paddle.Tensor
    ) -> tuple[paddle.Tensor, paddle.Tensor, paddle.Tensor]:
        logits = -distances / self.temperature  # cos, but for a constant
        terms = row_logsumexp(logits, positive | negative) - logits
        count = row_sums(positive).astype(terms.dtype)
        means = row_sums(where(positive, terms, 0.0)) / count.clip(min=1)
        anchors = (count > 0).astype(terms.dtype)
        return means, anchors, anchors


class MultiSimilarityLoss(base.MultiSimilarityLoss, BatchLoss):
    def terms(
        self, distances: paddle.Tensor, positive: paddle.Tensor, negative: paddle.Tensor
    ) -> tuple[paddle.Tensor, paddle.Tensor, paddle.Tensor]:
        above = 1 - self.base - distances
        pull = F.softplus(row_logsumexp(-self.alpha * above, positive)) / self.alpha
        push = F.softplus(row_logsumexp(self.beta * above, negative)) / self.beta
        anchors = (positive | negative).any(axis=1).astype(above.dtype)
        return (pull + push)[:, 0] * anchors, anchors, anchors


class LiftedStructureLoss(base.LiftedStructureLoss, BatchLoss):
    def terms(
        self, distances: paddle.Tensor, positive: paddle.Tensor, negative: paddle.Tensor
    ) -> tuple[paddle.Tensor, paddle.Tensor, paddle.Tensor]:
        pull, push = row_logsumexp(distances, positive), row_logsumexp(self.margin - distances, negative)
        anchors = (positive.any(axis=1) & negative.any(axis=1)).astype(distances.dtype)
        return hinge(pull + push)[:, 0], anchors, anchors


class SurrogatePrecision(base.SurrogatePrecision, BatchLoss):
    def terms(
        self, distances: paddle.Tensor, positive: paddle.Tensor, negative: paddle.Tensor
    ) -> tuple[paddle.Tensor, paddle.Tensor, paddle.Tensor]:
        anchors = positive.any(axis=1).astype(distances.dtype)
        precision = soft_precision(distances, positive, negative, self.k, self.temperature1, self.temperature2)
        return anchors - precision, anchors, anchors


TripletMarginLoss = TripletLoss
