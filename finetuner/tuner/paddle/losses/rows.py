"""The losses of :mod:`finetuner.tuner.base.losses.rows`, for PaddlePaddle."""

import math

import paddle
from paddle.nn import functional as F

from ...base.losses import rows as base
from ..functional import (
    at_least_float32,
    detached,
    hinge,
    itself,
    masked_mean,
    pairwise_distance,
    reduce,
    row_distance,
    row_logsumexp,
    spread,
    where,
)
from .interface import Loss, WeightedLoss, exact

__all__ = ["CLIPLoss", "ClipLoss", "ContrastiveLoss", "CosineSimilarityLoss", "DistillationLoss", "RowLoss"]


class RowLoss(base.RowLoss, Loss):
    check = paddle.jit.not_to_static(base.RowLoss.check)

    def forward(self, first: paddle.Tensor, second: paddle.Tensor, label: paddle.Tensor) -> paddle.Tensor:
        self.check(first, second, label)
        with exact(first):
            first, second = at_least_float32(first), at_least_float32(second)
            return self.compute(first, second, label.astype(first.dtype))

    def note(
        self, distances: paddle.Tensor, similar: paddle.Tensor, terms: paddle.Tensor, first: paddle.Tensor
    ) -> None:
        self.noted["active"] = (detached(terms) > 0).astype(terms.dtype).mean()
        self.noted["positive_distance"] = masked_mean(detached(distances), similar)
        self.noted["negative_distance"] = masked_mean(detached(distances), 1 - similar)
        self.noted["spread"] = spread(detached(first))


class ContrastiveLoss(base.ContrastiveLoss, RowLoss):
    def compute(self, first: paddle.Tensor, second: paddle.Tensor, label: paddle.Tensor) -> paddle.Tensor:
        distances = row_distance(first, second, self.distance)
        similar = label if self.similar_label == 1 else 1 - label
        terms = similar * distances**2 + (1 - similar) * hinge(self.margin - distances) ** 2
        if self.need_logs:
            self.note(distances, similar, terms, first)
        ones = paddle.ones_like(terms)
        return reduce(terms, ones, ones, self.reduction)


class CosineSimilarityLoss(base.CosineSimilarityLoss, RowLoss):
    def compute(self, first: paddle.Tensor, second: paddle.Tensor, label: paddle.Tensor) -> paddle.Tensor:
        distances = row_distance(first, second, "cosine")
        similar = (label - self.low) / (self.high - self.low)
        terms = (1 - distances - similar) ** 2
        if self.need_logs:
            self.note(distances, similar, terms, first)
        ones = paddle.ones_like(terms)
        return reduce(terms, ones, ones, self.reduction)


class CLIPLoss(base.CLIPLoss, WeightedLoss):
    check = paddle.jit.not_to_static(base.CLIPLoss.check)

    def forward(self, first: paddle.Tensor, second: paddle.Tensor) -> paddle.Tensor:
        self.check(first, second)
        with exact(first):
            return self.compute(at_least_float32(first), at_least_float32(second))

    def compute(self, first: paddle.Tensor, second: paddle.Tensor) -> paddle.Tensor:
        distances = pairwise_distance(first, second, "cosine")
        own = itself(first)
        scale = self.log_scale.clip(max=math.log(100)).exp() if self.learnable else 1 / self.temperature
        logits = -distances * scale  # cos, but for a constant
        partner = where(own, logits, 0.0).sum(axis=1)
        there = F.softplus(row_logsumexp(logits - partner[:, None], ~own))
        back = F.softplus(row_logsumexp(logits.T - partner[:, None], ~own))
        if self.need_logs:
            self.noted["active"] = own.any().astype(distances.dtype)
            self.noted["positive_distance"] = masked_mean(detached(distances), own)
            self.noted["negative_distance"] = masked_mean(detached(distances), ~own)
            self.noted["spread"] = spread(detached(first))
        terms = (there + back)[:, 0] / 2
        ones = paddle.ones_like(terms)
        return reduce(terms, ones, ones, "mean")


ClipLoss = CLIPLoss


class DistillationLoss(base.DistillationLoss, Loss):
    check = paddle.jit.not_to_static(base.DistillationLoss.check)

    def forward(self, embeddings: paddle.Tensor, teacher_embeddings: paddle.Tensor) -> paddle.Tensor:
        self.check(embeddings, teacher_embeddings)
        with exact(embeddings):
            return self.compute(at_least_float32(embeddings), at_least_float32(detached(teacher_embeddings)))

    def compute(self, queries: paddle.Tensor, taught: paddle.Tensor) -> paddle.Tensor:
        other = ~itself(queries)
        own, theirs = (-pairwise_distance(x, x, "cosine") / self.temperature for x in (queries, taught))
        own, theirs = (logits - row_logsumexp(logits, other) for logits in (own, theirs))
        share = where(other, theirs, -paddle.inf).exp()
        terms = where(other, share * (theirs - own), 0.0).sum(axis=1)
        if self.need_logs:
            self.noted["active"] = other.any().astype(terms.dtype)
            self.noted["spread"] = spread(detached(queries))
        ones = paddle.ones_like(terms)
        return reduce(terms, ones, ones, "mean")
