"""Sums over the triplets of each row in tiles, for PaddlePaddle."""

from typing import Any

import paddle
from paddle.nn import functional as F

from ..base.losses.reductions import NEGATIVE
from .ops import Tensor, detached, softplus, where
from .tile_reductions import Tile, TileReduction, is_positive_

__all__ = ["SoftTripletReduction", "TripletReduction"]

MAX_FACTORS = 16  # of numbers up to 1 + e^2 whose product is still a normal number


class TripletReduction(TileReduction):
    """Sums of hinges over the negatives below limits, of which each row has K; see :func:`.kernels.triplets`."""

    def __init__(self, one: Any, like: Tensor, columns: int | None, distance: str):
        super().__init__(one, like, columns, distance)
        self.valid = one.valid.astype(like.dtype)
        self.fixed = where(one.valid, detached(one.limits), 0.0)
        self.limits = where(one.valid, detached(one.limits), -paddle.inf)
        self.shifts = self.fixed.sum(axis=1) / self.valid.sum(axis=1).clip(min=1)
        self.below, self.sums = paddle.zeros_like(self.limits), self.accumulators()[0]
        self.extremes: dict[int, tuple[list[float], list[float]]] = {}

    def extremes_of_limits(self, rows: slice) -> tuple[list[float], list[float]]:
        """The smallest and the largest of the k-th limits of some rows, for each k."""
        if rows.start not in self.extremes:
            lowest = where(self.one.valid[rows], self.limits[rows], paddle.inf).min(axis=0)
            self.extremes[rows.start] = lowest.tolist(), self.limits[rows].max(axis=0).tolist()
        return self.extremes[rows.start]

    def gap(self, tile: Tile, side: int, k: int) -> Tensor:
        """The k-th limits minus the distances."""
        return tile.along(self.limits[tile.slices[side], k], side).subtract_(tile.without(NEGATIVE, side))

    def above(self, tile: Tile, side: int, below: list[Tensor] | None = None) -> Tensor:
        """How many limits are above each negative, ``[R, C]``.

        Limits above or below all distances of the tile are not compared with each.

        Args:
            tile: The tile.
            side: Whose limits.
            below: Takes the number of negatives below each limit, ``[R, K]``, in parts to be summed.
        """

        def make() -> Tensor:
            return tile.exclude(paddle.ones_like(tile.distances), NEGATIVE, side, 0.0)

        rows, (least, most) = tile.slices[side], tile.extremes
        lowest, highest = self.extremes_of_limits(rows)
        is_above_all = paddle.to_tensor([float(limit > most) for limit in lowest], self.valid.dtype)
        negatives, known = tile.once("negatives", side, make), self.valid[rows] * is_above_all
        above, counts = tile.along(known.sum(axis=1), side).multiply_(negatives), {}
        for k in range(len(lowest)):
            if not (lowest[k] > most or highest[k] <= least):  # also for NaN
                compared = is_positive_(self.gap(tile, side, k))
                above.add_(compared)
                if below is not None:
                    counts[k] = tile.sums(compared, side)
        if below is not None:
            below.append(known * tile.sums(negatives, side)[:, None])
            if counts:
                none = paddle.zeros_like(known[:, 0])
                below.append(paddle.stack([counts.get(k, none) for k in range(len(lowest))], axis=1))
        return above

    def add(self, tile: Tile, side: int) -> None:
        rows, below = tile.slices[side], list[Tensor]()
        above = self.above(tile, side, below)
        shifted = tile.distances - tile.along(self.shifts[rows], side)
        self.sums[rows] -= tile.sums(shifted.multiply_(above), side)
        self.below[rows] += paddle.add_n(below)

    def partial_sums(self) -> list[Tensor]:
        return [self.below, self.sums]

    def results(self, side: int) -> tuple[Tensor, ...]:
        sums = self.sums + (self.below * (self.fixed - self.shifts[:, None])).sum(axis=1)
        return sums, self.below.sum(axis=1)

    def side_gradient(self, tile: Tile, side: int) -> Tensor:
        return self.factors(tile, side).multiply_(self.above(tile, side)).scale_(-1.0)

    def by_parameters(self) -> tuple[Tensor, ...]:
        return (self.below * self.upstream[0][:, None],)


class SoftTripletReduction(TripletReduction):
    """Sums of ``log(1 + e^(limit - d))`` over the negatives.

    Cosine distances are so small that ``e^limit`` and ``e^-d`` are computed once for each row and each distance, and
    the logarithm is taken of the product of several terms.
    """

    def __init__(self, one: Any, like: Tensor, columns: int | None, distance: str):
        super().__init__(one, like, columns, distance)
        self.bounded, self.factors_of_limits = distance == "cosine", self.limits.exp()

    def ratios(self, tile: Tile, side: int, k: int) -> Tensor:
        """``1 + e^(limit - d)`` of the k-th limits and all negatives; 1 for what is not a negative."""

        def make() -> Tensor:
            return tile.exclude(paddle.scale(tile.distances, -1.0).exp_(), NEGATIVE, side, 0.0)

        exponentials = tile.once((self, "exponentials"), side, make)
        factors = self.factors_of_limits[tile.slices[side], k]
        return tile.along(factors, side).multiply_(exponentials).scale_(1.0, 1.0)

    def add(self, tile: Tile, side: int) -> None:
        rows, sums, below = tile.slices[side], [], []
        if not self.bounded:
            for k in range(self.limits.shape[1]):
                gap = self.gap(tile, side, k)
                sums.append(tile.sums(softplus(gap), side))
                below.append(tile.sums(F.sigmoid(gap), side))
        else:
            product = paddle.ones_like(tile.distances)
            for k in range(self.limits.shape[1]):
                part = self.ratios(tile, side, k)
                product.multiply_(part)
                below.append(part.shape[1 - side] - tile.sums(part.reciprocal_(), side))
                if k % MAX_FACTORS == MAX_FACTORS - 1:
                    sums.append(tile.sums(product.log(), side))
                    product = paddle.ones_like(tile.distances)
            sums.append(tile.sums(product.log(), side))
        self.sums[rows] += paddle.add_n(sums)
        self.below[rows] += paddle.stack(below, axis=1)

    def results(self, side: int) -> tuple[Tensor, ...]:
        return self.sums, self.below.sum(axis=1)

    def side_gradient(self, tile: Tile, side: int) -> Tensor:
        found = paddle.zeros_like(tile.distances)
        for k in range(self.limits.shape[1]):
            if self.bounded:
                found.add_(self.ratios(tile, side, k).reciprocal_())
            else:
                found.subtract_(F.sigmoid(self.gap(tile, side, k)))
        # The derivative by d is minus the sum of the sigmoids, each of which is 1 - 1 / (1 + e^(limit - d)).
        found.scale_(1.0, -float(self.limits.shape[1]) if self.bounded else 0.0)
        return found.multiply_(self.factors(tile, side))
