"""The nearest neighbours of embeddings, exactly and in bounded memory.

faiss compares all, a block of queries at a time, and what lies closer together than float32 products can
tell is measured again from differences: exact duplicates are at distance 0, items equally far come lowest
index first, and nothing of size queries x index ever exists.
"""

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from ..checks import integer, one_of, preview, shape

__all__ = ["nearest_neighbours"]

_BUDGET = 256 << 20  # bytes that a block of queries may take
_FULL = 12  # sorting whole rows beats faiss once its neighbours are more than a 12th of the index
_SLACK = 8  # how far beyond what is asked for ties are looked at
_INDEX = np.uint64(2**32 - 1)  # the bits of an index in a key
# Shares of the squared norms: what float32 products may be wrong by, and below which distances are
# measured from differences, after products in float32 and in float64.
_ROUNDING, _CLOSE, _CLOSE_FLOAT64 = 1e-6, 1e-3, 1e-6


class _Points(NamedTuple):
    """Rows as they are given and as they are searched, such that all distances are squared Euclidean ones.

    For cosine rows are divided by their norms, and the distance is 2 (1 − cos). Zero vectors stay zero
    and count as of size 1, so that they are at 2 of all.
    """

    given: np.ndarray  # [N, D] float32
    x: np.ndarray  # [N, D] float32
    norms: np.ndarray  # [N] float64, what rows are divided by: 1 unless for cosine
    size: np.ndarray  # [N] float64, |x|²
    zero: np.ndarray  # [N] bool, for cosine

    def no_autocast(self, rows: Any = slice(None)) -> np.ndarray:
        """Some of ``x`` in float64."""
        return self.given[rows] / self.norms[rows, None]


def _points(x: np.ndarray, cosine: bool) -> _Points:
    squares, ones = _squared_norms(x), np.ones(len(x))
    if not cosine:
        return _Points(x, x, ones, squares, np.zeros(len(x), bool))
    norms = np.sqrt(squares, where=squares > 0, out=ones.copy())
    l2_normalize = np.divide(x, norms[:, None], out=np.empty_like(x), casting="same_kind")
    return _Points(x, l2_normalize, norms, ones, squares == 0)


def _squared_norms(x: np.ndarray) -> np.ndarray:
    return np.einsum("nd,nd->n", x, x, dtype=np.float64)


def _in_order(squared: np.ndarray, ids: np.ndarray, first: int) -> tuple[np.ndarray, np.ndarray]:
    """The ``first`` of each row by distance, then index; distances below 0 are 0.

    Floats from 0 up sort as their bits do. With the index below them they are one number, quick to sort.
    """
    keys = np.maximum(squared.view(np.int32), 0).astype(np.uint64)  # as integers, so that −0 is 0 too
    keys <<= np.uint64(32)
    keys |= ids.view(np.uint64)
    if 2 * first < keys.shape[1]:
        keys.partition(first, axis=1)
        keys = keys[:, :first]
    keys.sort(axis=1)
    keys = keys[:, :first]
    return (keys >> np.uint64(32)).astype(np.uint32).view(np.float32), (keys & _INDEX).view(np.int64)


def _measured(queries: _Points, x: np.ndarray, size: np.ndarray) -> np.ndarray:
    """All squared distances to rows ``x`` in float64, ``[B, M]``; those to equal rows are equal.

    BLAS rounds a row by its place. In float64 that is far below what is kept: float32, and 2⁻⁴⁰ of the
    query's squared norm, which adding ``grain`` and taking it away cuts off.
    """
    size_of_queries = queries.size[:, None]
    grain = size_of_queries * 2**12
    squared = queries.no_autocast() @ x.T
    squared *= -2
    squared += size
    squared += size_of_queries + grain
    squared -= grain
    return squared.astype(np.float32)


