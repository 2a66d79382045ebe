"""Sums over the triplets of each row in tiles, for PaddlePaddle."""

from typing import Any

import paddle
from paddle.nn import functional as F

from ..base.losses.reductions import NEGATIVE
from .functional import PairwiseOperands
from .ops import Tensor, detached, softplus, where
from .tile import Tile, is_positive_
from .tile_reductions import TileReduction

__all__ = ["PolynomialTripletReduction", "SoftTripletReduction", "TripletReduction"]

MAX_FACTORS = 16  # of a polynomial
MAX_PRODUCT = 40  # of numbers up to 1 + e^2 whose product is a normal number


class LimitReduction(TileReduction):
    """A sum over the limits of each row, of which there are K, and its negatives."""

    def __init__(self, one: Any, operands: PairwiseOperands, columns: int | None, distance: str):
        super().__init__(one, operands, columns, distance)
        self.limits = where(one.valid, detached(one.limits), -paddle.inf)
        self.below, self.sums = paddle.zeros_like(self.limits), self.accumulators()[0]

    def gap(self, tile: Tile, side: int, k: int) -> Tensor:
        """The k-th limits minus the distances."""
        return tile.along(self.limits[tile.slices[side], k], side).subtract_(tile.without(NEGATIVE, side))

    def partial_sums(self) -> list[Tensor]:
        return [self.below, self.sums]

    def results(self, side: int) -> tuple[Tensor, ...]:
        return self.sums, self.below.sum(axis=1)

    def by_parameters(self) -> tuple[Tensor, ...]:
        return (self.below * self.upstream[0][:, None],)


class TripletReduction(LimitReduction):
    """Sums of hinges over the negatives below limits; see :func:`.kernels.triplets`."""

    def __init__(self, one: Any, operands: PairwiseOperands, columns: int | None, distance: str):
        super().__init__(one, operands, columns, distance)
        self.valid = one.valid.astype(self.like.dtype)
        self.fixed = where(one.valid, detached(one.limits), 0.0)
        self.shifts = self.fixed.sum(axis=1) / self.valid.sum(axis=1).clip(min=1)
        self.extremes: dict[int, tuple[list[float], list[float]]] = {}

    def extremes_of_limits(self, rows: slice) -> tuple[list[float], list[float]]:
        """The smallest and the largest of the k-th limits of some rows, for each k."""
        if rows.start not in self.extremes:
            lowest = where(self.one.valid[rows], self.limits[rows], paddle.inf).min(axis=0)
            self.extremes[rows.start] = lowest.tolist(), self.limits[rows].max(axis=0).tolist()
        return self.extremes[rows.start]

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
        negatives, known = tile.once(("negatives",), side, make), self.valid[rows] * is_above_all
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

    def adds_nothing(self, tile: Tile) -> bool:
        highest = [most for side in tile.sides for most in self.extremes_of_limits(tile.slices[side])[1]]
        return all(most <= tile.extremes[0] for most in highest)  # not for NaN

    def results(self, side: int) -> tuple[Tensor, ...]:
        sums = self.sums + (self.below * (self.fixed - self.shifts[:, None])).sum(axis=1)
        return sums, self.below.sum(axis=1)

    def side_gradient(self, tile: Tile, side: int) -> Tensor:
        return self.factors(tile, side).multiply_(self.above(tile, side)).scale_(-1.0)


class SoftTripletReduction(LimitReduction):
    """Sums of ``log(1 + e^(limit - d))``."""

    def add(self, tile: Tile, side: int) -> None:
        rows, sums, below = tile.slices[side], [], []
        for k in range(self.limits.shape[1]):
            gap = self.gap(tile, side, k)
            sums.append(tile.sums(softplus(gap), side))
            below.append(tile.sums(F.sigmoid(gap), side))
        self.sums[rows] += paddle.add_n(sums)
        self.below[rows] += paddle.stack(below, axis=1)

    def side_gradient(self, tile: Tile, side: int) -> Tensor:
        found = paddle.zeros_like(tile.values)
        for k in range(self.limits.shape[1]):
            found.subtract_(F.sigmoid(self.gap(tile, side, k)))
        return found.multiply_(self.factors(tile, side))


