"""The losses of :mod:`finetuner.tuner.base.losses.rows`, for PaddlePaddle."""

import math

import paddle
from paddle.nn import functional as F

from ...base.losses import rows as base
from ..blocks import in_blocks, of_distances
from ..functional import (
    Relations,
    at_least_float32,
    detached,
    distances_of,
    hinge,
    masked_mean,
    places_of,
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
        scale = (self.log_scale.clip(max=math.log(100)).exp(),) if self.learnable else ()
        place = paddle.arange(first.shape[0])
        partners = Relations(place, place)
        if self.need_logs:
            self.noted = of_distances(first, second, partners, self.distance)
            self.noted["active"] = paddle.ones_like(self.noted["spread"])
        there, count, _ = in_blocks(self.terms, first, second, partners, self.distance, weights=scale)
        back, _, _ = in_blocks(self.terms, second, first, partners, self.distance, weights=scale)
        return reduce((there + back) / 2, count, count, "mean")

    def terms(
        self, distances: paddle.Tensor, positive: paddle.Tensor, negative: paddle.Tensor, *scale: paddle.Tensor
    ) -> tuple[paddle.Tensor, paddle.Tensor, paddle.Tensor]:
        logits = -distances * (scale[0] if scale else 1 / self.temperature)  # cos, but for a constant
        partner = where(positive, logits, 0.0).sum(axis=1, keepdim=True)
        terms = F.softplus(row_logsumexp(logits - partner, negative))[:, 0]
        ones = paddle.ones_like(terms)
        return terms, ones, ones


ClipLoss = CLIPLoss


class DistillationLoss(base.DistillationLoss, Loss):
    check = paddle.jit.not_to_static(base.DistillationLoss.check)

    def forward(self, embeddings: paddle.Tensor, teacher_embeddings: paddle.Tensor) -> paddle.Tensor:
        self.check(embeddings, teacher_embeddings)
        with exact(embeddings):
            return self.compute(at_least_float32(embeddings), at_least_float32(detached(teacher_embeddings)))

    def compute(self, queries: paddle.Tensor, taught: paddle.Tensor) -> paddle.Tensor:
        lesson = Lesson(taught, Relations(paddle.arange(taught.shape[0])))
        sums, count, _ = in_blocks(self.terms, queries, queries, lesson, "cosine")
        if self.need_logs:
            self.noted["active"] = paddle.full_like(detached(sums).sum(), float(queries.shape[0] > 1))
            self.noted["spread"] = spread(detached(queries))
        return reduce(sums, count, count, "mean")

    def terms(
        self, distances: paddle.Tensor, taught: paddle.Tensor, other: paddle.Tensor
    ) -> tuple[paddle.Tensor, paddle.Tensor, paddle.Tensor]:
        own, theirs = (-x / self.temperature for x in (distances, taught))
        own, theirs = (logits - row_logsumexp(logits, other) for logits in (own, theirs))
        share = where(other, theirs, -paddle.inf).exp()
        terms = where(other, share * (theirs - own), 0.0).sum(axis=1)
        ones = paddle.ones_like(terms)
        return terms, ones, ones


class Lesson:
    """What a teacher tells of a block of rows, in place of relations."""

    def __init__(self, taught: paddle.Tensor, relations: Relations):
        self.places, self.relations = places_of(taught, taught, "cosine"), relations

    def rows(self, start: int = 0, size: int | None = None) -> tuple[paddle.Tensor, paddle.Tensor]:
        """The teacher's distances, and which rows are others: two ``[B, N]``."""
        _, other = self.relations.rows(start, size)
        return distances_of(self.places, "cosine", start, size), other
