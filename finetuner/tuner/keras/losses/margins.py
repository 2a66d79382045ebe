"""The losses of :mod:`finetuner.tuner.base.losses.margins`, for Keras."""

import math

from ...base.losses import centres as interface
from ...base.losses import margins as base
from ..functional import (
    angle,
    common_float,
    label_smoothing,
    masked_mean,
    monotone_cosine,
    one_hot,
    pairwise_distance,
    reduce,
    row_logsumexp,
    spread,
)
from ..layers import WeightedLoss
from ..ops import (
    Tensor,
    cast,
    detached,
    has_no_rows,
    labels_on_host,
    linear,
    no_autocast,
    ones_like,
    reduce_any,
    reduce_mean,
    reduce_sum,
    relu,
    softplus,
    where,
    zero_loss,
)

__all__ = ["ArcFaceLoss", "ArcFaceLossWithMLP", "CosFaceLoss", "SphereFaceLoss"]


class MarginLoss(interface.MarginLoss, WeightedLoss):
    def call(self, embeddings: Tensor, labels: Tensor, weight: Tensor | None = None) -> Tensor:
        self.check(embeddings, labels, weight)
        centres = self.weight if weight is None else weight
        if (host_labels := labels_on_host(labels)) is not None:
            self.check_labels(host_labels, centres.shape[0])
        with no_autocast(embeddings):
            queries, centres = common_float(embeddings, centres)
            if has_no_rows(queries):
                return zero_loss(self.reduction, queries, centres)
            return self.compute(queries, labels, centres)

    def compute(self, queries: Tensor, labels: Tensor, centres: Tensor) -> Tensor:
        distances = pairwise_distance(queries, centres, "cosine")
        own = one_hot(labels, centres.shape[0])
        logits = self.scale * where(own, self.target_logit(distances), 1 - distances)
        logits = logits - reduce_sum(where(own, logits, 0.0), axis=1, keepdims=True)  # relative to the own class
        terms = softplus(row_logsumexp(logits, ~own))[:, 0]
        terms = where(reduce_any(own, axis=1), terms, math.nan)  # a label that no class has
        if self.smoothing_epsilon:
            smooth = label_smoothing(labels, centres.shape[0], self.smoothing_epsilon, self.categories)
            terms = terms - reduce_sum(cast(smooth, logits.dtype) * logits, axis=1)
        ones = ones_like(terms)
        if self.need_logs:
            fixed = detached(distances)
            self.logs["active"] = reduce_mean(cast(reduce_any(detached(logits) > 0, axis=1), fixed.dtype))
            self.logs["positive_distance"] = masked_mean(fixed, own)
            self.logs["negative_distance"] = masked_mean(fixed, ~own)
            self.logs["spread"] = spread(detached(queries))
        return reduce(terms, ones, ones, self.reduction)


class ArcFaceLoss(base.ArcFaceLoss, MarginLoss):
    def target_logit(self, distances: Tensor) -> Tensor:
        return monotone_cosine(angle(distances) + self.margin)


class ArcFaceLossWithMLP(base.ArcFaceLossWithMLP, ArcFaceLoss):
    def compute(self, queries: Tensor, labels: Tensor, centres: Tensor) -> Tensor:
        for i in range(len(self.mlp_features)):
            weight, bias = (cast(part, queries.dtype) for part in self.layer(i))
            queries = linear(relu(queries) if i else queries, weight[:, : queries.shape[1]], bias)
        return super().compute(queries, labels, centres)


class CosFaceLoss(base.CosFaceLoss, MarginLoss):
    def target_logit(self, distances: Tensor) -> Tensor:
        return 1 - distances - self.margin


class SphereFaceLoss(base.SphereFaceLoss, MarginLoss):
    def target_logit(self, distances: Tensor) -> Tensor:
        return monotone_cosine(self.margin * angle(distances))
