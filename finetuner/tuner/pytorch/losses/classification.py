"""The losses of :mod:`finetuner.tuner.base.losses.classification`, for PyTorch."""

import math

from ...base.losses import classification as base
from ..functional import at_least_float32, masked_mean, one_hot, reduce, row_logsumexp
from ..layers import Loss
from ..ops import (
    Tensor,
    cast,
    constant,
    detached,
    exp,
    has_no_rows,
    labels_on_host,
    no_autocast,
    ones_like,
    reduce_any,
    reduce_mean,
    reduce_sum,
    softplus,
    where,
    zero_loss,
)

__all__ = ["FocalLoss"]


class FocalLoss(base.FocalLoss, Loss):
    def forward(self, logits: Tensor, labels: Tensor) -> Tensor:
        self.check(logits, labels)
        if (host_labels := labels_on_host(labels)) is not None:
            self.check_labels(host_labels, logits.shape[1])
        with no_autocast(logits):
            logits = at_least_float32(logits)
            return zero_loss(self.reduction, logits) if has_no_rows(logits) else self.compute(logits, labels)

    def compute(self, logits: Tensor, labels: Tensor) -> Tensor:
        own = one_hot(labels, logits.shape[1])
        log_odds = row_logsumexp(logits - reduce_sum(where(own, logits, 0.0), axis=1, keepdims=True), ~own)[:, 0]
        # With p the probability of the item's own class, log_odds is log((1 - p) / p).
        terms = exp(-self.gamma * softplus(-log_odds)) * softplus(log_odds)
        terms = where(reduce_any(own, axis=1), terms, math.nan)  # a label that no class has
        weights = ones_like(terms)
        if self.weight is not None:
            weights = reduce_sum(where(own, constant(self.weight, terms), 0.0), axis=1)
        if self.need_logs:
            self.logs["active"] = reduce_mean(cast(detached(log_odds) > 0, log_odds.dtype))
        if self.reduction == "mean":
            return masked_mean(terms, weights)
        return reduce(weights * terms, weights, weights, self.reduction)
