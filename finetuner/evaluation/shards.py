"""An index that does not fit into memory: several arrays that are searched as one."""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from ..checks import preview
from .rows import DistinctRows, Rows, prepare_rows, sort_neighbours, squared_row_norms

__all__ = ["Shards"]


class Shards:
    """Embeddings in several arrays, which are searched as one array ``[M, D]``. One of them is in memory at a time.

    Neighbours, ties and metrics do not depend on where the array is cut; distances differ by the rounding of float32 at
    most. A search reads each array once for each block of queries, so many queries at once are faster.

    Args:
        arrays: Arrays ``[M_i, D]``, in order, such as those that ``np.load(path, mmap_mode="r")`` returns; or paths of
            ``.npy`` files, which are opened in this way. An array may have no rows.

    Raises:
        TypeError: If one is not an array, or not of real numbers.
        ValueError: If one is not ``[M_i, D]``, or there are no rows.

    Example:
        >>> shards = Shards([np.array([[4.0, 1.0], [0.0, 2.0]]), np.array([[0.0, 1.0]])])
        >>> distances, indices = nearest_neighbours([[0.0, 1.0]], shards, k=2, distance="euclidean")
        >>> distances.tolist(), indices.tolist()
        ([[0.0, 1.0]], [[2, 1]])
    """

    def __init__(self, arrays: Iterable[Any]):
        self.arrays = [np.load(one, mmap_mode="r") if isinstance(one, str | Path) else one for one in arrays]
        for array in self.arrays:
            if not isinstance(array, np.ndarray):
                raise TypeError(f"shards must be arrays or paths of .npy files, got {type(array).__name__}")
            if array.dtype.kind not in "biuf":
                raise TypeError(f"shards must be real numbers, got dtype {array.dtype}")
        shapes = [array.shape for array in self.arrays]
        if any(len(shape) != 2 for shape in shapes) or len({shape[1] for shape in shapes}) > 1:
            found = preview([list(shape) for shape in dict.fromkeys(shapes)])
            raise ValueError(f"shards must have shape [M, D] with one D, got {found}")
        self.starts = np.cumsum([0, *(len(array) for array in self.arrays)])
        if not len(self) or not shapes[0][1]:
            found = preview(list(map(list, shapes))) if shapes else "none"
            raise ValueError(f"shards must have at least one row and one column, got {found}")
        self.shape = len(self), shapes[0][1]

    def __len__(self) -> int:
        return int(self.starts[-1])

    def __repr__(self) -> str:
        return f"Shards({len(self.arrays)} arrays, {list(self.shape)})"

    def __getitem__(self, rows: slice | np.ndarray) -> np.ndarray:
        """Rows at positions ``[N]``, or a slice of the rows, as float32 ``[N, D]``."""
        rows = np.arange(len(self))[rows] if isinstance(rows, slice) else rows
        found = np.empty((len(rows), self.shape[1]), np.float32)
        numbers = np.searchsorted(self.starts, rows, side="right") - 1  # of the shard of each row
        for number in np.unique(numbers):
            places = np.flatnonzero(numbers == number)
            found[places] = self.arrays[number][rows[places] - self.starts[number]]
        return found

    def checked(self, distance: str) -> Iterator[tuple[int, np.ndarray]]:
        """The first row and the embeddings of each shard that has rows, one shard in memory at a time.

        Raises:
            ValueError: If embeddings are not finite, or too long for the distance.
        """
        for number, array in enumerate(self.arrays):
            if len(array):
                yield int(self.starts[number]), check_values(f"shard {number}", array, distance)

    def subset(self, rows: np.ndarray) -> "Shards":
        """Only some rows, at ascending positions."""
        cuts = np.searchsorted(rows, self.starts)
        chosen = [rows[start:stop] for start, stop in zip(cuts, cuts[1:], strict=False)]
        kept = [array[own - start] for array, own, start in zip(self.arrays, chosen, self.starts, strict=False)]
        return Shards(kept)


def check_values(name: str, x: np.ndarray, distance: str) -> np.ndarray:
    """Return embeddings ``[N, D]`` as float32, and raise ``ValueError`` if a search would overflow."""
    with np.errstate(over="ignore"):
        x = np.ascontiguousarray(x, dtype=np.float32)
    # The squared distances of longer rows may overflow float32.
    wrong = ~np.isfinite(x).all(axis=1) if distance == "cosine" else ~(squared_row_norms(x) < 1e36)
    if wrong.any():
        condition = "finite" if distance == "cosine" else "finite, with norms below 1e18"
        raise ValueError(f"{name} must be {condition}, and are not at rows {preview(np.flatnonzero(wrong))}")
    return x


class SearchIndex:
    """What a search asks of an index: an array, or :class:`Shards`.

    Args:
        x: ``[M, D]``.
        distance: ``"cosine"``, ``"euclidean"`` or ``"sqeuclidean"``.

    Attributes:
        count: M.
        largest: The number of rows that are in memory at once.
    """

    def __init__(self, x: "np.ndarray | Shards", distance: str):
        self.x, self.distance, self.cosine = x, distance, distance == "cosine"
        self.whole = None if isinstance(x, Shards) else prepare_rows(x, self.cosine)
        self.distinct: DistinctRows | None = None  # made when it is needed first
        self.count = len(x)
        self.largest = max(map(len, x.arrays)) if isinstance(x, Shards) else len(x)

    def pieces(self) -> Iterator[tuple[int, Rows]]:
        """The first row of each shard, and its rows."""
        if isinstance(self.x, Shards):
            for start, array in self.x.checked(self.distance):
                yield start, prepare_rows(array, self.cosine)
        else:
            assert self.whole is not None
            yield 0, self.whole

    def nearest(self, queries: Rows, depth: int) -> tuple[np.ndarray, np.ndarray]:
        """Squared distances and numbers of the nearest rows, ``[B, depth]``, in float32 products.

        What several shards find is merged, as ``faiss.merge_knn_results`` does it. Here the rows of two shards with the
        same distance are in the order of their numbers.
        """
        import faiss

        metric = faiss.METRIC_INNER_PRODUCT if self.cosine else faiss.METRIC_L2
        found: tuple[np.ndarray, np.ndarray] | None = None
        for start, rows in self.pieces():
            squared, ids = faiss.knn(queries.x, rows.x, min(depth, len(rows.x)), metric)
            squared = 2 - 2 * squared if self.cosine else squared
            found = (squared, ids) if found is None else merge(found, (squared, ids + start), depth)
        assert found is not None
        return found

    def distances(self, queries: Rows) -> Iterator[tuple[int, np.ndarray]]:
        """The first row of each shard, and all squared distances to it: ``[B, M_i]`` float32, computed in float64."""
        for start, rows in self.pieces():
            if self.whole is None:
                yield start, DistinctRows(rows).distances(queries)
            else:
                self.distinct = self.distinct or DistinctRows(rows)
                yield start, self.distinct.distances(queries)

    def rows(self, ids: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The rows ``[N, D]`` with these numbers in float64, and which of them are zero vectors."""
        if self.whole is not None:
            return self.whole.float64(ids), self.whole.is_zero[ids]
        rows = prepare_rows(self.x[ids], self.cosine)
        return rows.float64(), rows.is_zero


def merge(
    first: tuple[np.ndarray, np.ndarray], second: tuple[np.ndarray, np.ndarray], k: int
) -> tuple[np.ndarray, np.ndarray]:
    """The ``k`` nearest of two sets of neighbours, each of distances and numbers ``[B, K]``."""
    squared, ids = (np.concatenate(pair, axis=1) for pair in zip(first, second, strict=True))
    return sort_neighbours(squared, ids, k)
