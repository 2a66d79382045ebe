"""The losses of :mod:`finetuner.tuner.base.losses.heads`, for Keras."""

from typing import Any

import keras
from keras import KerasTensor, ops

from ...base.losses import heads as base
from ..functional import at_least_float32, group_ranks, masked_mean, of_groups, one_hot, reduce, row_logsumexp
from ..interop import KerasLoss
from .interface import Loss, on_host

__all__ = ["FocalLoss", "HeadLoss", "LambdaRankLoss", "ListNetLoss", "NativeLoss", "RankNetLoss"]


class HeadLoss(base.HeadLoss, Loss):
    def call(self, scores: KerasTensor, relevance: KerasTensor, groups: KerasTensor | None = None) -> KerasTensor:
        self.check(scores, relevance, groups)
        scores = ops.reshape(at_least_float32(scores), (-1,))
        return self.compute(scores, ops.cast(relevance, scores.dtype), groups)


class RankNetLoss(base.RankNetLoss, HeadLoss):
    def compute(self, scores: KerasTensor, relevance: KerasTensor, groups: KerasTensor | None) -> KerasTensor:
        pairs = of_groups(scores, groups) & (relevance[:, None] > relevance[None, :])
        gap = scores[:, None] - scores[None, :]
        if self.need_logs:
            self.noted["active"] = masked_mean(ops.cast(ops.stop_gradient(gap) <= 0, gap.dtype), pairs)
        sums = ops.sum(ops.where(pairs, ops.softplus(-self.sigma * gap), 0.0), axis=1)
        count = ops.sum(ops.cast(pairs, sums.dtype), axis=1)
        return reduce(sums, count, count, "mean")


class ListNetLoss(base.ListNetLoss, HeadLoss):
    def compute(self, scores: KerasTensor, relevance: KerasTensor, groups: KerasTensor | None) -> KerasTensor:
        same = of_groups(scores, groups)
        wanted, chances = (x - row_logsumexp(x[None, :], same)[:, 0] for x in (relevance / self.temperature, scores))
        if self.need_logs:
            self.noted["active"] = ops.cast(ops.any(same), scores.dtype)
        share = 1 / ops.sum(ops.cast(same, scores.dtype), axis=1)  # of a group that an item is
        return reduce(-ops.exp(wanted) * chances, share, share, "mean")


class LambdaRankLoss(base.LambdaRankLoss, HeadLoss):
    def compute(self, scores: KerasTensor, relevance: KerasTensor, groups: KerasTensor | None) -> KerasTensor:
        same = of_groups(scores, groups)
        pairs = same & (relevance[:, None] > relevance[None, :])
        gain = 2**relevance
        ideal, discount = (self.discount(group_ranks(x, same)) for x in (relevance, ops.stop_gradient(scores)))
        best = ops.sum(ops.where(same, ((gain - 1) * ideal)[None, :], 0.0), axis=1, keepdims=True)
        change = ops.abs(gain[:, None] - gain[None, :]) * ops.abs(discount[:, None] - discount[None, :])
        weights = ops.where(pairs, change / ops.where(best > 0, best, 1.0), 0.0)
        gap = scores[:, None] - scores[None, :]
        if self.need_logs:
            self.noted["active"] = masked_mean(ops.cast(ops.stop_gradient(gap) <= 0, gap.dtype), pairs)
        sums = ops.sum(weights * ops.softplus(-self.sigma * gap), axis=1)
        taught = ops.cast(ops.any(same & ops.any(pairs, axis=1)[None, :], axis=1), sums.dtype)
        share = taught / ops.sum(ops.cast(same, sums.dtype), axis=1)  # of a group that an item is
        return reduce(sums, share, share, "mean")

    def discount(self, ranks: KerasTensor) -> KerasTensor:
        discounts = 1 / ops.log2(1 + ranks)
        return discounts if self.k is None else ops.where(ranks <= self.k, discounts, 0.0)


class FocalLoss(base.FocalLoss, Loss):
    def call(self, logits: KerasTensor, labels: KerasTensor) -> KerasTensor:
        self.check(logits, labels)
        if (known := on_host(labels)) is not None:
            self.check_labels(known, logits.shape[1])
        return self.compute(at_least_float32(logits), labels)

    def compute(self, logits: KerasTensor, labels: KerasTensor) -> KerasTensor:
        own = one_hot(labels, logits.shape[1])
        rest = row_logsumexp(logits - ops.sum(ops.where(own, logits, 0.0), axis=1, keepdims=True), ~own)[:, 0]
        # With p the share of its own class, rest is log((1 - p) / p).
        terms = ops.exp(-self.gamma * ops.softplus(-rest)) * ops.softplus(rest)
        weights = ops.ones_like(terms)
        if self.weight is not None:
            weights = ops.sum(ops.where(own, ops.convert_to_tensor([*self.weight], terms.dtype), 0.0), axis=1)
        if self.need_logs:
            self.noted["active"] = ops.mean(ops.cast(ops.stop_gradient(rest) > 0, rest.dtype))
        return (
            masked_mean(terms, weights)
            if self.reduction == "mean"
            else reduce(weights * terms, weights, weights, self.reduction)
        )


class NativeLoss(base.NativeLoss, Loss):
    names = (
        "BinaryCrossentropy",
        "CategoricalCrossentropy",
        "Huber",
        "LogCosh",
        "MeanAbsoluteError",
        "MeanSquaredError",
        "SparseCategoricalCrossentropy",
    )

    def __init__(self, loss: Any, need_logs: bool = False):
        super().__init__(loss, need_logs)
        if not self.is_native(loss):
            raise TypeError(f"loss must be one of keras.losses, got {type(loss).__name__}")

    @staticmethod
    def is_native(loss: object) -> bool:
        return isinstance(loss, keras.losses.Loss) and not isinstance(loss, KerasLoss)

    def call(self, outputs: KerasTensor, targets: KerasTensor, weights: KerasTensor | None = None) -> KerasTensor:
        self.check(outputs, targets, weights)
        outputs = at_least_float32(outputs)
        if len(targets.shape) == 1 and outputs.shape[1:] in ((), (1,)):
            # In a column, as Keras' losses are a mean along the last axis.
            outputs, targets = ops.reshape(outputs, (-1, 1)), ops.reshape(targets, (-1, 1))
        if len(outputs.shape) == len(targets.shape):
            targets = ops.cast(targets, outputs.dtype)
        if weights is None:
            return self.loss(targets, outputs)
        return masked_mean(self.loss.call(targets, outputs), weights)
