"""Retrieval metrics of embeddings."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from ..checks import preview, shape
from ..containers import from_container
from ..labels import ANCHOR, MATCH, NO_MATCH, encode_label_sets, encode_labels, has_label_sets, sets_match
from .metrics import METRICS, parse_metric, rank_neighbours
from .rows import row_codes
from .search import Match, check_embeddings, search_blocks

__all__ = [
    "DEFAULT_METRICS",
    "METRICS",
    "check_metrics",
    "relevant_counts",
    "retrieval_metrics",
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


# ----------------------------------------------------------------------------------- ground truth


class _GroundTruth(NamedTuple):
    """Which items are relevant: ``candidates[j]`` to ``queries[i]`` if ``match(codes[i], index_codes[j])``."""

    queries: np.ndarray  # rows of the queries
    codes: np.ndarray  # class or session of each query
    candidates: np.ndarray  # rows of the index that are searched
    index_codes: np.ndarray  # class or session of each candidate, -1 if it is relevant to no query
    counts: np.ndarray  # number of relevant items of each query
    exclude_self: bool  # whether each query is also a candidate, and must not find itself
    match: Match = np.equal


def _check_labels(name: str, labels: Any) -> np.ndarray:
    """Check labels and return classes ``[N]``, sessions ``[N, 2]``, or label sets: sets or a matrix ``[N, C]``."""
    labels = from_container(name, labels)
    if has_label_sets(labels):
        return labels
    if not isinstance(labels, np.ndarray):
        is_table = len(labels) > 0 and isinstance(labels[0], list | tuple | np.ndarray)
        labels = np.asarray(labels) if is_table else _column(labels, name)
    if labels.ndim == 2 and labels.shape[1] == 1:
        labels = labels[:, 0]
    shape(name, labels.shape, ["N"], ["N", "C"])
    if labels.ndim == 2:
        if labels.dtype.kind == "f" and labels.shape[1] != 2 and labels.min(initial=0) >= 0:  # two may be sessions
            return labels
        if labels.shape[1] != 2 or labels.dtype.kind not in "iu":
            raise ValueError(
                f"{name} must be classes [N], integers [N, 2] (session and role), or booleans [N, C] (label sets), "
                f"got shape {list(labels.shape)} and dtype {labels.dtype}"
            )
        if not (valid := np.isin(labels[:, 1], (ANCHOR, MATCH, NO_MATCH))).all():
            raise ValueError(
                f"{name} must have roles 0 (anchor), 1 (match) or -1 (no match), "
                f"got other roles at rows {preview(np.flatnonzero(~valid))}"
            )
    return labels


def _column(labels: Any, name: str) -> np.ndarray:
    """A list of labels as an array of the same values; what is missing or of several types is refused."""
    classes, codes = encode_labels(labels, name)
    return classes[codes]


def _ground_truth(query_labels: Any, index_labels: Any) -> _GroundTruth:
    labels = _check_labels("query_labels", query_labels)
    searched = labels if index_labels is None else _check_labels("index_labels", index_labels)
    sets = [_is_label_sets(one) for one in (labels, searched)]
    if all(sets):
        return _set_truth(labels, searched, index_labels is None)
    if any(sets):
        raise ValueError("query_labels and index_labels must both be label sets, got one of them")
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


class _Table:
    """Compares codes by a table of booleans."""

    def __init__(self, table: np.ndarray):
        self.table = table

    def __call__(self, codes: np.ndarray, index_codes: np.ndarray) -> np.ndarray:
        return np.asarray(self.table[codes, index_codes])


def _is_label_sets(labels: Any) -> bool:
    return has_label_sets(labels) or (labels.ndim == 2 and labels.dtype.kind in "bf")


def _set_truth(labels: Any, searched: Any, exclude_self: bool) -> _GroundTruth:
    """The ground truth of label sets. Equal sets have one code, and a table says which codes belong together."""
    if not isinstance(labels, np.ndarray) or not isinstance(searched, np.ndarray):
        sides = [[set(one) for one in side] for side in (labels, searched)]
        _, both = encode_label_sets(sides[0] + sides[1], "query_labels")
        labels, searched = both[: len(sides[0])], both[len(sides[0]) :]
    if labels.shape[1] != searched.shape[1]:
        raise ValueError(
            "query_labels and index_labels must have a column for each label, "
            f"got {labels.shape[1]} and {searched.shape[1]} columns"
        )
    distinct, codes = np.unique(labels, axis=0, return_inverse=True)
    index_distinct, index_codes = np.unique(searched, axis=0, return_inverse=True)
    codes, index_codes = codes.reshape(-1), index_codes.reshape(-1)
    table = sets_match(distinct, index_distinct)
    counts = (table @ np.bincount(index_codes))[codes]
    if exclude_self:
        counts = counts - table[codes, index_codes]
    rows, candidates = np.arange(len(labels)), np.arange(len(searched))
    return _GroundTruth(rows, codes, candidates, index_codes, counts, exclude_self, _Table(table))


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
    counts = np.zeros(len(query_labels), np.int64)
    counts[truth.queries] = truth.counts
    return counts


def _relevant_duplicates(truth: _GroundTruth, codes: np.ndarray, index_codes: np.ndarray) -> np.ndarray:
    """For each query, the number of relevant items with its row, except for the query itself: ``[Q]``."""
    if not len(index_codes):
        return np.zeros(len(codes), np.int64)
    width = int(truth.index_codes.max()) + 2  # a class of -1 is relevant to no query
    keys, counts = np.unique(index_codes * width + truth.index_codes + 1, return_counts=True)
    wanted = codes * width + truth.codes + 1
    positions = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
    found = (keys[positions] == wanted) & (truth.codes >= 0)
    return np.where(found, counts[positions], 0) - truth.exclude_self


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
        queries: Embeddings ``[Q, D]``.
        query_labels: ``[Q]`` classes, ``[Q, 2]`` sessions and roles, or label sets, which are ``[Q]`` sets or
            ``[Q, C]`` booleans. An item is relevant to a query with which it has a label in common.
        index: Embeddings ``[M, D]``, or None to search the queries among themselves.
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
    if isinstance(metrics, str):
        raise TypeError(f"metrics must be a sequence of names, got {metrics!r}")
    if (index is None) != (index_labels is None):
        given, missing = ("index_labels", "index") if index is None else ("index", "index_labels")
        raise ValueError(f"index and index_labels must be given together, got {given} without {missing}")
    if not (functions := {name: parse_metric(name) for name in metrics}):
        raise ValueError("metrics must name at least one metric, got none")
    queries, searched = check_embeddings(queries, index, distance, block)
    truth = _ground_truth(query_labels, index_labels)
    for name, x, labels in (("query", queries, query_labels), ("index", searched, index_labels)):
        if labels is not None and len(x) != len(labels):
            names = "queries and query_labels" if name == "query" else "index and index_labels"
            raise ValueError(f"{names} must have the same length, got {len(x)} and {len(labels)}")
    if len(truth.candidates) < len(searched):
        searched = searched[truth.candidates]
    num_relevant, duplicates = truth.counts, None
    if exclude_duplicates:
        if truth.match is not np.equal:
            raise ValueError("exclude_duplicates must be False with label sets, got True")
        codes, index_codes = row_codes(queries, searched)
        duplicates = codes[truth.queries], index_codes
        num_relevant = num_relevant - _relevant_duplicates(truth, *duplicates)
    if not (has_relevant := num_relevant > 0).any():
        reason = ", except for its exact duplicates" * bool(exclude_duplicates and truth.counts.any())
        raise ValueError(
            f"at least one query must have a relevant item{reason}, got {len(has_relevant)} queries and none has"
        )
    rows, codes, counts = truth.queries[has_relevant], truth.codes[has_relevant], num_relevant[has_relevant]
    if duplicates is not None:
        duplicates = duplicates[0][has_relevant], duplicates[1]
    num_ranked = len(searched) - truth.exclude_self
    max_cutoff = {"R": int(counts.max()), "all": num_ranked}
    depth = max(k if isinstance(k, int) else max_cutoff[k] for _, k in functions.values())
    values = {name: np.empty(len(rows)) for name in functions}
    labels = codes, truth.index_codes, truth.match
    for found in search_blocks(queries, rows, searched, depth, distance, block, truth.exclude_self, labels, duplicates):
        part, squared, ids, more_ties, more_hits = found
        relevant = truth.match(codes[part, None], truth.index_codes[ids])
        if duplicates is not None:
            relevant &= np.isfinite(squared)
        ranking = rank_neighbours(squared, relevant, more_ties, more_hits)
        for name, (function, k) in functions.items():
            cutoff = k if isinstance(k, int) else counts[part] if k == "R" else num_ranked
            values[name][part] = function(ranking, counts[part], cutoff)
    return {name: float(value.mean()) for name, value in values.items()}
