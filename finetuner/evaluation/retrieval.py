"""Embeddings to retrieval metrics: numpy arrays in, numbers out."""

import re
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from ..checks import closest_match, preview, shape
from ..labels import ANCHOR, MATCH, NO_MATCH, encode_labels
from .search import check_embeddings, search_blocks

__all__ = [
    "DEFAULT_METRICS",
    "METRICS",
    "check_metrics",
    "relevant_counts",
    "retrieval_metrics",
]

# ------------------------------------------------------------------------------------- the metrics
#
# relevant [B, K] bool: whether the item at each rank is relevant; num_relevant [B]: how many there are
# in the index, never 0; k: the cutoff, one for all or [B], one of each query. Each returns [B].

Cutoff = int | np.ndarray


def _first(relevant: np.ndarray, k: Cutoff) -> np.ndarray:
    """``relevant`` of the first ``k`` ranks."""
    if isinstance(k, np.ndarray):
        relevant = relevant[:, : k.max()]
        return relevant & (np.arange(relevant.shape[1]) < k[:, None])
    return relevant[:, :k]


def _ranks(relevant: np.ndarray) -> np.ndarray:
    return np.arange(1, relevant.shape[1] + 1)


def hit(relevant: np.ndarray, num_relevant: np.ndarray, k: Cutoff) -> np.ndarray:
    """1 if any of the first k is relevant."""
    return np.count_nonzero(_first(relevant, k), axis=1) > 0


def precision(relevant: np.ndarray, num_relevant: np.ndarray, k: Cutoff) -> np.ndarray:
    """(relevant among the first k) / k."""
    return np.count_nonzero(_first(relevant, k), axis=1) / k


def recall(relevant: np.ndarray, num_relevant: np.ndarray, k: Cutoff) -> np.ndarray:
    """(relevant among the first k) / (all relevant)."""
    return np.count_nonzero(_first(relevant, k), axis=1) / num_relevant


def average_precision(relevant: np.ndarray, num_relevant: np.ndarray, k: Cutoff) -> np.ndarray:
    """(sum of precision@i over the relevant ranks i up to k) / min(all relevant, k)."""
    relevant = _first(relevant, k)
    hits = np.cumsum(relevant, axis=1, dtype=np.float64)
    hits *= relevant
    return hits @ (1 / _ranks(relevant)) / np.minimum(num_relevant, k)


def reciprocal_rank(relevant: np.ndarray, num_relevant: np.ndarray, k: Cutoff) -> np.ndarray:
    """1 / (rank of the first relevant), 0 if it is not among the first k."""
    relevant = _first(relevant, k)
    return relevant.any(axis=1) / (1 + relevant.argmax(axis=1))


def ndcg(relevant: np.ndarray, num_relevant: np.ndarray, k: Cutoff) -> np.ndarray:
    """(sum of 1 / log2(1 + i) over the relevant ranks i up to k) / (the same of an ideal ranking)."""
    relevant = _first(relevant, k)
    gains = 1 / np.log2(1 + _ranks(relevant))
    return relevant @ gains / np.cumsum(gains)[np.minimum(num_relevant, k) - 1]


# Name -> (formula, its cutoff: a k in the name, the R relevant items of the query, or the whole ranking).
METRICS: dict[str, tuple[Callable[[np.ndarray, np.ndarray, Cutoff], np.ndarray], str]] = {
    "hit@k": (hit, "k"),
    "precision@k": (precision, "k"),
    "recall@k": (recall, "k"),
    "R-precision": (precision, "R"),
    "mAP@R": (average_precision, "R"),
    "mAP": (average_precision, "whole"),
    "mAP@k": (average_precision, "k"),
    "MRR": (reciprocal_rank, "whole"),
    "MRR@k": (reciprocal_rank, "k"),
    "nDCG@k": (ndcg, "k"),
}

DEFAULT_METRICS = ("hit@1", "mAP@R", "R-precision", "hit@10", "precision@10", "recall@10", "MRR@10", "nDCG@10")


def _formula(name: str) -> tuple[Callable[..., np.ndarray], str | int]:
    """The formula and the cutoff of a metric's name: a number, "R" or "whole"."""
    base, at, k = str(name).rpartition("@")
    if re.fullmatch("[1-9][0-9]{0,8}", k) and f"{base}@k" in METRICS:
        return METRICS[f"{base}@k"][0], int(k)
    if name in METRICS and METRICS[name][1] != "k":
        return METRICS[name]
    some_k = k if at and re.fullmatch("[1-9][0-9]*", k) else "10"
    known = [key.replace("@k", f"@{some_k}") for key in METRICS]
    raise ValueError(
        f"metrics must be of {', '.join(METRICS)} for whole k from 1 up, got {name!r}; {closest_match(name, known)}"
    )


