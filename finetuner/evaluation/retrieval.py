"""Retrieval metrics of embeddings."""

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

# ---------------------------------------------------------------------------------------- metrics
#
# Each metric takes relevant [B, K] bool: whether the item at each rank is relevant; num_relevant [B]: the number of
# relevant items in the index, at least 1; and the cutoff k: one for all queries, or [B], one per query. It returns [B].

Cutoff = int | np.ndarray


def _truncate(relevant: np.ndarray, k: Cutoff) -> np.ndarray:
    """``relevant`` of the first ``k`` ranks."""
    if isinstance(k, np.ndarray):
        relevant = relevant[:, : k.max()]
        return relevant & (np.arange(relevant.shape[1]) < k[:, None])
    return relevant[:, :k]


def _ranks(relevant: np.ndarray) -> np.ndarray:
    return np.arange(1, relevant.shape[1] + 1)


def hit(relevant: np.ndarray, num_relevant: np.ndarray, k: Cutoff) -> np.ndarray:
    """1 if at least one of the first k items is relevant, else 0."""
    return np.count_nonzero(_truncate(relevant, k), axis=1) > 0


def precision(relevant: np.ndarray, num_relevant: np.ndarray, k: Cutoff) -> np.ndarray:
    """(relevant items among the first k) / k."""
    return np.count_nonzero(_truncate(relevant, k), axis=1) / k


def recall(relevant: np.ndarray, num_relevant: np.ndarray, k: Cutoff) -> np.ndarray:
    """(relevant items among the first k) / (all relevant items)."""
    return np.count_nonzero(_truncate(relevant, k), axis=1) / num_relevant


def average_precision(relevant: np.ndarray, num_relevant: np.ndarray, k: Cutoff) -> np.ndarray:
    """(sum of precision@i over the ranks i up to k with a relevant item) / min(all relevant items, k)."""
    relevant = _truncate(relevant, k)
    hits = np.cumsum(relevant, axis=1, dtype=np.float64)
    hits *= relevant
    return hits @ (1 / _ranks(relevant)) / np.minimum(num_relevant, k)


def reciprocal_rank(relevant: np.ndarray, num_relevant: np.ndarray, k: Cutoff) -> np.ndarray:
    """1 / (rank of the first relevant item), or 0 if this rank is above k."""
    relevant = _truncate(relevant, k)
    return relevant.any(axis=1) / (1 + relevant.argmax(axis=1))


def ndcg(relevant: np.ndarray, num_relevant: np.ndarray, k: Cutoff) -> np.ndarray:
    """DCG / (DCG of an ideal ranking), DCG = sum of 1 / log2(1 + i) over the ranks i up to k with a relevant item."""
    relevant = _truncate(relevant, k)
    gains = 1 / np.log2(1 + _ranks(relevant))
    return relevant @ gains / np.cumsum(gains)[np.minimum(num_relevant, k) - 1]


