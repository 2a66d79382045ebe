"""The losses of scores and logits, one pair, group or item at a time."""

import math

import numpy as np

from . import LOSSES, grid, reference
from .batches import LOGITS, SCORES


def groups_of(batch):
    """Scores and relevance of each group, in the order of the batch."""
    scores = batch.scores.reshape(-1)
    names = [0] * len(scores) if batch.groups is None else batch.groups.tolist()
    for name in dict.fromkeys(names):
        places = [i for i in range(len(scores)) if names[i] == name]
        yield [scores[i] for i in places], [batch.relevance[i] for i in places]


def soft(gap):
    return np.logaddexp(0, gap)


@reference(LOSSES, "RankNetLoss", SCORES, [{}, *grid(sigma=[0.5, 3.0])])
def ranknet_loss(batch, sigma=1.0):
    """Two items of one query, the better one with the score 0, the other with 1: log(1 + e) = 1.31326."""
    terms = [
        soft(-sigma * (s[i] - s[j]))
        for s, r in groups_of(batch)
        for i in range(len(s))
        for j in range(len(s))
        if r[i] > r[j]
    ]
    return np.mean(terms) if terms else 0.0


@reference(LOSSES, "ListNetLoss", SCORES, [{}, *grid(temperature=[0.5, 5.0])])
def listnet_loss(batch, temperature=1.0):
    """Two items with scores 0 and 0 and relevance 1 and 0: log 2 whatever the shares, as both have half the chance."""
    total = []
    for s, r in groups_of(batch):
        shares = np.exp([value / temperature - max(r) / temperature for value in r])
        chances = np.array([z - max(s) for z in s])
        chances = chances - np.log(np.exp(chances).sum())
        total.append(-(shares / shares.sum() * chances).sum())
    return np.mean(total)


@reference(LOSSES, "LambdaRankLoss", SCORES, [{}, *grid(sigma=[2.0], k=[None, 1, 2])])
def lambdarank_loss(batch, sigma=1.0, k=None):
    """Two items, the better one (relevance 1) with the score 0 and the other (0) with 1. Their exchange moves a gain of
    |2 - 1| between the discounts 1 and 1 / log2(3) = 0.63093, of a best DCG of 1: 0.36907 log(1 + e) = 0.48469.
    """

    def discount(rank):
        return 0.0 if k is not None and rank > k else 1 / math.log2(1 + rank)

    sums = []
    for s, r in groups_of(batch):
        order = sorted(range(len(s)), key=lambda i: (-s[i], i))
        rank = {i: place + 1 for place, i in enumerate(order)}
        best = sum((2.0**gain - 1) * discount(place + 1) for place, gain in enumerate(sorted(r, reverse=True)))
        pairs = [(i, j) for i in range(len(s)) for j in range(len(s)) if r[i] > r[j]]
        if pairs:
            sums.append(0.0)
        for i, j in pairs:
            change = abs(2.0 ** r[i] - 2.0 ** r[j]) * abs(discount(rank[i]) - discount(rank[j])) / best
            sums[-1] += change * soft(-sigma * (s[i] - s[j]))
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
    """Two classes, logits 0 and log 3, so p = 1/4 and 3/4. Of class 0: (3/4)^2 log 4 = 0.77979; of class 1:
    (1/4)^2 log(4/3) = 0.01798. With the weights 3 and 1 the mean is (3 * 0.77979 + 0.01798) / 4 = 0.58934.
    """
    terms, weights = [], []
    for z, y in zip(*batch, strict=True):
        shares = np.exp(z - z.max())
        others = sum(share for c, share in enumerate(shares) if c != y) / shares.sum()
        weights.append(1.0 if weight is None else weight[y])
        surprise = np.log(shares.sum()) - (z[y] - z.max())
        terms.append(weights[-1] * others**gamma * surprise)
    return {"mean": sum(terms) / max(sum(weights), 1e-12), "sum": sum(terms), "none": np.array(terms)}[reduction]
