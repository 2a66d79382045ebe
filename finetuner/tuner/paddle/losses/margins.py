"""The losses of :mod:`finetuner.tuner.base.losses.margins`, for PaddlePaddle."""

import paddle
from paddle.nn import functional as F

from ...base.losses import centres
from ...base.losses import margins as base
from ..functional import (
    angle,
    at_least_float32,
    detached,
    falling_cosine,
    label_smoothing,
    masked_mean,
    one_hot,
    pairwise_distance,
    reduce,
    row_logsumexp,
    spread,
    where,
)
from .interface import WeightedLoss, exact, on_host

__all__ = ["ArcFaceLoss", "ArcFaceLossWithMLP", "CosFaceLoss", "MarginLoss", "SphereFaceLoss"]


class MarginLoss(centres.MarginLoss, WeightedLoss):
    check = paddle.jit.not_to_static(centres.MarginLoss.check)

    def forward(
        self, embeddings: paddle.Tensor, labels: paddle.Tensor, weight: paddle.Tensor | None = None
    ) -> paddle.Tensor:
        self.check(embeddings, labels, weight)
        centres = self.weight if weight is None else weight
        if (known := on_host(labels)) is not None:
            self.check_labels(known, centres.shape[0])
        with exact(embeddings):
            return self.compute(at_least_float32(embeddings), labels, at_least_float32(centres))

    def compute(self, queries: paddle.Tensor, labels: paddle.Tensor, centres: paddle.Tensor) -> paddle.Tensor:
        distances = pairwise_distance(queries, centres, "cosine")
        own = one_hot(labels, centres.shape[0])
        logits = self.scale * where(own, self.with_margin(distances), 1 - distances)
        beyond = logits - where(own, logits, 0.0).sum(axis=1, keepdim=True)  # the item's own logit
        terms = F.softplus(row_logsumexp(beyond, ~own))[:, 0]
        if self.smoothing_epsilon:
            smooth = label_smoothing(labels, centres.shape[0], self.smoothing_epsilon, self.categories)
            terms = terms - (smooth.astype(beyond.dtype) * beyond).sum(axis=1)
        ones = paddle.ones_like(terms)
        if self.need_logs:
            fixed = detached(distances)
            self.noted["active"] = (detached(beyond) > 0).any(axis=1).astype(fixed.dtype).mean()
            self.noted["positive_distance"] = masked_mean(fixed, own)
            self.noted["negative_distance"] = masked_mean(fixed, ~own)
            self.noted["spread"] = spread(detached(queries))
        return reduce(terms, ones, ones, self.reduction)


class ArcFaceLoss(base.ArcFaceLoss, MarginLoss):
    def with_margin(self, distances: paddle.Tensor) -> paddle.Tensor:
        return falling_cosine(angle(distances) + self.margin)


class ArcFaceLossWithMLP(base.ArcFaceLossWithMLP, ArcFaceLoss):
    def compute(self, queries: paddle.Tensor, labels: paddle.Tensor, centres: paddle.Tensor) -> paddle.Tensor:
        for i in range(len(self.mlp_features)):
            weight, bias = self.layer(i)
            queries = F.linear(F.relu(queries) if i else queries, weight.T, bias)
        return super().compute(queries, labels, centres)


class CosFaceLoss(base.CosFaceLoss, MarginLoss):
    def with_margin(self, distances: paddle.Tensor) -> paddle.Tensor:
        return 1 - distances - self.margin


class SphereFaceLoss(base.SphereFaceLoss, MarginLoss):
    def with_margin(self, distances: paddle.Tensor) -> paddle.Tensor:
        return falling_cosine(self.margin * angle(distances))