def check_metrics(metrics: Sequence[str]) -> None:
    """Raise ``ValueError`` for a name that is no metric."""
    for name in metrics:
        _formula(name)


# ---------------------------------------------------------------------------------- the ground truth


class _Truth(NamedTuple):
    """Item ``candidates[j]`` is relevant to query ``queries[i]`` if ``index_codes[j] == codes[i]``."""

    queries: np.ndarray
    codes: np.ndarray
    candidates: np.ndarray
    index_codes: np.ndarray
    counts: np.ndarray  # relevant items of each query
    own: bool  # whether each query is a candidate too, to be left out


def _labels(name: str, labels: Any) -> np.ndarray:
    """Labels ``[N]`` or ``[N, 2]``, checked."""
    labels = np.asarray(labels)
    shape(name, labels.shape, ["N"], ["N", "2"])
    if labels.ndim == 2:
        if labels.shape[1] != 2 or labels.dtype.kind not in "iu":
            raise ValueError(
                f"{name} must be classes [N], or whole numbers [N, 2], session and role, "
                f"got shape {list(labels.shape)} and dtype {labels.dtype}"
            )
        if not (right := np.isin(labels[:, 1], (ANCHOR, MATCH, NO_MATCH))).all():
            raise ValueError(
                f"{name} must have roles 0 (anchor), 1 (match) or -1 (no match), "
                f"and have others at rows {preview(np.flatnonzero(~right))}"
            )
    return labels


def _truth(query_labels: Any, index_labels: Any) -> _Truth:
    labels = _labels("query_labels", query_labels)
    others = labels if index_labels is None else _labels("index_labels", index_labels)
    if labels.ndim != others.ndim:
        raise ValueError(
            "query_labels and index_labels must both be classes [N] or both sessions [N, 2], "
            f"got {list(labels.shape)} and {list(others.shape)}"
        )
    own = index_labels is None and labels.ndim == 1
    queries, candidates = np.arange(len(labels)), np.arange(len(others))
    matches = np.ones(len(others), bool)
    if labels.ndim == 2:
        queries = np.flatnonzero(labels[:, 1] == ANCHOR)
        if index_labels is None:
            candidates = np.flatnonzero(labels[:, 1] != ANCHOR)
        matches = others[candidates, 1] == MATCH
        labels, others = labels[queries, 0], others[candidates, 0]
    classes, codes = encode_labels(labels, "query_labels")
    index_classes, index_codes = encode_labels(others, "index_labels" if index_labels is not None else "query_labels")
    # By Python's equality: numpy would take int64 and uint64 together to float64.
    place = {value: code for code, value in enumerate(index_classes.tolist())}
    codes = np.array([place.get(value, -1) for value in classes.tolist()], np.int64)[codes]
    index_codes = np.where(matches, index_codes, -1)
    counts = np.bincount(index_codes[matches], minlength=len(place) + 1)[codes]  # the last, at −1, is 0
    return _Truth(queries, codes, candidates, index_codes, counts - own, own)


def relevant_counts(query_labels: Any, index_labels: Any = None) -> np.ndarray:
    """How many items are relevant to each query, as :func:`retrieval_metrics` has it.

    Queries with 0 are left out of its means: ``np.count_nonzero`` of this is the number of those used.

    Returns:
        ``[Q]`` int64, 0 for rows of session labels that are not anchors.

    Raises:
        ValueError: if labels are neither ``[N]`` nor sessions ``[N, 2]``, or not of one kind.
    """
    truth = _truth(query_labels, index_labels)
    counts = np.zeros(len(np.asarray(query_labels)), np.int64)
    counts[truth.queries] = truth.counts
    return counts


