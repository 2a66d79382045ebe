"""Retrieval metrics of embeddings."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..parts import Part, check_part, part_bounds
from .ground_truth import ground_truth, relevant_duplicates
from .metrics import METRICS, parse_metric, rank_neighbours
from .rows import row_codes
from .search import check_embeddings, search_blocks
from .shards import Shards
from .sums import MetricSums, sums_of_part

__all__ = [
    "DEFAULT_METRICS",
    "METRICS",
    "check_metrics",
    "relevant_counts",
    "retrieval_metrics",
    "retrieval_sums",
]

DEFAULT_METRICS = ("hit@1", "mAP@R", "R-precision", "hit@10", "precision@10", "recall@10", "MRR@10", "nDCG@10")


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
        parse_metric(name)


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
    truth = ground_truth(query_labels, index_labels)
    counts = np.zeros(len(query_labels), np.int64)
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
    exclude_duplicates: bool = False,
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
    index, which is slow. ``mAP@R`` and ``R-precision`` rank as many items as the largest class has.

    Ties: items at equal distance from a query are ranked in expectation, as the mean over all their orders [3]. The
    order of the data therefore plays no part, and a model that embeds all items alike scores as a random order does.
    Distances are equal if their squares are the same float32. The distances of equal rows always are.

    Duplicates: an item whose embedding equals that of the query is searched like all others. With
    ``exclude_duplicates``, no query finds such an item, and it does not count as relevant to it.

    Args:
        queries: Embeddings ``[Q, D]``, an array or :class:`Shards`.
        query_labels: ``[Q]`` classes, ``[Q, 2]`` sessions and roles, or label sets, which are ``[Q]`` sets or
            ``[Q, C]`` booleans. An item is relevant to a query with which it has a label in common.
        index: Embeddings ``[M, D]``, an array or :class:`Shards`, or None to search the queries among themselves.
        index_labels: Labels of the same kind. Required with ``index``.
        metrics: Names of metrics from the table.
        distance: ``"cosine"``, ``"euclidean"`` or ``"sqeuclidean"``, see :func:`nearest_neighbours`.
        block: The number of queries per block. The default is as many as fit into 256 MiB.
        exclude_duplicates: Whether items with exactly the embedding of a query are left out of its search.

    Returns:
        The metrics by name, in the order of ``metrics``.

    Raises:
        ImportError: If faiss is not installed.
        TypeError: If embeddings are not real numbers, or ``metrics`` is a string.
        ValueError: If embeddings are wrong as in :func:`nearest_neighbours`, lengths differ, labels are missing or of
            different kinds, a metric is unknown, or no query has a relevant item (that is not its duplicate).

    Example:
        >>> embeddings = np.array([[1.0, 0.0], [0.9, 0.1], [0.0, 1.0], [0.8, 0.2]])
        >>> retrieval_metrics(embeddings, ["cat", "cat", "dog", "dog"], metrics=["hit@1", "precision@2"])
        {'hit@1': 0.75, 'precision@2': 0.375}

    References:
        [1] Musgrave, Belongie and Lim, "A Metric Learning Reality Check", ECCV 2020.

        [2] Järvelin and Kekäläinen, "Cumulated gain-based evaluation of IR techniques", ACM TOIS 2002.

        [3] McSherry and Najork, "Computing information retrieval performance measures efficiently in the presence of
        tied scores", ECIR 2008.
    """
    return retrieval_sums(
        queries,
        query_labels,
        index,
        index_labels,
        metrics=metrics,
        distance=distance,
        block=block,
        exclude_duplicates=exclude_duplicates,
    ).metrics()


