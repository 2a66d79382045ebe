"""Embeddings to nearest neighbours to retrieval metrics: numpy arrays in, numbers out.

The search is exact. faiss compares all, a block of queries at a time, and what lies closer together than
float32 products can tell is measured again from differences: exact duplicates are at distance 0, items
equally far come lowest index first, and nothing of size queries x index ever exists.
"""

import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from .tuner.base.checks import expected_shape, nearest, one_of, some_of, whole
from .tuner.base.dataset import ANCHOR, MATCH, NO_MATCH, coded

__all__ = ["DEFAULT_METRICS", "METRICS", "nearest_neighbours", "relevant_counts", "retrieval_metrics"]

_BUDGET = 256 << 20  # bytes that a block of queries may take
_FULL = 32  # sorting whole rows beats faiss' heaps once these hold more than a 32nd of the index
_SLACK = 8  # how far beyond what is asked for ties are looked at
_INDEX = np.uint64(2**32 - 1)  # the bits of an index in a key
# Shares of the squared norms: what float32 products may be wrong by, and below which distances are
# measured from differences, after products in float32 and in float64.
_ROUNDING, _CLOSE, _CLOSE_FLOAT64 = 1e-6, 1e-3, 1e-6


class _Points(NamedTuple):
    """Rows as they are given and as they are searched, such that all distances are squared Euclidean ones.

    For cosine rows are divided by their norms, and the distance is 2 (1 − cos). Zero vectors stay zero
    and count as of size 1, so that they are at 2 of all.
    """

    given: np.ndarray  # [N, D] float32
    x: np.ndarray  # [N, D] float32
    norms: np.ndarray  # [N] float64, what rows are divided by: 1 unless for cosine
    size: np.ndarray  # [N] float64, |x|²
    zero: np.ndarray  # [N] bool, for cosine

    def exact(self, rows: Any = slice(None)) -> np.ndarray:
        """Some of ``x`` in float64."""
        return self.given[rows] / self.norms[rows, None]


def _points(x: np.ndarray, cosine: bool) -> _Points:
    squares, ones = _squared_norms(x), np.ones(len(x))
    if not cosine:
        return _Points(x, x, ones, squares, np.zeros(len(x), bool))
    norms = np.sqrt(squares, where=squares > 0, out=ones.copy())
    unit = np.divide(x, norms[:, None], out=np.empty_like(x), casting="same_kind")
    return _Points(x, unit, norms, ones, squares == 0)


def _squared_norms(x: np.ndarray) -> np.ndarray:
    return np.einsum("nd,nd->n", x, x, dtype=np.float64)


def _in_order(squared: np.ndarray, ids: np.ndarray, first: int) -> tuple[np.ndarray, np.ndarray]:
    """The ``first`` of each row by distance, then index; distances below 0 are 0.

    Floats from 0 up sort as their bits do. With the index below them they are one number, quick to sort.
    """
    keys = np.maximum(squared.view(np.int32), 0).astype(np.uint64)  # as integers, so that −0 is 0 too
    keys <<= np.uint64(32)
    keys |= ids.view(np.uint64)
    if 2 * first < keys.shape[1]:
        keys.partition(first, axis=1)
        keys = keys[:, :first]
    keys.sort(axis=1)
    keys = keys[:, :first]
    return (keys >> np.uint64(32)).astype(np.uint32).view(np.float32), (keys & _INDEX).view(np.int64)


def _measured(queries: _Points, x: np.ndarray, size: np.ndarray) -> np.ndarray:
    """All squared distances to rows ``x`` in float64, ``[B, M]``; those to equal rows are equal.

    BLAS rounds a row by its place. In float64 that is far below what is kept: float32, and 2⁻⁴⁰ of the
    query's squared norm, which adding ``grain`` and taking it away cuts off.
    """
    size_of_queries = queries.size[:, None]
    grain = size_of_queries * 2**12
    squared = queries.exact() @ x.T
    squared *= -2
    squared += size
    squared += size_of_queries + grain
    squared -= grain
    return squared.astype(np.float32)


