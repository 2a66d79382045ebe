"""Exact nearest neighbours of embeddings, in bounded memory.

faiss compares each block of queries with the whole index. Distances that are too close for float32 products to rank are
computed again from differences of rows. Exact duplicates have distance 0, and of equal distances the lowest index comes
first. No array has queries x index elements.
"""

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from ..checks import integer, one_of, preview, shape

__all__ = ["nearest_neighbours"]

_BLOCK_BYTES = 256 << 20  # memory of a block of queries
_DENSE_RATIO = 12  # all distances are computed if the neighbours are more than 1/12 of the index: faster than faiss
_EXTRA = 8  # neighbours beyond k that are also fetched, because they may tie with the k-th
_INDEX_MASK = np.uint64(2**32 - 1)  # the bits of a sort key that hold the index
# Relative to the squared norms: the rounding error of float32 products, and the distances below which products in
# float32 and in float64 are not exact enough, so the distance is computed from the difference of the rows.
_ROUNDING, _CLOSE, _CLOSE_FLOAT64 = 1e-6, 1e-3, 1e-6


class _Rows(NamedTuple):
    """Rows prepared for the search by squared Euclidean distance.

    For the cosine distance, rows are divided by their norms, and the squared distance is 2 (1 - cos). Zero vectors stay
    zero and get the squared norm 1, and their squared distance to every row is set to 2.
    """

    original: np.ndarray  # [N, D] float32
    x: np.ndarray  # [N, D] float32, normalized for the cosine distance
    norms: np.ndarray  # [N] float64, the divisors of the rows; 1 except for the cosine distance
    squared_norms: np.ndarray  # [N] float64, of x
    is_zero: np.ndarray  # [N] bool; False except for the cosine distance

    def float64(self, rows: Any = slice(None)) -> np.ndarray:
        """The given rows of ``x``, computed in float64."""
        return self.original[rows] / self.norms[rows, None]


def _prepare_rows(x: np.ndarray, cosine: bool) -> _Rows:
    squared_norms, ones = _squared_norms(x), np.ones(len(x))
    if not cosine:
        return _Rows(x, x, ones, squared_norms, np.zeros(len(x), bool))
    norms = np.sqrt(squared_norms, where=squared_norms > 0, out=ones.copy())
    normalized = np.divide(x, norms[:, None], out=np.empty_like(x), casting="same_kind")
    return _Rows(x, normalized, norms, ones, squared_norms == 0)


def _squared_norms(x: np.ndarray) -> np.ndarray:
    return np.einsum("nd,nd->n", x, x, dtype=np.float64)


