"""Batches to judge on: ordinary ones, and those on which implementations go wrong."""

from typing import NamedTuple

import numpy as np


class Batch(NamedTuple):
    x: np.ndarray  # [N, D], float64 numbers that float32 holds exactly
    labels: np.ndarray
    references: np.ndarray | None = None
    reference_labels: np.ndarray | None = None


def points(n, d=4, seed=0):
    return np.random.default_rng(seed).normal(size=(n, d)).astype(np.float32).astype(np.float64)


def of(labels, x=None):
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

# Most are of six rows, so that a compiler that works shape by shape has few of them.
CLASSES = {
    "pairs": of(PAIRS),
    "uneven": of([7, 7, 7, 3, 3, 9]),
    "wide": of([0, 1, 0, 1, 2, 2, 1, 0], points(8, 17)),
    "singletons": of([0, 1, 2, 3, 3, 4]),
    "one class": of([4, 4, 4, 4, 4, 4]),
    "all different": of([0, 1, 2, 3, 4, 5]),
    "batch of one": of([5]),
    "duplicates within": of(PAIRS, rows(X, r1=X[0], r3=X[2])),
    "duplicates across": of(PAIRS, rows(X, r2=X[0], r5=X[3])),
    "all the same": of(PAIRS, np.repeat(X[:1], 6, axis=0)),
    "a zero vector": of(PAIRS, rows(X, r2=0.0)),
    "zero vectors": of(PAIRS, rows(X, r0=0.0, r1=0.0, r4=0.0)),
    "huge norms": of(PAIRS, X * 2.0**20),
    "tiny norms": of(PAIRS, X * 2.0**-12),
    "huge and tiny norms": of(PAIRS, X * 2.0 ** np.array([[5, -5, 0, 5, -5, 0]]).T),
    "common offset": of(PAIRS, (X + 64).astype(np.float32).astype(np.float64)),
    "labels above 2**24": of([BIG, BIG, BIG + 1, BIG + 1, 2**53, 2**53 + 1]),
    "negative labels with gaps": of([-5, -5, -(2**40), 10**12, 10**12, -6]),
    "against references": Batch(X[:3], np.array([0, 1, 5]), points(5, seed=1), np.array([0, 1, 1, 0, 2])),
    "sessions": of([[3, 0], [3, 1], [3, -1], [8, 0], [8, 1], [8, -1]]),
    "sessions without matches": of([[0, 0], [0, -1], [0, -1], [1, 0], [1, -1], [1, -1]]),
}