def _remeasured(squared: np.ndarray, ids: np.ndarray, queries: _Points, index: _Points, full: bool) -> bool:
    """Measure from differences, in place, what rounding may have misplaced; whether there was any."""
    size = queries.size[:, None].astype(np.float32)
    doubtful = squared <= (_CLOSE_FLOAT64 if full else _CLOSE) * size
    if not full:
        tied = np.diff(squared, axis=1) <= _ROUNDING * (size + squared[:, 1:])
        doubtful[:, 1:] |= tied
        doubtful[:, :-1] |= tied
    rows, columns = np.nonzero(doubtful)
    step = max(1, (1 << 21) // index.x.shape[1])
    for start in range(0, len(rows), step):
        row, column = rows[start : start + step], columns[start : start + step]
        other = ids[row, column]
        exact = _squared_norms(queries.exact(row) - index.exact(other))
        exact[exact < 1e-28 * queries.size[row]] = 0  # multiples of a row, for cosine
        squared[row, column] = np.where(queries.zero[row] | index.zero[other], 2, exact)
    return len(rows) > 0


def _search(
    queries: np.ndarray,
    rows: np.ndarray,
    index: np.ndarray,
    k: int,
    distance: str,
    block: int | None,
    own: bool,
) -> Iterator[tuple[slice, np.ndarray, np.ndarray]]:
    """Yield, a block of ``rows`` at a time, its place and its ``[B, k]`` squared distances and indices.

    With ``own``, the index is the queries, and none finds itself.
    """
    try:
        import faiss
    except ImportError as error:
        raise ImportError("a search for nearest neighbours needs faiss: pip install faiss-cpu") from error
    cosine, count = distance == "cosine", len(index)
    points = _points(index, cosine)
    k = min(k, count - own)
    depth = min(k + own + _SLACK, count)
    full = depth * _FULL > count
    wide = points.exact() if full else None
    if block is None:
        block = max(1, _BUDGET // (64 * depth + 32 * queries.shape[1] + 24 * count * full))

    def found(asked: _Points, itself: np.ndarray, full: bool) -> tuple[np.ndarray, np.ndarray]:
        if full:
            squared = _measured(asked, points.exact() if wide is None else wide, points.size)
            ids = np.arange(count)[None]
        elif cosine:
            squared, ids = faiss.knn(asked.x, points.x, depth, faiss.METRIC_INNER_PRODUCT)
            squared = 2 - 2 * squared
        else:
            squared, ids = faiss.knn(asked.x, points.x, depth, faiss.METRIC_L2)
        if own:
            squared[ids == itself[:, None]] = np.inf
        return _in_order(squared, ids, depth - own)

    for start in range(0, len(rows), block):
        part = slice(start, start + block)
        asked = _points(queries[rows[part]], cosine)
        squared, ids = found(asked, rows[part], full)
        if not full:  # where rounding decides on who is among the first k
            last, beyond = squared[:, k - 1], squared[:, -1]
            unsure = np.flatnonzero(beyond - last <= _ROUNDING * (asked.size + beyond))
            step = max(1, _BUDGET // (24 * count))
            for some in (unsure[at : at + step] for at in range(0, len(unsure), step)):
                squared[some], ids[some] = found(_Points(*(v[some] for v in asked)), rows[part][some], True)
        if _remeasured(squared, ids, asked, points, full):
            squared, ids = _in_order(squared, ids, depth - own)
        yield part, squared[:, :k], ids[:, :k]


def _embeddings(name: str, x: Any, distance: str) -> np.ndarray:
    """Embeddings as float32 ``[N, D]``, checked."""
    x = np.asarray(x)
    expected_shape(name, x.shape, ["N", "D"])
    if x.dtype.kind not in "biuf":
        raise TypeError(f"{name} must be real numbers, got dtype {x.dtype}")
    if not x.size:
        raise ValueError(f"{name} must hold at least one row and one column, got shape {list(x.shape)}")
    with np.errstate(over="ignore"):
        x = np.ascontiguousarray(x, dtype=np.float32)
    # Squares of longer ones are no float32.
    wrong = ~np.isfinite(x).all(axis=1) if distance == "cosine" else ~(_squared_norms(x) < 1e36)
    if wrong.any():
        what = "finite" if distance == "cosine" else "finite, with norms below 1e18"
        raise ValueError(f"{name} must be {what}, and are not at rows {some_of(np.flatnonzero(wrong))}")
    return x


def _checked(queries: Any, index: Any, distance: str, block: int | None) -> tuple[np.ndarray, np.ndarray]:
    """Queries ``[Q, D]`` and index ``[M, D]``, where it is None the queries themselves."""
    one_of("distance", distance, ("cosine", "euclidean", "sqeuclidean"))
    if block is not None:
        whole("block", block, 1)
    queries = _embeddings("queries", queries, distance)
    if index is None:
        return queries, queries
    index = _embeddings("index", index, distance)
    if queries.shape[1] != index.shape[1]:
        raise ValueError(f"queries and index must be of one dimension, got {queries.shape[1]} and {index.shape[1]}")
    return queries, index


def nearest_neighbours(
    queries: Any, index: Any, k: int, distance: str = "cosine", block: int | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """The ``k`` items of an index nearest to each query, exactly.

    ``cosine`` is 1 − cos, where a zero vector has cosine 0 to all; ``euclidean`` is the norm of the
    difference, ``sqeuclidean`` its square. Computed in float32, whatever is given.

    Args:
        queries: ``[Q, D]``.
        index: ``[M, D]``, or None: the queries among themselves, none of which finds its own row.
        k: how many, at least 1; cut to what is there.
        distance: "cosine", "euclidean" or "sqeuclidean".
        block: how many queries at a time; by default as many as 256 MiB hold.

    Returns:
        Distances ``[Q, k]``, float32 from 0 up, ascending, and indices ``[Q, k]``, int64. Of items
        equally far the lowest index comes first.

    Raises:
        ImportError: if faiss is not installed.
        TypeError: if embeddings are not real numbers.
        ValueError: if embeddings are empty, not ``[N, D]``, not finite or of two dimensions, if
            ``distance`` is none of these, or ``k`` or ``block`` is below 1.
    """
    k = whole("k", k, 1)
    queries, others = _checked(queries, index, distance, block)
    k = min(k, len(others) - (index is None))
    distances, indices = np.empty((len(queries), k), np.float32), np.empty((len(queries), k), np.int64)
    rows = np.arange(len(queries))
    for part, squared, ids in _search(queries, rows, others, k, distance, block, index is None):
        found = {"cosine": squared / 2, "euclidean": np.sqrt(squared), "sqeuclidean": squared}[distance]
        distances[part], indices[part] = _in_order(found, ids, k)  # roots may tie where squares do not
    return distances, indices


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


# Name -> (formula, its cutoff: a k in the name, the R relevant items of the query, or the Whole ranking).
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

DEFAULT_METRICS = (
    "hit@1",
    "mAP@R",
    "R-precision",
    "hit@10",
    "precision@10",
    "recall@10",
    "MRR@10",
    "nDCG@10",
)


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
        f"metrics must be of {', '.join(METRICS)} for whole k from 1 up, got {name!r}; {nearest(name, known)}"
    )


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
    expected_shape(name, labels.shape, ["N"], ["N", "2"])
    if labels.ndim == 2:
        if labels.shape[1] != 2 or labels.dtype.kind not in "iu":
            raise ValueError(
                f"{name} must be classes [N], or whole numbers [N, 2], session and role, "
                f"got shape {list(labels.shape)} and dtype {labels.dtype}"
            )
        if not (right := np.isin(labels[:, 1], (ANCHOR, MATCH, NO_MATCH))).all():
            raise ValueError(
                f"{name} must have roles 0 (anchor), 1 (match) or -1 (no match), "
                f"and have others at rows {some_of(np.flatnonzero(~right))}"
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
    classes, codes = coded(labels, "query_labels")
    index_classes, index_codes = coded(others, "index_labels" if index_labels is not None else "query_labels")
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
    queries, searched = _checked(queries, index, distance, block)
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
    for part, _, ids in _search(queries, rows, searched, depth, distance, block, truth.own):
        relevant = truth.index_codes[ids] == codes[part, None]
        for name, (formula, k) in formulas.items():
            cutoff = k if isinstance(k, int) else counts[part] if k == "R" else whole_ranking
            values[name][part] = formula(relevant, counts[part], cutoff)
    return {name: float(value.mean()) for name, value in values.items()}


def check_metrics(metrics: Sequence[str]) -> None:
    """Raise ``ValueError`` for a name that is no metric."""
    for name in metrics:
        _formula(name)
