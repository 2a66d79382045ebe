"""The losses of :mod:`finetuner.tuner.base.losses.rows`, for PyTorch."""

import math

import torch
from torch.nn import functional as F

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
        scale = (self.log_scale.clamp(max=math.log(100)).exp(),) if self.learnable else ()
        place = torch.arange(len(first), device=first.device)
        partners = Relations(place, place)
        if self.need_logs:
            self.noted = of_distances(first, second, partners, self.distance)
            self.noted["active"] = torch.ones_like(self.noted["spread"])
        there, count, _ = in_blocks(self.terms, first, second, partners, self.distance, weights=scale)
        back, _, _ = in_blocks(self.terms, second, first, partners, self.distance, weights=scale)
        return reduce((there + back) / 2, count, count, "mean")

    def terms(
        self, distances: torch.Tensor, positive: torch.Tensor, negative: torch.Tensor, *scale: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        logits = -distances * (scale[0] if scale else 1 / self.temperature)  # cos, but for a constant
        partner = torch.where(positive, logits, 0.0).sum(dim=1, keepdim=True)
        terms = F.softplus(row_logsumexp(logits - partner, negative))[:, 0]
        ones = torch.ones_like(terms)
        return terms, ones, ones


ClipLoss = CLIPLoss


class DistillationLoss(base.DistillationLoss, Loss):
    def forward(self, embeddings: torch.Tensor, teacher_embeddings: torch.Tensor) -> torch.Tensor:
        self.check(embeddings, teacher_embeddings)
        with exact(embeddings):
            return self.compute(at_least_float32(embeddings), at_least_float32(teacher_embeddings.detach()))

    def compute(self, queries: torch.Tensor, taught: torch.Tensor) -> torch.Tensor:
        lesson = Lesson(taught, Relations(torch.arange(len(taught), device=taught.device)))
        sums, count, _ = in_blocks(self.terms, queries, queries, lesson, "cosine")
        if self.need_logs:
            self.noted["active"] = torch.full_like(sums.detach().sum(), float(len(queries) > 1))
            self.noted["spread"] = spread(queries.detach())
        return reduce(sums, count, count, "mean")

    def terms(
        self, distances: torch.Tensor, taught: torch.Tensor, other: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        own, theirs = (-x / self.temperature for x in (distances, taught))
        own, theirs = (logits - row_logsumexp(logits, other) for logits in (own, theirs))
        share = torch.where(other, theirs, -torch.inf).exp()
        terms = torch.where(other, share * (theirs - own), 0.0).sum(dim=1)
        ones = torch.ones_like(terms)
        return terms, ones, ones


class Lesson:
    """What a teacher tells of a block of rows, in place of relations."""

    def __init__(self, taught: torch.Tensor, relations: Relations):
        self.places, self.relations = places_of(taught, taught, "cosine"), relations

    def rows(self, start: int = 0, size: int | None = None) -> tuple[torch.Tensor, torch.Tensor]:
        """The teacher's distances, and which rows are others: two ``[B, N]``."""
        _, other = self.relations.rows(start, size)
        return distances_of(self.places, "cosine", start, size), other
