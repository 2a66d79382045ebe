"""Exact nearest neighbours of embeddings, in bounded memory.

faiss compares each block of queries with the whole index. Distances that are too close for float32 products to rank are
computed again from differences of rows. Exact duplicates have distance 0, and of equal distances the lowest index comes
first. No array has queries x index elements.

Two items of the index tie if their squared distances to the query are the same float32. Equal rows always tie: their
distance is computed once for all of them, or from differences of rows, where their position plays no part. Equal rows
in two shards have products of their own, in float64 and rounded to the same grain.
"""

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np

from ..checks import integer, one_of, shape
from ..containers import from_container
from .rows import Rows, prepare_rows, sort_neighbours, squared_row_norms
from .shards import SearchIndex, Shards, check_values, merge

__all__ = ["nearest_neighbours"]

Match = Callable[[np.ndarray, np.ndarray], np.ndarray]  # compares label codes of queries and of an index
_BLOCK_BYTES = 256 << 20  # memory of a block of queries
_DENSE_RATIO = 12  # all distances are computed if the neighbours are more than 1/12 of the index: faster than faiss
_EXTRA = 8  # neighbours beyond k that are also fetched, because they may tie with the k-th
# Relative to the squared norms: the rounding error of float32 products, and the distances below which products in
# float32 and in float64 are not exact enough, so the distance is computed from the difference of the rows.
_ROUNDING, _CLOSE, _CLOSE_FLOAT64 = 1e-6, 1e-3, 1e-6


class Neighbours(NamedTuple):
    """The nearest neighbours of a block of queries."""

    part: slice  # of the rows that were searched for
    squared: np.ndarray  # [B, K] squared distances, in ascending order
    ids: np.ndarray  # [B, K] indices
    more_ties: np.ndarray  # [B] items beyond the K neighbours that tie with the last of them
    more_hits: np.ndarray  # [B] how many of these are relevant


