"""The losses of :mod:`finetuner.tuner.base.losses.rows`, for PyTorch."""

import math

import torch
from torch.nn import functional as F

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
from .interface import Loss, WeightedLoss, exact

__all__ = ["CLIPLoss", "ClipLoss", "ContrastiveLoss", "CosineSimilarityLoss", "DistillationLoss", "RowLoss"]


class RowLoss(base.RowLoss, Loss):
    def forward(self, first: torch.Tensor, second: torch.Tensor, label: torch.Tensor) -> torch.Tensor:
        self.check(first, second, label)
        with exact(first):
            first, second = at_least_float32(first), at_least_float32(second)
            return self.compute(first, second, label.to(first.dtype))

    def note(self, distances: torch.Tensor, similar: torch.Tensor, terms: torch.Tensor, first: torch.Tensor) -> None:
        self.noted["active"] = (terms.detach() > 0).to(terms.dtype).mean()
        self.noted["positive_distance"] = masked_mean(distances.detach(), similar)
        self.noted["negative_distance"] = masked_mean(distances.detach(), 1 - similar)
        self.noted["spread"] = spread(first.detach())


class ContrastiveLoss(base.ContrastiveLoss, RowLoss):
    def compute(self, first: torch.Tensor, second: torch.Tensor, label: torch.Tensor) -> torch.Tensor:
        distances = row_distance(first, second, self.distance)
        similar = label if self.similar_label == 1 else 1 - label
        terms = similar * distances**2 + (1 - similar) * hinge(self.margin - distances) ** 2
        if self.need_logs:
            self.note(distances, similar, terms, first)
        ones = torch.ones_like(terms)
        return reduce(terms, ones, ones, self.reduction)


class CosineSimilarityLoss(base.CosineSimilarityLoss, RowLoss):
    def compute(self, first: torch.Tensor, second: torch.Tensor, label: torch.Tensor) -> torch.Tensor:
        distances = row_distance(first, second, "cosine")
        similar = (label - self.low) / (self.high - self.low)
        terms = (1 - distances - similar) ** 2
        if self.need_logs:
            self.note(distances, similar, terms, first)
        ones = torch.ones_like(terms)
        return reduce(terms, ones, ones, self.reduction)


class CLIPLoss(base.CLIPLoss, WeightedLoss):
    def forward(self, first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
        self.check(first, second)
        with exact(first):
            return self.compute(at_least_float32(first), at_least_float32(second))

    def compute(self, first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
        distances = pairwise_distance(first, second, "cosine")
        own = itself(first)
        scale = self.log_scale.clamp(max=math.log(100)).exp() if self.learnable else 1 / self.temperature
        logits = -distances * scale  # cos, but for a constant
        partner = torch.where(own, logits, 0.0).sum(dim=1)
        there = F.softplus(row_logsumexp(logits - partner[:, None], ~own))
        back = F.softplus(row_logsumexp(logits.T - partner[:, None], ~own))
        if self.need_logs:
            self.noted["active"] = own.any().to(distances.dtype)
            self.noted["positive_distance"] = masked_mean(distances.detach(), own)
            self.noted["negative_distance"] = masked_mean(distances.detach(), ~own)
            self.noted["spread"] = spread(first.detach())
        terms = (there + back)[:, 0] / 2
        ones = torch.ones_like(terms)
        return reduce(terms, ones, ones, "mean")


ClipLoss = CLIPLoss


class DistillationLoss(base.DistillationLoss, Loss):
    def forward(self, embeddings: torch.Tensor, teacher_embeddings: torch.Tensor) -> torch.Tensor:
        self.check(embeddings, teacher_embeddings)
        with exact(embeddings):
            return self.compute(at_least_float32(embeddings), at_least_float32(teacher_embeddings.detach()))

    def compute(self, queries: torch.Tensor, taught: torch.Tensor) -> torch.Tensor:
        other = ~itself(queries)
        own, theirs = (-pairwise_distance(x, x, "cosine") / self.temperature for x in (queries, taught))
        own, theirs = (logits - row_logsumexp(logits, other) for logits in (own, theirs))
        share = torch.where(other, theirs, -torch.inf).exp()
        terms = torch.where(other, share * (theirs - own), 0.0).sum(dim=1)
        if self.need_logs:
            self.noted["active"] = other.any().to(terms.dtype)
            self.noted["spread"] = spread(queries.detach())
        ones = torch.ones_like(terms)
        return reduce(terms, ones, ones, "mean")
