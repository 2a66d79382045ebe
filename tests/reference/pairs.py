"""Losses of explicit pairs and triplets, and distillation, one row at a time."""

import numpy as np

from . import LOSSES, grid, reference
from .batches import ROWS, TEACHERS, TRIPLETS, TWO_TOWER
from .losses import DISTANCES, reduce_rows
from .relations import distance_between

MEAN_REDUCTIONS = ["mean", "sum", "none"]


@reference(
    LOSSES,
    "TripletLoss:rows",
    TRIPLETS,
    grid(distance=DISTANCES, margin=[0.3, None]) + grid(margin=[1.0], reduction=["nonzero_mean", "sum", "none"]),
)
def explicit_triplet_loss(batch, distance="cosine", margin=1.0, reduction="mean"):
    """Example: an anchor equal to its positive and orthogonal to its negative.

    With the soft margin, log(1 + e^(0 - 1)) = 0.31326. With margin 1.5, max(0, 0 - 1 + 1.5) = 0.5.
    """
    triplets = (
        zip(*batch, strict=True) if len(batch) == 3 else [batch.rows[i : i + 3] for i in range(0, len(batch.rows), 3)]
    )
    rows = []
    for anchor, positive, negative in triplets:
        gap = distance_between(anchor, positive, distance) - distance_between(anchor, negative, distance)
        rows.append([(np.logaddexp(0, gap) if margin is None else max(0, gap + margin), 1)])
    return reduce_rows(rows, reduction)


def reduce_values(terms, reduction):
    return reduce_rows([[(term, 1)] for term in terms], reduction)


@reference(
    LOSSES,
    "ContrastiveLoss",
    ROWS,
    [
        {},
        *grid(distance=DISTANCES, margin=[2.0], similar_label=[1]),
        *grid(reduction=MEAN_REDUCTIONS[1:], margin=[3.0]),
    ],
)
def contrastive_loss(batch, margin=1.0, distance="euclidean", similar_label=0, reduction="mean"):
    """Example: distance 0.6. Similar: 0.36. Dissimilar: (1 - 0.6)^2 = 0.16. Half similar: the mean of both, 0.26."""
    terms = []
    for x, y, label in zip(*batch, strict=True):
        d = distance_between(x, y, distance)
        similar = label if similar_label == 1 else 1 - label
        terms.append(similar * d**2 + (1 - similar) * max(0, margin - d) ** 2)
    return reduce_values(terms, reduction)


@reference(LOSSES, "CosineSimilarityLoss", ROWS, [{}, {"low": -1.0, "high": 4.0}, *grid(reduction=MEAN_REDUCTIONS[1:])])
def cosine_similarity_loss(batch, low=0.0, high=1.0, reduction="mean"):
    """Example: two orthogonal vectors. Score 0.5: (0 - 0.5)^2 = 0.25. Score 4 in 0 to 5: 0.64."""
    cosines = [1 - distance_between(x, y, "cosine") for x, y, _ in zip(*batch, strict=True)]
    targets = [(label - low) / (high - low) for label in batch.label]
    return reduce_values([(c - t) ** 2 for c, t in zip(cosines, targets, strict=True)], reduction)


def cross_entropy(logits, label):
    highest = max(logits)
    return highest + np.log(sum(np.exp(z - highest) for z in logits)) - logits[label]


@reference(LOSSES, "CLIPLoss", TWO_TOWER, [{}, *grid(temperature=[1.0, 0.01]), {"temperature": 0.2, "learnable": True}])
def clip_loss(batch, temperature=0.07, learnable=False):
    """Example: two orthogonal pairs of equal items, at temperature 1: log((e + 1) / e) = 0.31326 in both directions."""
    s = [[(1 - distance_between(x, y, "cosine")) / temperature for y in batch.second] for x in batch.first]
    forward = [cross_entropy(row, i) for i, row in enumerate(s)]
    backward = [cross_entropy([row[i] for row in s], i) for i in range(len(s))]
    return (np.mean(forward) + np.mean(backward)) / 2


@reference(LOSSES, "DistillationLoss", TEACHERS, [{}, *grid(temperature=[1.0, 0.02])])
def distillation_loss(batch, temperature=0.1):
    """Example: three items at temperature 1.

    The teacher maps the first two to one vector and the third to an orthogonal vector. All vectors of the student are
    orthogonal. For each of the first two items, the divergence of p = (e, 1) / (e + 1) from q = (1/2, 1/2) is
    0.7310586 log(1.462117) + 0.2689414 log(0.537883) = 0.1109441. For the third item it is 0. The mean is 0.0739627.
    """

    def log_probabilities(x, i):
        s = {j: (1 - distance_between(x[i], x[j], "cosine")) / temperature for j in range(len(x)) if j != i}
        highest = max(s.values())
        log_denominator = highest + np.log(sum(np.exp(z - highest) for z in s.values()))
        return {j: z - log_denominator for j, z in s.items()}

    if len(batch.embeddings) < 2:
        return 0.0
    total = 0.0
    for i in range(len(batch.embeddings)):
        p, q = log_probabilities(batch.teacher, i), log_probabilities(batch.embeddings, i)
        total += sum(np.exp(p[j]) * (p[j] - q[j]) for j in p)
    return total / len(batch.embeddings)
