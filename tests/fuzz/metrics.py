"""Random retrieval: metrics against the reference, with ties, duplicates and labels of all kinds."""

import numpy as np

from finetuner.evaluation import retrieval_metrics

from ..reference import evaluation as reference
from .outcome import COMPARED, RAN, REFUSED, Failure, pick, refusals, require

NAMES = [
    *(f"{name}@{k}" for name in ("hit", "precision", "recall", "mAP", "MRR", "nDCG") for k in (1, 3, 10, 1000)),
    *("R-precision", "mAP@R", "mAP", "MRR"),
]


def points(rng, rows, columns):
    """Embeddings of float32 with ties, duplicates and zeros."""
    kind = pick(rng, "normal", "normal", "lattice", "lattice", "equal", "duplicates")
    x = rng.normal(size=(rows, columns))
    if kind == "lattice":
        x = rng.integers(-1, 2, size=(rows, columns))
    elif kind == "equal":
        x = np.ones((rows, columns))
    elif kind == "duplicates" and rows:
        x = x[rng.integers(0, max(1, rows // 2), size=rows)]
    if rows and rng.random() < 0.2:
        x[rng.integers(rows)] = 0
    return np.asarray(x, np.float32)


def labels_of(rng, rows, kind, columns):
    if kind == "sessions":
        return np.stack([rng.integers(4, size=rows), rng.choice([0, 1, 1, -1], size=rows)], axis=1)
    if kind == "sets":
        return rng.random((rows, columns)) < 0.3
    few = rng.integers(0, max(1, rows // 3) + 1, size=rows)
    return {
        "classes": few,
        "text": np.array([f"c{i}" for i in few], dtype=str),
        "huge": 2**54 + few,
        "bool": few % 2 == 0,
        "negative": (-few).astype(np.int8),
    }[kind]


def truth(queries, query_labels, index, index_labels, names, distance, exclude):
    """The metrics of the reference, which are defined here for label sets: an item of a common label is relevant."""
    # A power of two moves no tie, and the reference has one tolerance for all scales.
    largest = max(np.abs(x).max(initial=0) for x in (queries, index) if x is not None)
    scale = 2.0 ** -np.floor(np.log2(largest)) if largest else 1.0
    queries, index = (None if x is None else np.float64(x) * scale for x in (queries, index))
    if query_labels.ndim == 1 or query_labels.dtype.kind != "b":
        try:
            return reference.retrieval(queries, query_labels, index, index_labels, names, distance, exclude)
        except ZeroDivisionError:  # no query has a relevant item
            return {}
    itself = index is None
    others, their_labels = (queries, query_labels) if itself else (index, index_labels)
    values = []
    for i, own in enumerate(query_labels):
        candidates = [j for j in range(len(others)) if not (itself and j == i)]
        relevant = {j for j in candidates if (own & their_labels[j]).any()}
        if relevant:
            groups = reference.tied_ranking(reference.distances_to(queries[i], others, distance), candidates)
            values.append([reference.metric_with_ties(name, groups, relevant) for name in names])
    return dict(zip(names, np.mean(values, axis=0), strict=True)) if values else {}


def has_near_ties(queries, index, distance):
    """Whether some distances differ by so little that float32 may not order them, or may not call them equal."""
    for distances, _ in reference.neighbours(queries, index, distance):
        ordered = np.sort(distances)
        gaps = np.diff(ordered)
        scale = ordered[1:] + (1e-6 if distance == "cosine" else (np.float64(queries) ** 2).sum(axis=1).max())
        if ((gaps > 0) & (gaps < 3e-6 * scale)).any():
            return True
    return False


def retrieval(rng, backend, folder):
    """Metrics of one retrieval."""
    kind = pick(rng, "classes", "classes", "text", "huge", "bool", "negative", "sessions", "sets")
    rows, columns, width = int(rng.integers(0, 14)), int(rng.integers(1, 6)), int(rng.integers(2, 5))
    queries, query_labels = points(rng, rows, columns), labels_of(rng, rows, kind, width)
    index = index_labels = None
    if rng.random() < 0.5:
        count = int(rng.integers(0, 30))
        index, index_labels = points(rng, count, columns), labels_of(rng, count, kind, width)
        if rows and count and rng.random() < 0.5:
            index[0] = queries[0]
    scale = np.float32(10.0 ** (rng.integers(-10, 11) if rng.random() < 0.3 else 0))
    queries, index = (None if x is None else x * scale for x in (queries, index))
    names = list(rng.choice(NAMES, size=4, replace=False))
    distance, exclude = pick(rng, "cosine", "euclidean", "sqeuclidean"), bool(rng.random() < 0.3 and kind != "sets")
    block = pick(rng, None, 1, 7)
    what = f"{kind} {rows} x {columns}, index {None if index is None else len(index)}, {distance}, exclude {exclude}"
    given = [str(name) for name in names]
    with refusals() as refused:
        found = retrieval_metrics(
            queries,
            query_labels,
            index,
            index_labels,
            metrics=given,
            distance=distance,
            block=block,
            exclude_duplicates=exclude,
        )
    if rows == 0 or (index is not None and len(index) == 0) or (rows < 2 and index is None):
        return REFUSED if refused else RAN
    expected = truth(queries, query_labels, index, index_labels, given, distance, exclude)
    if refused:
        require(not expected, f"{what}: refused a retrieval that has relevant items: {refused[0]}")
        return REFUSED
    require(expected, f"{what}: no query has a relevant item, and no error was raised")
    wrong = [name for name in given if not np.isclose(found[name], expected[name], rtol=1e-9, atol=1e-12)]
    if wrong and has_near_ties(queries, index, distance):
        return RAN
    if wrong:
        raise Failure(f"{what}: {wrong[0]} is {found[wrong[0]]} and must be {expected[wrong[0]]}")
    return COMPARED


KINDS = {"metrics": retrieval}
