"""Batches for the parity suite: ordinary batches, and edge cases where implementations often fail."""

from typing import NamedTuple

import numpy as np


class Batch(NamedTuple):
    """Embeddings and labels, optionally with references."""

    x: np.ndarray  # [N, D], float64 numbers that are exact in float32
    labels: np.ndarray
    references: np.ndarray | None = None
    reference_labels: np.ndarray | None = None
    self_offset: int | None = None  # where x is among the references


def points(n, d=4, seed=0):
    """Normal points ``[n, d]`` in float64 that are exact in float32."""
    return np.random.default_rng(seed).normal(size=(n, d)).astype(np.float32).astype(np.float64)


def batch_of(labels, x=None):
    labels = np.array(labels, dtype=np.int64)
    return Batch(points(len(labels)) if x is None else x, labels)


def rows(x, **changes):
    """``x`` with some rows replaced: ``rows(x, r3=x[0])``."""
    x = x.copy()
    for name, row in changes.items():
        x[int(name[1:])] = row
    return x


X = points(6)
PAIRS = [0, 0, 1, 1, 2, 2]
BIG = 2**24

# Most have six rows, because some compilers compile each shape separately.
CLASSES = {
    "pairs": batch_of(PAIRS),
    "uneven": batch_of([7, 7, 7, 3, 3, 9]),
    "wide": batch_of([0, 1, 0, 1, 2, 2, 1, 0], points(8, 17)),
    "singletons": batch_of([0, 1, 2, 3, 3, 4]),
    "one class": batch_of([4, 4, 4, 4, 4, 4]),
    "all different": batch_of([0, 1, 2, 3, 4, 5]),
    "batch of one": batch_of([5]),
    "duplicates within": batch_of(PAIRS, rows(X, r1=X[0], r3=X[2])),
    "duplicates across": batch_of(PAIRS, rows(X, r2=X[0], r5=X[3])),
    "all the same": batch_of(PAIRS, np.repeat(X[:1], 6, axis=0)),
    "a zero vector": batch_of(PAIRS, rows(X, r2=0.0)),
    "zero vectors": batch_of(PAIRS, rows(X, r0=0.0, r1=0.0, r4=0.0)),
    "huge norms": batch_of(PAIRS, X * 2.0**20),
    "tiny norms": batch_of(PAIRS, X * 2.0**-12),
    "huge and tiny norms": batch_of(PAIRS, X * 2.0 ** np.array([[5, -5, 0, 5, -5, 0]]).T),
    "common offset": batch_of(PAIRS, (X + 64).astype(np.float32).astype(np.float64)),
    "labels above 2**24": batch_of([BIG, BIG, BIG + 1, BIG + 1, 2**53, 2**53 + 1]),
    "negative labels with gaps": batch_of([-5, -5, -(2**40), 10**12, 10**12, -6]),
    "against references": Batch(X[:3], np.array([0, 1, 5]), points(5, seed=1), np.array([0, 1, 1, 0, 2])),
    "sessions": batch_of([[3, 0], [3, 1], [3, -1], [8, 0], [8, 1], [8, -1]]),
    "sessions without matches": batch_of([[0, 0], [0, -1], [0, -1], [1, 0], [1, -1], [1, -1]]),
}

SETS = np.array([[1, 1, 0, 0], [0, 1, 1, 0], [0, 0, 0, 1], [1, 0, 0, 0], [0, 0, 1, 1], [0, 0, 0, 0]], bool)
AMONG = points(8, seed=6)
AMONG[2:5] = X[:3]

