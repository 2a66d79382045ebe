"""Which items of an index are relevant to a query, by their labels."""

from typing import Any, NamedTuple

import numpy as np

from ..checks import preview, shape
from ..containers import from_container
from ..labels import ANCHOR, MATCH, NO_MATCH, encode_label_sets, encode_labels, has_label_sets, sets_match
from .search import Match

__all__ = ["GroundTruth", "ground_truth", "relevant_duplicates"]


class GroundTruth(NamedTuple):
    """Which items are relevant: ``candidates[j]`` to ``queries[i]`` if ``match(codes[i], index_codes[j])``."""

    queries: np.ndarray  # rows of the queries
    codes: np.ndarray  # class or session of each query
    candidates: np.ndarray  # rows of the index that are searched
    index_codes: np.ndarray  # class or session of each candidate, -1 if it is relevant to no query
    counts: np.ndarray  # number of relevant items of each query
    exclude_self: bool  # whether each query is also a candidate, and must not find itself
    match: Match = np.equal


def check_labels(name: str, labels: Any) -> np.ndarray:
    """Check labels and return classes ``[N]``, sessions ``[N, 2]``, or label sets: sets or a matrix ``[N, C]``."""
    labels = from_container(name, labels)
    if has_label_sets(labels):
        return labels
    if not isinstance(labels, np.ndarray):
        is_table = len(labels) > 0 and isinstance(labels[0], list | tuple | np.ndarray)
        labels = np.asarray(labels) if is_table else column_of_labels(labels, name)
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


def column_of_labels(labels: Any, name: str) -> np.ndarray:
    """A list of labels as an array of the same values; what is missing or of several types is refused."""
    classes, codes = encode_labels(labels, name)
    return classes[codes]


def ground_truth(query_labels: Any, index_labels: Any) -> GroundTruth:
    """Which items are relevant to which queries, by labels of any kind; no ``index_labels`` for the queries' own."""
    labels = check_labels("query_labels", query_labels)
    searched = labels if index_labels is None else check_labels("index_labels", index_labels)
    sets = [is_label_sets(one) for one in (labels, searched)]
    if all(sets):
        return set_truth(labels, searched, index_labels is None)
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
    return GroundTruth(queries, codes, candidates, index_codes, counts - exclude_self, exclude_self)


class TableMatch:
    """Compares codes by a table of booleans."""

    def __init__(self, table: np.ndarray):
        self.table = table

    def __call__(self, codes: np.ndarray, index_codes: np.ndarray) -> np.ndarray:
        return np.asarray(self.table[codes, index_codes])


def is_label_sets(labels: Any) -> bool:
    return has_label_sets(labels) or (labels.ndim == 2 and labels.dtype.kind in "bf")


def set_truth(labels: Any, searched: Any, exclude_self: bool) -> GroundTruth:
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
    return GroundTruth(rows, codes, candidates, index_codes, counts, exclude_self, TableMatch(table))


def relevant_duplicates(truth: GroundTruth, codes: np.ndarray, index_codes: np.ndarray) -> np.ndarray:
    """For each query, the number of relevant items with its row, except for the query itself: ``[Q]``."""
    if not len(index_codes):
        return np.zeros(len(codes), np.int64)
    width = int(truth.index_codes.max()) + 2  # a class of -1 is relevant to no query
    keys, counts = np.unique(index_codes * width + truth.index_codes + 1, return_counts=True)
    wanted = codes * width + truth.codes + 1
    positions = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
    found = (keys[positions] == wanted) & (truth.codes >= 0)
    return np.where(found, counts[positions], 0) - truth.exclude_self
