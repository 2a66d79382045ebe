"""How well scores order the answers of queries."""

import numpy as np

__all__ = ["grouped_ndcg"]


def grouped_ndcg(scores: np.ndarray, relevance: np.ndarray, groups: np.ndarray) -> float:
    r"""Mean nDCG over groups, with gains :math:`2^r - 1`. Of equal scores, the first item ranks first.

    Groups without a relevant item are left out.

    Args:
        scores: ``[N]``; items are ranked by falling score.
        relevance: ``[N]``.
        groups: ``[N]`` integers, the query of each item.

    Returns:
        A number from 0 to 1. It is 0 if no group has a relevant item.

    Example:
        >>> grouped_ndcg([0.9, 0.1, 0.5], [1, 0, 0], [0, 0, 0])
        1.0

    References:
        Jarvelin and Kekalainen, "Cumulated gain-based evaluation of IR techniques", ACM TOIS 2002.
    """
    gains = 2.0 ** np.asarray(relevance, np.float64) - 1
    actual, ideal = (_dcg(gains, groups, -order) for order in (np.asarray(scores, np.float64), gains))
    relevant = ideal > 0
    return float(np.mean(actual[relevant] / ideal[relevant])) if relevant.any() else 0.0


def _dcg(gains: np.ndarray, groups: np.ndarray, order: np.ndarray) -> np.ndarray:
    """Discounted gains of each group, its items sorted by rising ``order``: ``[N]`` each to ``[G]``."""
    codes = np.unique(groups, return_inverse=True)[1]
    positions = np.lexsort((order, codes))
    sizes = np.bincount(codes)
    ranks = np.arange(len(codes)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    return np.bincount(codes[positions], weights=gains[positions] / np.log2(ranks + 2))