CLASSES["label sets"] = Batch(X, SETS)
CLASSES["label sets with an overlap"] = Batch(X, SETS * np.float32(0.4))
CLASSES["label sets against references"] = Batch(X[:3], SETS[:3], points(5, seed=1), SETS[[0, 5, 4, 2, 1]])
CLASSES["among its references"] = Batch(X[:3], np.array([0, 1, 0]), AMONG, np.array([1, 2, 0, 1, 0, 0, 1, 5]), 2)
CLASSES["sessions among their references"] = Batch(
    X[:3],
    np.array([[4, -1], [4, 0], [4, 1]]),
    AMONG[1:7],
    np.array([[4, 1], [4, -1], [4, 0], [4, 1], [4, -1], [2, 0]]),
    1,
)
CLASSES["answers before anchors"] = batch_of([[0, 2], [0, 0], [0, -2], [1, -2], [1, 2], [1, 0]])
CLASSES["explicit triplets"] = batch_of([[0, 0], [0, 2], [0, -2], [1, 0], [1, 2], [1, -2]])


class Rows(NamedTuple):
    """Pairs with a score per pair."""

    first: np.ndarray
    second: np.ndarray
    label: np.ndarray


class TwoTower(NamedTuple):
    """Matching pairs."""

    first: np.ndarray
    second: np.ndarray


class Triplets(NamedTuple):
    """Explicit triplets in three arrays."""

    anchor: np.ndarray
    positive: np.ndarray
    negative: np.ndarray


class Stacked(NamedTuple):
    """Explicit triplets in one array, in the order anchor, positive, negative, anchor, ..."""

    rows: np.ndarray


class Taught(NamedTuple):
    """Embeddings of a student and of its teacher."""

    embeddings: np.ndarray
    teacher: np.ndarray


class Centres(NamedTuple):
    """Embeddings, labels and class centres."""

    x: np.ndarray
    labels: np.ndarray
    weight: np.ndarray


class Scores(NamedTuple):
    """Scores and relevance of items, optionally in groups."""

    scores: np.ndarray
    relevance: np.ndarray
    groups: np.ndarray | None = None


class Logits(NamedTuple):
    """Logits and labels."""

    logits: np.ndarray
    labels: np.ndarray


# The fields of each batch class with respect to which losses are differentiated.
MOVING = {
    Batch: ("x", "references"),
    Rows: ("first", "second"),
    TwoTower: ("first", "second"),
    Triplets: ("anchor", "positive", "negative"),
    Stacked: ("rows",),
    Taught: ("embeddings",),
    Centres: ("x", "weight"),
    Scores: ("scores",),
    Logits: ("logits",),
}

Y, Z = points(6, seed=2), points(6, seed=3)
LABEL = np.array([0, 1, 0.25, 1, 0, 0.5])


