"""The losses of :mod:`finetuner.tuner.base.losses`, for PyTorch."""

import torch
from torch import nn
from torch.nn import functional as F

from .. import base
from .functional import (
    Relations,
    hinge,
    pairwise_distance,
    reduce,
    row_logsumexp,
    soft_triplets,
    triplets,
)

__all__ = [
    "Loss",
    "MultiSimilarityLoss",
    "NTXentLoss",
    "SiameseLoss",
    "SupConLoss",
    "TripletLoss",
    "TripletMarginLoss",
]


class Loss(base.Loss, nn.Module):
    def forward(
        self,
        embeddings: torch.Tensor,
        labels: torch.Tensor,
        references: torch.Tensor | None = None,
        reference_labels: torch.Tensor | None = None,
    ) -> torch.Tensor:
        self.check(embeddings, labels, references, reference_labels)
        relations = Relations(labels, reference_labels)
        with torch.autocast(embeddings.device.type, enabled=False):
            queries = at_least_float32(embeddings)
            references = queries if references is None else at_least_float32(references)
            return self.compute(queries, references, relations)


class TripletLoss(base.TripletLoss, Loss):
    def compute(self, queries: torch.Tensor, references: torch.Tensor, relations: Relations) -> torch.Tensor:
        distances = pairwise_distance(queries, references, self.distance)
        positive, negative = relations.rows()
        if self.miner is not None:
            positive, negative = self.miner.refine(distances.detach(), positive, negative)
        if self.margin is None:
            sums, count, active = soft_triplets(distances, positive, negative)
        else:
            sums, count, active = triplets(distances, positive, negative, self.margin)
        return reduce(sums, count, active, self.reduction)


class SiameseLoss(base.SiameseLoss, Loss):
    def compute(self, queries: torch.Tensor, references: torch.Tensor, relations: Relations) -> torch.Tensor:
        distances = pairwise_distance(queries, references, self.distance)
        positive, negative = relations.rows()
        if self.miner is not None:
            positive, negative = self.miner.refine(distances.detach(), positive, negative)
        share = 1.0
        if relations.within:  # each pair stands in the masks twice, once from either end
            positive, negative = positive | positive.T, negative | negative.T
            share = 0.5
        apart = hinge(self.margin - distances)
        terms = torch.where(positive, distances, torch.where(negative, apart, 0.0))
        count = (positive | negative).sum(dim=1).to(terms.dtype)
        active = (terms.detach() > 0).sum(dim=1).to(terms.dtype)
        return reduce(share * terms.sum(dim=1), share * count, share * active, self.reduction)


class NTXentLoss(base.NTXentLoss, Loss):
    def compute(self, queries: torch.Tensor, references: torch.Tensor, relations: Relations) -> torch.Tensor:
        logits = -pairwise_distance(queries, references, "cosine") / self.temperature  # cos, but for a constant
        positive, negative = relations.rows()
        terms = F.softplus(row_logsumexp(logits, negative) - logits)
        sums = torch.where(positive, terms, 0.0).sum(dim=1)
        count = positive.sum(dim=1).to(sums.dtype)
        return reduce(sums, count, count, "mean")


class SupConLoss(base.SupConLoss, Loss):
    def compute(self, queries: torch.Tensor, references: torch.Tensor, relations: Relations) -> torch.Tensor:
        logits = -pairwise_distance(queries, references, "cosine") / self.temperature  # cos, but for a constant
        positive, negative = relations.rows()
        terms = row_logsumexp(logits, positive | negative) - logits
        count = positive.sum(dim=1).to(terms.dtype)
        means = torch.where(positive, terms, 0.0).sum(dim=1) / count.clamp(min=1)
        anchors = (count > 0).to(terms.dtype)
        return reduce(means, anchors, anchors, "mean")


class MultiSimilarityLoss(base.MultiSimilarityLoss, Loss):
    def compute(self, queries: torch.Tensor, references: torch.Tensor, relations: Relations) -> torch.Tensor:
        above = 1 - self.base - pairwise_distance(queries, references, "cosine")
        positive, negative = relations.rows()
        pull = F.softplus(row_logsumexp(-self.alpha * above, positive)) / self.alpha
        push = F.softplus(row_logsumexp(self.beta * above, negative)) / self.beta
        anchors = (positive | negative).any(dim=1).to(above.dtype)
        return reduce((pull + push)[:, 0], anchors, anchors, "mean")


TripletMarginLoss = TripletLoss


def at_least_float32(x: torch.Tensor) -> torch.Tensor:
    """``x`` itself in float32 or float64, and in float32 if it is narrower."""
    return x if x.dtype == torch.float64 else x.float()
