"""The losses of :mod:`finetuner.tuner.base.losses.margins`, for PyTorch."""

import torch
from torch.nn import functional as F

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
from .interface import WeightedLoss, exact, on_host

__all__ = ["ArcFaceLoss", "ArcFaceLossWithMLP", "CosFaceLoss", "MarginLoss", "SphereFaceLoss"]


class MarginLoss(centres.MarginLoss, WeightedLoss):
    def forward(
        self, embeddings: torch.Tensor, labels: torch.Tensor, weight: torch.Tensor | None = None
    ) -> torch.Tensor:
        self.check(embeddings, labels, weight)
        centres = self.weight if weight is None else weight
        if (known := on_host(labels)) is not None:
            self.check_labels(known, centres.shape[0])
        with exact(embeddings):
            return self.compute(at_least_float32(embeddings), labels, at_least_float32(centres))

    def compute(self, queries: torch.Tensor, labels: torch.Tensor, centres: torch.Tensor) -> torch.Tensor:
        distances = pairwise_distance(queries, centres, "cosine")
        own = one_hot(labels, centres.shape[0])
        logits = self.scale * torch.where(own, self.with_margin(distances), 1 - distances)
        beyond = logits - torch.where(own, logits, 0.0).sum(dim=1, keepdim=True)  # the item's own logit
        terms = F.softplus(row_logsumexp(beyond, ~own))[:, 0]
        if self.smoothing_epsilon:
            smooth = label_smoothing(labels, centres.shape[0], self.smoothing_epsilon, self.categories)
            terms = terms - (smooth.to(beyond.dtype) * beyond).sum(dim=1)
        ones = torch.ones_like(terms)
        if self.need_logs:
            fixed = distances.detach()
            self.noted["active"] = (beyond.detach() > 0).any(dim=1).to(fixed.dtype).mean()
            self.noted["positive_distance"] = masked_mean(fixed, own)
            self.noted["negative_distance"] = masked_mean(fixed, ~own)
            self.noted["spread"] = spread(queries.detach())
        return reduce(terms, ones, ones, self.reduction)


class ArcFaceLoss(base.ArcFaceLoss, MarginLoss):
    def with_margin(self, distances: torch.Tensor) -> torch.Tensor:
        return falling_cosine(angle(distances) + self.margin)


class ArcFaceLossWithMLP(base.ArcFaceLossWithMLP, ArcFaceLoss):
    def compute(self, queries: torch.Tensor, labels: torch.Tensor, centres: torch.Tensor) -> torch.Tensor:
        for i in range(len(self.mlp_features)):
            queries = F.linear(F.relu(queries) if i else queries, *self.layer(i))
        return super().compute(queries, labels, centres)


class CosFaceLoss(base.CosFaceLoss, MarginLoss):
    def with_margin(self, distances: torch.Tensor) -> torch.Tensor:
        return 1 - distances - self.margin


class SphereFaceLoss(base.SphereFaceLoss, MarginLoss):
    def with_margin(self, distances: torch.Tensor) -> torch.Tensor:
        return falling_cosine(self.margin * angle(distances))
