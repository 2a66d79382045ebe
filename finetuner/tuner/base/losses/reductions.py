"""What a loss needs to know about the other items of each anchor: one number per row, by a reduction over them.

A loss is a formula over the distances of each anchor to its positives and a few reductions over its other items. The
formula is written once, in the loss. The backend decides how reductions are computed: as a whole, in blocks of rows, or
in square tiles.
"""

from dataclasses import dataclass
from typing import Any

__all__ = ["ANY", "NEGATIVE", "POSITIVE", "HingeSum", "LogSumExp", "Triplets"]

POSITIVE, NEGATIVE, ANY = "positive", "negative", "any"  # the items of a row that a reduction is over


@dataclass(frozen=True, eq=False)
class LogSumExp:
    r""":math:`\log \sum_j w_j e^{s d_{ij}}` over the items j of row i: ``[N]``; about -3e38 for a row without any.

    Args:
        over: ``POSITIVE``, ``NEGATIVE`` or ``ANY``.
        scale: s, a number, or a tensor ``[]`` with a gradient.
        log_weights: :math:`\log w_j`, ``[M]`` without a gradient; None for weights of 1.
    """

    over: str
    scale: Any
    log_weights: Any = None


@dataclass(frozen=True, eq=False)
class HingeSum:
    r""":math:`\sum_j \max(0, m - d_{ij})` over the items j of row i, and how many of them are above 0: two ``[N]``.

    Args:
        over: ``POSITIVE``, ``NEGATIVE`` or ``ANY``.
        limit: m.
    """

    over: str
    limit: float


@dataclass(frozen=True, eq=False)
class Triplets:
    r""":math:`\sum_{kj} \max(0, m_{ik} - d_{ij})` over the limits and the negatives of row i, and how many are above 0.

    Args:
        limits: m, ``[N, K]``, with a gradient.
        valid: Which of the limits count, boolean ``[N, K]``.
        soft: Whether the terms are :math:`\log(1 + e^{m_{ik} - d_{ij}})`.
    """

    limits: Any
    valid: Any
    soft: bool
    over: str = NEGATIVE
