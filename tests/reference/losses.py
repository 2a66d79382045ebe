"""Losses over a batch, written directly from their formulas."""

import numpy as np

from . import LOSSES, grid, reference
from .batches import CLASSES
from .miner import COMBINATIONS, select
from .relations import distance_matrix, relation_matrix

DISTANCES = ["cosine", "euclidean", "sqeuclidean"]
REDUCTIONS = ["nonzero_mean", "sum", "none"]


def reduce_rows(rows, reduction):
    """Reduce the tuples ``(loss, weight)`` of each row to one number, or to one number per row."""
    if reduction == "none":
        return np.array([sum(weight * term for term, weight in row) for row in rows])
    tuples = [(term, weight) for row in rows for term, weight in row]
    total = sum(weight * term for term, weight in tuples)
    if reduction == "sum":
        return total
    count = sum(weight for term, weight in tuples if reduction == "mean" or term > 0)
    return total / max(count, 1)


@reference(
    LOSSES,
    "TripletLoss",
    CLASSES,
    grid(distance=DISTANCES, margin=[0.0, 0.3, None])
    + grid(margin=[0.3, None], reduction=REDUCTIONS)
    + grid(distance=["euclidean"], margin=[0.3], miner=COMBINATIONS)
    + [{}],
)
def triplet_loss(batch, distance="cosine", margin=1.0, miner=None, reduction="mean"):
    d = distance_matrix(batch, distance)
    relations = relation_matrix(batch)
    rows = []
    for a in range(len(d)):
        positives = [j for j in range(len(d[a])) if relations[a][j] == 1]
        negatives = [j for j in range(len(d[a])) if relations[a][j] == -1]
        if miner is not None:
            positives, negatives = select(d[a], positives, negatives, **miner)
        rows.append([])
        for p in positives:
            for n in negatives:
                gap = d[a][p] - d[a][n]
                term = np.logaddexp(0, gap) if margin is None else max(0, gap + margin)
                rows[-1].append((term, 1))
    return reduce_rows(rows, reduction)


@reference(
    LOSSES,
    "SiameseLoss",
    CLASSES,
    grid(distance=DISTANCES, margin=[0.0, 0.8])
    + grid(margin=[0.8], reduction=REDUCTIONS)
    + grid(distance=["euclidean"], margin=[2.0], miner=COMBINATIONS)
    + [{}],
)
def siamese_loss(batch, distance="cosine", margin=1.0, miner=None, reduction="mean"):
    d = distance_matrix(batch, distance)
    relations = relation_matrix(batch)
    # The columns of the rows, if the rows are among the columns.
    offset = 0 if batch.references is None else batch.self_offset
    columns = [] if offset is None else list(range(offset, offset + len(d)))
    selected = set()
    for i in range(len(d)):
        positives = [j for j in range(len(d[i])) if relations[i][j] == 1]
        negatives = [j for j in range(len(d[i])) if relations[i][j] == -1]
        if miner is not None:
            positives, negatives = select(d[i], positives, negatives, **miner)
        for j in positives + negatives:
            similar = relations[i][j] == 1
            selected.add((i, j, similar))
            if j in columns:  # the pair in the other direction, which may be no relation itself
                selected.add((columns.index(j), offset + i, similar))
    rows = [[] for _ in d]
    for i, j, similar in sorted(selected):
        term = d[i][j] if similar else max(0, margin - d[i][j])
        rows[i].append((term, 0.5 if j in columns else 1))
    return reduce_rows(rows, reduction)


@reference(LOSSES, "NTXentLoss", CLASSES, [{}, *grid(temperature=[1.0, 0.01, 1e-4, 1e6])])
def ntxent_loss(batch, temperature=0.1):
    s = [[(1 - d) / temperature for d in row] for row in distance_matrix(batch, "cosine")]
    relations = relation_matrix(batch)
    terms = []
    for i in range(len(s)):
        negatives = [s[i][k] for k in range(len(s[i])) if relations[i][k] == -1]
        for j in range(len(s[i])):
            if relations[i][j] == 1:
                highest = max([s[i][j], *negatives])
                denominator = sum(np.exp(value - highest) for value in [s[i][j], *negatives])
                terms.append(highest + np.log(denominator) - s[i][j])
    return np.mean(terms) if terms else 0.0


@reference(LOSSES, "SupConLoss", CLASSES, [{}, *grid(temperature=[1.0, 0.01, 1e-4])])
def supcon_loss(batch, temperature=0.1):
    """Example: two orthogonal anchors, each with a duplicate, at temperature 1: log((e + 2) / e)."""
    s = [[(1 - d) / temperature for d in row] for row in distance_matrix(batch, "cosine")]
    relations = relation_matrix(batch)
    anchors = []
    for i in range(len(s)):
        others = [s[i][k] for k in range(len(s[i])) if relations[i][k] != 0]
        positives = [s[i][k] for k in range(len(s[i])) if relations[i][k] == 1]
        if positives:
            highest = max(others)
            log_denominator = highest + np.log(sum(np.exp(value - highest) for value in others))
            anchors.append(np.mean([log_denominator - value for value in positives]))
    return np.mean(anchors) if anchors else 0.0