def retrieval_sums(
    queries: Any,
    query_labels: Any,
    index: Any = None,
    index_labels: Any = None,
    *,
    metrics: Sequence[str] = DEFAULT_METRICS,
    distance: str = "cosine",
    block: int | None = None,
    exclude_duplicates: bool = False,
    part: Part = (1, 1),
) -> MetricSums:
    """Compute the sums of retrieval metrics over a part of the queries, so that several processes share a search.

    Each process gets all embeddings and all labels, and searches for the queries of its part alone. The sums of all
    parts add up to the metrics of :func:`retrieval_metrics`, up to the rounding of float64.

    Args:
        queries: See :func:`retrieval_metrics`.
        query_labels: See :func:`retrieval_metrics`.
        index: See :func:`retrieval_metrics`.
        index_labels: See :func:`retrieval_metrics`.
        metrics: See :func:`retrieval_metrics`.
        distance: See :func:`retrieval_metrics`.
        block: See :func:`retrieval_metrics`.
        exclude_duplicates: See :func:`retrieval_metrics`.
        part: The number of the part, from 1, and the number of parts. Queries without a relevant item are left out
            before the others are divided. The parts differ in size by at most one query.

    Returns:
        The sums, see :class:`MetricSums`. A part without queries has sums of 0.

    Raises:
        TypeError, ValueError: As :func:`retrieval_metrics`; or if ``part`` is not two integers, or is out of its range.

    Example:
        >>> embeddings = np.array([[1.0, 0.0], [0.9, 0.1], [0.0, 1.0], [0.8, 0.2]])
        >>> retrieval_sums(embeddings, ["cat", "cat", "dog", "dog"], metrics=["hit@1"], part=(2, 4)).sums
        {'hit@1': 1.0}
    """
    part = check_part(part)
    if isinstance(metrics, str):
        raise TypeError(f"metrics must be a sequence of names, got {metrics!r}")
    if (index is None) != (index_labels is None):
        given, missing = ("index_labels", "index") if index is None else ("index", "index_labels")
        raise ValueError(f"index and index_labels must be given together, got {given} without {missing}")
    if not (functions := {name: parse_metric(name) for name in metrics}):
        raise ValueError("metrics must name at least one metric, got none")
    queries, searched = check_embeddings(queries, index, distance, block)
    truth = ground_truth(query_labels, index_labels)
    for name, x, labels in (("query", queries, query_labels), ("index", searched, index_labels)):
        if labels is not None and len(x) != len(labels):
            names = "queries and query_labels" if name == "query" else "index and index_labels"
            raise ValueError(f"{names} must have the same length, got {len(x)} and {len(labels)}")
    if len(truth.candidates) < len(searched):
        searched = searched.subset(truth.candidates) if isinstance(searched, Shards) else searched[truth.candidates]
    num_relevant, duplicates = truth.counts, None
    if exclude_duplicates:
        if truth.match is not np.equal:
            raise ValueError("exclude_duplicates must be False with label sets, got True")
        codes, index_codes = row_codes(queries, searched)
        duplicates = codes[truth.queries], index_codes
        num_relevant = num_relevant - relevant_duplicates(truth, *duplicates)
    if not (has_relevant := num_relevant > 0).any():
        reason = ", except for its exact duplicates" * bool(exclude_duplicates and truth.counts.any())
        raise ValueError(
            f"at least one query must have a relevant item{reason}, got {len(has_relevant)} queries and none has"
        )
    num_ranked = len(searched) - truth.exclude_self
    settings = {
        "distance": distance,
        "exclude_duplicates": bool(exclude_duplicates),
        "queries": int(has_relevant.sum()),
        "index": len(searched),
        "relevant": int(num_relevant[has_relevant].sum()),
    }
    start, stop = part_bounds(int(has_relevant.sum()), part)
    chosen = np.flatnonzero(has_relevant)[start:stop]
    rows, codes, counts = truth.queries[chosen], truth.codes[chosen], num_relevant[chosen]
    if not len(rows):
        return sums_of_part(dict.fromkeys(functions, np.zeros(0)), part, settings)
    if duplicates is not None:
        duplicates = duplicates[0][chosen], duplicates[1]
    max_cutoff = {"R": int(counts.max()), "all": num_ranked}
    depth = max(k if isinstance(k, int) else max_cutoff[k] for _, k in functions.values())
    values = {name: np.empty(len(rows)) for name in functions}
    labels = codes, truth.index_codes, truth.match
    for found in search_blocks(queries, rows, searched, depth, distance, block, truth.exclude_self, labels, duplicates):
        own, squared, ids, more_ties, more_hits = found
        relevant = truth.match(codes[own, None], truth.index_codes[ids])
        if duplicates is not None:
            relevant &= np.isfinite(squared)
        ranking = rank_neighbours(squared, relevant, more_ties, more_hits)
        for name, (function, k) in functions.items():
            cutoff = k if isinstance(k, int) else counts[own] if k == "R" else num_ranked
            values[name][own] = function(ranking, counts[own], cutoff)
    return sums_of_part(values, part, settings)
