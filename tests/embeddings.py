"""Embeddings for tests of the search, and a fixture with both search methods."""

import numpy as np
import pytest

from finetuner.evaluation import search

from .reference import evaluation as reference

DISTANCES = ["cosine", "euclidean", "sqeuclidean"]


def has_clear_order(queries, index, distance):
    """Whether all distances are either equal or differ by more than the rounding error of float32."""
    gaps = [np.diff(np.sort(distances)) for distances, _ in reference.neighbours(queries, index, distance)]
    gaps = np.concatenate(gaps)
    return not ((gaps > reference.TIE) & (gaps < 1e-6)).any()


def gaussian(seed, queries=12, items=40):
    """Embeddings with duplicates and zero vectors, within and across both arrays, that float32 can order."""
    for attempt in range(100):
        rng = np.random.default_rng([seed, attempt])
        x = rng.normal(size=(queries + items, 5)).astype(np.float32)
        x[rng.integers(len(x), size=20)] = x[rng.integers(len(x), size=20)]
        x[[1, -1, -2]] = 0
        x, y = x[:queries], x[queries:]
        if all(has_clear_order(a, b, distance) for distance in DISTANCES for a, b in ((x, y), (y, None))):
            return x, y
    raise AssertionError("no attempt gave embeddings with a clear order")


def lattice(seed, queries=12, items=40):
    """Embeddings with few distinct distances: most of them are tied."""
    rng = np.random.default_rng(seed)
    x = rng.integers(-1, 2, size=(queries + items, 3)).astype(np.float32)
    return x[:queries], x[queries:]


DATA = {"gaussian": gaussian(0), "lattice": lattice(0)}


@pytest.fixture(params=["automatic", "faiss", "dense"])
def search_method(request, monkeypatch):
    """Run the test with each search method: chosen automatically, always faiss, always all distances."""
    if request.param != "automatic":
        monkeypatch.setattr(search, "_DENSE_RATIO", 0 if request.param == "faiss" else 10**9)
