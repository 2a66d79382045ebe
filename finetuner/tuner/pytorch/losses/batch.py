"""The losses of :mod:`finetuner.tuner.base.losses.batch`, for PyTorch."""

import torch
from torch.nn import functional as F

from ...base.losses import batch as base
from ..functional import (
    Relations,
    at_least_float32,
    hinge,
    masked_mean,
    pairwise_distance,
    reduce,
    row_distance,
    row_logsumexp,
    spread,
)
from ..kernels import soft_precision, soft_triplets, triplets
from .interface import Loss, exact

__all__ = [
    "BatchLoss",
    "LiftedStructureLoss",
    "MultiSimilarityLoss",
    "NTXentLoss",
    "SiameseLoss",
    "SupConLoss",
    "SurrogatePrecision",
    "TripletLoss",
    "TripletMarginLoss",
]


class BatchLoss(base.BatchLoss, Loss):
    def forward(
        self,
        embeddings: torch.Tensor,
        labels: torch.Tensor,
        references: torch.Tensor | None = None,
        reference_labels: torch.Tensor | None = None,
    ) -> torch.Tensor:
        self.check(embeddings, labels, references, reference_labels)
        relations = Relations(labels, reference_labels)
        with exact(embeddings):
            queries = at_least_float32(embeddings)
            references = queries if references is None else at_least_float32(references)
            if self.need_logs:
                self.note(queries, references, relations)
            return self.compute(queries, references, relations)

    def note(self, queries: torch.Tensor, references: torch.Tensor, relations: Relations) -> None:
        distances = pairwise_distance(queries.detach(), references.detach(), self.distance)
        positive, negative = relations.rows()
        self.noted["active"] = (positive | negative).any().to(distances.dtype)
        self.noted["positive_distance"] = masked_mean(distances, positive)
        self.noted["negative_distance"] = masked_mean(distances, negative)
        self.noted["spread"] = spread(queries.detach())


class TripletLoss(base.TripletLoss, BatchLoss):
    def forward(
        self,
        embeddings: torch.Tensor,
        labels: torch.Tensor | None = None,
        references: torch.Tensor | None = None,
        reference_labels: torch.Tensor | None = None,
    ) -> torch.Tensor:
        rows = self.explicit(embeddings, labels, references, reference_labels)
        if rows is None:
            return super().forward(embeddings, labels, references, reference_labels)
        with exact(embeddings):
            return self.compute_rows(*map(at_least_float32, rows))

    def compute_rows(self, anchor: torch.Tensor, positive: torch.Tensor, negative: torch.Tensor) -> torch.Tensor:
        near, far = row_distance(anchor, positive, self.distance), row_distance(anchor, negative, self.distance)
        terms = F.softplus(near - far) if self.margin is None else hinge(near - far + self.margin)
        active = (terms.detach() > 0).to(terms.dtype)
        if self.need_logs:
            self.noted["active"] = active.mean()
            self.noted["positive_distance"] = near.detach().mean()
            self.noted["negative_distance"] = far.detach().mean()
            self.noted["spread"] = spread(anchor.detach())
        return reduce(terms, torch.ones_like(terms), active, self.reduction)

    def compute(self, queries: torch.Tensor, references: torch.Tensor, relations: Relations) -> torch.Tensor:
        distances = pairwise_distance(queries, references, self.distance)
        positive, negative = relations.rows()
        if self.miner is not None:
            positive, negative = self.miner.refine(distances.detach(), positive, negative)
        if self.margin is None:
            sums, count, active = soft_triplets(distances, positive, negative)
        else:
            sums, count, active = triplets(distances, positive, negative, self.margin)
        if self.need_logs:
            self.noted["active"] = active.sum() / count.sum().clamp(min=1)
        return reduce(sums, count, active, self.reduction)


class SiameseLoss(base.SiameseLoss, BatchLoss):
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
        if self.need_logs:
            self.noted["active"] = active.sum() / count.sum().clamp(min=1)
        return reduce(share * terms.sum(dim=1), share * count, share * active, self.reduction)


class NTXentLoss(base.NTXentLoss, BatchLoss):
    def compute(self, queries: torch.Tensor, references: torch.Tensor, relations: Relations) -> torch.Tensor:
        logits = -pairwise_distance(queries, references, "cosine") / self.temperature  # cos, but for a constant
        positive, negative = relations.rows()
        terms = F.softplus(row_logsumexp(logits, negative) - logits)
        sums = torch.where(positive, terms, 0.0).sum(dim=1)
        count = positive.sum(dim=1).to(sums.dtype)
        return reduce(sums, count, count, "mean")


class SupConLoss(base.SupConLoss, BatchLoss):
    def compute(self, queries: torch.Tensor, references: torch.Tensor, relations: Relations) -> torch.Tensor:
        logits = -pairwise_distance(queries, references, "cosine") / self.temperature  # cos, but for a constant
        positive, negative = relations.rows()
        terms = row_logsumexp(logits, positive | negative) - logits
        count = positive.sum(dim=1).to(terms.dtype)
        means = torch.where(positive, terms, 0.0).sum(dim=1) / count.clamp(min=1)
        anchors = (count > 0).to(terms.dtype)
        return reduce(means, anchors, anchors, "mean")


class MultiSimilarityLoss(base.MultiSimilarityLoss, BatchLoss):
    def compute(self, queries: torch.Tensor, references: torch.Tensor, relations: Relations) -> torch.Tensor:
        above = 1 - self.base - pairwise_distance(queries, references, "cosine")
        positive, negative = relations.rows()
        pull = F.softplus(row_logsumexp(-self.alpha * above, positive)) / self.alpha
        push = F.softplus(row_logsumexp(self.beta * above, negative)) / self.beta
        anchors = (positive | negative).any(dim=1).to(above.dtype)
        return reduce((pull + push)[:, 0], anchors, anchors, "mean")


class LiftedStructureLoss(base.LiftedStructureLoss, BatchLoss):
    def compute(self, queries: torch.Tensor, references: torch.Tensor, relations: Relations) -> torch.Tensor:
        distances = pairwise_distance(queries, references, self.distance)
        positive, negative = relations.rows()
        pull, push = row_logsumexp(distances, positive), row_logsumexp(self.margin - distances, negative)
        anchors = (positive.any(dim=1) & negative.any(dim=1)).to(distances.dtype)
        return reduce(hinge(pull + push)[:, 0], anchors, anchors, "mean")


class SurrogatePrecision(base.SurrogatePrecision, BatchLoss):
    def compute(self, queries: torch.Tensor, references: torch.Tensor, relations: Relations) -> torch.Tensor:
        distances = pairwise_distance(queries, references, "cosine")
        positive, negative = relations.rows()
        anchors = positive.any(dim=1).to(distances.dtype)
        precision = soft_precision(distances, positive, negative, self.k, self.temperature1, self.temperature2)
        return reduce(anchors - precision, anchors, anchors, self.reduction)


TripletMarginLoss = TripletLoss
