"""Relations and distances, one pair at a time."""

import numpy as np


def relation(query, reference):
    """1 for a positive, -1 for a negative, 0 for neither."""
    if isinstance(query, np.ndarray) and query.dtype.kind in "bf":
        own, other = ({i for i, value in enumerate(labels) if value} for labels in (query, reference))
        least = 0 if query.dtype.kind == "b" or max(query) >= 1 else max(query)
        return 1 if own & other and len(own & other) / len(own | other) >= least - 1e-6 else -1
    if np.ndim(query) == 0:
        return 1 if query == reference else -1
    (session, role), (other_session, other_role) = query, reference
    if session != other_session or role in (2, -2):  # never an anchor
        return 0
    if role == -1:
        return -1 if other_role in (0, 1) else 0
    return 1 if other_role >= 0 else -1


def relation_matrix(batch):
    """The relation of each query to each reference."""
    self_comparison = batch.references is None
    references = batch.labels if self_comparison else batch.reference_labels
    offset = 0 if self_comparison else batch.self_offset
    return [
        [0 if offset is not None and j == i + offset else relation(query, other) for j, other in enumerate(references)]
        for i, query in enumerate(batch.labels)
    ]


def distance_between(x, y, distance):
    """The distance of two vectors."""
    if distance == "cosine":
        if not x.any() or not y.any():
            return 1.0
        x, y = x / np.abs(x).max(), y / np.abs(y).max()
        return max(0.0, 1 - x @ y / np.sqrt((x @ x) * (y @ y)))
    square = ((x - y) ** 2).sum()
    return square if distance == "sqeuclidean" else np.sqrt(square)


def distance_matrix(batch, distance):
    """The distance of each query to each reference."""
    references = batch.x if batch.references is None else batch.references
    return [[distance_between(x, y, distance) for y in references] for x in batch.x]
