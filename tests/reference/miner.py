"""Easy, semihard and hard: the choice of one anchor, by looking at each of its items."""

import itertools

from . import MINERS, reference
from .batches import CLASSES
from .relations import distance_matrix, relation_matrix

STRATEGIES = ["easy", "semihard", "hard", "all"]
REFUSED = [("semihard", "semihard"), ("all", "semihard"), ("semihard", "all")]
COMBINATIONS = [
    {"pos_strategy": pos, "neg_strategy": neg}
    for pos, neg in itertools.product(STRATEGIES, STRATEGIES)
    if (pos, neg) not in REFUSED
] + [
    {"pos_strategy": "hard", "neg_strategy": "semihard", "margin": 0.5},
    {"pos_strategy": "semihard", "neg_strategy": "hard", "margin": 0.5},
]


def first_least(items, key):
    """The item with the least key, the first of equals; nothing of nothing."""
    best = []
    for item in items:
        if not best or key(item) < key(best[0]):
            best = [item]
    return best


def chosen(d, positives, negatives, pos_strategy="hard", neg_strategy="hard", margin=None):
    """What is left of an anchor's positives and negatives, whose distances are ``d``."""

    def near(j):
        return d[j]

    def far(j):
        return -d[j]

    by_positive = {"hard": far, "easy": near, "semihard": far}
    by_negative = {"hard": near, "easy": far, "semihard": near}
    reach = float("inf") if margin is None else margin
    if pos_strategy != "semihard" and pos_strategy != "all":
        positives = first_least(positives, by_positive[pos_strategy])
    if neg_strategy != "semihard" and neg_strategy != "all":
        negatives = first_least(negatives, by_negative[neg_strategy])
    if pos_strategy == "semihard":
        inside = [p for p in positives for n in negatives if d[n] - reach < d[p] < d[n]]
        positives = first_least(inside, far)
    if neg_strategy == "semihard":
        outside = [n for n in negatives for p in positives if d[p] < d[n] < d[p] + reach]
        negatives = first_least(outside, near)
    return positives, negatives


def sides(batch, **params):
    """The chosen positives and negatives of every row of a batch."""
    d = distance_matrix(batch, "euclidean")
    for i, row in enumerate(relation_matrix(batch)):
        positives = [j for j, relation in enumerate(row) if relation == 1]
        negatives = [j for j, relation in enumerate(row) if relation == -1]
        yield i, *chosen(d[i], positives, negatives, **params)


@reference(MINERS, "TripletEasyHardMiner", CLASSES, [{}, *COMBINATIONS])
def triplets(batch, **params):
    return sorted((a, p, n) for a, ps, ns in sides(batch, **params) for p in ps for n in ns)


@reference(MINERS, "SiameseEasyHardMiner", CLASSES, [{}, *COMBINATIONS])
def pairs(batch, **params):
    found = set()
    for i, positives, negatives in sides(batch, **params):
        for j in positives + negatives:
            ends = (min(i, j), max(i, j)) if batch.references is None else (i, j)
            found.add((*ends, int(j in positives)))
    return sorted(found)
