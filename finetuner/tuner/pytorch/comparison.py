"""Queries compared with references, as a loss sees them, for PyTorch."""

from typing import Any, NamedTuple

from ..base.losses.reductions import NEGATIVE, POSITIVE, LogSumExp, Triplets
from . import kernels
from .functional import hinge, row_logsumexp
from .ops import Tensor, cast, detached, reduce_sum, row_sums, softplus, where

__all__ = ["Comparison", "Positives"]


class Positives(NamedTuple):
    """The distances of the positives of each row. Rows are padded."""

    distances: Tensor  # [B, K]
    valid: Tensor  # [B, K] boolean, False for padding


class Comparison:
    """Distances and relations of a block of queries to all references, as a whole in memory.

    A loss is written in :meth:`count`, :meth:`positives`, :meth:`reduce` and :meth:`triplets`. It need not know whether
    all distances are in memory.

    Args:
        distances: ``[B, M]``.
        positive: Boolean, ``[B, M]``.
        negative: Boolean, ``[B, M]``.
    """

    def __init__(self, distances: Tensor, positive: Tensor, negative: Tensor):
        self.distances, self.positive, self.negative = distances, positive, negative

    def mask(self, over: str) -> Tensor:
        """The items of each row that a reduction is over."""
        if over == POSITIVE:
            return self.positive
        return self.negative if over == NEGATIVE else self.positive | self.negative

    def count(self, over: str) -> Tensor:
        """How many items each row has, ``[B]`` floats."""
        return cast(row_sums(self.mask(over)), self.distances.dtype)

    def positives(self) -> Positives:
        """The distances of the positives of each row."""
        return Positives(self.distances, self.positive)

    def mined(self, miner: Any) -> "Comparison":
        """The comparison with what a miner selects; all of it without a miner."""
        if miner is None:
            return self
        return Comparison(self.distances, *miner.refine(detached(self.distances), self.positive, self.negative))

    def reduce(self, *reductions: Any) -> tuple[Any, ...]:
        """The reductions over the items of each row, ``[B]`` each; two for a :class:`HingeSum`."""
        return tuple(map(self.reduction, reductions))  # Paddle's to_static cannot follow a generator

    def reduction(self, one: Any) -> Any:
        """A single reduction."""
        mask = self.mask(one.over)
        if isinstance(one, LogSumExp):
            exponents = one.scale * self.distances
            exponents = exponents if one.log_weights is None else exponents + one.log_weights[None, :]
            return row_logsumexp(exponents, mask)[:, 0]
        if isinstance(one, Triplets):
            gap = one.limits[:, :, None] - self.distances[:, None, :]
            terms = where(one.valid[:, :, None] & mask[:, None, :], softplus(gap) if one.soft else hinge(gap), 0.0)
            terms = reduce_sum(terms, axis=1)
            return row_sums(terms), cast(row_sums(detached(terms) > 0), terms.dtype)
        terms = where(mask, hinge(one.limit - self.distances), 0.0)
        return row_sums(terms), cast(row_sums(detached(terms) > 0), terms.dtype)

    def triplets(self, margin: float | None) -> tuple[Tensor, Tensor, Tensor]:
        """Sum of the hinges, number of triplets, and number of active triplets of each row; without a margin, soft."""
        if margin is None:
            return kernels.soft_triplets(self.distances, self.positive, self.negative)
        # By its module: Paddle's to_static takes a plain name for this method.
        return kernels.triplets(self.distances, self.positive, self.negative, margin)
