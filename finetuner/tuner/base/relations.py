"""Relations: the one currency in which labels of every kind are paid out.

For queries ``[N]`` against references ``[M]``, relations say which references are positives of a query and
which are negatives: two boolean masks ``[N, M]``, or a block of their rows at a time.

======================  =======================================  ====================================
labels                  positive                                 negative
======================  =======================================  ====================================
``[N]`` integers        the same class or instance               another class or instance
``[N, 2]`` integers,    the same session, both anchor or match   the same session, one anchor or match
session and role                                                 and the other no match
======================  =======================================  ====================================

The roles are 0 for an anchor, 1 for a match and -1 for no match; and 2 and -2 for a match and a non-match that only
answer: they are positives and negatives of others and have none themselves. So an explicit triplet is a session of
the roles 0, 2, -2, whose one triplet it is.

A batch against itself is the rectangular case with the diagonal left out: an item is neither its own
positive nor its own negative. Each backend's ``functional.Relations`` is this table in its tensors; here
is what can be told from labels on the host.
"""

import numpy as np

__all__ = ["LABEL_FORMS", "has_tuples"]

LABEL_FORMS = (["N"], ["N", "2"])


def has_tuples(labels: np.ndarray, tuples: str) -> bool:
    """Whether a batch with ``labels`` holds any of ``"pairs"``, ``"triplets"`` or ``"positives"``."""
    if labels.ndim == 1:  # the case of most batches, each of which is looked at: side by side when sorted
        ordered = np.sort(labels)
        same = np.count_nonzero(ordered[1:] == ordered[:-1])
        apart = len(labels) - 1 - same
        return bool({"pairs": same + apart > 0, "triplets": same > 0 < apart, "positives": same > 0}[tuples])
    groups = np.unique(labels[:, 0], return_inverse=True)[1]
    counts = np.bincount(groups, weights=labels[:, 1] >= 0)
    others = np.bincount(groups) - counts
    positive, negative = counts > 1, (counts > 0) & (others > 0)
    found = {"pairs": positive | negative, "triplets": positive & negative, "positives": positive}
    return bool(found[tuples].any())
