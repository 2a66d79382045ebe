"""Sums over the triplets of each row in tiles, for PyTorch."""

from typing import Any

import torch

from ..base.losses.reductions import NEGATIVE
from .functional import PairwiseOperands
from .ops import Tensor, softplus
from .tile import Tile, along
from .tile_reductions import TileReduction

__all__ = ["PolynomialTripletReduction", "SoftTripletReduction", "TripletReduction"]

MAX_FACTORS = 16  # of a polynomial
MAX_PRODUCT = 40  # of numbers up to 1 + e^2 whose product is a normal number


class LimitReduction(TileReduction):
    """A sum over the limits of each row, of which there are K, and its negatives."""

    def __init__(self, one: Any, operands: PairwiseOperands, columns: int | None, distance: str):
        super().__init__(one, operands, columns, distance)
        # A row per limit: a row of a tile is compared with numbers that stand side by side.
        self.limits = torch.where(one.valid, one.limits.detach(), -torch.inf).T.contiguous()
        self.below, self.sums = torch.zeros_like(self.limits), self.accumulators()[0]

    def partial_sums(self) -> list[Tensor]:
        return [self.below, self.sums]

    def results(self, side: int) -> tuple[Tensor, ...]:
        return self.sums, self.below.sum(dim=0)

    def by_parameters(self) -> tuple[Tensor, ...]:
        return (self.below.T * self.upstream[0][:, None],)


class TripletReduction(LimitReduction):
    """Sums of hinges over the negatives below limits; see :func:`.kernels.triplets`."""

    def __init__(self, one: Any, operands: PairwiseOperands, columns: int | None, distance: str):
        super().__init__(one, operands, columns, distance)
        self.fixed = torch.where(one.valid, one.limits.detach(), 0.0)
        self.shifts = self.fixed.sum(dim=1) / one.valid.sum(dim=1).clamp(min=1)
        self.largest: dict[int, list[float]] = {}

    def active_limits(self, tile: Tile, side: int) -> list[int]:
        """Which of the K limits are above a distance of the tile in some row."""
        rows = tile.slices[side]
        if rows.start not in self.largest:
            self.largest[rows.start] = self.limits[:, rows].amax(dim=1).tolist()
        return [k for k, most in enumerate(self.largest[rows.start]) if not most <= tile.least]  # also for NaN

    def above(self, tile: Tile, side: int, below: Tensor | None = None) -> Tensor:
        """How many limits are above each negative, ``[R, C]``.

        Args:
            tile: The tile.
            side: Whose limits.
            below: The number of negatives below each limit is added to it, ``[K, R]``.
        """
        active, found, compared = self.active_limits(tile, side), tile.empty(), tile.empty()
        if not active:
            return found.zero_()
        distances = tile.without(NEGATIVE, side)
        for k in active:
            out = found if k == active[0] else compared
            torch.gt(along(self.limits[k, tile.slices[side]], side), distances, out=out)  # 1 or 0
            if below is not None:
                below[k] += out.sum(dim=1 - side)
            if out is compared:
                found += compared
        return found

    def add(self, tile: Tile, side: int) -> None:
        rows = tile.slices[side]
        if self.active_limits(tile, side):
            above = tile.known[self, side] = self.above(tile, side, self.below[:, rows])
            shifted = torch.sub(tile.distances, along(self.shifts[rows], side), out=tile.empty())
            self.sums[rows] -= shifted.mul_(above).sum(dim=1 - side)

    def adds_nothing(self, tile: Tile) -> bool:
        return not tile.is_kept and not any(self.active_limits(tile, side) for side in tile.sides)

    def can_keep(self, tile: Tile) -> bool:
        return self.distance != "euclidean"  # its gradient needs the distances

    def keep(self, tile: Tile) -> None:
        zeros, counts = tile.distances == 0 if tile.is_near else None, []
        for side in tile.sides:
            above = tile.known[self, side] if (self, side) in tile.known else self.above(tile, side)
            counts.append(above.to(torch.bfloat16))  # integers up to 256 are exact
        for side, count in zip(tile.sides, counts, strict=True):
            tile.keep((self, side), count if zeros is None else count.masked_fill_(zeros, 0))

    def results(self, side: int) -> tuple[Tensor, ...]:
        sums = self.sums + (self.below.T * (self.fixed - self.shifts[:, None])).sum(dim=1)
        return sums, self.below.sum(dim=0)

    def side_gradient(self, tile: Tile, side: int) -> Tensor:
        found = tile.empty().copy_(tile.known[self, side]) if tile.is_kept else self.above(tile, side)
        return found.mul_(-self.factors(tile, side))


