"""The losses of :mod:`finetuner.tuner.base.losses.rows`, for Keras."""

import math
from typing import Any

from keras import KerasTensor, ops

from ...base.losses import rows as base
from ..functional import (
    at_least_float32,
    hinge,
    itself,
    masked_mean,
    pairwise_distance,
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
        distances = pairwise_distance(first, second, "cosine")
        own = itself(first)
        scale = 1 / self.temperature
        if self.learnable:  # minimum has half a gradient at the bound, where training may start
            log_scale = ops.convert_to_tensor(self.log_scale)
            scale = ops.exp(ops.where(log_scale > math.log(100), math.log(100), log_scale))
        logits = -distances * scale  # cos, but for a constant
        partner = ops.sum(ops.where(own, logits, 0.0), axis=1)
        there = ops.softplus(row_logsumexp(logits - partner[:, None], ~own))
        back = ops.softplus(row_logsumexp(ops.transpose(logits) - partner[:, None], ~own))
        if self.need_logs:
            self.noted["active"] = ops.cast(ops.any(own), distances.dtype)
            self.noted["positive_distance"] = masked_mean(ops.stop_gradient(distances), own)
            self.noted["negative_distance"] = masked_mean(ops.stop_gradient(distances), ~own)
            self.noted["spread"] = spread(ops.stop_gradient(first))
        terms = (there + back)[:, 0] / 2
        ones = ops.ones_like(terms)
        return reduce(terms, ones, ones, "mean")


ClipLoss = CLIPLoss


class DistillationLoss(base.DistillationLoss, Loss):
    def call(self, embeddings: KerasTensor, teacher_embeddings: KerasTensor) -> KerasTensor:
        self.check(embeddings, teacher_embeddings)
        return self.compute(at_least_float32(embeddings), at_least_float32(ops.stop_gradient(teacher_embeddings)))

    def compute(self, queries: KerasTensor, taught: KerasTensor) -> KerasTensor:
        other = ~itself(queries)
        own, theirs = (-pairwise_distance(x, x, "cosine") / self.temperature for x in (queries, taught))
        own, theirs = (logits - row_logsumexp(logits, other) for logits in (own, theirs))
        share = ops.exp(ops.where(other, theirs, -float("inf")))
        terms = ops.sum(ops.where(other, share * (theirs - own), 0.0), axis=1)
        if self.need_logs:
            self.noted["active"] = ops.cast(ops.any(other), terms.dtype)
            self.noted["spread"] = spread(ops.stop_gradient(queries))
        ones = ops.ones_like(terms)
        return reduce(terms, ones, ones, "mean")

    def get_config(self) -> dict[str, Any]:
        """The arguments, without the teacher."""
        return {**super().get_config(), "teacher": None}
