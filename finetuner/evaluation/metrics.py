"""Retrieval metrics of ranked neighbours, in expectation over all orders of equal distances.

Neighbours of equal distance form a group. A group starts at rank p + 1 and has t items, r of them relevant, and h
relevant items stand before it. In expectation over all orders of the group, each of its ranks holds a relevant item
with probability r / t, and the closed forms below follow [1]. A group may extend beyond the ranks that were searched.

References:
    [1] McSherry and Najork, "Computing information retrieval performance measures efficiently in the presence of tied
    scores", ECIR 2008.
"""

import re
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from ..checks import closest_match

__all__ = ["METRICS", "Cutoff", "Ranking", "parse_metric", "rank_neighbours"]

Cutoff = int | np.ndarray

_MAX_ELEMENTS = 1 << 20  # of an array of probabilities


class _Ties(NamedTuple):
    """Groups of neighbours at equal distance. Groups without or with only relevant items are left out."""

    rows: np.ndarray  # [G] the row of the group
    before: np.ndarray  # [G] ranks before the group: p
    sizes: np.ndarray  # [G] items of the group: t
    inside: np.ndarray  # [G] items of the group among the ranks that were searched
    hits: np.ndarray  # [G] relevant items of the group: r
    hits_before: np.ndarray  # [G] relevant items before the group: h

    def positions(self, width: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Group, row and column of each item of the groups in the first ``width`` columns."""
        counts = np.clip(width - self.before, 0, self.inside)
        groups = np.repeat(np.arange(len(counts)), counts)
        columns = np.arange(len(groups)) - np.repeat(np.cumsum(counts) - counts - self.before, counts)
        return groups, self.rows[groups], columns

    def select(self, mask: np.ndarray) -> "_Ties":
        """The groups selected by a mask ``[G]``."""
        return _Ties(*(values[mask] for values in self))


class Ranking(NamedTuple):
    """The relevance of ranked neighbours of B queries.

    Attributes:
        relevant: ``[B, K]`` bool, whether the item at each rank is relevant. The order within ties is arbitrary.
        shares: ``[B, K]``, the probability that the item at each rank is relevant. It is ``relevant`` without ties.
        ties: Groups of equal distances in which the order matters.
    """

    relevant: np.ndarray
    shares: np.ndarray
    ties: _Ties


def rank_neighbours(squared: np.ndarray, relevant: np.ndarray, more_ties: np.ndarray, more_hits: np.ndarray) -> Ranking:
    """The ranking of neighbours, with its ties.

    Args:
        squared: ``[B, K]``, distances in ascending order.
        relevant: ``[B, K]`` bool, whether each neighbour is relevant.
        more_ties: ``[B]``, the number of items beyond the K neighbours that are as far as the last of them.
        more_hits: ``[B]``, how many of these are relevant.

    Returns:
        The ranking.
    """
    count, width = squared.shape
    same = np.zeros((count, width + 1), bool)
    same[:, 1:width] = squared[:, 1:] == squared[:, :-1]
    rows, columns = np.nonzero(same[:, 1:] != same[:, :-1])  # the first and the last of each group, in turn
    rows, first, last = rows[0::2], columns[0::2], columns[1::2]
    single = np.flatnonzero((more_ties > 0) & ~same[:, width - 1])  # the last neighbour ties with none of the others
    rows = np.concatenate([rows, single])
    first, last = (np.concatenate([x, np.full(len(single), width - 1)]) for x in (first, last))
    if not len(rows):
        return Ranking(relevant, relevant, _Ties(*[rows] * 6))
    at_end, inside = last == width - 1, last - first + 1
    ties = _Ties(rows, first, inside + np.where(at_end, more_ties[rows], 0), inside, inside, inside)
    _, member_rows, member_columns = ties.positions(width)
    hits = np.add.reduceat(relevant[member_rows, member_columns], np.cumsum(inside) - inside, dtype=np.int64)
    hits += np.where(at_end, more_hits[rows], 0)
    ties = ties._replace(hits=hits).select((hits > 0) & (hits < ties.sizes))
    if not len(ties.rows):
        return Ranking(relevant, relevant, ties)
    mixed, number = np.unique(ties.rows, return_inverse=True)
    running = np.cumsum(relevant[mixed], axis=1, dtype=np.int32)
    hits_before = np.where(ties.before > 0, running[number, ties.before - 1], 0)
    ties = ties._replace(hits_before=hits_before.astype(np.int64))
    groups, member_rows, member_columns = ties.positions(width)
    shares = relevant.astype(np.float64)
    shares[member_rows, member_columns] = (ties.hits / ties.sizes)[groups]
    return Ranking(relevant, shares, ties)


# ---------------------------------------------------------------------------------------- metrics
#
# Each metric takes a ranking of B queries; num_relevant [B]: the number of relevant items in the index, at least 1; and
# the cutoff k: one for all queries, or [B], one per query. It returns [B].


def _width(ranking: Ranking, k: Cutoff) -> int:
    return min(int(np.max(k)), ranking.relevant.shape[1])


def _truncate(values: np.ndarray, k: Cutoff) -> np.ndarray:
    """The values of the first ``k`` ranks; 0 for later ranks of queries with a smaller cutoff."""
    values = values[:, : int(np.max(k))]
    return values * (np.arange(values.shape[1]) < k[:, None]) if isinstance(k, np.ndarray) else values


def _ranks(values: np.ndarray) -> np.ndarray:
    return np.arange(1, values.shape[1] + 1)


def _expected_hits(ranking: Ranking, k: Cutoff) -> np.ndarray:
    """The number of relevant items among the first k. Only a group of ties that the cutoff divides has a fraction."""
    relevant = _truncate(ranking.relevant, k)
    hits, ties = np.count_nonzero(relevant, axis=1).astype(np.float64), ranking.ties
    taken = np.minimum(k[ties.rows] if isinstance(k, np.ndarray) else k, relevant.shape[1]) - ties.before
    divided = (taken > 0) & (taken < ties.sizes)
    ties, taken = ties.select(divided), taken[divided]
    groups, rows, columns = ties.positions(relevant.shape[1])
    counted = np.bincount(groups, weights=relevant[rows, columns], minlength=len(taken))
    hits[ties.rows] += taken * ties.hits / ties.sizes - counted
    return hits


def _at_first_hit(ranking: Ranking, k: Cutoff, values: np.ndarray) -> np.ndarray:
    """The expectation of ``values[rank]`` at the rank of the first relevant item, or 0 if this rank is above k.

    Of t items in random order, of which r are relevant, the first relevant item is at place j with a probability of
    r / t for j = 1, and for the next place of (t - j - r + 1) / (t - j) times that.
    """
    relevant = _truncate(ranking.relevant, k)
    found = relevant.any(axis=1) * values[1 + relevant.argmax(axis=1)]
    ties = ranking.ties.select(ranking.ties.hits_before == 0)  # at most one a row: the one with the first relevant item
    cutoffs = k[ties.rows] if isinstance(k, np.ndarray) else k
    lengths = np.minimum(ties.sizes - ties.hits + 1, np.minimum(cutoffs, _width(ranking, k)) - ties.before)
    found[ties.rows[lengths < 1]] = 0
    order = np.argsort(lengths, kind="stable")
    order = order[np.searchsorted(lengths[order], 1) :]
    while len(order):
        longest = int(lengths[order[-1]])
        part, order = np.split(order[::-1], [max(1, _MAX_ELEMENTS // longest)])
        order = order[::-1]
        before, sizes, hits = (x[part, None] for x in (ties.before, ties.sizes, ties.hits))
        place = np.arange(longest)
        chances = np.maximum(sizes - hits - place + 1, 0) / np.maximum(sizes - place, 1)
        chances[:, 0] = (hits / sizes)[:, 0]
        np.cumprod(chances, axis=1, out=chances)
        chances[place >= lengths[part, None]] = 0
        chances *= values[np.minimum(before + place + 1, len(values) - 1)]
        found[ties.rows[part]] = chances.sum(axis=1)
    return found


def hit(ranking: Ranking, num_relevant: np.ndarray, k: Cutoff) -> np.ndarray:
    """1 if at least one of the first k items is relevant, else 0."""
    return np.minimum(_at_first_hit(ranking, k, np.ones(_width(ranking, k) + 1)), 1)


def precision(ranking: Ranking, num_relevant: np.ndarray, k: Cutoff) -> np.ndarray:
    """(relevant items among the first k) / k."""
    return _expected_hits(ranking, k) / k


def recall(ranking: Ranking, num_relevant: np.ndarray, k: Cutoff) -> np.ndarray:
    """(relevant items among the first k) / (all relevant items)."""
    return _expected_hits(ranking, k) / num_relevant


def average_precision(ranking: Ranking, num_relevant: np.ndarray, k: Cutoff) -> np.ndarray:
    """(sum of precision@i over the ranks i up to k with a relevant item) / min(all relevant items, k).

    At rank i of a group of ties, the expected precision@i of a relevant item is
    (h + 1 + (i - p - 1) (r - 1) / (t - 1)) / i.
    """
    relevant = ranking.relevant[:, : _width(ranking, k)]
    hits = np.cumsum(relevant, axis=1, dtype=np.float64)
    hits *= relevant
    ties = ranking.ties
    if len(ties.rows):
        groups, rows, columns = ties.positions(relevant.shape[1])
        slope = (ties.hits - 1) / (ties.sizes - 1)
        start = ties.hits_before + 1 - ties.before * slope
        share = ties.hits / ties.sizes
        hits[rows, columns] = (share * start)[groups] + (share * slope)[groups] * columns
    return _truncate(hits, k) @ (1 / _ranks(hits)) / np.minimum(num_relevant, k)


def reciprocal_rank(ranking: Ranking, num_relevant: np.ndarray, k: Cutoff) -> np.ndarray:
    """1 / (rank of the first relevant item), or 0 if this rank is above k."""
    return _at_first_hit(ranking, k, 1 / np.maximum(np.arange(_width(ranking, k) + 1), 1))


def ndcg(ranking: Ranking, num_relevant: np.ndarray, k: Cutoff) -> np.ndarray:
    """DCG / (DCG of an ideal ranking), DCG = sum of 1 / log2(1 + i) over the ranks i up to k with a relevant item."""
    shares = _truncate(ranking.shares, k)
    gains = 1 / np.log2(1 + _ranks(shares))
    return shares @ gains / np.cumsum(gains)[np.minimum(num_relevant, k) - 1]


# Name -> (function, cutoff). The cutoff is the k of the name, R (the number of relevant items of the query), or "all".
METRICS: dict[str, tuple[Callable[[Ranking, np.ndarray, Cutoff], np.ndarray], str]] = {
    "hit@k": (hit, "k"),
    "precision@k": (precision, "k"),
    "recall@k": (recall, "k"),
    "R-precision": (precision, "R"),
    "mAP@R": (average_precision, "R"),
    "mAP": (average_precision, "all"),
    "mAP@k": (average_precision, "k"),
    "MRR": (reciprocal_rank, "all"),
    "MRR@k": (reciprocal_rank, "k"),
    "nDCG@k": (ndcg, "k"),
}


def parse_metric(name: str) -> tuple[Callable[..., np.ndarray], str | int]:
    """The function and the cutoff of a metric: a number, "R" or "all"."""
    base, at, k = str(name).rpartition("@")
    if re.fullmatch("[1-9][0-9]{0,8}", k) and f"{base}@k" in METRICS:
        return METRICS[f"{base}@k"][0], int(k)
    if name in METRICS and METRICS[name][1] != "k":
        return METRICS[name]
    example_k = k if at and re.fullmatch("[1-9][0-9]*", k) else "10"
    known = [key.replace("@k", f"@{example_k}") for key in METRICS]
    raise ValueError(
        f"metrics must be among {', '.join(METRICS)}, with an integer k of at least 1, "
        f"got {name!r}; {closest_match(name, known)}"
    )
