"""The losses of :mod:`finetuner.tuner.base.losses.margins`, for PyTorch."""

import math

from ...base.losses import centres as interface
from ...base.losses import margins as base
from ...base.losses.reductions import NEGATIVE, POSITIVE, LogSumExp
from ..blocks import distance_statistics, reduce_rows
from ..comparison import Comparison
from ..functional import angle, common_float, monotone_cosine, reduce
from ..layers import WeightedLoss
from ..ops import (
    Tensor,
    at_least,
    cast,
    detached,
    from_numpy,
    has_no_rows,
    labels_on_host,
    linear,
    log2,
    no_autocast,
    ones_like,
    reduce_any,
    reduce_sum,
    relu,
    row_numbers,
    row_sums,
    softplus,
    where,
    zero_loss,
)
from ..relations import Relations
from ..sampling import class_mask, draw_classes, take_rows

__all__ = ["ArcFaceLoss", "ArcFaceLossWithMLP", "CosFaceLoss", "SphereFaceLoss"]


class MarginLoss(interface.MarginLoss, WeightedLoss):
    def forward(self, embeddings: Tensor, labels: Tensor, weight: Tensor | None = None) -> Tensor:
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
        numbers = row_numbers(centres)
        weights: tuple[Tensor, ...] = ()
        classes = cast(labels, numbers.dtype)
        classes = where(cast(classes, labels.dtype) == labels, classes, -1)  # 0.5 is no class
        if self.sample < 1 and self.training:
            in_batch = class_mask(classes, centres)
            numbers = self.sampled_classes(classes, in_batch)
            weights, centres = (self.log_weights(in_batch, numbers, queries),), take_rows(centres, numbers)
        relations = Relations(classes, numbers)  # the own class is the positive, all others are negatives
        per_row, tiled = self.reduction == "none", not self.smoothing_epsilon
        sums, count, active = reduce_rows(self.terms, queries, centres, relations, "cosine", per_row, weights, tiled)
        if self.need_logs:
            fixed = detached(queries), detached(centres)
            _, rows, violated = reduce_rows(self.violations, *fixed, relations, "cosine", tiled=False)
            self.logs = distance_statistics(*fixed, relations, "cosine")
            self.logs["active"] = reduce_sum(violated) / reduce_sum(rows)
        return reduce(sums, count, active, self.reduction)

    def sampled_classes(self, classes: Tensor, in_batch: Tensor) -> Tensor:
        count = max(1, round(self.sample * in_batch.shape[0]))
        return draw_classes(classes, in_batch, self.random_uniform(in_batch), count)

    def log_weights(self, in_batch: Tensor, numbers: Tensor, like: Tensor) -> Tensor:
        """The logarithm of how many classes each sampled class stands for: ``[S]``, 0 for those of the batch."""
        drawn = 1 - cast(take_rows(in_batch, numbers), like.dtype)
        others = in_batch.shape[0] - reduce_sum(cast(in_batch, like.dtype))
        return drawn * math.log(2) * log2(at_least(others, 1) / at_least(reduce_sum(drawn), 1))

    def terms(self, rows: Comparison, log_weights: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor]:
        (others,) = rows.reduce(LogSumExp(NEGATIVE, -self.scale, log_weights))  # of scale cos - scale
        own = self.own_logit(rows)
        terms = where(rows.count(POSITIVE) > 0, softplus(others + self.scale - own), math.nan)  # no class has the label
        if self.smoothing_epsilon:
            terms = terms - self.smoothing_epsilon * self.mean_logit(rows, own)
        ones = ones_like(terms)
        return terms, ones, ones

    def violations(self, rows: Comparison) -> tuple[Tensor, Tensor, Tensor]:
        """For each row: 0, 1, and whether another class has a larger logit than the own."""
        larger = self.scale * (1 - rows.distances) > self.own_logit(rows)[:, None]
        ones = ones_like(rows.distances[:, 0])
        return 0 * ones, ones, cast(reduce_any(larger & rows.negative, axis=1), ones.dtype)

    def own_logit(self, rows: Comparison) -> Tensor:
        """The logit of each row's own class."""
        distances, valid = rows.positives()
        return self.scale * self.target_logit(row_sums(where(valid, distances, 0.0)))

    def mean_logit(self, rows: Comparison, own: Tensor) -> Tensor:
        """The mean of the logits of all classes, or of those in the category of the own, relative to the own."""
        logits = where(rows.positive, 0.0, self.scale * (1 - rows.distances) - own[:, None])
        same = rows.positive | rows.negative
        if self.categories is not None:
            categories = cast(from_numpy(self.categories, rows.distances), logits.dtype)[None, :]
            same = categories == row_sums(where(rows.positive, categories, 0.0))[:, None]
        return row_sums(where(same, logits, 0.0)) / cast(row_sums(same), logits.dtype)


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
