"""How well scores order the answers of queries."""

import numpy as np

from ..checks import one_of, preview
from ..containers import from_container

__all__ = ["check_relevance", "grouped_ndcg"]

GAINS = ("exponential", "linear")


def check_relevance(relevance: np.ndarray, gain: str = "exponential") -> np.ndarray:
    """Check that the gain of each relevance can be computed.

    Args:
        relevance: ``[N]``.
        gain: ``"exponential"`` or ``"linear"``, see :func:`grouped_ndcg`.

    Returns:
        ``[N]`` float64.

    Raises:
        ValueError: If the gain is unknown, or a relevance is negative or not finite, or has no finite gain in float64.

    Example:
        >>> check_relevance([0, 1500], gain="linear").tolist()
        [0.0, 1500.0]
        >>> try:
        ...     check_relevance([0, 1500])
        ... except ValueError as error:
        ...     print(error)
        relevance must be at most 1023 for the gain 2^r - 1, got 1500.0; take gain="linear", or grades from 0 to 5
    """
    one_of("gain", gain, GAINS)
    relevance = np.asarray(from_container("relevance", relevance), np.float64)
    wrong = ~((relevance >= 0) & (relevance < np.inf))
    if wrong.any():
        raise ValueError(f"relevance must be at least 0 and finite to have a gain, got {relevance[wrong][0]}")
    with np.errstate(over="ignore"):
        wrong = (gain == "exponential") & ~np.isfinite(np.exp2(relevance))
    if wrong.any():
        raise ValueError(
            f"relevance must be at most 1023 for the gain 2^r - 1, got {relevance[wrong].max()}; take "
            'gain="linear", or grades from 0 to 5'
        )
    return relevance


def grouped_ndcg(scores: np.ndarray, relevance: np.ndarray, groups: np.ndarray, gain: str = "exponential") -> float:
    r"""Mean nDCG over groups: the discounted gains of a ranking by falling score, divided by those of the best ranking.

    The gain of a relevance :math:`r` is :math:`2^r - 1`, or :math:`r` itself. Equal scores are ranked in expectation,
    as the mean over all their orders [2]: the order of the data plays no part. Groups without a relevant item are left
    out.

    Args:
        scores: ``[N]``; items are ranked by falling score.
        relevance: ``[N]`` numbers of at least 0; at most 1023 with the exponential gain.
        groups: ``[N]`` integers, the query of each item.
        gain: ``"exponential"`` for :math:`2^r - 1`, or ``"linear"`` for :math:`r`. The linear gain suits counts, such
            as clicks.

    Returns:
        A number from 0 to 1. It is 0 if no group has a relevant item.

    Raises:
        ValueError: If the gain is unknown, a relevance is negative or has no finite gain, a score is NaN, or the arrays
            differ in length.

    Example:
        >>> grouped_ndcg([0.9, 0.1, 0.5], [1, 0, 0], [0, 0, 0])
        1.0
        >>> round(grouped_ndcg([0.5, 0.5], [1, 0], [0, 0]), 4)  # the mean of 1 and 1 / log2(3)
        0.8155

    References:
        [1] Jarvelin and Kekalainen, "Cumulated gain-based evaluation of IR techniques", ACM TOIS 2002.

        [2] McSherry and Najork, "Computing information retrieval performance measures efficiently in the presence of
        tied scores", ECIR 2008.
    """
    relevance, scores = check_relevance(relevance, gain), np.asarray(from_container("scores", scores), np.float64)
    lengths = [np.shape(x) for x in (scores, relevance, groups)]
    if len(lengths[0]) != 1 or len(set(lengths)) > 1:
        raise ValueError(f"scores, relevance and groups must have the same shape [N], got {lengths}")
    if np.isnan(scores).any():
        raise ValueError(f"scores must be numbers, got nan at {preview(np.flatnonzero(np.isnan(scores)))}")
    codes = np.unique(groups, return_inverse=True)[1]
    best = np.zeros(int(codes.max(initial=-1)) + 1)
    np.maximum.at(best, codes, relevance)
    # nDCG does not depend on the scale of the gains of a group. The greatest is near 1, so that no sum overflows.
    if gain == "exponential":
        gains = (np.exp2(relevance) - 1) / np.exp2(best)[codes]
    else:
        gains = relevance / np.where(best > 0, best, 1)[codes]
    actual, ideal = (_dcg(gains, codes, -order) for order in (scores, gains))
    relevant = ideal > 0
    return float(np.mean(actual[relevant] / ideal[relevant])) if relevant.any() else 0.0


def _dcg(gains: np.ndarray, codes: np.ndarray, order: np.ndarray) -> np.ndarray:
    """Expected discounted gains of each group, its items sorted by rising ``order``: ``[N]`` each to ``[G]``."""
    positions = np.lexsort((order, codes))
    codes, order, gains = codes[positions], order[positions], gains[positions]
    sizes = np.bincount(codes)
    ranks = np.arange(len(codes)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    # Each item of a tie has the mean gain of the tie.
    ties = np.cumsum(np.r_[True, (codes[1:] > codes[:-1]) | (order[1:] > order[:-1])][: len(codes)]) - 1
    means = np.bincount(ties, weights=gains) / np.bincount(ties)
    return np.bincount(codes, weights=means[ties] / np.log2(ranks + 2))
