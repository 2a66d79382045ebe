"""How well the similarities of pairs agree with known scores."""

import numpy as np

from ..containers import from_container

__all__ = ["pearson", "row_distance", "spearman"]


def row_distance(first: np.ndarray, second: np.ndarray, distance: str = "cosine") -> np.ndarray:
    """Distance of each row of ``first`` to the same row of ``second``, in float64.

    A zero vector has a cosine of 0 to every vector.

    Args:
        first: ``[N, D]``.
        second: ``[N, D]``.
        distance: ``"cosine"`` (1 - cos), ``"euclidean"`` or ``"sqeuclidean"``.

    Returns:
        ``[N]`` float64.

    Example:
        >>> row_distance([[1, 0], [1, 0]], [[1, 0], [0, 1]]).tolist()
        [0.0, 1.0]
    """
    first, second = (np.asarray(from_container("rows", rows), np.float64) for rows in (first, second))
    if distance == "cosine":
        norms = np.linalg.norm(first, axis=1) * np.linalg.norm(second, axis=1)
        return np.asarray(1 - (first * second).sum(axis=1) / np.where(norms > 0, norms, 1))
    square = ((first - second) ** 2).sum(axis=1)
    return square if distance == "sqeuclidean" else np.sqrt(square)


def pearson(x: np.ndarray, y: np.ndarray) -> float:
    """Pearson's correlation coefficient of two arrays ``[N]``.

    Returns:
        A number from -1 to 1. It is 0 if one of the arrays is constant.

    Example:
        >>> round(pearson([1, 2, 3], [2, 4, 6]), 6)
        1.0
    """
    x, y = (np.asarray(from_container("values", values), np.float64) for values in (x, y))
    x, y = x - x.mean(), y - y.mean()
    norm = np.sqrt((x * x).sum() * (y * y).sum())
    return float((x * y).sum() / norm) if norm > 0 else 0.0


def spearman(x: np.ndarray, y: np.ndarray) -> float:
    """Spearman's rank correlation of two arrays ``[N]``: Pearson's correlation of their ranks.

    Equal values get the mean of their ranks.

    Returns:
        A number from -1 to 1. It is 0 if one of the arrays is constant.

    Example:
        >>> round(spearman([1, 2, 3], [1, 10, 100]), 6)
        1.0

    References:
        Spearman, "The proof and measurement of association between two things", 1904.
    """
    return pearson(mean_ranks(x), mean_ranks(y))


def mean_ranks(x: np.ndarray) -> np.ndarray:
    """The rank of each value from 0; equal values get the mean of their ranks: ``[N]`` to ``[N]`` float64."""
    _, position, counts = np.unique(from_container("values", x), return_inverse=True, return_counts=True)
    return (np.cumsum(counts) - (counts + 1) / 2)[position]
