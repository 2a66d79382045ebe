"""How each reduction goes over the tiles of a comparison, for PaddlePaddle.

A reduction adds each tile to its accumulators, returns its numbers, and adds its part of the gradient by the distances
of a tile. Side 0 of a tile are its rows, side 1 its columns.
"""

from typing import Any

import paddle

from ..base.losses.reductions import HingeSum, LogSumExp
from ..base.processes import ALONE, Processes
from .exclusions import TilePairs
from .functional import EXP_CUTOFF, PairwiseOperands
from .listed import refine_listed
from .ops import Tensor, detached, where
from .tile import Tile, is_positive_

__all__ = [
    "HingeReduction",
    "ListedReduction",
    "LogSumExpReduction",
    "TileReduction",
    "parameters_of",
]

MIN_SCALE = 1e-6  # distances are computed from exponents, too
MAX_SHIFTED = 64.0  # the largest |scale| for which e^(scale (d - 1)) and its sums are normal numbers for d from 0 to 2


class TileReduction:
    """A reduction over the tiles of a comparison.

    Attributes:
        scale_of_exponents: Of the exponents, if these are all that it needs of a tile; None if it needs distances.
        scale_of_tiles: Of the exponents that the tiles have; None if they have distances.

    Args:
        one: The reduction.
        operands: The rows.
        columns: The number of columns if they are anchors, too, else None.
        distance: The name of the distance.
    """

    scale_of_exponents: float | None = None
    scale_of_tiles: float | None = None

    def __init__(self, one: Any, operands: PairwiseOperands, columns: int | None, distance: str):
        self.one, self.operands, self.columns, self.distance = one, operands, columns, distance
        self.like = detached(operands.queries)
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

    def can_keep(self, tile: Tile) -> bool:
        """Whether the gradient can be computed from less than the distances of a tile, see :meth:`keep`."""
        return False

    def keep(self, tile: Tile) -> None:
        """Keep what the gradient of a tile needs, in memory that is not used again, after :meth:`add`."""

    def adds_nothing(self, tile: Tile) -> bool:
        """Whether a tile is known to add nothing to any number."""
        return False

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

    def add_gradient(self, tile: Tile, total: Tensor) -> None:
        """Add :meth:`gradient` to that of other reductions."""
        if not self.adds_nothing(tile):
            total.add_(self.gradient(tile))

    def side_gradient(self, tile: Tile, side: int) -> Tensor:
        """The gradient by the distances of a tile through the numbers of its rows, or of its columns."""
        raise NotImplementedError

    def by_parameters(self) -> tuple[Tensor, ...]:
        """The gradient by the tensors that the reduction depends on, after the last tile."""
        return ()


class HingeReduction(TileReduction):
    def __init__(self, one: HingeSum, operands: PairwiseOperands, columns: int | None, distance: str):
        super().__init__(one, operands, columns, distance)
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


class ListedReduction(TileReduction):
    """The distances of the listed positives ``[N, K]``, from the tiles that other reductions need. Padding is 0."""

    def __init__(self, one: TilePairs, operands: PairwiseOperands, columns: int | None, distance: str):
        super().__init__(one, operands, columns, distance)
        self.found = paddle.zeros(one.listed.valid.shape, self.like.dtype)

    def add(self, tile: Tile, side: int) -> None:
        part = self.one.part(*tile.slices)
        if side == 0 and part.start < part.stop:  # Paddle cannot write to no place
            places = self.one.anchors[part], self.one.slots[part]
            self.found[places] = tile.values[self.one.rows[part], self.one.columns[part]]

    def can_keep(self, tile: Tile) -> bool:
        return True

    def partial_sums(self) -> list[Tensor]:
        return [self.found]

    def results(self, side: int) -> tuple[Tensor, ...]:
        if self.scale_of_tiles is not None:
            self.found = where(self.one.listed.valid, self.found / self.scale_of_tiles + 1, 0.0)
            refine_listed(self.found, self.one.listed, self.operands, self.distance)
        return (self.found,)

    def prepare(self, upstream: list[Tensor]) -> None:
        super().prepare([where(self.found == 0, 0.0, one) for one in upstream[:1]])

    def gradient(self, tile: Tile) -> Tensor:
        total = paddle.zeros_like(tile.values)
        self.add_gradient(tile, total)
        return total

    def add_gradient(self, tile: Tile, total: Tensor) -> None:
        part = self.one.part(*tile.slices)
        if part.start < part.stop:
            upstream = self.upstream[0][self.one.anchors[part], self.one.slots[part]]
            rows, columns = self.one.rows[part], self.one.columns[part]
            paddle.index_put_(total, (rows, columns), upstream, accumulate=True)  # a pair may occur in both orders


class LogSumExpReduction(TileReduction):
    """Log-sum-exp.

    Where all exponents are known to be in a narrow range, a constant is subtracted from them, so that rows and columns
    have the same exponentials. Otherwise the maximum of each row is, as far as it is known.
    """

    def __init__(self, one: LogSumExp, operands: PairwiseOperands, columns: int | None, distance: str):
        super().__init__(one, operands, columns, distance)
        self.learnable, self.scale = isinstance(one.scale, paddle.Tensor), float(one.scale)
        self.bounded = distance == "cosine" and MIN_SCALE <= abs(self.scale) <= MAX_SHIFTED and one.log_weights is None
        self.scale_of_exponents = self.scale if self.bounded else None
        self.least = float(paddle.finfo(self.like.dtype).min)
        self.sums = self.accumulators()
        self.maxima = self.accumulators(fill=self.scale if self.bounded else self.least)
        self.found: dict[int, Tensor] = {}

    def exponentials(self, tile: Tile, side: int) -> Tensor:
        """``e^(scale (d - 1))`` of the items that count, else 0."""
        return tile.exponentials(self.scale, self.one.over, side, again=self.learnable)

    def can_keep(self, tile: Tile) -> bool:
        return tile.scale is not None and tile.serves_once and not self.learnable

    def keep(self, tile: Tile) -> None:
        tile.keep_exponentials(self.scale, self.one.over)

    def exponents(self, tile: Tile, side: int) -> Tensor:
        """``scale d + log w`` of the items that count, else the smallest number."""
        x = tile.distances * self.scale
        if self.one.log_weights is not None:
            x.add_(tile.along(self.one.log_weights[tile.slices[1 - side]], 1 - side))
        return tile.exclude(x, self.one.over, side, self.least)

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
            by_scale = (found * tile.distances).sum() / self.scale
            self.by_scale += by_scale
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


def parameters_of(reduction: Any) -> list[Tensor]:
    """The tensors with a gradient that a reduction depends on."""
    parameter = getattr(reduction, "scale", getattr(reduction, "limits", None))
    return [parameter] if isinstance(parameter, paddle.Tensor) else []
