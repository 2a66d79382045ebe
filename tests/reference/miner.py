"""Miners with easy, semihard and hard strategies, one anchor at a time."""

import itertools

from . import MINERS, reference
from .batches import CLASSES
from .relations import distance_matrix, relation_matrix

STRATEGIES = ["easy", "semihard", "hard", "all"]
NOT_ALLOWED = [("semihard", "semihard"), ("all", "semihard"), ("semihard", "all")]
COMBINATIONS = [
    {"pos_strategy": pos, "neg_strategy": neg}
    for pos, neg in itertools.product(STRATEGIES, STRATEGIES)
    if (pos, neg) not in NOT_ALLOWED
] + [
    {"pos_strategy": "hard", "neg_strategy": "semihard", "margin": 0.5},
    {"pos_strategy": "semihard", "neg_strategy": "hard", "margin": 0.5},
]


def first_minimum(items, key):
    """A list with the first item of the smallest key, or an empty list without items."""
    best = []
    for item in items:
        if not best or key(item) < key(best[0]):
            best = [item]
    return best


def select(d, positives, negatives, pos_strategy="hard", neg_strategy="hard", margin=None):
    """The selected positives and negatives of an anchor with distances ``d``."""

    def nearest(j):
        return d[j]

    def farthest(j):
        return -d[j]

    positive_keys = {"hard": farthest, "easy": nearest, "semihard": farthest}
    negative_keys = {"hard": nearest, "easy": farthest, "semihard": nearest}
    width = float("inf") if margin is None else margin
    if pos_strategy != "semihard" and pos_strategy != "all":
        positives = first_minimum(positives, positive_keys[pos_strategy])
    if neg_strategy != "semihard" and neg_strategy != "all":
        negatives = first_minimum(negatives, negative_keys[neg_strategy])
    if pos_strategy == "semihard":
        inside = [p for p in positives for n in negatives if d[n] - width < d[p] < d[n]]
        positives = first_minimum(inside, farthest)
    if neg_strategy == "semihard":
        outside = [n for n in negatives for p in positives if d[p] < d[n] < d[p] + width]
        negatives = first_minimum(outside, nearest)
    return positives, negatives


def select_rows(batch, **params):
    """The selected positives and negatives of each row of a batch."""
    d = distance_matrix(batch, "euclidean")
    for i, row in enumerate(relation_matrix(batch)):
        positives = [j for j, relation in enumerate(row) if relation == 1]
        negatives = [j for j, relation in enumerate(row) if relation == -1]
        yield i, *select(d[i], positives, negatives, **params)


@reference(MINERS, "TripletEasyHardMiner", CLASSES, [{}, *COMBINATIONS])
def triplets(batch, **params):
    return sorted((a, p, n) for a, ps, ns in select_rows(batch, **params) for p in ps for n in ns)


@reference(MINERS, "SiameseEasyHardMiner", CLASSES, [{}, *COMBINATIONS])
def pairs(batch, **params):
    offset = 0 if batch.references is None else batch.self_offset
    selected = set()
    for i, positives, negatives in select_rows(batch, **params):
        for j in positives + negatives:
            row = None if offset is None or not 0 <= j - offset < len(batch.x) else j - offset
            ends = (i, j) if row is None else (min(i, row), offset + max(i, row))
            selected.add((*ends, int(j in positives)))
    return sorted(selected)