def _sort_neighbours(distances: np.ndarray, ids: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """The ``k`` nearest of each row, sorted by distance, then by index. Distances below 0 become 0.

    Floats of at least 0 sort like their bits. Distance and index are packed into one integer, which sorts fast.
    """
    keys = np.maximum(distances.view(np.int32), 0).astype(np.uint64)  # as integers, so -0.0 becomes 0 too
    keys <<= np.uint64(32)
    keys |= ids.view(np.uint64)
    if 2 * k < keys.shape[1]:
        keys.partition(k, axis=1)
        keys = keys[:, :k]
    keys.sort(axis=1)
    keys = keys[:, :k]
    return (keys >> np.uint64(32)).astype(np.uint32).view(np.float32), (keys & _INDEX_MASK).view(np.int64)


def _all_distances(queries: _Rows, x: np.ndarray, squared_norms: np.ndarray) -> np.ndarray:
    """All squared distances of queries to the float64 rows ``x``: ``[B, M]``, computed in float64.

    BLAS may round equal rows differently, depending on their position. Adding and subtracting ``grain`` removes all
    bits below 2**-40 of the squared norm of the query, so equal rows get equal distances.
    """
    query_norms = queries.squared_norms[:, None]
    grain = query_norms * 2**12
    squared = queries.float64() @ x.T
    squared *= -2
    squared += squared_norms
    squared += query_norms + grain
    squared -= grain
    return squared.astype(np.float32)


def _refine_close(squared: np.ndarray, ids: np.ndarray, queries: _Rows, index: _Rows, dense: bool) -> bool:
    """Compute close distances again, in place, from differences of rows.

    Returns:
        Whether there was a close distance, so the neighbours must be sorted again.
    """
    query_norms = queries.squared_norms[:, None].astype(np.float32)
    close = squared <= (_CLOSE_FLOAT64 if dense else _CLOSE) * query_norms
    if not dense:
        tied = np.diff(squared, axis=1) <= _ROUNDING * (query_norms + squared[:, 1:])
        close[:, 1:] |= tied
        close[:, :-1] |= tied
    rows, columns = np.nonzero(close)
    step = max(1, (1 << 21) // index.x.shape[1])
    for start in range(0, len(rows), step):
        row, column = rows[start : start + step], columns[start : start + step]
        neighbour = ids[row, column]
        exact = _squared_norms(queries.float64(row) - index.float64(neighbour))
        exact[exact < 1e-28 * queries.squared_norms[row]] = 0  # for cosine: the rows are multiples of each other
        squared[row, column] = np.where(queries.is_zero[row] | index.is_zero[neighbour], 2, exact)
    return len(rows) > 0


def search_blocks(
    queries: np.ndarray,
    rows: np.ndarray,
    index: np.ndarray,
    k: int,
    distance: str,
    block: int | None,
    exclude_self: bool,
) -> Iterator[tuple[slice, np.ndarray, np.ndarray]]:
    """Search the index, block by block.

    Args:
        queries: ``[Q, D]``.
        rows: ``[R]``, the rows of ``queries`` to search for.
        index: ``[M, D]``.
        k: The number of neighbours. It is reduced if the index has fewer items.
        distance: ``"cosine"``, ``"euclidean"`` or ``"sqeuclidean"``.
        block: The number of queries per block, or None for as many as fit into 256 MiB.
        exclude_self: Whether ``index`` is ``queries``, and no query may find itself.

    Yields:
        For each block: its slice of ``rows``, the squared distances ``[B, k]`` and the indices ``[B, k]``.

    Raises:
        ImportError: If faiss is not installed.
    """
    try:
        import faiss
    except ImportError as error:
        raise ImportError("a search for nearest neighbours needs faiss: pip install faiss-cpu") from error
    cosine, count = distance == "cosine", len(index)
    index_rows = _prepare_rows(index, cosine)
    k = min(k, count - exclude_self)
    depth = min(k + exclude_self + _EXTRA, count)
    dense = depth * _DENSE_RATIO > count
    index_float64 = index_rows.float64() if dense else None
    if block is None:
        block = max(1, _BLOCK_BYTES // (64 * depth + 32 * queries.shape[1] + 24 * count * dense))

    def search(query_rows: _Rows, query_ids: np.ndarray, dense: bool) -> tuple[np.ndarray, np.ndarray]:
        if dense:
            x = index_rows.float64() if index_float64 is None else index_float64
            squared = _all_distances(query_rows, x, index_rows.squared_norms)
            ids = np.arange(count)[None]
        elif cosine:
            squared, ids = faiss.knn(query_rows.x, index_rows.x, depth, faiss.METRIC_INNER_PRODUCT)
            squared = 2 - 2 * squared
        else:
            squared, ids = faiss.knn(query_rows.x, index_rows.x, depth, faiss.METRIC_L2)
        if exclude_self:
            squared[ids == query_ids[:, None]] = np.inf
        return _sort_neighbours(squared, ids, depth - exclude_self)

    for start in range(0, len(rows), block):
        part = slice(start, start + block)
        query_rows = _prepare_rows(queries[rows[part]], cosine)
        squared, ids = search(query_rows, rows[part], dense)
        if not dense:  # repeat the queries for which rounding decides which items are among the first k
            kth, last = squared[:, k - 1], squared[:, -1]
            unsure = np.flatnonzero(last - kth <= _ROUNDING * (query_rows.squared_norms + last))
            step = max(1, _BLOCK_BYTES // (24 * count))
            for chunk in (unsure[i : i + step] for i in range(0, len(unsure), step)):
                chunk_rows = _Rows(*(values[chunk] for values in query_rows))
                squared[chunk], ids[chunk] = search(chunk_rows, rows[part][chunk], True)
        if _refine_close(squared, ids, query_rows, index_rows, dense):
            squared, ids = _sort_neighbours(squared, ids, depth - exclude_self)
        yield part, squared[:, :k], ids[:, :k]


def _check_rows(name: str, x: Any, distance: str) -> np.ndarray:
    """Check embeddings and return them as float32 ``[N, D]``."""
    x = np.asarray(x)
    shape(name, x.shape, ["N", "D"])
    if x.dtype.kind not in "biuf":
        raise TypeError(f"{name} must be real numbers, got dtype {x.dtype}")
    if not x.size:
        raise ValueError(f"{name} must have at least one row and one column, got shape {list(x.shape)}")
    with np.errstate(over="ignore"):
        x = np.ascontiguousarray(x, dtype=np.float32)
    # The squared distances of longer rows may overflow float32.
    wrong = ~np.isfinite(x).all(axis=1) if distance == "cosine" else ~(_squared_norms(x) < 1e36)
    if wrong.any():
        condition = "finite" if distance == "cosine" else "finite, with norms below 1e18"
        raise ValueError(f"{name} must be {condition}, and are not at rows {preview(np.flatnonzero(wrong))}")
    return x


def check_embeddings(queries: Any, index: Any, distance: str, block: int | None) -> tuple[np.ndarray, np.ndarray]:
    """Check the arguments of a search.

    Returns:
        Queries ``[Q, D]`` and index ``[M, D]`` as float32. If ``index`` is None, the index is the queries.

    Raises:
        TypeError: If embeddings are not real numbers, or ``block`` is not an integer.
        ValueError: If an argument is wrong, as in :func:`nearest_neighbours`.
    """
    one_of("distance", distance, ("cosine", "euclidean", "sqeuclidean"))
    if block is not None:
        integer("block", block, 1)
    queries = _check_rows("queries", queries, distance)
    if index is None:
        return queries, queries
    index = _check_rows("index", index, distance)
    if queries.shape[1] != index.shape[1]:
        raise ValueError(f"queries and index must have the same dimension, got {queries.shape[1]} and {index.shape[1]}")
    return queries, index


def nearest_neighbours(
    queries: Any, index: Any, k: int, distance: str = "cosine", block: int | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Find the ``k`` nearest items of an index for each query, exactly.

    The cosine distance is 1 - cos. A zero vector has a cosine of 0 to every vector. The computation is in float32,
    whatever the type of the embeddings.

    Args:
        queries: Embeddings ``[Q, D]``.
        index: Embeddings ``[M, D]``. With None, the queries are searched among themselves, and no query finds its own
            row.
        k: The number of neighbours, at least 1. It is reduced if the index has fewer items.
        distance: ``"cosine"``, ``"euclidean"`` or ``"sqeuclidean"``.
        block: The number of queries per block. The default is as many as fit into 256 MiB.

    Returns:
        Distances ``[Q, k]``, float32, at least 0, in ascending order; and indices ``[Q, k]``, int64. Of equal
        distances, the lowest index comes first.

    Raises:
        ImportError: If faiss is not installed.
        TypeError: If embeddings are not real numbers, or ``k`` or ``block`` is not an integer.
        ValueError: If embeddings are empty, not ``[N, D]``, not finite, too long (a norm of 1e18 or more, except for
            ``"cosine"``) or differ in dimension, if the distance is unknown, or if ``k`` or ``block`` is below 1.

    Example:
        >>> distances, indices = nearest_neighbours([[0.0, 1.0]], [[4.0, 1.0], [0.0, 2.0], [0.0, 1.0]], k=2,
        ...                                         distance="euclidean")
        >>> distances.tolist(), indices.tolist()
        ([[0.0, 1.0]], [[2, 1]])
    """
    k = integer("k", k, 1)
    queries, searched = check_embeddings(queries, index, distance, block)
    k = min(k, len(searched) - (index is None))
    distances, indices = np.empty((len(queries), k), np.float32), np.empty((len(queries), k), np.int64)
    rows = np.arange(len(queries))
    for part, squared, ids in search_blocks(queries, rows, searched, k, distance, block, index is None):
        values = {"cosine": squared / 2, "euclidean": np.sqrt(squared), "sqeuclidean": squared}[distance]
        distances[part], indices[part] = _sort_neighbours(values, ids, k)  # roots may tie where squares do not
    return distances, indices