# Name -> (function, cutoff). The cutoff is the k of the name, R (the number of relevant items of the query), or "all".
METRICS: dict[str, tuple[Callable[[np.ndarray, np.ndarray, Cutoff], np.ndarray], str]] = {
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

DEFAULT_METRICS = ("hit@1", "mAP@R", "R-precision", "hit@10", "precision@10", "recall@10", "MRR@10", "nDCG@10")


def _parse_metric(name: str) -> tuple[Callable[..., np.ndarray], str | int]:
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


def check_metrics(metrics: Sequence[str]) -> None:
    """Check names of metrics.

    Args:
        metrics: Names of metrics, see :func:`retrieval_metrics`.

    Raises:
        ValueError: If a name is unknown. The message names the closest metric.

    Example:
        >>> check_metrics(["hit@5", "mAP@R"])
        >>> try:
        ...     check_metrics(["hits@5"])
        ... except ValueError as error:
        ...     print(str(error).partition("; ")[2])
        did you mean 'hit@5'?
    """
    for name in metrics:
        _parse_metric(name)


# ----------------------------------------------------------------------------------- ground truth


class _GroundTruth(NamedTuple):
    """Which items are relevant: ``candidates[j]`` to ``queries[i]`` if ``index_codes[j] == codes[i]``."""

    queries: np.ndarray  # rows of the queries
    codes: np.ndarray  # class or session of each query
    candidates: np.ndarray  # rows of the index that are searched
    index_codes: np.ndarray  # class or session of each candidate, -1 if it is relevant to no query
    counts: np.ndarray  # number of relevant items of each query
    exclude_self: bool  # whether each query is also a candidate, and must not find itself


def _check_labels(name: str, labels: Any) -> np.ndarray:
    """Check labels and return them as an array ``[N]`` or ``[N, 2]``."""
    labels = np.asarray(labels)
    shape(name, labels.shape, ["N"], ["N", "2"])
    if labels.ndim == 2:
        if labels.shape[1] != 2 or labels.dtype.kind not in "iu":
            raise ValueError(
                f"{name} must be classes [N], or integers [N, 2] (session and role), "
                f"got shape {list(labels.shape)} and dtype {labels.dtype}"
            )
        if not (valid := np.isin(labels[:, 1], (ANCHOR, MATCH, NO_MATCH))).all():
            raise ValueError(
                f"{name} must have roles 0 (anchor), 1 (match) or -1 (no match), "
                f"got other roles at rows {preview(np.flatnonzero(~valid))}"
            )
    return labels


def _ground_truth(query_labels: Any, index_labels: Any) -> _GroundTruth:
    labels = _check_labels("query_labels", query_labels)
    searched = labels if index_labels is None else _check_labels("index_labels", index_labels)
    if labels.ndim != searched.ndim:
        raise ValueError(
            "query_labels and index_labels must both be classes [N] or both be sessions [N, 2], "
            f"got {list(labels.shape)} and {list(searched.shape)}"
        )
    exclude_self = index_labels is None and labels.ndim == 1
    queries, candidates = np.arange(len(labels)), np.arange(len(searched))
    matches = np.ones(len(searched), bool)
    if labels.ndim == 2:
        queries = np.flatnonzero(labels[:, 1] == ANCHOR)
        if index_labels is None:
            candidates = np.flatnonzero(labels[:, 1] != ANCHOR)
        matches = searched[candidates, 1] == MATCH
        labels, searched = labels[queries, 0], searched[candidates, 0]
    classes, codes = encode_labels(labels, "query_labels")
    index_classes, index_codes = encode_labels(searched, "index_labels" if index_labels is not None else "query_labels")
    # Classes are compared in Python: numpy would convert a mix of int64 and uint64 to float64, which is not exact.
    code_of_class = {value: code for code, value in enumerate(index_classes.tolist())}
    codes = np.array([code_of_class.get(value, -1) for value in classes.tolist()], np.int64)[codes]
    index_codes = np.where(matches, index_codes, -1)
    # A class that the index does not have has the code -1, which selects the last count: 0.
    counts = np.bincount(index_codes[matches], minlength=len(code_of_class) + 1)[codes]
    return _GroundTruth(queries, codes, candidates, index_codes, counts - exclude_self, exclude_self)


def relevant_counts(query_labels: Any, index_labels: Any = None) -> np.ndarray:
    """Count the items that are relevant to each query, as defined in :func:`retrieval_metrics`.

    :func:`retrieval_metrics` leaves out queries with a count of 0, so ``np.count_nonzero`` of the counts is the number
    of queries in its means.

    Args:
        query_labels: ``[Q]`` classes, or ``[Q, 2]`` sessions and roles.
        index_labels: ``[M]`` or ``[M, 2]``, or None if the queries are searched among themselves.

    Returns:
        ``[Q]`` int64. For session labels, the count of rows that are not anchors is 0.

    Raises:
        ValueError: If the labels are neither ``[N]`` nor sessions ``[N, 2]``, or are of different kinds.
        TypeError: If the classes are of several types.

    Example:
        >>> relevant_counts(["cat", "dog", "cat", "bird"]).tolist()
        [1, 0, 1, 0]
        >>> relevant_counts(["cat", "dog"], ["cat", "cat", "bird"]).tolist()
        [2, 0]
    """
    truth = _ground_truth(query_labels, index_labels)
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
    """Compute retrieval metrics: how many of the nearest neighbours of each query are relevant.

    Each metric is a mean over queries. R is the number of items relevant to a query. Rank 1 is the nearest item. k is
    any integer of at least 1:

    =============  ==========================================================================
    hit@k          1 if at least one of the first k is relevant; called "Recall@K" in metric-learning papers
    precision@k    (relevant among the first k) / k, also if the index has fewer than k items
    recall@k       (relevant among the first k) / R
    R-precision    precision@R
    mAP@R          (1/R) sum of precision@i over the relevant ranks i up to R [1]
    mAP            (1/R) sum of precision@i over all relevant ranks i
    mAP@k          (1/min(R, k)) sum of precision@i over the relevant ranks i up to k
    MRR, MRR@k     1 / (rank of the first relevant item); with k, 0 if this rank is above k
    nDCG@k         sum of 1/log2(1+i) over the relevant ranks i up to k, divided by that of an ideal order [2]
    =============  ==========================================================================

    The labels define which items are relevant:

    - Classes ``[N]``, numbers or strings, compared by value: the items with the class of the query.
    - Sessions ``[N, 2]``, session and role: the queries are the anchors (role 0), and the matches (role 1) of their
      session are relevant.

    Without ``index``, the queries are searched among themselves. With classes, a query is compared with all other rows.
    With sessions, an anchor is compared with all rows that are not anchors, in all sessions. An ``index`` is searched
    as a whole, also if it has anchors or copies of the queries.

    Queries without a relevant item are left out; :func:`relevant_counts` finds them. ``mAP`` and ``MRR`` rank the whole
    index, which is slow. ``mAP@R`` and ``R-precision`` rank as many items as the largest class has. Of equal distances,
    the lowest index ranks first.

    Args:
        queries: Embeddings ``[Q, D]``.
        query_labels: ``[Q]`` or ``[Q, 2]``.
        index: Embeddings ``[M, D]``, or None to search the queries among themselves.
        index_labels: ``[M]`` or ``[M, 2]``. Required with ``index``.
        metrics: Names of metrics from the table.
        distance: ``"cosine"``, ``"euclidean"`` or ``"sqeuclidean"``, see :func:`nearest_neighbours`.
        block: The number of queries per block. The default is as many as fit into 256 MiB.

    Returns:
        The metrics by name, in the order of ``metrics``.

    Raises:
        ImportError: If faiss is not installed.
        TypeError: If embeddings are not real numbers, or ``metrics`` is a string.
        ValueError: If embeddings are wrong as in :func:`nearest_neighbours`, lengths differ, labels are missing or of
            different kinds, a metric is unknown, or no query has a relevant item.

    Example:
        >>> embeddings = np.array([[1.0, 0.0], [0.9, 0.1], [0.0, 1.0], [0.8, 0.2]])
        >>> retrieval_metrics(embeddings, ["cat", "cat", "dog", "dog"], metrics=["hit@1", "precision@2"])
        {'hit@1': 0.75, 'precision@2': 0.375}

    References:
        [1] Musgrave, Belongie and Lim, "A Metric Learning Reality Check", ECCV 2020.

        [2] Järvelin and Kekäläinen, "Cumulated gain-based evaluation of IR techniques", ACM TOIS 2002.
    """
    if isinstance(metrics, str):
        raise TypeError(f"metrics must be a sequence of names, got {metrics!r}")
    if (index is None) != (index_labels is None):
        given, missing = ("index_labels", "index") if index is None else ("index", "index_labels")
        raise ValueError(f"index and index_labels must be given together, got {given} without {missing}")
    if not (functions := {name: _parse_metric(name) for name in metrics}):
        raise ValueError("metrics must name at least one metric, got none")
    queries, searched = check_embeddings(queries, index, distance, block)
    truth = _ground_truth(query_labels, index_labels)
    for name, x, labels in (("query", queries, query_labels), ("index", searched, index_labels)):
        if labels is not None and len(x) != len(labels):
            names = "queries and query_labels" if name == "query" else "index and index_labels"
            raise ValueError(f"{names} must have the same length, got {len(x)} and {len(labels)}")
    if not (has_relevant := truth.counts > 0).any():
        raise ValueError(f"at least one query must have a relevant item, got {len(has_relevant)} queries and none has")
    rows, codes, counts = truth.queries[has_relevant], truth.codes[has_relevant], truth.counts[has_relevant]
    if len(truth.candidates) < len(searched):
        searched = searched[truth.candidates]
    num_ranked = len(searched) - truth.exclude_self
    max_cutoff = {"R": int(counts.max()), "all": num_ranked}
    depth = max(k if isinstance(k, int) else max_cutoff[k] for _, k in functions.values())
    values = {name: np.empty(len(rows)) for name in functions}
    for part, _, ids in search_blocks(queries, rows, searched, depth, distance, block, truth.exclude_self):
        relevant = truth.index_codes[ids] == codes[part, None]
        for name, (function, k) in functions.items():
            cutoff = k if isinstance(k, int) else counts[part] if k == "R" else num_ranked
            values[name][part] = function(relevant, counts[part], cutoff)
    return {name: float(value.mean()) for name, value in values.items()}
