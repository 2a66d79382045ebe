"""Rows of embeddings, prepared for exact comparisons."""

from typing import Any, NamedTuple

import numpy as np

__all__ = ["DistinctRows", "Rows", "prepare_rows", "row_codes", "sort_neighbours", "squared_row_norms"]

INDEX_MASK = np.uint64(2**32 - 1)  # the bits of a sort key that hold the index


class Rows(NamedTuple):
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


def prepare_rows(x: np.ndarray, cosine: bool) -> Rows:
    """Prepare float32 rows ``[N, D]`` for the cosine distance, or for a Euclidean one."""
    squared_norms, ones = squared_row_norms(x), np.ones(len(x))
    if not cosine:
        return Rows(x, x, ones, squared_norms, np.zeros(len(x), bool))
    norms = np.sqrt(squared_norms, where=squared_norms > 0, out=ones.copy())
    normalized = np.divide(x, norms[:, None], out=np.empty_like(x), casting="same_kind")
    return Rows(x, normalized, norms, ones, squared_norms == 0)


def squared_row_norms(x: np.ndarray) -> np.ndarray:
    """The squared norm of each row in float64: ``[N, D]`` to ``[N]``. It does not depend on the place of the row."""
    return np.einsum("nd,nd->n", x, x, dtype=np.float64)


def sort_neighbours(distances: np.ndarray, ids: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
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
    return (keys >> np.uint64(32)).astype(np.uint32).view(np.float32), (keys & INDEX_MASK).view(np.int64)


def _hash(x: np.ndarray) -> np.ndarray:
    """A number for each row, which depends on its values alone: float32 ``[N, D]`` to uint64 ``[N]``."""
    factors = np.random.default_rng(0).integers(2**63, size=(x.shape[1],), dtype=np.uint64) * 2 + 1
    positive_zeros = x + np.float32(0)
    return positive_zeros.view(np.uint32).astype(np.uint64) @ factors


def row_codes(*arrays: Any) -> list[np.ndarray]:
    """Number the different rows of float32 arrays ``[N, D]``: equal rows get the same number. One ``[N]`` each.

    An array may be anything with a shape that returns rows for a slice and for an array of positions.
    """
    step = max(1, (1 << 22) // arrays[0].shape[1])
    hashes = np.concatenate([_hash(x[start : start + step]) for x in arrays for start in range(0, len(x), step)])
    _, first, codes = np.unique(hashes, return_index=True, return_inverse=True)
    starts = np.cumsum([0, *map(len, arrays)])

    def rows_at(positions: np.ndarray) -> np.ndarray:
        found = np.empty((len(positions), arrays[0].shape[1]), np.float32)
        for x, start, stop in zip(arrays, starts, starts[1:], strict=False):
            inside = (positions >= start) & (positions < stop)
            found[inside] = x[positions[inside] - start]
        return found

    for x, offset in zip(arrays, starts, strict=False):
        for start in range(0, len(x), step):
            own = codes[offset + start : offset + min(start + step, len(x))]
            if not np.array_equal(x[start : start + step], rows_at(first[own])):  # two rows, one hash
                codes = np.unique(np.concatenate([x[:] for x in arrays]), axis=0, return_inverse=True)[1].reshape(-1)
                return np.split(codes, starts[1:-1])
    return np.split(codes, starts[1:-1])


class DistinctRows:
    """The different rows of an index in float64. Equal rows are compared with a query once."""

    def __init__(self, index: Rows):
        (codes,) = row_codes(index.original)
        _, first, inverse = np.unique(codes, return_index=True, return_inverse=True)
        self.inverse = inverse if len(first) < len(codes) else None
        rows = slice(None) if self.inverse is None else first
        self.x, self.squared_norms = index.float64(rows), index.squared_norms[rows]

    def distances(self, queries: Rows) -> np.ndarray:
        """All squared distances of queries to the index: ``[B, M]`` float32, computed in float64.

        Rows that differ may have equal distances, and BLAS may round them differently. Adding and subtracting ``grain``
        removes all bits below 2**-40 of the squared norm of the query.
        """
        query_norms = queries.squared_norms[:, None]
        grain = query_norms * 2**12
        squared = queries.float64() @ self.x.T
        squared *= -2
        squared += self.squared_norms
        squared += query_norms + grain
        squared -= grain
        rounded = squared.astype(np.float32)
        return rounded if self.inverse is None else np.take(rounded, self.inverse, axis=1)
