"""Relations: positive and negative masks, computed from any kind of label.

For queries ``[N]`` against references ``[M]``, relations are two boolean masks ``[N, M]``: which references are
positives of a query, and which are negatives. Losses and miners see these masks only, never the labels.

======================  =======================================  ====================================
labels                  positive                                 negative
======================  =======================================  ====================================
``[N]`` integers        the same class or instance               another class or instance
``[N, 2]`` integers,    the same session, both anchor or match   the same session, one anchor or match
session and role                                                 and the other no match
======================  =======================================  ====================================

The roles are 0 (anchor), 1 (match) and -1 (no match). Roles 2 and -2 are a match and a non-match that are references
only: they are positives and negatives of other items and are never anchors. An explicit triplet is therefore a session
with the roles 0, 2 and -2.

A batch compared with itself is the same computation without the diagonal: an item is neither its own positive nor its
own negative. Each backend implements this table in ``functional.Relations``. This module has the part that works on
numpy labels.
"""

import numpy as np

__all__ = ["LABEL_SHAPES", "has_tuples"]

LABEL_SHAPES = (["N"], ["N", "2"])


def has_tuples(labels: np.ndarray, tuples: str) -> bool:
    """Whether a batch with these labels contains any ``"pairs"``, ``"triplets"`` or ``"positives"``."""
    if labels.ndim == 1:  # the common case, checked for every batch: equal labels are neighbours once sorted
        ordered = np.sort(labels)
        equal = np.count_nonzero(ordered[1:] == ordered[:-1])
        different = len(labels) - 1 - equal
        return bool({"pairs": equal + different > 0, "triplets": equal > 0 < different, "positives": equal > 0}[tuples])
    sessions = np.unique(labels[:, 0], return_inverse=True)[1]
    matches = np.bincount(sessions, weights=labels[:, 1] >= 0)
    non_matches = np.bincount(sessions) - matches
    positive, negative = matches > 1, (matches > 0) & (non_matches > 0)
    found = {"pairs": positive | negative, "triplets": positive & negative, "positives": positive}
    return bool(found[tuples].any())
