"""Relations: positive and negative masks, computed from any kind of label.

For queries ``[N]`` against references ``[M]``, relations are two boolean masks ``[N, M]``: which references are
positives of a query, and which are negatives. Losses and miners see these masks only, never the labels.

======================  =======================================  ====================================
labels                  positive                                 negative
======================  =======================================  ====================================
``[N]`` integers        the same class or instance               another class or instance
``[N, 2]`` integers,    the same session, both anchor or match   the same session, one anchor or match
session and role                                                 and the other no match
``[N, C]`` booleans,    a common label                           no common label
label sets
``[N, C]`` floats,      a common label, and an overlap of the    all others
label sets              sets of at least the number
======================  =======================================  ====================================

The roles are 0 (anchor), 1 (match) and -1 (no match). Roles 2 and -2 are a match and a non-match that are references
only: they are positives and negatives of other items and are never anchors. An explicit triplet is therefore a session
with the roles 0, 2 and -2.

A row of label sets is nonzero where the item has the label. The overlap is the Jaccard index: the number of common
labels, divided by the number of labels that either set has. The least overlap is the number in the row of the query,
which is the same for all its labels; a number of 1 or more asks for a common label alone. Floats ``[N, 2]`` are
refused, because they could be sessions and roles: two labels need a third, empty column.

A batch compared with itself is the same computation without the diagonal: an item is neither its own positive nor its
own negative. Each backend implements this table in ``functional.Relations``. This module has the part that works on
numpy labels.
"""

from typing import Any

import numpy as np

from ....labels import sets_match

__all__ = ["check_labels", "check_self_offset", "has_tuples"]

KINDS = "[N] (classes), integers [N, 2] (sessions and roles), or booleans or floats [N, C] (label sets)"


def check_labels(name: str, labels: Any, dtype: str) -> None:
    """Raise ``ValueError`` unless labels have the shape of one of their kinds. It looks at no value.

    Args:
        name: What error messages call them.
        labels: Labels of any framework.
        dtype: The name of their type.

    Example:
        >>> check_labels("labels", np.zeros((4, 2), int), "int64")
        >>> try:
        ...     check_labels("labels", np.eye(4, dtype=int), "int64")
        ... except ValueError as error:
        ...     print(str(error).rpartition(", ")[2])
        one-hot labels are converted by argmax(axis=1)
    """
    rank = len(labels.shape)
    sessions = rank == 2 and "int" in dtype and labels.shape[1] in (2, None)
    # Floats [N, 2] are refused: they may be sessions and roles.
    sets = rank == 2 and ("bool" in dtype or ("float" in dtype and labels.shape[1] != 2))
    if rank != 1 and not sessions and not sets:
        hint = ", one-hot labels are converted by argmax(axis=1)" * (rank == 2)
        raise ValueError(f"{name} must be {KINDS}, got {list(labels.shape)} of {dtype}{hint}")


def check_self_offset(self_offset: int | None, rows: Any, references: Any) -> None:
    """Raise ``ValueError`` unless ``rows`` can be the references from ``self_offset`` on."""
    if self_offset is None:
        return
    if isinstance(self_offset, bool) or not isinstance(self_offset, int) or self_offset < 0:  # compilers follow this
        raise ValueError(f"self_offset must be an integer of at least 0, got {self_offset!r}")
    if references is None:
        raise ValueError("self_offset must be used with references, got none")
    if None not in (rows.shape[0], references.shape[0]) and self_offset + rows.shape[0] > references.shape[0]:
        raise ValueError(
            f"self_offset must leave room for {rows.shape[0]} rows among {references.shape[0]} references, "
            f"got {self_offset}"
        )


def has_tuples(labels: np.ndarray, tuples: str) -> bool:
    """Whether a batch with these labels contains any ``"pairs"``, ``"triplets"`` or ``"positives"``."""
    if labels.ndim == 1:  # the common case, checked for every batch: equal labels are neighbours once sorted
        ordered = np.sort(labels)
        equal = np.count_nonzero(ordered[1:] == ordered[:-1])
        different = len(labels) - 1 - equal
        return bool({"pairs": equal + different > 0, "triplets": equal > 0 < different, "positives": equal > 0}[tuples])
    if labels.dtype.kind in "bf":
        matches = sets_match(labels, labels)
        positive, negative = matches.sum(axis=1) - matches.diagonal() > 0, ~matches.all(axis=1)
        found = {"pairs": np.array(len(labels) > 1), "triplets": positive & negative, "positives": positive}
        return bool(found[tuples].any())
    sessions = np.unique(labels[:, 0], return_inverse=True)[1]
    matches = np.bincount(sessions, weights=labels[:, 1] >= 0)
    non_matches = np.bincount(sessions) - matches
    positive, negative = matches > 1, (matches > 0) & (non_matches > 0)
    found = {"pairs": positive | negative, "triplets": positive & negative, "positives": positive}
    return bool(found[tuples].any())