def _refine_close(
    squared: np.ndarray, ids: np.ndarray, queries: Rows, index: SearchIndex, dense: bool, limits: np.ndarray
) -> bool:
    """Compute close distances again, in place, from differences of rows. Distances from ``limits`` on are kept.

    Returns:
        Whether there was a close distance, so the neighbours must be sorted again.
    """
    query_norms = queries.squared_norms[:, None].astype(np.float32)
    close = squared <= (_CLOSE_FLOAT64 if dense else _CLOSE) * query_norms
    if not dense:
        with np.errstate(invalid="ignore"):  # excluded items are infinitely far, and do not tie
            tied = np.diff(squared, axis=1) <= _ROUNDING * (query_norms + squared[:, 1:])
        close[:, 1:] |= tied
        close[:, :-1] |= tied
    close &= squared < limits[:, None]
    rows, columns = np.nonzero(close)
    step = max(1, (1 << 21) // index.x.shape[1])
    for start in range(0, len(rows), step):
        row, column = rows[start : start + step], columns[start : start + step]
        neighbours, is_zero = index.rows(ids[row, column])
        exact = squared_row_norms(queries.float64(row) - neighbours)
        exact[exact < 1e-28 * queries.squared_norms[row]] = 0  # for cosine: the rows are multiples of each other
        exact = np.where(queries.is_zero[row] | is_zero, 2, exact)
        squared[row, column] = np.minimum(exact, limits[row])
    return len(rows) > 0


def _ties_beyond(
    squared: np.ndarray,
    ids: np.ndarray,
    k: int,
    ties: np.ndarray,
    hits: np.ndarray,
    labels: np.ndarray,
    index: np.ndarray,
    match: Match,
) -> tuple[np.ndarray, np.ndarray]:
    """The number of items that tie with the k-th neighbour and come after it, and how many of them are relevant.

    Args:
        squared: ``[B, K]``, sorted.
        ids: ``[B, K]``.
        k: The number of neighbours, at most K.
        ties: ``[B]``, the size of the group of the k-th neighbour if it may be larger than K, else 0.
        hits: ``[B]``, the relevant items of this group.
        labels: ``[B, 1]``.
        index: ``[M]``, the labels of the index.
        match: Compares labels of queries and of the index.

    Returns:
        ``[B]`` each.
    """
    kth = squared[:, k - 1 : k]
    after = (squared[:, k:] == kth) & np.isfinite(kth)
    relevant = after & match(labels, index[ids[:, k:]])
    more_ties, more_hits = np.count_nonzero(after, axis=1), np.count_nonzero(relevant, axis=1)
    whole = np.flatnonzero(ties)
    inside = squared[whole, :k] == kth[whole]
    more_ties[whole] = ties[whole] - np.count_nonzero(inside, axis=1)
    inside &= match(labels[whole], index[ids[whole, :k]])
    more_hits[whole] = hits[whole] - np.count_nonzero(inside, axis=1)
    return more_ties, more_hits


def search_blocks(
    queries: np.ndarray | Shards,
    rows: np.ndarray,
    index: np.ndarray | Shards,
    k: int,
    distance: str,
    block: int | None,
    exclude_self: bool,
    labels: tuple[np.ndarray, np.ndarray, Match] | None = None,
    duplicates: tuple[np.ndarray, np.ndarray] | None = None,
) -> Iterator[Neighbours]:
    """Search the index, block by block.

    Args:
        queries: ``[Q, D]``.
        rows: ``[R]``, the rows of ``queries`` to search for.
        index: ``[M, D]``.
        k: The number of neighbours. It is reduced if the index has fewer items.
        distance: ``"cosine"``, ``"euclidean"`` or ``"sqeuclidean"``.
        block: The number of queries per block, or None for as many as fit into 256 MiB.
        exclude_self: Whether ``index`` is ``queries``, and no query may find itself.
        labels: ``[R]`` and ``[M]`` codes, and a function that compares them. With them, the items that tie with the
            k-th neighbour are counted. An item is relevant if its label matches that of the query.
        duplicates: ``[R]`` and ``[M]``. Items with the number of the query are excluded: they are infinitely far.

    Yields:
        The neighbours of each block.

    Raises:
        ImportError: If faiss is not installed.
    """
    try:
        import faiss  # noqa: F401  (needed later)
    except ImportError as error:
        raise ImportError("a search for nearest neighbours needs faiss: pip install faiss-cpu") from error
    source = SearchIndex(index, distance)
    cosine, count = source.cosine, source.count
    k = min(k, count - exclude_self)
    depth = min(k + exclude_self + _EXTRA, count)
    fetched = depth - exclude_self
    always_dense = depth * _DENSE_RATIO > count
    if duplicates is not None:
        has_duplicates = (
            np.bincount(duplicates[1], minlength=int(duplicates[0].max()) + 1)[duplicates[0]] > exclude_self
        )
    if block is None:
        block = max(1, _BLOCK_BYTES // (64 * depth + 32 * queries.shape[1] + 24 * count * always_dense))

    def all_distances(block_rows: Rows, numbers: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
        for start, distances in source.distances(block_rows):
            stop = start + distances.shape[1]
            if exclude_self:
                own = rows[numbers]
                inside = np.flatnonzero((own >= start) & (own < stop))
                distances[inside, own[inside] - start] = np.inf
            if duplicates is not None:
                distances[duplicates[0][numbers, None] == duplicates[1][start:stop]] = np.inf
            yield start, distances

    def search_all(block_rows: Rows, numbers: np.ndarray) -> Neighbours:
        nearest: tuple[np.ndarray, np.ndarray] | None = None
        for start, distances in all_distances(block_rows, numbers):
            found = sort_neighbours(distances, np.arange(start, start + distances.shape[1])[None], fetched)
            nearest = found if nearest is None else merge(nearest, found, fetched)
        assert nearest is not None
        squared, ids = nearest
        ties, hits = np.zeros((2, len(numbers)), np.int64)
        if labels is not None and depth < count:
            kth = squared[:, k - 1 : k]
            beyond = np.flatnonzero((squared[:, -1:] == kth) & np.isfinite(kth))
            # Shards are read again. The same call gives the same bits.
            again = [(start, distances)] if source.whole is not None else all_distances(block_rows, numbers)
            for start, distances in again if len(beyond) else ():
                tied = distances[beyond] == kth[beyond]
                ties[beyond] += np.count_nonzero(tied, axis=1)
                codes = labels[1][start : start + distances.shape[1]]
                tied &= labels[2](labels[0][numbers[beyond], None], codes)
                hits[beyond] += np.count_nonzero(tied, axis=1)
        return Neighbours(slice(0), squared, ids, ties, hits)

    def search(block_rows: Rows, numbers: np.ndarray) -> Neighbours:
        if always_dense:
            return search_all(block_rows, numbers)
        squared, ids = source.nearest(block_rows, depth)
        if exclude_self:
            squared[ids == rows[numbers][:, None]] = np.inf
        squared, ids = sort_neighbours(squared, ids, fetched)
        ties, hits = np.zeros((2, len(numbers)), np.int64)
        # repeat the queries for which rounding decides which items are among the first k
        kth, last = squared[:, k - 1], squared[:, -1]
        unsure = last - kth <= _ROUNDING * (block_rows.squared_norms + last)
        if duplicates is not None:
            unsure |= has_duplicates[numbers]
        repeated, step = np.flatnonzero(unsure), max(1, _BLOCK_BYTES // (24 * source.largest))
        for chunk in (repeated[i : i + step] for i in range(0, len(repeated), step)):
            chunk_rows = Rows(*(values[chunk] for values in block_rows))
            _, squared[chunk], ids[chunk], ties[chunk], hits[chunk] = search_all(chunk_rows, numbers[chunk])
        return Neighbours(slice(0), squared, ids, ties, hits)

    for start in range(0, len(rows), block):
        numbers = np.arange(start, min(start + block, len(rows)))
        block_rows = prepare_rows(queries[rows[numbers]], cosine)
        _, squared, ids, ties, hits = search(block_rows, numbers)
        # Of a group of ties that is larger than what was fetched, no distance is computed again: all stay equal.
        limits = np.full(len(numbers), np.inf, np.float32)
        if labels is not None:
            limits[ties > 0] = squared[ties > 0, k - 1]
        if _refine_close(squared, ids, block_rows, source, always_dense, limits):
            squared, ids = sort_neighbours(squared, ids, fetched)
        if labels is not None:
            ties, hits = _ties_beyond(squared, ids, k, ties, hits, labels[0][numbers, None], labels[1], labels[2])
        yield Neighbours(slice(start, start + block), squared[:, :k], ids[:, :k], ties, hits)


def _check_rows(name: str, x: Any, distance: str) -> np.ndarray | Shards:
    """Check embeddings and return them as float32 ``[N, D]``. Shards are returned; a search checks what it reads."""
    if isinstance(x, Shards):
        return x
    x = np.asarray(from_container(name, x))
    shape(name, x.shape, ["N", "D"])
    if x.dtype.kind not in "biuf":
        raise TypeError(f"{name} must be real numbers, got dtype {x.dtype}")
    if not x.size:
        raise ValueError(f"{name} must have at least one row and one column, got shape {list(x.shape)}")
    return check_values(name, x, distance)


def check_embeddings(
    queries: Any, index: Any, distance: str, block: int | None
) -> tuple[np.ndarray | Shards, np.ndarray | Shards]:
    """Check the arguments of a search.

    Returns:
        Queries ``[Q, D]`` and index ``[M, D]`` as float32, or as shards. If ``index`` is None, the index is the
        queries.

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
    if isinstance(queries, Shards):
        for _ in queries.checked(distance):
            pass
    return queries, index


def nearest_neighbours(
    queries: Any, index: Any, k: int, distance: str = "cosine", block: int | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Find the ``k`` nearest items of an index for each query, exactly.

    The cosine distance is 1 - cos. A zero vector has a cosine of 0 to every vector. The computation is in float32,
    whatever the type of the embeddings.

    Args:
        queries: Embeddings ``[Q, D]``.
        index: Embeddings ``[M, D]``, or :class:`Shards` if they do not fit into memory. With None, the queries are
            searched among themselves, and no query finds its own row.
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
    for part, squared, ids, _, _ in search_blocks(queries, rows, searched, k, distance, block, index is None):
        values = {"cosine": squared / 2, "euclidean": np.sqrt(squared), "sqeuclidean": squared}[distance]
        distances[part], indices[part] = sort_neighbours(values, ids, k)  # roots may tie where squares do not
    return distances, indices