def retrieval_metrics(
    queries: Any,
    query_labels: Any,
    index: Any = None,
    index_labels: Any = None,
    *,
    metrics: Sequence[str] = DEFAULT_METRICS,
    distance: str = "cosine",
    block: int | None = None,
) -> dict[str, float]:
    """How well the neighbours of queries are those that belong to them, means over queries.

    With R the number of items relevant to a query, at rank 1 the nearest, for any whole k from 1 up:

    =============  ==========================================================================
    hit@k          1 if any of the first k is relevant; the "Recall@K" of metric-learning papers
    precision@k    (relevant among the first k) / k, also where the index holds fewer
    recall@k       (relevant among the first k) / R
    R-precision    precision@R
    mAP@R          (1/R) sum of precision@i over the relevant ranks i up to R [1]
    mAP            (1/R) sum of precision@i over all relevant ranks i
    mAP@k          (1/min(R, k)) sum of precision@i over the relevant ranks i up to k
    MRR, MRR@k     1 / (rank of the first relevant), with k 0 if that is above k
    nDCG@k         sum of 1/log2(1+i) over the relevant ranks i up to k, over that of an ideal order [2]
    =============  ==========================================================================

    What is relevant follows from the labels. Classes ``[N]``, numbers or strings, compared by value: the
    items of the query's class. Sessions ``[N, 2]``, session and role: queries are the anchors (role 0),
    relevant are the matches (role 1) of their session. Without ``index`` the queries are searched among
    themselves: by classes, in all items but the query's own row; by sessions, in all that are not
    anchors, of all sessions. An ``index`` is searched as it is, anchors and copies of queries included.

    Queries without a relevant item are left out; :func:`relevant_counts` tells which. ``mAP`` and ``MRR``
    rank the whole index and cost accordingly, ``mAP@R`` and ``R-precision`` look as deep as the largest
    class. Of items equally far the lowest index ranks first.

    Args:
        queries: embeddings ``[Q, D]``.
        query_labels: ``[Q]`` or ``[Q, 2]``.
        index: embeddings ``[M, D]``, or None for the queries themselves.
        index_labels: ``[M]`` or ``[M, 2]``; given if and only if ``index`` is.
        metrics: names as above.
        distance: "cosine", "euclidean" or "sqeuclidean", as in :func:`nearest_neighbours`.
        block: how many queries at a time; by default as many as 256 MiB hold.

    Returns:
        The metrics by name, in the order asked for.

    Raises:
        ImportError: if faiss is not installed.
        TypeError: if embeddings are not real numbers, or ``metrics`` is one name.
        ValueError: if embeddings are wrong as in :func:`nearest_neighbours`, lengths differ, labels are
            missing or of two kinds, a metric is unknown, or no query has a relevant item.

    Sources: [1] Musgrave, Belongie and Lim, "A Metric Learning Reality Check", ECCV 2020. [2] Järvelin
    and Kekäläinen, "Cumulated gain-based evaluation of IR techniques", ACM TOIS 2002.
    """
    if isinstance(metrics, str):
        raise TypeError(f"metrics must be a sequence of names, got {metrics!r}")
    if (index is None) != (index_labels is None):
        given, absent = ("index_labels", "index") if index is None else ("index", "index_labels")
        raise ValueError(f"index and index_labels must be given together, got {given} without {absent}")
    if not (formulas := {name: _formula(name) for name in metrics}):
        raise ValueError("metrics must name at least one, got none")
    queries, searched = check_embeddings(queries, index, distance, block)
    truth = _truth(query_labels, index_labels)
    for name, x, labels in (("query", queries, query_labels), ("index", searched, index_labels)):
        if labels is not None and len(x) != len(labels):
            names = "queries and query_labels" if name == "query" else "index and index_labels"
            raise ValueError(f"{names} must be of one length, got {len(x)} and {len(labels)}")
    if not (used := truth.counts > 0).any():
        raise ValueError(f"at least one query must have a relevant item, got {len(used)} queries and none has")
    rows, codes, counts = truth.queries[used], truth.codes[used], truth.counts[used]
    if len(truth.candidates) < len(searched):
        searched = searched[truth.candidates]
    whole_ranking = len(searched) - truth.own
    deepest = {"R": int(counts.max()), "whole": whole_ranking}
    depth = max(k if isinstance(k, int) else deepest[k] for _, k in formulas.values())
    values = {name: np.empty(len(rows)) for name in formulas}
    for part, _, ids in search_blocks(queries, rows, searched, depth, distance, block, truth.own):
        relevant = truth.index_codes[ids] == codes[part, None]
        for name, (formula, k) in formulas.items():
            cutoff = k if isinstance(k, int) else counts[part] if k == "R" else whole_ranking
            values[name][part] = formula(relevant, counts[part], cutoff)
    return {name: float(value.mean()) for name, value in values.items()}
