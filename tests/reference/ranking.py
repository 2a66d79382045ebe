"""Ranking losses and the focal loss, one pair, group or item at a time."""

import math

import numpy as np

from . import LOSSES, grid, reference
from .batches import LOGITS, SCORES


def split_groups(batch):
    """The scores and the relevance of each group, in the order of the batch."""
    scores = batch.scores.reshape(-1)
    names = [0] * len(scores) if batch.groups is None else batch.groups.tolist()
    for name in dict.fromkeys(names):
        indices = [i for i in range(len(scores)) if names[i] == name]
        yield [scores[i] for i in indices], [batch.relevance[i] for i in indices]


def softplus(gap):
    return np.logaddexp(0, gap)


@reference(LOSSES, "RankNetLoss", SCORES, [{}, *grid(sigma=[0.5, 3.0])])
def ranknet_loss(batch, sigma=1.0):
    """Example: two items of one query. The more relevant item has score 0, the other 1: log(1 + e) = 1.31326."""
    terms = [
        softplus(-sigma * (s[i] - s[j]))
        for s, r in split_groups(batch)
        for i in range(len(s))
        for j in range(len(s))
        if r[i] > r[j]
    ]
    return np.mean(terms) if terms else 0.0


@reference(LOSSES, "ListNetLoss", SCORES, [{}, *grid(temperature=[0.5, 5.0])])
def listnet_loss(batch, temperature=1.0):
    """Example: scores 0 and 0, relevance 1 and 0: both predicted probabilities are 1/2, so the loss is log 2."""
    total = []
    for s, r in split_groups(batch):
        targets = np.exp([value / temperature - max(r) / temperature for value in r])
        logits = np.array([z - max(s) for z in s])
        log_probabilities = logits - np.log(np.exp(logits).sum())
        total.append(-(targets / targets.sum() * log_probabilities).sum())
    return np.mean(total)


@reference(
    LOSSES, "LambdaRankLoss", SCORES, [{}, *grid(sigma=[2.0], k=[None, 1, 2]), *grid(gain=["linear"], k=[None, 2])]
)
def lambdarank_loss(batch, sigma=1.0, k=None, gain="exponential"):
    """Example: two items. The relevant item (relevance 1) has score 0, the other (relevance 0) has score 1.

    Exchanging them moves a gain of |2 - 1| between the discounts 1 and 1 / log2(3) = 0.63093. The ideal DCG is 1. The
    loss is 0.36907 log(1 + e) = 0.48469.
    """

    def discount(rank):
        return 0.0 if k is not None and rank > k else 1 / math.log2(1 + rank)

    sums = []
    for s, r in split_groups(batch):
        order = sorted(range(len(s)), key=lambda i: (-s[i], i))
        rank = {i: position + 1 for position, i in enumerate(order)}
        top = max(0, *r)
        # All gains of a query may be divided by one number: here 2^top, as no power may overflow.
        gains = [2.0 ** (v - top) - 2.0**-top if gain == "exponential" else v for v in r]
        ideal = sum(g * discount(position + 1) for position, g in enumerate(sorted(gains, reverse=True)))
        pairs = [(i, j) for i in range(len(s)) for j in range(len(s)) if r[i] > r[j]]
        if pairs:
            sums.append(0.0)
        for i, j in pairs:
            change = abs(gains[i] - gains[j]) * abs(discount(rank[i]) - discount(rank[j])) / ideal
            sums[-1] += change * softplus(-sigma * (s[i] - s[j]))
    return np.mean(sums) if sums else 0.0


WEIGHT = [0.5, 2.0, 1.0, 0.0]


@reference(LOSSES, "FocalLoss", LOGITS, [{}, *grid(gamma=[0.0, 0.5, 5.0]), *grid(reduction=["sum", "none"])])
@reference(
    LOSSES,
    "FocalLoss:weighted",
    {name: batch for name, batch in LOGITS.items() if name != "one class"},
    grid(gamma=[0.0, 2.0], weight=[WEIGHT], reduction=["mean", "sum", "none"]),
)
def focal_loss(batch, gamma=2.0, weight=None, reduction="mean"):
    """Example: two classes with logits 0 and log 3, so p is 1/4 and 3/4.

    Class 0: (3/4)^2 log 4 = 0.77979. Class 1: (1/4)^2 log(4/3) = 0.01798. With weights 3 and 1, the mean is
    (3 * 0.77979 + 0.01798) / 4 = 0.58934.
    """
    terms, weights = [], []
    for z, y in zip(*batch, strict=True):
        exponentials = np.exp(z - z.max())
        others = sum(value for c, value in enumerate(exponentials) if c != y) / exponentials.sum()
        weights.append(1.0 if weight is None else weight[y])
        cross_entropy = np.log(exponentials.sum()) - (z[y] - z.max())
        terms.append(weights[-1] * others**gamma * cross_entropy)
    return {"mean": sum(terms) / max(sum(weights), 1e-12), "sum": sum(terms), "none": np.array(terms)}[reduction]