ROWS = {
    "ordinary": Rows(X, Y, LABEL),
    "whole labels": Rows(X, Y, np.array([0, 1, 1, 0, 1, 0])),
    "one row": Rows(X[:1], Y[:1], LABEL[1:2]),
    "duplicates": Rows(X, rows(Y, r0=X[0], r1=X[1], r2=X[2]), LABEL),
    "zero vectors": Rows(rows(X, r0=0.0, r3=0.0), rows(Y, r1=0.0, r3=0.0), LABEL),
    "huge norms": Rows(X * 2.0**20, Y * 2.0**20, LABEL),
}
TWO_TOWER = {name: TwoTower(batch.first, batch.second) for name, batch in ROWS.items() if name != "whole labels"}
TWO_TOWER["all the same"] = TwoTower(np.repeat(X[:1], 6, axis=0), np.repeat(X[:1], 6, axis=0))
TRIPLETS = {
    "ordinary": Triplets(X, Y, Z),
    "one row": Triplets(X[:1], Y[:1], Z[:1]),
    "duplicates": Triplets(X, rows(Y, r0=X[0], r1=X[1]), rows(Z, r1=X[1], r2=X[2])),
    "zero vectors": Triplets(rows(X, r0=0.0), rows(Y, r0=0.0, r1=0.0), rows(Z, r2=0.0)),
    "huge norms": Triplets(X * 2.0**20, Y * 2.0**20, Z * 2.0**20),
    "stacked": Stacked(X),
}
TEACHERS = {
    "ordinary": Taught(X, points(6, 5, seed=2)),
    "one row": Taught(X[:1], Y[:1]),
    "duplicates": Taught(rows(X, r1=X[0], r3=X[2]), Y),
    "zero vectors": Taught(rows(X, r0=0.0, r1=0.0), rows(Y, r2=0.0)),
    "as the teacher": Taught(X, X),
    "common offset": Taught((X + 64).astype(np.float32).astype(np.float64), Y),
}
W = points(3, seed=4)
THREE_CLASSES = np.array([0, 1, 2, 2, 1, 0])
CENTRES = {
    "ordinary": Centres(X, THREE_CLASSES, W),
    "one class": Centres(X, np.zeros(6, np.int64), W),
    "batch of one": Centres(X[:1], THREE_CLASSES[1:2], W),
    "on its centre": Centres(rows(X, r0=W[0], r1=2 * W[1], r3=W[0]), THREE_CLASSES, W),
    "opposite to its centre": Centres(rows(X, r0=-W[0], r1=-2 * W[1], r3=-W[0]), THREE_CLASSES, W),
    "zero vectors": Centres(rows(X, r0=0.0, r2=0.0), THREE_CLASSES, W),
    "huge and tiny norms": Centres(X * 2.0 ** np.array([[5, -5, 0, 5, -5, 0]]).T, THREE_CLASSES, W * 2.0**10),
    "one centre twice": Centres(X, THREE_CLASSES, rows(W, r1=W[0])),
}
MANY = points(9, seed=11)
FEW_OF_MANY = np.array([0, 1, 4, 4, 1, 0])
SAMPLED_CENTRES = {
    "ordinary": Centres(X, FEW_OF_MANY, MANY),
    "one class": Centres(X, np.full(6, 4), MANY),
    "batch of one": Centres(X[:1], FEW_OF_MANY[1:2], MANY),
    "on its centre": Centres(rows(X, r0=MANY[0], r1=2 * MANY[7], r3=-MANY[4]), FEW_OF_MANY, MANY),
    "zero vectors": Centres(rows(X, r0=0.0, r2=0.0), FEW_OF_MANY, MANY),
    "one centre twice": Centres(X, FEW_OF_MANY, rows(MANY, r7=MANY[0])),
}
S = points(6, 1, seed=5)[:, 0]
RELEVANCE = np.array([2, 0, 1, 0, 3, 1])
SCORES = {
    "one group": Scores(S, RELEVANCE),
    "groups": Scores(S, RELEVANCE, np.array([7, 7, 7, 2, 2, 2])),
    "uneven groups": Scores(S, RELEVANCE, np.array([2**24, 2**24, 2**24 + 1, 2**24, 5, 2**24 + 1])),
    "half a point": Scores(S, RELEVANCE / 2, np.array([0, 1, 0, 1, 0, 1])),
    "all as relevant": Scores(S, np.full(6, 2), np.array([0, 0, 0, 1, 1, 1])),
    "large relevance": Scores(S, np.array([200, 0, 1500, 3, 900, 1]), np.array([7, 7, 7, 2, 2, 2])),
    "all irrelevant": Scores(S, np.zeros(6)),
    "nothing to compare": Scores(S, RELEVANCE, np.arange(6)),
    "one item": Scores(S[:1], RELEVANCE[:1]),
    "in a column": Scores(S[:, None], RELEVANCE, np.array([7, 7, 7, 2, 2, 2])),
    "large scores": Scores(S * 100, RELEVANCE, np.array([7, 7, 7, 2, 2, 2])),
}
LOGITS = {
    "ordinary": Logits(X, np.array([0, 1, 2, 3, 1, 1])),
    "one row": Logits(X[:1], np.array([2])),
    "one class": Logits(X[:, :1], np.zeros(6, np.int64)),
    "certain": Logits(rows(X, r0=[60, 0, 0, 0], r1=[0, 60, 0, 0], r2=[60, 0, 0, 0]), np.array([0, 1, 2, 3, 1, 1])),
    "ties": Logits(np.zeros((6, 4)), np.array([0, 1, 2, 3, 1, 1])),
}
