"""Embeddings to search in, and both ways of searching."""

import numpy as np
import pytest

from finetuner.evaluation import search

from .reference import evaluation as reference

DISTANCES = ["cosine", "euclidean", "sqeuclidean"]


def far_apart(queries, index, distance):
    """Whether distances are equal or differ by more than float32 rounds off."""
    gaps = [np.diff(np.sort(distances)) for distances, _ in reference.neighbours(queries, index, distance)]
    gaps = np.concatenate(gaps)
    return not ((gaps > reference.TIE) & (gaps < 1e-6)).any()


def gaussian(seed, queries=12, items=40):
    """Embeddings with duplicates and zero vectors, in both and within each, whose order float32 can tell."""
    for attempt in range(100):
        rng = np.random.default_rng([seed, attempt])
        x = rng.normal(size=(queries + items, 5)).astype(np.float32)
        x[rng.integers(len(x), size=20)] = x[rng.integers(len(x), size=20)]
        x[[1, -1, -2]] = 0
        x, y = x[:queries], x[queries:]
        if all(far_apart(a, b, distance) for distance in DISTANCES for a, b in ((x, y), (y, None))):
            return x, y
    raise AssertionError("no such embeddings")


def lattice(seed, queries=12, items=40):
    """Embeddings of few different distances: nearly all is tied."""
    rng = np.random.default_rng(seed)
    x = rng.integers(-1, 2, size=(queries + items, 3)).astype(np.float32)
    return x[:queries], x[queries:]


DATA = {"gaussian": gaussian(0), "lattice": lattice(0)}


@pytest.fixture(params=["as chosen", "faiss", "whole rows"])
def way(request, monkeypatch):
    """Search in each of the two ways, whatever is faster."""
    if request.param != "as chosen":
        monkeypatch.setattr(search, "_FULL", 0 if request.param == "faiss" else 10**9)
