"""The losses of :mod:`finetuner.tuner.base.losses.batch`, for PyTorch."""

from ...base.losses import batch as base
from ..blocks import distance_statistics, reduce_blocks
from ..functional import at_least_float32, common_float, hinge, reduce, row_logsumexp
from ..kernels import soft_precision
from ..layers import Loss
from ..ops import (
    Tensor,
    at_least,
    cast,
    has_no_rows,
    no_autocast,
    reduce_any,
    reduce_sum,
    row_sums,
    softplus,
    where,
    zero_loss,
)
from ..relations import Relations

__all__ = ["LiftedStructureLoss", "MultiSimilarityLoss", "NTXentLoss", "SupConLoss", "SurrogatePrecision"]


class BatchLoss(base.BatchLoss, Loss):
    def forward(
        self,
        embeddings: Tensor,
        labels: Tensor,
        references: Tensor | None = None,
        reference_labels: Tensor | None = None,
        self_offset: int | None = None,
    ) -> Tensor:
        self.check(embeddings, labels, references, reference_labels, self_offset)
        relations = Relations(labels, reference_labels, self_offset=self_offset)
        with no_autocast(embeddings):
            if references is None:
                queries = references = at_least_float32(embeddings)
            else:
                queries, references = common_float(embeddings, references)
            if has_no_rows(queries, references):
                return zero_loss(self.reduction, queries, references)
            if self.need_logs:
                self.logs = distance_statistics(queries, references, relations, self.distance)
            return self.compute(queries, references, relations)

    def compute(self, queries: Tensor, references: Tensor, relations: Relations) -> Tensor:
        per_row = self.reduction == "none"
        return self.reduce_terms(*reduce_blocks(self.terms, queries, references, relations, self.distance, per_row))

    def reduce_terms(self, sums: Tensor, count: Tensor, active: Tensor) -> Tensor:
        if self.need_logs:
            self.logs["active"] = reduce_sum(active) / at_least(reduce_sum(count), 1)
        return reduce(sums, count, active, self.reduction)


class NTXentLoss(base.NTXentLoss, BatchLoss):
    def terms(self, distances: Tensor, positive: Tensor, negative: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        logits = -distances / self.temperature  # cos / temperature, up to a constant
        terms = softplus(row_logsumexp(logits, negative) - logits)
        sums = row_sums(where(positive, terms, 0.0))
        count = cast(row_sums(positive), sums.dtype)
        return sums, count, count


class SupConLoss(base.SupConLoss, BatchLoss):
    def terms(self, distances: Tensor, positive: Tensor, negative: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        logits = -distances / self.temperature  # cos / temperature, up to a constant
        terms = row_logsumexp(logits, positive | negative) - logits
        count = cast(row_sums(positive), terms.dtype)
        means = row_sums(where(positive, terms, 0.0)) / at_least(count, 1)
        anchors = cast(count > 0, terms.dtype)
        return means, anchors, anchors


class MultiSimilarityLoss(base.MultiSimilarityLoss, BatchLoss):
    def terms(self, distances: Tensor, positive: Tensor, negative: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        similarity = 1 - self.base - distances  # cos - base
        positive_term = softplus(row_logsumexp(-self.alpha * similarity, positive)) / self.alpha
        negative_term = softplus(row_logsumexp(self.beta * similarity, negative)) / self.beta
        anchors = cast(reduce_any(positive | negative, axis=1), similarity.dtype)
        return (positive_term + negative_term)[:, 0] * anchors, anchors, anchors


class LiftedStructureLoss(base.LiftedStructureLoss, BatchLoss):
    def terms(self, distances: Tensor, positive: Tensor, negative: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        positive_term = row_logsumexp(distances, positive)
        negative_term = row_logsumexp(self.margin - distances, negative)
        anchors = cast(reduce_any(positive, axis=1) & reduce_any(negative, axis=1), distances.dtype)
        return hinge(positive_term + negative_term)[:, 0], anchors, anchors


class SurrogatePrecision(base.SurrogatePrecision, BatchLoss):
    def terms(self, distances: Tensor, positive: Tensor, negative: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        anchors = cast(reduce_any(positive, axis=1), distances.dtype)
        precision = soft_precision(distances, positive, negative, self.k, self.temperature1, self.temperature2)
        return anchors - precision, anchors, anchors
