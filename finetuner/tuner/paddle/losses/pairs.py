"""The losses of :mod:`finetuner.tuner.base.losses.pairs`, for PaddlePaddle."""

import math

from ...base.losses import pairs as base
from ..blocks import distance_statistics, reduce_blocks
from ..functional import common_float, hinge, masked_mean, reduce, row_distance, row_logsumexp, spread
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
    reduce_sum,
    row_numbers,
    softplus,
    where,
    zero_loss,
)
from ..relations import Relations

__all__ = ["CLIPLoss", "ClipLoss", "ContrastiveLoss", "CosineSimilarityLoss"]

MAX_LOG_SCALE = math.log(100)


class PairLoss(base.PairLoss, Loss):
    def forward(self, first: Tensor, second: Tensor, label: Tensor) -> Tensor:
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
    def forward(self, first: Tensor, second: Tensor) -> Tensor:
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
        forwards, count, _ = reduce_blocks(self.terms, first, second, partners, self.distance, weights=scale)
        backwards, _, _ = reduce_blocks(self.terms, second, first, partners, self.distance, weights=scale)
        return reduce((forwards + backwards) / 2, count, count, "mean")

    def terms(
        self, distances: Tensor, positive: Tensor, negative: Tensor, *scale: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        logits = -distances * (scale[0] if scale else 1 / self.temperature)  # cos / temperature, up to a constant
        partner = reduce_sum(where(positive, logits, 0.0), axis=1, keepdims=True)
        terms = softplus(row_logsumexp(logits - partner, negative))[:, 0]
        ones = ones_like(terms)
        return terms, ones, ones


ClipLoss = CLIPLoss
