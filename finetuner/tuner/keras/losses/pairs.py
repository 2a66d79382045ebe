"""The losses of :mod:`finetuner.tuner.base.losses.pairs`, for Keras."""

import math

from ...base.losses import pairs as base
from ...base.losses.reductions import NEGATIVE, LogSumExp
from ..blocks import distance_statistics, reduce_both_ways
from ..comparison import Comparison
from ..functional import common_float, hinge, masked_mean, reduce, row_distance, spread
from ..layers import Loss, WeightedLoss
from ..ops import (
    Tensor,
    as_tensor,
    cast,
    detached,
    exp,
    has_no_rows,
    no_autocast,
    ones_like,
    reduce_mean,
    row_numbers,
    row_sums,
    softplus,
    where,
    zero_loss,
)
from ..relations import Relations

__all__ = ["CLIPLoss", "ClipLoss", "ContrastiveLoss", "CosineSimilarityLoss"]

MAX_LOG_SCALE = math.log(100)


class PairLoss(base.PairLoss, Loss):
    def call(self, first: Tensor, second: Tensor, label: Tensor) -> Tensor:
        self.check(first, second, label)
        with no_autocast(first):
            first, second = common_float(first, second)
            if has_no_rows(first):
                return zero_loss(self.reduction, first, second)
            return self.compute(first, second, cast(label, first.dtype))

    def reduce_terms(self, terms: Tensor, distances: Tensor, similar: Tensor, first: Tensor) -> Tensor:
        if self.need_logs:
            self.logs["active"] = reduce_mean(cast(detached(terms) > 0, terms.dtype))
            self.logs["positive_distance"] = masked_mean(detached(distances), similar)
            self.logs["negative_distance"] = masked_mean(detached(distances), 1 - similar)
            self.logs["spread"] = spread(detached(first))
        ones = ones_like(terms)
        return reduce(terms, ones, ones, self.reduction)


class ContrastiveLoss(base.ContrastiveLoss, PairLoss):
    def compute(self, first: Tensor, second: Tensor, label: Tensor) -> Tensor:
        distances = row_distance(first, second, self.distance)
        similar = label if self.similar_label == 1 else 1 - label
        terms = similar * distances**2 + (1 - similar) * hinge(self.margin - distances) ** 2
        return self.reduce_terms(terms, distances, similar, first)


class CosineSimilarityLoss(base.CosineSimilarityLoss, PairLoss):
    def compute(self, first: Tensor, second: Tensor, label: Tensor) -> Tensor:
        distances = row_distance(first, second, "cosine")
        similar = (label - self.low) / (self.high - self.low)
        terms = (1 - distances - similar) ** 2
        return self.reduce_terms(terms, distances, similar, first)


class CLIPLoss(base.CLIPLoss, WeightedLoss):
    def call(self, first: Tensor, second: Tensor) -> Tensor:
        self.check(first, second)
        with no_autocast(first):
            first, second = common_float(first, second)
            return zero_loss("mean", first, second) if has_no_rows(first) else self.compute(first, second)

    def compute(self, first: Tensor, second: Tensor) -> Tensor:
        scale: tuple[Tensor, ...] = ()
        if self.learnable:
            log_scale = as_tensor(self.log_scale)
            scale = (cast(exp(where(log_scale > MAX_LOG_SCALE, MAX_LOG_SCALE, log_scale)), first.dtype),)
        pair_numbers = row_numbers(first)
        partners = Relations(pair_numbers, pair_numbers)
        if self.need_logs:
            self.logs = distance_statistics(first, second, partners, self.distance)
            self.logs["active"] = ones_like(self.logs["spread"])
        forwards, backwards = reduce_both_ways(self.terms, first, second, partners, self.distance, scale)
        return reduce((forwards[0] + backwards[0]) / 2, forwards[1], forwards[2], "mean")

    def terms(self, rows: Comparison, *scale: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        factor = scale[0] if scale else 1 / self.temperature
        (others,) = rows.reduce(LogSumExp(NEGATIVE, -factor))  # of cos / temperature, up to a constant
        distances, valid = rows.positives()
        terms = softplus(others + factor * row_sums(where(valid, distances, 0.0)))
        ones = ones_like(terms)
        return terms, ones, ones


ClipLoss = CLIPLoss
