"""The losses of :mod:`finetuner.tuner.base.losses.batch`, for PaddlePaddle."""

from ...base.losses import batch as base
from ...base.losses.reductions import ANY, NEGATIVE, POSITIVE, LogSumExp
from ..blocks import distance_statistics, reduce_rows
from ..comparison import Comparison
from ..functional import at_least_float32, common_float, hinge, reduce, row_logsumexp
from ..kernels import soft_precision
from ..layers import Loss
from ..ops import (
    Tensor,
    add_column,
    at_least,
    cast,
    has_no_rows,
    no_autocast,
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
        found = reduce_rows(self.terms, queries, references, relations, self.distance, per_row, tiled=self.tiled)
        return self.reduce_terms(*found)

    def reduce_terms(self, sums: Tensor, count: Tensor, active: Tensor) -> Tensor:
        if self.need_logs:
            self.logs["active"] = reduce_sum(active) / at_least(reduce_sum(count), 1)
        return reduce(sums, count, active, self.reduction)


class NTXentLoss(base.NTXentLoss, BatchLoss):
    def terms(self, rows: Comparison) -> tuple[Tensor, Tensor, Tensor]:
        (negatives,) = rows.reduce(LogSumExp(NEGATIVE, -1 / self.temperature))  # of cos / temperature - 1 / temperature
        distances, valid = rows.positives()
        terms = softplus(negatives[:, None] + distances / self.temperature)
        count = rows.count(POSITIVE)
        return row_sums(where(valid, terms, 0.0)), count, count


class SupConLoss(base.SupConLoss, BatchLoss):
    def terms(self, rows: Comparison) -> tuple[Tensor, Tensor, Tensor]:
        (others,) = rows.reduce(LogSumExp(ANY, -1 / self.temperature))  # of cos / temperature - 1 / temperature
        distances, valid = rows.positives()
        terms = others[:, None] + distances / self.temperature
        count = rows.count(POSITIVE)
        means = row_sums(where(valid, terms, 0.0)) / at_least(count, 1)
        anchors = cast(count > 0, means.dtype)
        return means, anchors, anchors


class MultiSimilarityLoss(base.MultiSimilarityLoss, BatchLoss):
    def terms(self, rows: Comparison) -> tuple[Tensor, Tensor, Tensor]:
        (negatives,) = rows.reduce(LogSumExp(NEGATIVE, -self.beta))
        distances, valid = rows.positives()
        positives = row_logsumexp(self.alpha * distances, valid)[:, 0]
        margin = 1 - self.base  # the distance that separates easy from hard pairs
        positive_term = softplus(positives - self.alpha * margin) / self.alpha
        negative_term = softplus(negatives + self.beta * margin) / self.beta
        anchors = cast(rows.count(ANY) > 0, distances.dtype)
        return (positive_term + negative_term) * anchors, anchors, anchors


class LiftedStructureLoss(base.LiftedStructureLoss, BatchLoss):
    def terms(self, rows: Comparison) -> tuple[Tensor, Tensor, Tensor]:
        (negatives,) = rows.reduce(LogSumExp(NEGATIVE, -1.0))
        distances, valid = rows.positives()
        positives = row_logsumexp(distances, valid)[:, 0]
        anchors = cast((rows.count(POSITIVE) > 0) & (rows.count(NEGATIVE) > 0), distances.dtype)
        return hinge(positives + negatives + self.margin), anchors, anchors


class SurrogatePrecision(base.SurrogatePrecision, BatchLoss):
    def terms(self, rows: Comparison) -> tuple[Tensor, Tensor, Tensor]:
        k, first_rank, temperatures = self.k, 1.0, (self.temperature1, self.temperature2)
        if self.include_self:
            k, first_rank = k + 1, 0.5
            sides = (rows.distances, 0.0), (rows.positive, True), (rows.negative, False)
            rows = Comparison(*[add_column(x, value) for x, value in sides])  # of the item itself
        anchors = cast(rows.count(POSITIVE) > 0, rows.distances.dtype)
        precision = soft_precision(rows.distances, rows.positive, rows.negative, k, *temperatures, first_rank)
        return anchors - precision, anchors, anchors
