"""The losses of :mod:`finetuner.tuner.base.losses.batch`, for PyTorch."""

import torch
from torch.nn import functional as F

from ...base.losses import batch as base
from ..blocks import in_blocks, of_distances, selected
from ..functional import (
    Masks,
    Relations,
    at_least_float32,
    hinge,
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
                self.noted = of_distances(queries, references, relations, self.distance)
            return self.compute(queries, references, relations)

    def compute(self, queries: torch.Tensor, references: torch.Tensor, relations: Relations) -> torch.Tensor:
        each = self.reduction == "none"
        return self.reduced(*in_blocks(self.terms, queries, references, relations, self.distance, each))

    def reduced(self, sums: torch.Tensor, count: torch.Tensor, active: torch.Tensor) -> torch.Tensor:
        if self.need_logs:
            self.noted["active"] = active.sum() / count.sum().clamp(min=1)
        return reduce(sums, count, active, self.reduction)


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

    def terms(
        self, distances: torch.Tensor, positive: torch.Tensor, negative: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        if self.miner is not None:
            positive, negative = self.miner.refine(distances.detach(), positive, negative)
        if self.margin is None:
            return soft_triplets(distances, positive, negative)
        return triplets(distances, positive, negative, self.margin)


class SiameseLoss(base.SiameseLoss, BatchLoss):
    def compute(self, queries: torch.Tensor, references: torch.Tensor, relations: Relations) -> torch.Tensor:
        pairs: Masks | Relations = relations
        if self.miner is not None:
            pairs = selected(self.miner, queries, references, relations, self.distance)
        share = 1.0
        if relations.within:  # each pair stands in the masks twice, once from either end
            pairs, share = pairs.either_way(), 0.5
        each = self.reduction == "none"
        found = in_blocks(self.terms, queries, references, pairs, self.distance, each)
        return self.reduced(*(share * number for number in found))

    def terms(
        self, distances: torch.Tensor, positive: torch.Tensor, negative: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        apart = hinge(self.margin - distances)
        terms = torch.where(positive, distances, torch.where(negative, apart, 0.0))
        count = (positive | negative).sum(dim=1).to(terms.dtype)
        active = (terms.detach() > 0).sum(dim=1).to(terms.dtype)
        return terms.sum(dim=1), count, active


class NTXentLoss(base.NTXentLoss, BatchLoss):
    def terms(
        self, distances: torch.Tensor, positive: torch.Tensor, negative: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        logits = -distances / self.temperature  # cos, but for a constant
        terms = F.softplus(row_logsumexp(logits, negative) - logits)
        sums = torch.where(positive, terms, 0.0).sum(dim=1)
        count = positive.sum(dim=1).to(sums.dtype)
        return sums, count, count


class SupConLoss(base.SupConLoss, BatchLoss):
    def terms(
        self, distances: torch.Tensor, positive: torch.Tensor, negative: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        logits = -distances / self.temperature  # cos, but for a constant
        terms = row_logsumexp(logits, positive | negative) - logits
        count = positive.sum(dim=1).to(terms.dtype)
        means = torch.where(positive, terms, 0.0).sum(dim=1) / count.clamp(min=1)
        anchors = (count > 0).to(terms.dtype)
        return means, anchors, anchors


class MultiSimilarityLoss(base.MultiSimilarityLoss, BatchLoss):
    def terms(
        self, distances: torch.Tensor, positive: torch.Tensor, negative: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        above = 1 - self.base - distances
        pull = F.softplus(row_logsumexp(-self.alpha * above, positive)) / self.alpha
        push = F.softplus(row_logsumexp(self.beta * above, negative)) / self.beta
        anchors = (positive | negative).any(dim=1).to(above.dtype)
        return (pull + push)[:, 0] * anchors, anchors, anchors


class LiftedStructureLoss(base.LiftedStructureLoss, BatchLoss):
    def terms(
        self, distances: torch.Tensor, positive: torch.Tensor, negative: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        pull, push = row_logsumexp(distances, positive), row_logsumexp(self.margin - distances, negative)
        anchors = (positive.any(dim=1) & negative.any(dim=1)).to(distances.dtype)
        return hinge(pull + push)[:, 0], anchors, anchors


class SurrogatePrecision(base.SurrogatePrecision, BatchLoss):
    def terms(
        self, distances: torch.Tensor, positive: torch.Tensor, negative: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        anchors = positive.any(dim=1).to(distances.dtype)
        precision = soft_precision(distances, positive, negative, self.k, self.temperature1, self.temperature2)
        return anchors - precision, anchors, anchors


TripletMarginLoss = TripletLoss
