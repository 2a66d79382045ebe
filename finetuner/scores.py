"""How well similarities, scores and orders agree with what is known: numpy arrays in, numbers out."""

import numpy as np

__all__ = ["grouped_ndcg", "pearson", "row_distance", "spearman"]


def row_distance(first: np.ndarray, second: np.ndarray, distance: str = "cosine") -> np.ndarray:
    """Distance of each row to the row beside it, in float64: two ``[N, D]`` to ``[N]``.

    A zero vector has a cosine of 0.

    Args:
        first: ``[N, D]``.
        second: ``[N, D]``.
        distance: ``"cosine"`` (1 - cos), ``"euclidean"`` or ``"sqeuclidean"``.
    """
    first, second = np.asarray(first, np.float64), np.asarray(second, np.float64)
    if distance == "cosine":
        norms = np.linalg.norm(first, axis=1) * np.linalg.norm(second, axis=1)
        return np.asarray(1 - (first * second).sum(axis=1) / np.where(norms > 0, norms, 1))
    square = ((first - second) ** 2).sum(axis=1)
    return square if distance == "sqeuclidean" else np.sqrt(square)


def pearson(x: np.ndarray, y: np.ndarray) -> float:
    """Pearson's correlation of two ``[N]``, from -1 to 1; 0 where one of them never changes."""
    x, y = np.asarray(x, np.float64), np.asarray(y, np.float64)
    x, y = x - x.mean(), y - y.mean()
    size = np.sqrt((x * x).sum() * (y * y).sum())
    return float((x * y).sum() / size) if size > 0 else 0.0


def spearman(x: np.ndarray, y: np.ndarray) -> float:
    """Spearman's rank correlation of two ``[N]``: Pearson's of their ranks, of equals the mean rank.

    Source: Spearman, "The proof and measurement of association between two things", 1904.
    """
    return pearson(mean_ranks(x), mean_ranks(y))


def mean_ranks(x: np.ndarray) -> np.ndarray:
    """Rank of each value from 0, of equals the mean of theirs: ``[N]`` to ``[N]`` float64."""
    _, place, counts = np.unique(x, return_inverse=True, return_counts=True)
    return (np.cumsum(counts) - (counts + 1) / 2)[place]


def grouped_ndcg(scores: np.ndarray, relevance: np.ndarray, groups: np.ndarray) -> float:
    r"""Mean over the groups of nDCG, with gains of :math:`2^r - 1`; of equal scores the first comes first.

    Groups in which nothing is relevant are left out; 0 if there is no other.

    Args:
        scores: ``[N]``, the higher the earlier.
        relevance: ``[N]``.
        groups: ``[N]`` integers, the query of each.

    Source: Jarvelin and Kekalainen, "Cumulated gain-based evaluation of IR techniques", 2002.
    """
    gains = 2.0 ** np.asarray(relevance, np.float64) - 1
    found = [dcg(gains, groups, -order) for order in (np.asarray(scores, np.float64), gains)]
    relevant = found[1] > 0
    return float(np.mean(found[0][relevant] / found[1][relevant])) if relevant.any() else 0.0


def dcg(gains: np.ndarray, groups: np.ndarray, order: np.ndarray) -> np.ndarray:
    """Discounted gains of each group whose items are taken by rising ``order``: ``[N]`` each to ``[G]``."""
    codes = np.unique(groups, return_inverse=True)[1]
    places = np.lexsort((order, codes))
    sizes = np.bincount(codes)
    ranks = np.arange(len(codes)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    return np.bincount(codes[places], weights=gains[places] / np.log2(ranks + 2))
