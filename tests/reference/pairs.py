"""The losses of rows that come together, one row at a time."""

import numpy as np

from . import LOSSES, grid, reference
from .batches import ROWS, TAUGHT, TOWERS, TRIPLETS
from .losses import DISTANCES, reduced
from .relations import distance_between

MEAN_REDUCTIONS = ["mean", "sum", "none"]


@reference(
    LOSSES,
    "TripletLoss:rows",
    TRIPLETS,
    grid(distance=DISTANCES, margin=[0.3, None]) + grid(margin=[1.0], reduction=["nonzero_mean", "sum", "none"]),
)
def triplet_loss_of_rows(batch, distance="cosine", margin=1.0, reduction="mean"):
    """An anchor on its positive, and at a right angle to its negative: soft, log(1 + e^(0 - 1)) = 0.31326; with a margin
    of 1.5, max(0, 0 - 1 + 1.5) = 0.5.
    """
    triplets = (
        zip(*batch, strict=True) if len(batch) == 3 else [batch.rows[i : i + 3] for i in range(0, len(batch.rows), 3)]
    )
    rows = []
    for anchor, positive, negative in triplets:
        gap = distance_between(anchor, positive, distance) - distance_between(anchor, negative, distance)
        rows.append([(np.logaddexp(0, gap) if margin is None else max(0, gap + margin), 1)])
    return reduced(rows, reduction)


def mean_of(terms, reduction):
    return reduced([[(term, 1)] for term in terms], reduction)


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
    """Two points 0.6 apart: similar 0.36, dissimilar (1 - 0.6)^2 = 0.16, half similar the mean of both, 0.26."""
    terms = []
    for x, y, label in zip(*batch, strict=True):
        d = distance_between(x, y, distance)
        similar = label if similar_label == 1 else 1 - label
        terms.append(similar * d**2 + (1 - similar) * max(0, margin - d) ** 2)
    return mean_of(terms, reduction)


@reference(LOSSES, "CosineSimilarityLoss", ROWS, [{}, {"low": -1.0, "high": 4.0}, *grid(reduction=MEAN_REDUCTIONS[1:])])
def cosine_similarity_loss(batch, low=0.0, high=1.0, reduction="mean"):
    """Two vectors at a right angle with a score of 0.5: (0 - 0.5)^2 = 0.25; with a score of 4 from 0 to 5: 0.64."""
    cosines = [1 - distance_between(x, y, "cosine") for x, y, _ in zip(*batch, strict=True)]
    wanted = [(label - low) / (high - low) for label in batch.label]
    return mean_of([(c - w) ** 2 for c, w in zip(cosines, wanted, strict=True)], reduction)


def entropy(logits, own):
    highest = max(logits)
    return highest + np.log(sum(np.exp(z - highest) for z in logits)) - logits[own]


@reference(LOSSES, "CLIPLoss", TOWERS, [{}, *grid(temperature=[1.0, 0.01]), {"temperature": 0.2, "learnable": True}])
def clip_loss(batch, temperature=0.07, learnable=False):
    """Two pairs, at a right angle to each other, each partner on the other, at a temperature of 1: each item finds its
    partner with log((e + 1) / e) = 0.31326, from either side.
    """
    s = [[(1 - distance_between(x, y, "cosine")) / temperature for y in batch.second] for x in batch.first]
    there = [entropy(row, i) for i, row in enumerate(s)]
    back = [entropy([row[i] for row in s], i) for i in range(len(s))]
    return (np.mean(there) + np.mean(back)) / 2


@reference(LOSSES, "DistillationLoss", TAUGHT, [{}, *grid(temperature=[1.0, 0.02])])
def distillation_loss(batch, temperature=0.1):
    """Three items. To the teacher the first two are one and the third is at a right angle; to the student all are at
    right angles. At a temperature of 1: of the first two each, p = (e, 1) / (e + 1) against q = (1/2, 1/2) is
    0.7310586 log(1.462117) + 0.2689414 log(0.537883) = 0.1109441, of the third 0: 0.0739627 on average.
    """

    def chances(x, i):
        s = {j: (1 - distance_between(x[i], x[j], "cosine")) / temperature for j in range(len(x)) if j != i}
        highest = max(s.values())
        whole = highest + np.log(sum(np.exp(z - highest) for z in s.values()))
        return {j: z - whole for j, z in s.items()}

    if len(batch.embeddings) < 2:
        return 0.0
    total = 0.0
    for i in range(len(batch.embeddings)):
        p, q = chances(batch.teacher, i), chances(batch.embeddings, i)
        total += sum(np.exp(p[j]) * (p[j] - q[j]) for j in p)
    return total / len(batch.embeddings)
