"""How each reduction goes over the tiles of a comparison, for PaddlePaddle.

A reduction adds each tile to its accumulators, returns its numbers, and adds its part of the gradient by the distances
of a tile. Side 0 of a tile are its rows, side 1 its columns.
"""

from collections.abc import Callable
from functools import cached_property
from typing import Any

import paddle

from ..base.losses.reductions import HingeSum, LogSumExp
from ..base.processes import ALONE, Processes
from .functional import EXP_CUTOFF
from .ops import Tensor, on_cpu, where

__all__ = [
    "HingeReduction",
    "LogSumExpReduction",
    "Tile",
    "TileReduction",
    "is_positive_",
]

MAX_SHIFTED = 60.0  # the largest |scale| for which e^(scale (d - 1)) and its sums are normal numbers for d from 0 to 2


class Tile:
    """Distances of some rows to some columns, and which of them belong together.

    Args:
        rows: Which rows.
        columns: Which columns.
        distances: ``[R, C]``.
        near: Whether one of the distances may be 0.
        exclude: ``exclude(x, over, side, value)`` sets what is not in a reduction to a value and returns ``x``.
        sides: 0 for the rows, 1 for the columns; those that the tile serves.
        symmetric: Whether the columns see the same relations as the rows.
    """

    def __init__(
        self,
        rows: slice,
        columns: slice,
        distances: Tensor,
        near: bool,
        exclude: Callable[[Tensor, str, int, float], Tensor],
        sides: tuple[int, ...],
        symmetric: bool,
    ):
        self.slices, self.distances, self.near, self.exclude = (rows, columns), distances, near, exclude
        self.sides, self.symmetric = sides, symmetric
        self.known: dict[Any, Tensor] = {}
        self.ones = paddle.ones_like(distances[:, 0]), paddle.ones_like(distances[0])

    @cached_property
    def extremes(self) -> tuple[float, float]:
        """The smallest and the largest distance."""
        return float(self.distances.min()), float(self.distances.max())

    def along(self, numbers: Tensor, side: int) -> Tensor:
        """Numbers of the rows, or of the columns, as a new array in the shape of the tile."""
        column, row = (numbers, self.ones[1]) if side == 0 else (self.ones[0], numbers)
        column, row = column.unsqueeze(1), row.unsqueeze(0)
        return paddle.matmul(column, row) if on_cpu(numbers) else column * row  # Paddle is slow at broadcasting

    def sums(self, x: Tensor, side: int) -> Tensor:
        """The sums of the rows, or of the columns, of an array in the shape of the tile."""
        return x @ self.ones[1] if side == 0 else self.ones[0] @ x  # a product is faster than sum()

    def once(self, key: Any, side: int, make: Callable[[], Tensor]) -> Tensor:
        """What ``make`` returns; computed once for both sides if they see the same relations."""
        key = key, 0 if self.symmetric else side
        if key not in self.known:
            self.known[key] = make()
        return self.known[key]

    def without(self, over: str, side: int) -> Tensor:
        """The distances, infinite for what is not in a reduction."""
        return self.once(over, side, lambda: self.exclude(self.distances.clone(), over, side, paddle.inf))


def is_positive_(x: Tensor) -> Tensor:
    """1 for numbers above 0, else 0, in place. Faster than booleans."""
    return x.scale_(3e38).clip_(0.0, 1.0)


class TileReduction:
    """A reduction over the tiles of a comparison.

    Args:
        one: The reduction.
        like: Rows ``[N, D]``, which decide the number of rows, the type and the device.
        columns: The number of columns if they are anchors, too, else None.
        distance: The name of the distance.
    """

    def __init__(self, one: Any, like: Tensor, columns: int | None, distance: str):
        self.one, self.like, self.columns, self.distance = one, like, columns, distance
        self.processes: Processes = ALONE  # that share the tiles

    def accumulators(self, *shape: int, fill: float = 0.0) -> list[Tensor]:
        """Accumulators of the rows and of the columns; the same if a batch is compared with itself."""
        rows = paddle.full([self.like.shape[0], *shape], fill, self.like.dtype)
        return [rows, rows if self.columns is None else paddle.full([self.columns, *shape], fill, self.like.dtype)]

    def add(self, tile: Tile, side: int) -> None:
        """Add a tile to the numbers of its rows or columns."""
        raise NotImplementedError

    def partial_sums(self) -> list[Tensor]:
        """What :meth:`add` adds up."""
        raise NotImplementedError

    def merge(self, processes: Processes) -> None:
        """After the last tile, bring together what several processes have found in their tiles."""
        self.processes = processes
        for sums in {id(sums): sums for sums in self.partial_sums()}.values():
            sums.copy_(processes.add(sums), True)

    def results(self, side: int) -> tuple[Tensor, ...]:
        """The numbers of all rows, or of all columns, after the last tile."""
        raise NotImplementedError

    def prepare(self, upstream: list[Tensor]) -> None:
        """Take the gradient by the first number ``[N]`` of the rows and of the columns."""
        self.upstream = upstream

    def factors(self, tile: Tile, side: int) -> Tensor:
        """The gradient by the numbers of the rows or columns of a tile, in its shape."""
        return tile.along(self.upstream[side][tile.slices[side]], side)

    def gradient(self, tile: Tile) -> Tensor:
        """The gradient by the distances of a tile, ``[R, C]``."""
        first, *others = (self.side_gradient(tile, side) for side in tile.sides)
        for other in others:
            first.add_(other)
        return first

    def side_gradient(self, tile: Tile, side: int) -> Tensor:
        """The gradient by the distances of a tile through the numbers of its rows, or of its columns."""
        raise NotImplementedError

    def by_parameters(self) -> tuple[Tensor, ...]:
        """The gradient by the tensors that the reduction depends on, after the last tile."""
        return ()