class SoftTripletReduction(LimitReduction):
    """Sums of ``log(1 + e^(limit - d))``."""

    def add(self, tile: Tile, side: int) -> None:
        rows, axis, part = tile.slices[side], 1 - side, tile.empty()
        distances = tile.without(NEGATIVE, side)
        for k in range(len(self.limits)):
            torch.sub(along(self.limits[k, rows], side), distances, out=part)
            self.sums[rows] += softplus(part).sum(dim=axis)
            self.below[k, rows] += part.sigmoid_().sum(dim=axis)

    def side_gradient(self, tile: Tile, side: int) -> Tensor:
        rows, found, part = tile.slices[side], tile.empty().zero_(), tile.empty()
        for limits in self.limits:
            found -= torch.sub(along(limits[rows], side), tile.without(NEGATIVE, side), out=part).sigmoid_()
        return found.mul_(self.factors(tile, side))


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
        # A row per limit: f is 0 for padding.
        self.parts = [PolynomialPart(f) for f in torch.split((self.limits - 1).exp(), MAX_FACTORS)]

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
        self.below = torch.cat([part.sums_of_sigmoids() for part in self.parts])
        return super().results(side)

    def side_gradient(self, tile: Tile, side: int) -> Tensor:
        z = tile.exponentials(self.scale_of_exponents, NEGATIVE, side)
        first, *others = (part.slopes(tile, side, z) for part in self.parts)
        for other in others:
            first += other
        return first.mul_(-self.factors(tile, side))


class PolynomialPart:
    """The polynomial ``p`` of some limits of each row.

    Args:
        f: ``[K, N]``.
    """

    def __init__(self, f: Tensor):
        self.f, self.powers = f, torch.zeros_like(f)  # sums of z^(r + 1) / p(z)
        self.coefficients = torch.zeros_like(f[:1]).repeat(len(f) + 1, 1)
        self.coefficients[0] = 1
        for one in f:
            self.coefficients[1:] += one * self.coefficients[:-1]

    def values(self, tile: Tile, side: int, z: Tensor, slopes: Tensor | None = None) -> Tensor:
        """``p(z)`` of a tile by Horner's rule, and ``p'(z)`` in ``slopes``."""
        highest, *others = (along(one[tile.slices[side]], side) for one in reversed(self.coefficients))
        found = tile.empty().copy_(highest)
        if slopes is not None:
            slopes.zero_()
        for one in others:
            if slopes is not None:
                torch.addcmul(found, slopes, z, out=slopes)
            torch.addcmul(one, found, z, out=found)
        return found

    def add(self, tile: Tile, side: int, z: Tensor, sums: Tensor) -> None:
        """Add the logarithms of a tile to ``sums``, and to the sums of its powers."""
        rows, axis = tile.slices[side], 1 - side
        values = self.values(tile, side, z)
        powers = torch.div(z, values, out=tile.empty())
        for r in range(len(self.f)):
            if r:
                powers *= z
            self.powers[r, rows] += powers.sum(dim=axis)
        factors = 2 * len(self.f)
        while factors <= MAX_PRODUCT and values.shape[axis] % 2 == 0:  # the logarithm of a product of columns
            half = values.shape[axis] // 2
            values = values.narrow(axis, 0, half).mul_(values.narrow(axis, half, half))
            factors *= 2
        sums[rows] += values.log_().sum(dim=axis)

    def slopes(self, tile: Tile, side: int, z: Tensor) -> Tensor:
        """``z p'(z) / p(z)`` of a tile."""
        slopes = tile.empty()
        return slopes.div_(self.values(tile, side, z, slopes)).mul_(z)

    def sums_of_sigmoids(self) -> Tensor:
        """For each limit, the sum of its sigmoids: ``[K, N]``."""
        # The coefficients of the product of all factors but one: [K, K, N].
        others = torch.zeros_like(self.f)[:, None].repeat(1, len(self.f), 1)
        others[:, 0] = 1
        for k, one in enumerate(self.f):
            factors = one.expand_as(self.f).clone()
            factors[k] = 0
            others[:, 1:] += factors[:, None] * others[:, :-1]
        return self.f * (others * self.powers).sum(dim=1)
