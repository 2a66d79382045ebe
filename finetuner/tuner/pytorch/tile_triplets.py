"""Sums over the triplets of each row in tiles, for PyTorch."""

from typing import Any

import torch

from ..base.losses.reductions import NEGATIVE
from .ops import Tensor, softplus
from .tile_reductions import Tile, TileReduction, along

__all__ = ["SoftTripletReduction", "TripletReduction"]

MAX_FACTORS = 16  # of numbers up to 1 + e^2 whose product is still a normal number


class TripletReduction(TileReduction):
    """Sums of hinges over the negatives below limits, of which each row has K; see :func:`.kernels.triplets`."""

    def __init__(self, one: Any, like: Tensor, columns: int | None, distance: str):
        super().__init__(one, like, columns, distance)
        self.fixed = torch.where(one.valid, one.limits.detach(), 0.0)
        # A row per limit: a row of a tile is compared with numbers that stand side by side.
        self.limits = torch.where(one.valid, one.limits.detach(), -torch.inf).T.contiguous()
        self.shifts = self.fixed.sum(dim=1) / one.valid.sum(dim=1).clamp(min=1)
        self.below, self.sums = torch.zeros_like(self.limits), self.accumulators()[0]

    def add(self, tile: Tile, side: int) -> None:
        rows, distances = tile.slices[side], tile.without(NEGATIVE, side)
        above, compared = tile.empty().zero_(), tile.empty()
        for k in range(len(self.limits)):
            torch.gt(along(self.limits[k, rows], side), distances, out=compared)  # 1 or 0
            self.below[k, rows] += compared.sum(dim=1 - side)
            above += compared
        shifted = torch.sub(tile.distances, along(self.shifts[rows], side), out=compared)
        self.sums[rows] -= shifted.mul_(above).sum(dim=1 - side)

    def partial_sums(self) -> list[Tensor]:
        return [self.below, self.sums]

    def results(self, side: int) -> tuple[Tensor, ...]:
        sums = self.sums + (self.below.T * (self.fixed - self.shifts[:, None])).sum(dim=1)
        return sums, self.below.sum(dim=0)

    def side_gradient(self, tile: Tile, side: int) -> Tensor:
        rows, distances = tile.slices[side], tile.without(NEGATIVE, side)
        above, compared = tile.empty().zero_(), tile.empty()
        for k in range(len(self.limits)):
            above += torch.gt(along(self.limits[k, rows], side), distances, out=compared)
        return above.mul_(-self.factors(tile, side))

    def by_parameters(self) -> tuple[Tensor, ...]:
        return (self.below.T * self.upstream[0][:, None],)


class SoftTripletReduction(TripletReduction):
    """Sums of ``log(1 + e^(limit - d))`` over the negatives.

    Cosine distances are so small that ``e^limit`` and ``e^-d`` are computed once for each row and each distance, and
    the logarithm is taken of the product of several terms.
    """

    def __init__(self, one: Any, like: Tensor, columns: int | None, distance: str):
        super().__init__(one, like, columns, distance)
        self.bounded, self.factors_of_limits = distance == "cosine", self.limits.exp()

    def ratios(self, tile: Tile, side: int, k: int, out: Tensor) -> Tensor:
        """``1 + e^(limit - d)`` of the k-th limits and all negatives; 1 for what is not a negative."""

        def make() -> Tensor:
            return tile.exclude(torch.neg(tile.distances, out=tile.empty()).exp_(), NEGATIVE, side, 0.0)

        exponentials = tile.once((self, "exponentials"), side, make)
        factors = along(self.factors_of_limits[k, tile.slices[side]], side)
        return torch.mul(exponentials, factors, out=out).add_(1)

    def add(self, tile: Tile, side: int) -> None:
        rows, axis, part = tile.slices[side], 1 - side, tile.empty()
        if not self.bounded:
            distances = tile.without(NEGATIVE, side)
            for k in range(len(self.limits)):
                torch.sub(along(self.limits[k, rows], side), distances, out=part)
                self.sums[rows] += softplus(part).sum(dim=axis)
                self.below[k, rows] += part.sigmoid_().sum(dim=axis)
            return
        product = tile.empty().fill_(1)
        for k in range(len(self.limits)):
            product *= self.ratios(tile, side, k, part)
            self.below[k, rows] += part.shape[axis] - part.reciprocal_().sum(dim=axis)
            if k % MAX_FACTORS == MAX_FACTORS - 1:
                self.sums[rows] += product.log_().sum(dim=axis)
                product.fill_(1)
        self.sums[rows] += product.log_().sum(dim=axis)

    def results(self, side: int) -> tuple[Tensor, ...]:
        return self.sums, self.below.sum(dim=0)

    def side_gradient(self, tile: Tile, side: int) -> Tensor:
        rows, found, part = tile.slices[side], tile.empty().zero_(), tile.empty()
        width = len(self.limits)
        for k in range(width):
            if self.bounded:
                found += self.ratios(tile, side, k, part).reciprocal_()
            else:
                found -= torch.sub(along(self.limits[k, rows], side), tile.without(NEGATIVE, side), out=part).sigmoid_()
        # The derivative by d is minus the sum of the sigmoids, each of which is 1 - 1 / (1 + e^(limit - d)).
        return found.sub_(width if self.bounded else 0).mul_(self.factors(tile, side))