class HingeReduction(TileReduction):
    def __init__(self, one: HingeSum, like: Tensor, columns: int | None, distance: str):
        super().__init__(one, like, columns, distance)
        self.sums, self.active = self.accumulators(), self.accumulators()
        self.limit = float(one.limit)

    def add(self, tile: Tile, side: int) -> None:
        terms = tile.once(
            (self, "terms"),
            side,
            lambda: paddle.scale(tile.without(self.one.over, side), -1.0, self.limit).clip_(min=0.0),
        )
        active = tile.once((self, "active"), side, lambda: is_positive_(terms.clone()))
        self.sums[side][tile.slices[side]] += tile.sums(terms, side)
        self.active[side][tile.slices[side]] += tile.sums(active, side)

    def partial_sums(self) -> list[Tensor]:
        return [*self.sums, *self.active]

    def results(self, side: int) -> tuple[Tensor, ...]:
        return self.sums[side], self.active[side]

    def side_gradient(self, tile: Tile, side: int) -> Tensor:
        gap = paddle.scale(tile.without(self.one.over, side), -1.0, self.limit)
        return self.factors(tile, side).multiply_(is_positive_(gap)).scale_(-1.0)


class LogSumExpReduction(TileReduction):
    """Log-sum-exp.

    Where all exponents are known to be in a narrow range, a constant is subtracted from them, so that rows and columns
    have the same exponentials. Otherwise the maximum of each row is, as far as it is known.
    """

    def __init__(self, one: LogSumExp, like: Tensor, columns: int | None, distance: str):
        super().__init__(one, like, columns, distance)
        self.learnable, self.scale = isinstance(one.scale, paddle.Tensor), float(one.scale)
        self.bounded = distance == "cosine" and abs(self.scale) <= MAX_SHIFTED
        self.least = float(paddle.finfo(like.dtype).min)
        self.sums = self.accumulators()
        self.maxima = self.accumulators(fill=self.scale if self.bounded else self.least)
        self.found: dict[int, Tensor] = {}

    def exponentials(self, tile: Tile, side: int) -> Tensor:
        """``e^(scale (d - 1))`` of the items that count, else 0."""

        def make() -> Tensor:
            x = paddle.scale(tile.distances, self.scale, -self.scale).exp_()
            return tile.exclude(x, self.one.over, side, 0.0)

        return tile.once(self, side, make)

    def exponents(self, tile: Tile, side: int) -> Tensor:
        """``scale d`` of the items that count, else the smallest number."""
        return tile.exclude(tile.distances * self.scale, self.one.over, side, self.least)

    def add(self, tile: Tile, side: int) -> None:
        rows = tile.slices[side]
        if self.bounded:
            self.sums[side][rows] += tile.sums(self.exponentials(tile, side), side)
            return
        exponents, old = self.exponents(tile, side), self.maxima[side][rows].clone()
        new = paddle.maximum(old, exponents.max(axis=1 - side))
        x = exponents.subtract_(tile.along(new, side)).clip_(min=EXP_CUTOFF).exp_()
        added = tile.sums(tile.exclude(x, self.one.over, side, 0.0), side)
        self.sums[side][rows] = self.sums[side][rows] * (old - new).exp() + added
        self.maxima[side][rows] = new

    def partial_sums(self) -> list[Tensor]:
        return self.sums

    def merge(self, processes: Processes) -> None:
        if not self.bounded:  # sums are relative to the maxima that this process has seen
            for sums, maxima in {id(x): (x, y) for x, y in zip(self.sums, self.maxima, strict=True)}.values():
                own = maxima.clone()
                maxima.copy_(processes.largest(maxima), True)
                sums.multiply_((own - maxima).exp())
        super().merge(processes)

    def results(self, side: int) -> tuple[Tensor, ...]:
        sums = self.sums[side]
        self.found[side] = where(sums == 0, self.least, sums.log() + self.maxima[side])  # NaN stays
        return (self.found[side],)

    def prepare(self, upstream: list[Tensor]) -> None:
        found = [self.found[side] if side in self.found else self.found[0] for side in (0, 1)]
        empty = [lse == self.least for lse in found]
        self.ends = [where(none, 0.0, lse) for none, lse in zip(empty, found, strict=True)]
        # The share of an item is e^(x - lse), and scale e^(x - lse) is the derivative by its distance.
        shares = [self.scale * (self.scale - end).exp() if self.bounded else self.scale for end in self.ends]
        super().prepare([where(e, 0.0, g * share) for e, g, share in zip(empty, upstream, shares, strict=True)])
        self.by_scale = paddle.zeros([], self.like.dtype)

    def gradient(self, tile: Tile) -> Tensor:
        if self.bounded and tile.symmetric:
            factors, exponentials = [self.factors(tile, side) for side in tile.sides], self.exponentials(tile, 0)
            found = (factors[0].add_(factors[1]) if len(factors) > 1 else factors[0]).multiply_(exponentials)
        else:
            found = super().gradient(tile)
        if self.learnable:
            self.by_scale += (found * tile.distances).sum() / self.scale
        return found

    def side_gradient(self, tile: Tile, side: int) -> Tensor:
        if self.bounded:
            return self.factors(tile, side).multiply_(self.exponentials(tile, side))
        ends = tile.along(self.ends[side][tile.slices[side]], side)
        x = self.exponents(tile, side).subtract_(ends)
        shares = tile.exclude(x.clip_(min=EXP_CUTOFF).exp_(), self.one.over, side, 0.0)
        return shares.multiply_(self.factors(tile, side))

    def by_parameters(self) -> tuple[Tensor, ...]:
        return (self.processes.add(self.by_scale).reshape(self.one.scale.shape),) if self.learnable else ()
