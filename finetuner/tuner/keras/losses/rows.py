"""The losses of :mod:`finetuner.tuner.base.losses.rows`, for Keras."""

import math
from typing import Any

from keras import KerasTensor, ops

from ...base.losses import rows as base
from ..blocks import in_blocks, of_distances
from ..functional import (
    Relations,
    at_least_float32,
    distances_of,
    hinge,
    masked_mean,
    places_of,
    reduce,
    row_distance,
    row_logsumexp,
    spread,
)
from .interface import Loss, WeightedLoss

__all__ = ["CLIPLoss", "ClipLoss", "ContrastiveLoss", "CosineSimilarityLoss", "DistillationLoss", "RowLoss"]


class RowLoss(base.RowLoss, Loss):
    def call(self, first: KerasTensor, second: KerasTensor, label: KerasTensor) -> KerasTensor:
        self.check(first, second, label)
        first, second = at_least_float32(first), at_least_float32(second)
        return self.compute(first, second, ops.cast(label, first.dtype))

    def note(self, distances: KerasTensor, similar: KerasTensor, terms: KerasTensor, first: KerasTensor) -> None:
        self.noted["active"] = ops.mean(ops.cast(ops.stop_gradient(terms) > 0, terms.dtype))
        self.noted["positive_distance"] = masked_mean(ops.stop_gradient(distances), similar)
        self.noted["negative_distance"] = masked_mean(ops.stop_gradient(distances), 1 - similar)
        self.noted["spread"] = spread(ops.stop_gradient(first))


class ContrastiveLoss(base.ContrastiveLoss, RowLoss):
    def compute(self, first: KerasTensor, second: KerasTensor, label: KerasTensor) -> KerasTensor:
        distances = row_distance(first, second, self.distance)
        similar = label if self.similar_label == 1 else 1 - label
        terms = similar * distances**2 + (1 - similar) * hinge(self.margin - distances) ** 2
        if self.need_logs:
            self.note(distances, similar, terms, first)
        ones = ops.ones_like(terms)
        return reduce(terms, ones, ones, self.reduction)


class CosineSimilarityLoss(base.CosineSimilarityLoss, RowLoss):
    def compute(self, first: KerasTensor, second: KerasTensor, label: KerasTensor) -> KerasTensor:
        distances = row_distance(first, second, "cosine")
        similar = (label - self.low) / (self.high - self.low)
        terms = (1 - distances - similar) ** 2
        if self.need_logs:
            self.note(distances, similar, terms, first)
        ones = ops.ones_like(terms)
        return reduce(terms, ones, ones, self.reduction)


class CLIPLoss(base.CLIPLoss, WeightedLoss):
    def call(self, first: KerasTensor, second: KerasTensor) -> KerasTensor:
        self.check(first, second)
        return self.compute(at_least_float32(first), at_least_float32(second))

    def compute(self, first: KerasTensor, second: KerasTensor) -> KerasTensor:
        scale: tuple[KerasTensor, ...] = ()
        if self.learnable:  # minimum has half a gradient at the bound, where training may start
            log_scale = ops.convert_to_tensor(self.log_scale)
            scale = (ops.exp(ops.where(log_scale > math.log(100), math.log(100), log_scale)),)
        place = ops.arange(ops.shape(first)[0], dtype="int32")
        partners = Relations(place, place)
        if self.need_logs:
            self.noted = of_distances(first, second, partners, self.distance)
            self.noted["active"] = ops.ones_like(self.noted["spread"])
        there, count, _ = in_blocks(self.terms, first, second, partners, self.distance, weights=scale)
        back, _, _ = in_blocks(self.terms, second, first, partners, self.distance, weights=scale)
        return reduce((there + back) / 2, count, count, "mean")

    def terms(
        self, distances: KerasTensor, positive: KerasTensor, negative: KerasTensor, *scale: KerasTensor
    ) -> tuple[KerasTensor, KerasTensor, KerasTensor]:
        logits = -distances * (scale[0] if scale else 1 / self.temperature)  # cos, but for a constant
        partner = ops.sum(ops.where(positive, logits, 0.0), axis=1, keepdims=True)
        terms = ops.softplus(row_logsumexp(logits - partner, negative))[:, 0]
        ones = ops.ones_like(terms)
        return terms, ones, ones


ClipLoss = CLIPLoss


class DistillationLoss(base.DistillationLoss, Loss):
    def call(self, embeddings: KerasTensor, teacher_embeddings: KerasTensor) -> KerasTensor:
        self.check(embeddings, teacher_embeddings)
        return self.compute(at_least_float32(embeddings), at_least_float32(ops.stop_gradient(teacher_embeddings)))

    def compute(self, queries: KerasTensor, taught: KerasTensor) -> KerasTensor:
        lesson = Lesson(taught, Relations(ops.arange(ops.shape(taught)[0], dtype="int32")))
        sums, count, _ = in_blocks(self.terms, queries, queries, lesson, "cosine")
        if self.need_logs:
            self.noted["active"] = ops.cast(ops.shape(queries)[0] > 1, sums.dtype)
            self.noted["spread"] = spread(ops.stop_gradient(queries))
        return reduce(sums, count, count, "mean")

    def terms(
        self, distances: KerasTensor, taught: KerasTensor, other: KerasTensor
    ) -> tuple[KerasTensor, KerasTensor, KerasTensor]:
        own, theirs = (-x / self.temperature for x in (distances, taught))
        own, theirs = (logits - row_logsumexp(logits, other) for logits in (own, theirs))
        share = ops.exp(ops.where(other, theirs, -float("inf")))
        terms = ops.sum(ops.where(other, share * (theirs - own), 0.0), axis=1)
        ones = ops.ones_like(terms)
        return terms, ones, ones

    def get_config(self) -> dict[str, Any]:
        """The arguments, without the teacher."""
        return {**super().get_config(), "teacher": None}


class Lesson:
    """What a teacher tells of a block of rows, in place of relations."""

    def __init__(self, taught: KerasTensor, relations: Relations):
        self.places, self.relations = places_of(taught, taught, "cosine"), relations

    def rows(self, start: int = 0, size: int | None = None) -> tuple[KerasTensor, KerasTensor]:
        """The teacher's distances, and which rows are others: two ``[B, N]``."""
        _, other = self.relations.rows(start, size)
        return distances_of(self.places, "cosine", start, size), other