@reference(LOSSES, "MultiSimilarityLoss", CLASSES, [{}, *grid(alpha=[1.0, 5.0], beta=[10.0, 40.0], base=[0.0, 1.0])])
def multi_similarity_loss(batch, alpha=2.0, beta=50.0, base=0.5):
    """Example: two orthogonal anchors, each with a duplicate: log(1 + e^-1) / 2 + log(1 + 2 e^-25) / 50."""
    s = [[1 - d for d in row] for row in distance_matrix(batch, "cosine")]
    relations = relation_matrix(batch)
    anchors = []
    for i in range(len(s)):
        positives = [s[i][k] for k in range(len(s[i])) if relations[i][k] == 1]
        negatives = [s[i][k] for k in range(len(s[i])) if relations[i][k] == -1]
        pull = np.log(1 + sum(np.exp(-alpha * (value - base)) for value in positives)) / alpha
        push = np.log(1 + sum(np.exp(beta * (value - base)) for value in negatives)) / beta
        if positives or negatives:
            anchors.append(pull + push)
    return np.mean(anchors) if anchors else 0.0


@reference(
    LOSSES,
    "SurrogatePrecision",
    CLASSES,
    [
        {},
        *grid(k=[1, 3], temperature1=[0.5], temperature2=[0.1]),
        *grid(k=[2], reduction=["sum", "none"]),
        {"k": 2, "temperature2": 0.1, "distance": "euclidean"},
        {"k": 2, "temperature2": 1.0, "distance": "sqeuclidean"},
        {"k": 1, "temperature2": 0.1, "distance": "euclidean", "include_self": True},
        {"k": 3, "temperature1": 0.5, "temperature2": 0.1, "include_self": True, "reduction": "none"},
    ],
)
def surrogate_precision(
    batch, k=5, temperature1=1.0, temperature2=0.01, distance="cosine", include_self=False, reduction="mean"
):
    """Example: two orthogonal anchors, each with a duplicate, k = 1.

    Each item has its duplicate at distance 0 and two others at distance 1. The rank is 1 + 2 sigmoid(-100) = 1, the
    cutoff is sigmoid(1 - 1) = 1/2, and the loss is 1/2. With ``include_self`` the item is a third item at distance 0:
    the item and its duplicate have rank 1/2 + 1/2 + 2 sigmoid(-100) = 1, the cutoffs are sigmoid(2 - 1), and the loss
    is 1 - 2 sigmoid(1) / 2 = 0.2689.
    """
    d = distance_matrix(batch, distance)
    relations = relation_matrix(batch)

    def sigmoid(x):
        return np.exp(-np.logaddexp(0, -x))

    rows = []
    for i in range(len(d)):
        others = [j for j in range(len(d[i])) if relations[i][j] != 0]
        positives = [j for j in others if relations[i][j] == 1]
        distances = [(other, d[i][other]) for other in others] + [("itself", 0.0)] * include_self
        matches = [(j, d[i][j]) for j in positives] + [("itself", 0.0)] * include_self
        precision = 0.0
        for j, own in matches:
            rank = 0.5 if include_self else 1.0
            rank += sum(sigmoid((own - distance) / temperature2) for other, distance in distances if other != j)
            precision += sigmoid((k + include_self - rank) / temperature1)
        rows.append([(1 - precision / min(k + include_self, len(matches)), 1)] if matches else [])
    return reduce_rows(rows, reduction)


@reference(LOSSES, "LiftedStructureLoss", CLASSES, [{}, *grid(distance=DISTANCES, margin=[0.3])])
def lifted_structure_loss(batch, distance="cosine", margin=1.0):
    """Example: two orthogonal anchors, each with a duplicate: max(0, log e^0 + log(2 e^(1 - 1))) = log 2."""
    d = distance_matrix(batch, distance)
    relations = relation_matrix(batch)
    anchors = []
    for i in range(len(d)):
        positives = [d[i][j] for j in range(len(d[i])) if relations[i][j] == 1]
        negatives = [margin - d[i][j] for j in range(len(d[i])) if relations[i][j] == -1]
        if positives and negatives:
            largest = max(positives), max(negatives)
            sums = [
                sum(np.exp(value - top) for value in values)
                for values, top in zip((positives, negatives), largest, strict=True)
            ]
            anchors.append(max(0, sum(largest) + np.log(sums[0]) + np.log(sums[1])))
    return np.mean(anchors) if anchors else 0.0