def _remeasured(squared: np.ndarray, ids: np.ndarray, queries: _Points, index: _Points, full: bool) -> bool:
    """Measure from differences, in place, what rounding may have misplaced; whether there was any."""
    size = queries.size[:, None].astype(np.float32)
    doubtful = squared <= (_CLOSE_FLOAT64 if full else _CLOSE) * size
    if not full:
        tied = np.diff(squared, axis=1) <= _ROUNDING * (size + squared[:, 1:])
        doubtful[:, 1:] |= tied
        doubtful[:, :-1] |= tied
    rows, columns = np.nonzero(doubtful)
    step = max(1, (1 << 21) // index.x.shape[1])
    for start in range(0, len(rows), step):
        row, column = rows[start : start + step], columns[start : start + step]
        other = ids[row, column]
        no_autocast = _squared_norms(queries.no_autocast(row) - index.no_autocast(other))
        no_autocast[no_autocast < 1e-28 * queries.size[row]] = 0  # multiples of a row, for cosine
        squared[row, column] = np.where(queries.zero[row] | index.zero[other], 2, no_autocast)
    return len(rows) > 0


def search_blocks(
    queries: np.ndarray,
    rows: np.ndarray,
    index: np.ndarray,
    k: int,
    distance: str,
    block: int | None,
    own: bool,
) -> Iterator[tuple[slice, np.ndarray, np.ndarray]]:
    """Yield, a block of ``rows`` at a time, its place and its ``[B, k]`` squared distances and indices.

    With ``own``, the index is the queries, and none finds itself.
    """
    try:
        import faiss
    except ImportError as error:
        raise ImportError("a search for nearest neighbours needs faiss: pip install faiss-cpu") from error
    cosine, count = distance == "cosine", len(index)
    points = _points(index, cosine)
    k = min(k, count - own)
    depth = min(k + own + _SLACK, count)
    full = depth * _FULL > count
    wide = points.no_autocast() if full else None
    if block is None:
        block = max(1, _BUDGET // (64 * depth + 32 * queries.shape[1] + 24 * count * full))

    def found(asked: _Points, itself: np.ndarray, full: bool) -> tuple[np.ndarray, np.ndarray]:
        if full:
            squared = _measured(asked, points.no_autocast() if wide is None else wide, points.size)
            ids = np.arange(count)[None]
        elif cosine:
            squared, ids = faiss.knn(asked.x, points.x, depth, faiss.METRIC_INNER_PRODUCT)
            squared = 2 - 2 * squared
        else:
            squared, ids = faiss.knn(asked.x, points.x, depth, faiss.METRIC_L2)
        if own:
            squared[ids == itself[:, None]] = np.inf
        return _in_order(squared, ids, depth - own)

    for start in range(0, len(rows), block):
        part = slice(start, start + block)
        asked = _points(queries[rows[part]], cosine)
        squared, ids = found(asked, rows[part], full)
        if not full:  # where rounding decides on who is among the first k
            last, beyond = squared[:, k - 1], squared[:, -1]
            unsure = np.flatnonzero(beyond - last <= _ROUNDING * (asked.size + beyond))
            step = max(1, _BUDGET // (24 * count))
            for some in (unsure[at : at + step] for at in range(0, len(unsure), step)):
                squared[some], ids[some] = found(_Points(*(v[some] for v in asked)), rows[part][some], True)
        if _remeasured(squared, ids, asked, points, full):
            squared, ids = _in_order(squared, ids, depth - own)
        yield part, squared[:, :k], ids[:, :k]


def _embeddings(name: str, x: Any, distance: str) -> np.ndarray:
    """Embeddings as float32 ``[N, D]``, checked."""
    x = np.asarray(x)
    shape(name, x.shape, ["N", "D"])
    if x.dtype.kind not in "biuf":
        raise TypeError(f"{name} must be real numbers, got dtype {x.dtype}")
    if not x.size:
        raise ValueError(f"{name} must hold at least one row and one column, got shape {list(x.shape)}")
    with np.errstate(over="ignore"):
        x = np.ascontiguousarray(x, dtype=np.float32)
    # Squares of longer ones are no float32.
    wrong = ~np.isfinite(x).all(axis=1) if distance == "cosine" else ~(_squared_norms(x) < 1e36)
    if wrong.any():
        what = "finite" if distance == "cosine" else "finite, with norms below 1e18"
        raise ValueError(f"{name} must be {what}, and are not at rows {preview(np.flatnonzero(wrong))}")
    return x


def check_embeddings(queries: Any, index: Any, distance: str, block: int | None) -> tuple[np.ndarray, np.ndarray]:
    """Queries ``[Q, D]`` and index ``[M, D]``, where it is None the queries themselves."""
    one_of("distance", distance, ("cosine", "euclidean", "sqeuclidean"))
    if block is not None:
        integer("block", block, 1)
    queries = _embeddings("queries", queries, distance)
    if index is None:
        return queries, queries
    index = _embeddings("index", index, distance)
    if queries.shape[1] != index.shape[1]:
        raise ValueError(f"queries and index must be of one dimension, got {queries.shape[1]} and {index.shape[1]}")
    return queries, index


def nearest_neighbours(
    queries: Any, index: Any, k: int, distance: str = "cosine", block: int | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """The ``k`` items of an index nearest to each query, exactly.

    ``cosine`` is 1 − cos, where a zero vector has cosine 0 to all; ``euclidean`` is the norm of the
    difference, ``sqeuclidean`` its square. Computed in float32, whatever is given.

    Args:
        queries: ``[Q, D]``.
        index: ``[M, D]``, or None: the queries among themselves, none of which finds its own row.
        k: how many, at least 1; cut to what is there.
        distance: "cosine", "euclidean" or "sqeuclidean".
        block: how many queries at a time; by default as many as 256 MiB hold.

    Returns:
        Distances ``[Q, k]``, float32 from 0 up, ascending, and indices ``[Q, k]``, int64. Of items
        equally far the lowest index comes first.

    Raises:
        ImportError: if faiss is not installed.
        TypeError: if embeddings are not real numbers.
        ValueError: if embeddings are empty, not ``[N, D]``, not finite or of two dimensions, if
            ``distance`` is none of these, or ``k`` or ``block`` is below 1.
    """
    k = integer("k", k, 1)
    queries, others = check_embeddings(queries, index, distance, block)
    k = min(k, len(others) - (index is None))
    distances, indices = np.empty((len(queries), k), np.float32), np.empty((len(queries), k), np.int64)
    rows = np.arange(len(queries))
    for part, squared, ids in search_blocks(queries, rows, others, k, distance, block, index is None):
        found = {"cosine": squared / 2, "euclidean": np.sqrt(squared), "sqeuclidean": squared}[distance]
        distances[part], indices[part] = _in_order(found, ids, k)  # roots may tie where squares do not
    return distances, indices
