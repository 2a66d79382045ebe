"""The losses of :mod:`finetuner.tuner.base.losses.heads`, for PaddlePaddle."""

import copy
from typing import Any

import paddle
from paddle import nn
from paddle.nn import functional as F

from ...base.losses import heads as base
from ..functional import (
    at_least_float32,
    detached,
    group_ranks,
    masked_mean,
    of_groups,
    one_hot,
    reduce,
    row_logsumexp,
    where,
)
from .interface import Loss, exact, on_host

__all__ = ["FocalLoss", "HeadLoss", "LambdaRankLoss", "ListNetLoss", "NativeLoss", "RankNetLoss"]


class HeadLoss(base.HeadLoss, Loss):
    check = paddle.jit.not_to_static(base.HeadLoss.check)

    def forward(
        self, scores: paddle.Tensor, relevance: paddle.Tensor, groups: paddle.Tensor | None = None
    ) -> paddle.Tensor:
        self.check(scores, relevance, groups)
        with exact(scores):
            scores = at_least_float32(scores).reshape(-1)
            return self.compute(scores, relevance.astype(scores.dtype), groups)


class RankNetLoss(base.RankNetLoss, HeadLoss):
    def compute(self, scores: paddle.Tensor, relevance: paddle.Tensor, groups: paddle.Tensor | None) -> paddle.Tensor:
        pairs = of_groups(scores, groups) & (relevance[:, None] > relevance[None, :])
        gap = scores[:, None] - scores[None, :]
        if self.need_logs:
            self.noted["active"] = masked_mean((detached(gap) <= 0).astype(gap.dtype), pairs)
        sums = where(pairs, F.softplus(-self.sigma * gap), 0.0).sum(axis=1)
        count = pairs.sum(axis=1).astype(sums.dtype)
        return reduce(sums, count, count, "mean")


class ListNetLoss(base.ListNetLoss, HeadLoss):
    def compute(self, scores: paddle.Tensor, relevance: paddle.Tensor, groups: paddle.Tensor | None) -> paddle.Tensor:
        same = of_groups(scores, groups)
        wanted, chances = (x - row_logsumexp(x[None, :], same)[:, 0] for x in (relevance / self.temperature, scores))
        if self.need_logs:
            self.noted["active"] = same.any().astype(scores.dtype)
        share = 1 / same.sum(axis=1).astype(scores.dtype)  # of a group that an item is
        return reduce(-wanted.exp() * chances, share, share, "mean")


class LambdaRankLoss(base.LambdaRankLoss, HeadLoss):
    def compute(self, scores: paddle.Tensor, relevance: paddle.Tensor, groups: paddle.Tensor | None) -> paddle.Tensor:
        same = of_groups(scores, groups)
        pairs = same & (relevance[:, None] > relevance[None, :])
        gain = 2**relevance
        ideal, discount = (self.discount(group_ranks(x, same)) for x in (relevance, detached(scores)))
        best = where(same, ((gain - 1) * ideal)[None, :], 0.0).sum(axis=1, keepdim=True)
        change = (gain[:, None] - gain[None, :]).abs() * (discount[:, None] - discount[None, :]).abs()
        weights = where(pairs, change / where(best > 0, best, 1.0), 0.0)
        gap = scores[:, None] - scores[None, :]
        if self.need_logs:
            self.noted["active"] = masked_mean((detached(gap) <= 0).astype(gap.dtype), pairs)
        sums = (weights * F.softplus(-self.sigma * gap)).sum(axis=1)
        taught = (same & pairs.any(axis=1)[None, :]).any(axis=1).astype(sums.dtype)
        share = taught / same.sum(axis=1).astype(sums.dtype)  # of a group that an item is
        return reduce(sums, share, share, "mean")

    def discount(self, ranks: paddle.Tensor) -> paddle.Tensor:
        discounts = 1 / paddle.log2(1 + ranks)
        return discounts if self.k is None else where(ranks <= self.k, discounts, 0.0)


class FocalLoss(base.FocalLoss, Loss):
    check = paddle.jit.not_to_static(base.FocalLoss.check)

    def forward(self, logits: paddle.Tensor, labels: paddle.Tensor) -> paddle.Tensor:
        self.check(logits, labels)
        if (known := on_host(labels)) is not None:
            self.check_labels(known, logits.shape[1])
        with exact(logits):
            return self.compute(at_least_float32(logits), labels)

    def compute(self, logits: paddle.Tensor, labels: paddle.Tensor) -> paddle.Tensor:
        own = one_hot(labels, logits.shape[1])
        rest = row_logsumexp(logits - where(own, logits, 0.0).sum(axis=1, keepdim=True), ~own)[:, 0]
        # With p the share of its own class, rest is log((1 - p) / p).
        terms = paddle.exp(-self.gamma * F.softplus(-rest)) * F.softplus(rest)
        weights = paddle.ones_like(terms)
        if self.weight is not None:
            weights = where(own, paddle.to_tensor(self.weight, dtype=terms.dtype), 0.0).sum(axis=1)
        if self.need_logs:
            self.noted["active"] = (detached(rest) > 0).astype(rest.dtype).mean()
        return (
            masked_mean(terms, weights)
            if self.reduction == "mean"
            else reduce(weights * terms, weights, weights, self.reduction)
        )


class NativeLoss(base.NativeLoss, Loss):
    check = paddle.jit.not_to_static(base.NativeLoss.check)
    names = ("BCEWithLogitsLoss", "CrossEntropyLoss", "L1Loss", "MSELoss", "SmoothL1Loss")

    def __init__(self, loss: Any, need_logs: bool = False):
        super().__init__(loss, need_logs)
        if not self.is_native(loss):
            raise TypeError(f"loss must be one of paddle.nn, got {type(loss).__name__}")

    @staticmethod
    def is_native(loss: object) -> bool:
        return any(cls.__module__ == nn.layer.loss.__name__ for cls in type(loss).__mro__)

    def forward(
        self, outputs: paddle.Tensor, targets: paddle.Tensor, weights: paddle.Tensor | None = None
    ) -> paddle.Tensor:
        self.check(outputs, targets, weights)
        if outputs.ndim == 2 and outputs.shape[1] == 1 and targets.ndim == 1:
            outputs = outputs[:, 0]
        targets = targets.astype(
            outputs.dtype if targets.is_floating_point() or outputs.ndim == targets.ndim else "int64"
        )
        each = copy.copy(self.loss)
        if isinstance(each, nn.CrossEntropyLoss) and outputs.ndim == targets.ndim:
            each.soft_label = True  # the targets are shares of each class
        if weights is None:
            return each(outputs, targets)
        each.reduction = "none"
        terms = each(outputs, targets)
        terms = terms if terms.ndim == 1 else terms.mean(axis=1)
        return masked_mean(terms, weights)