class PolynomialTripletReduction(LimitReduction):
    r"""Sums of ``log(1 + e^(limit - d))``, for the cosine distance.

    Its values are so small that :math:`f_k = e^{m_k - 1}` and :math:`z = e^{1 - d}` are computed once for each limit
    and each distance. The sum over the limits of a row is the logarithm of a polynomial of z,
    :math:`p(z) = \prod_k (1 + f_k z)`, all of whose coefficients are positive. The sigmoids of a distance add up to
    :math:`z p'(z) / p(z)`. Those of a limit are a sum of :math:`z^r / p(z)`, weighted by the coefficients of the other
    factors.
    """

    scale_of_exponents = -1.0

    def __init__(self, one: Any, operands: PairwiseOperands, columns: int | None, distance: str):
        super().__init__(one, operands, columns, distance)
        f = (self.limits - 1).exp().T  # 0 for padding
        starts = range(0, f.shape[0], MAX_FACTORS)
        self.parts = [PolynomialPart(f[start : start + MAX_FACTORS].contiguous()) for start in starts]

    def add(self, tile: Tile, side: int) -> None:
        z = tile.exponentials(self.scale_of_exponents, NEGATIVE, side)
        for part in self.parts:
            part.add(tile, side, z, self.sums)

    def can_keep(self, tile: Tile) -> bool:
        return tile.scale is not None and tile.serves_once

    def keep(self, tile: Tile) -> None:
        tile.keep_exponentials(self.scale_of_exponents, NEGATIVE)

    def partial_sums(self) -> list[Tensor]:
        return [self.sums, *(part.powers for part in self.parts)]

    def results(self, side: int) -> tuple[Tensor, ...]:
        self.below = paddle.concat([part.sums_of_sigmoids() for part in self.parts]).T
        return super().results(side)

    def side_gradient(self, tile: Tile, side: int) -> Tensor:
        z = tile.exponentials(self.scale_of_exponents, NEGATIVE, side)
        first, *others = (part.slopes(tile, side, z) for part in self.parts)
        for other in others:
            first.add_(other)
        return first.multiply_(self.factors(tile, side)).scale_(-1.0)


class PolynomialPart:
    """The polynomial ``p`` of some limits of each row.

    Args:
        f: ``[K, N]``.
    """

    def __init__(self, f: Tensor):
        self.f, self.powers = f, paddle.zeros_like(f)  # sums of z^(r + 1) / p(z)
        self.coefficients = [paddle.ones_like(f[0])] + [paddle.zeros_like(f[0]) for _ in f]
        for one in f:
            lower = self.coefficients
            self.coefficients = lower[:1] + [x + one * y for x, y in zip(lower[1:], lower[:-1], strict=True)]

    def values(self, tile: Tile, side: int, z: Tensor, slopes: Tensor | None = None) -> Tensor:
        """``p(z)`` of a tile by Horner's rule, and ``p'(z)`` in ``slopes``."""
        highest, *others = (tile.along(one[tile.slices[side]], side) for one in reversed(self.coefficients))
        for one in others:
            if slopes is not None:
                slopes.multiply_(z).add_(highest)
            highest.multiply_(z).add_(one)
        return highest

    def add(self, tile: Tile, side: int, z: Tensor, sums: Tensor) -> None:
        """Add the logarithms of a tile to ``sums``, and to the sums of its powers."""
        rows, axis = tile.slices[side], 1 - side
        values = self.values(tile, side, z)
        powers = values.reciprocal().multiply_(z)
        for r in range(self.f.shape[0]):
            if r:
                powers.multiply_(z)
            self.powers[r, rows] += tile.sums(powers, side)
        factors = 2 * self.f.shape[0]
        while factors <= MAX_PRODUCT and values.shape[axis] % 2 == 0:  # the logarithm of a product of columns
            values = paddle.multiply(*paddle.chunk(values, 2, axis=axis))
            factors *= 2
        sums[rows] += values.log().sum(axis=axis)

    def slopes(self, tile: Tile, side: int, z: Tensor) -> Tensor:
        """``z p'(z) / p(z)`` of a tile."""
        slopes = paddle.zeros_like(z)
        return self.values(tile, side, z, slopes).reciprocal_().multiply_(slopes).multiply_(z)

    def sums_of_sigmoids(self) -> Tensor:
        """For each limit, the sum of its sigmoids: ``[K, N]``."""
        # The coefficients of the product of all factors but one: [K, N] of each power.
        count, none = self.f.shape[0], paddle.zeros_like(self.f)
        others = [paddle.ones_like(self.f)] + [none] * (count - 1)
        for k, one in enumerate(self.f):
            factors = one.expand_as(self.f) * (paddle.arange(count) != k).astype(one.dtype)[:, None]
            others = others[:1] + [x + factors * y for x, y in zip(others[1:], others[:-1], strict=True)]
        powers = paddle.stack(others, axis=1) * self.powers
        return self.f * powers.sum(axis=1)
