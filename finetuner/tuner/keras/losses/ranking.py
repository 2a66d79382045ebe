"""The losses of :mod:`finetuner.tuner.base.losses.ranking`, for Keras."""

from ...base.losses import ranking as base
from ..functional import at_least_float32, group_ranks, masked_mean, reduce, row_logsumexp, same_group
from ..layers import Loss
from ..ops import (
    Tensor,
    at_least,
    cast,
    detached,
    exp,
    flatten,
    has_no_rows,
    log2,
    no_autocast,
    reduce_any,
    reduce_max,
    reduce_sum,
    softplus,
    where,
)

__all__ = ["LambdaRankLoss", "ListNetLoss", "RankNetLoss"]


class RankingLoss(base.RankingLoss, Loss):
    def call(self, scores: Tensor, relevance: Tensor, groups: Tensor | None = None) -> Tensor:
        self.check(scores, relevance, groups)
        with no_autocast(scores):
            scores = flatten(at_least_float32(scores))
            if has_no_rows(scores):
                return reduce_sum(scores)
            return self.compute(scores, cast(relevance, scores.dtype), groups)


class RankNetLoss(base.RankNetLoss, RankingLoss):
    def compute(self, scores: Tensor, relevance: Tensor, groups: Tensor | None) -> Tensor:
        pairs = same_group(scores, groups) & (relevance[:, None] > relevance[None, :])
        gap = scores[:, None] - scores[None, :]
        if self.need_logs:
            self.logs["active"] = masked_mean(cast(detached(gap) <= 0, gap.dtype), pairs)
        sums = reduce_sum(where(pairs, softplus(-self.sigma * gap), 0.0), axis=1)
        count = cast(reduce_sum(pairs, axis=1), sums.dtype)
        return reduce(sums, count, count, "mean")


class ListNetLoss(base.ListNetLoss, RankingLoss):
    def compute(self, scores: Tensor, relevance: Tensor, groups: Tensor | None) -> Tensor:
        same = same_group(scores, groups)
        target, predicted = (x - row_logsumexp(x[None, :], same)[:, 0] for x in (relevance / self.temperature, scores))
        if self.need_logs:
            self.logs["active"] = cast(reduce_any(same), scores.dtype)
        share = 1 / cast(reduce_sum(same, axis=1), scores.dtype)  # of an item in its group
        return reduce(-exp(target) * predicted, share, share, "mean")


class LambdaRankLoss(base.LambdaRankLoss, RankingLoss):
    def compute(self, scores: Tensor, relevance: Tensor, groups: Tensor | None) -> Tensor:
        same = same_group(scores, groups)
        pairs = same & (relevance[:, None] > relevance[None, :])
        gain = relevance
        if self.gain == "exponential":  # divided by the largest of the query, so that no power overflows
            scale = reduce_max(where(same, at_least(relevance, 0)[None, :], 0.0), axis=1)
            gain = 2 ** (relevance - scale) - 2**-scale
        ideal, discount = (self.discount(group_ranks(x, same)) for x in (relevance, detached(scores)))
        ideal_dcg = reduce_sum(where(same, (gain * ideal)[None, :], 0.0), axis=1, keepdims=True)
        change = abs(gain[:, None] - gain[None, :]) * abs(discount[:, None] - discount[None, :])
        weights = where(pairs, change / where(ideal_dcg > 0, ideal_dcg, 1.0), 0.0)
        gap = scores[:, None] - scores[None, :]
        if self.need_logs:
            self.logs["active"] = masked_mean(cast(detached(gap) <= 0, gap.dtype), pairs)
        sums = reduce_sum(weights * softplus(-self.sigma * gap), axis=1)
        in_ordered_group = cast(reduce_any(same & reduce_any(pairs, axis=1)[None, :], axis=1), sums.dtype)
        share = in_ordered_group / cast(reduce_sum(same, axis=1), sums.dtype)  # of an item in its group
        return reduce(sums, share, share, "mean")

    def discount(self, ranks: Tensor) -> Tensor:
        discounts = 1 / log2(1 + ranks)
        return discounts if self.k is None else where(ranks <= self.k, discounts, 0.0)
