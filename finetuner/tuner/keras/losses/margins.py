"""The losses of :mod:`finetuner.tuner.base.losses.margins`, for Keras."""

from typing import Any

from keras import KerasTensor, ops

from ...base.losses import centres
from ...base.losses import margins as base
from ..functional import (
    angle,
    at_least_float32,
    falling_cosine,
    label_smoothing,
    masked_mean,
    one_hot,
    pairwise_distance,
    reduce,
    row_logsumexp,
    spread,
)
from .interface import WeightedLoss, on_host

__all__ = ["ArcFaceLoss", "ArcFaceLossWithMLP", "CosFaceLoss", "MarginLoss", "SphereFaceLoss"]


class MarginLoss(centres.MarginLoss, WeightedLoss):
    def call(self, embeddings: KerasTensor, labels: KerasTensor, weight: KerasTensor | None = None) -> KerasTensor:
        self.check(embeddings, labels, weight)
        centres = self.weight if weight is None else weight
        if (known := on_host(labels)) is not None:
            self.check_labels(known, centres.shape[0])
        return self.compute(at_least_float32(embeddings), labels, at_least_float32(centres))

    def compute(self, queries: KerasTensor, labels: KerasTensor, centres: KerasTensor) -> KerasTensor:
        distances = pairwise_distance(queries, centres, "cosine")
        own = one_hot(labels, centres.shape[0])
        logits = self.scale * ops.where(own, self.with_margin(distances), 1 - distances)
        beyond = logits - ops.sum(ops.where(own, logits, 0.0), axis=1, keepdims=True)  # the item's own logit
        terms = ops.softplus(row_logsumexp(beyond, ~own))[:, 0]
        if self.smoothing_epsilon:
            smooth = label_smoothing(labels, centres.shape[0], self.smoothing_epsilon, self.categories)
            terms = terms - ops.sum(ops.cast(smooth, beyond.dtype) * beyond, axis=1)
        ones = ops.ones_like(terms)
        if self.need_logs:
            fixed = ops.stop_gradient(distances)
            self.noted["active"] = ops.mean(ops.cast(ops.any(ops.stop_gradient(beyond) > 0, axis=1), fixed.dtype))
            self.noted["positive_distance"] = masked_mean(fixed, own)
            self.noted["negative_distance"] = masked_mean(fixed, ~own)
            self.noted["spread"] = spread(ops.stop_gradient(queries))
        return reduce(terms, ones, ones, self.reduction)

    def get_config(self) -> dict[str, Any]:
        """The arguments; the category of each class by its number, once classes are numbered."""
        config = super().get_config()
        return config if self.categories is None else {**config, "label2category": self.categories.tolist()}


class ArcFaceLoss(base.ArcFaceLoss, MarginLoss):
    def with_margin(self, distances: KerasTensor) -> KerasTensor:
        return falling_cosine(angle(distances) + self.margin)


class ArcFaceLossWithMLP(base.ArcFaceLossWithMLP, ArcFaceLoss):
    def compute(self, queries: KerasTensor, labels: KerasTensor, centres: KerasTensor) -> KerasTensor:
        for i in range(len(self.mlp_features)):
            weight, bias = self.layer(i)
            queries = ops.matmul(ops.relu(queries) if i else queries, ops.transpose(weight)) + bias
        return super().compute(queries, labels, centres)


class CosFaceLoss(base.CosFaceLoss, MarginLoss):
    def with_margin(self, distances: KerasTensor) -> KerasTensor:
        return 1 - distances - self.margin


class SphereFaceLoss(base.SphereFaceLoss, MarginLoss):
    def with_margin(self, distances: KerasTensor) -> KerasTensor:
        return falling_cosine(self.margin * angle(distances))
