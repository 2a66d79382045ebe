"""The losses of :mod:`finetuner.tuner.base.losses.heads`, for PyTorch."""

import copy
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from ...base.losses import heads as base
from ..functional import at_least_float32, group_ranks, masked_mean, of_groups, one_hot, reduce, row_logsumexp
from .interface import Loss, exact, on_host

__all__ = ["FocalLoss", "HeadLoss", "LambdaRankLoss", "ListNetLoss", "NativeLoss", "RankNetLoss"]


class HeadLoss(base.HeadLoss, Loss):
    def forward(
        self, scores: torch.Tensor, relevance: torch.Tensor, groups: torch.Tensor | None = None
    ) -> torch.Tensor:
        self.check(scores, relevance, groups)
        with exact(scores):
            scores = at_least_float32(scores).reshape(-1)
            return self.compute(scores, relevance.to(scores.dtype), groups)


class RankNetLoss(base.RankNetLoss, HeadLoss):
    def compute(self, scores: torch.Tensor, relevance: torch.Tensor, groups: torch.Tensor | None) -> torch.Tensor:
        pairs = of_groups(scores, groups) & (relevance[:, None] > relevance[None, :])
        gap = scores[:, None] - scores[None, :]
        if self.need_logs:
            self.noted["active"] = masked_mean((gap.detach() <= 0).to(gap.dtype), pairs)
        sums = torch.where(pairs, F.softplus(-self.sigma * gap), 0.0).sum(dim=1)
        count = pairs.sum(dim=1).to(sums.dtype)
        return reduce(sums, count, count, "mean")


class ListNetLoss(base.ListNetLoss, HeadLoss):
    def compute(self, scores: torch.Tensor, relevance: torch.Tensor, groups: torch.Tensor | None) -> torch.Tensor:
        same = of_groups(scores, groups)
        wanted, chances = (x - row_logsumexp(x[None, :], same)[:, 0] for x in (relevance / self.temperature, scores))
        if self.need_logs:
            self.noted["active"] = same.any().to(scores.dtype)
        share = 1 / same.sum(dim=1).to(scores.dtype)  # of a group that an item is
        return reduce(-wanted.exp() * chances, share, share, "mean")


class LambdaRankLoss(base.LambdaRankLoss, HeadLoss):
    def compute(self, scores: torch.Tensor, relevance: torch.Tensor, groups: torch.Tensor | None) -> torch.Tensor:
        same = of_groups(scores, groups)
        pairs = same & (relevance[:, None] > relevance[None, :])
        gain = 2**relevance
        ideal, discount = (self.discount(group_ranks(x, same)) for x in (relevance, scores.detach()))
        best = torch.where(same, ((gain - 1) * ideal)[None, :], 0.0).sum(dim=1, keepdim=True)
        change = (gain[:, None] - gain[None, :]).abs() * (discount[:, None] - discount[None, :]).abs()
        weights = torch.where(pairs, change / torch.where(best > 0, best, 1.0), 0.0)
        gap = scores[:, None] - scores[None, :]
        if self.need_logs:
            self.noted["active"] = masked_mean((gap.detach() <= 0).to(gap.dtype), pairs)
        sums = (weights * F.softplus(-self.sigma * gap)).sum(dim=1)
        taught = (same & pairs.any(dim=1)[None, :]).any(dim=1).to(sums.dtype)
        share = taught / same.sum(dim=1).to(sums.dtype)  # of a group that an item is
        return reduce(sums, share, share, "mean")

    def discount(self, ranks: torch.Tensor) -> torch.Tensor:
        discounts = 1 / torch.log2(1 + ranks)
        return discounts if self.k is None else torch.where(ranks <= self.k, discounts, 0.0)


class FocalLoss(base.FocalLoss, Loss):
    def forward(self, logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        self.check(logits, labels)
        if (known := on_host(labels)) is not None:
            self.check_labels(known, logits.shape[1])
        with exact(logits):
            return self.compute(at_least_float32(logits), labels)

    def compute(self, logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        own = one_hot(labels, logits.shape[1])
        rest = row_logsumexp(logits - torch.where(own, logits, 0.0).sum(dim=1, keepdim=True), ~own)[:, 0]
        # With p the share of its own class, rest is log((1 - p) / p).
        terms = torch.exp(-self.gamma * F.softplus(-rest)) * F.softplus(rest)
        weights = torch.ones_like(terms)
        if self.weight is not None:
            weights = torch.where(own, torch.tensor(self.weight, dtype=terms.dtype, device=terms.device), 0.0).sum(
                dim=1
            )
        if self.need_logs:
            self.noted["active"] = (rest.detach() > 0).to(rest.dtype).mean()
        return (
            masked_mean(terms, weights)
            if self.reduction == "mean"
            else reduce(weights * terms, weights, weights, self.reduction)
        )


class NativeLoss(base.NativeLoss, Loss):
    names = ("BCEWithLogitsLoss", "CrossEntropyLoss", "HuberLoss", "L1Loss", "MSELoss", "SmoothL1Loss")

    def __init__(self, loss: Any, need_logs: bool = False):
        super().__init__(loss, need_logs)
        if not self.is_native(loss):
            raise TypeError(f"loss must be one of torch.nn, got {type(loss).__name__}")

    @staticmethod
    def is_native(loss: object) -> bool:
        return isinstance(loss, nn.modules.loss._Loss)

    def forward(
        self, outputs: torch.Tensor, targets: torch.Tensor, weights: torch.Tensor | None = None
    ) -> torch.Tensor:
        self.check(outputs, targets, weights)
        if outputs.ndim == 2 and outputs.shape[1] == 1 and targets.ndim == 1:
            outputs = outputs[:, 0]
        targets = (
            targets.to(outputs.dtype) if targets.is_floating_point() or outputs.ndim == targets.ndim else targets.long()
        )
        if weights is None:
            return self.loss(outputs, targets)
        each = copy.copy(self.loss)
        each.reduction = "none"
        terms = each(outputs, targets)
        terms = terms if terms.ndim == 1 else terms.mean(dim=1)
        return masked_mean(terms, weights)
