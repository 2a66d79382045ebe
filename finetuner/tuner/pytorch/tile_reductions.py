"""How each reduction goes over the tiles of a comparison, for PyTorch.

A reduction adds each tile to its accumulators, returns its numbers, and adds its part of the gradient by the distances
of a tile. Side 0 of a tile are its rows, side 1 its columns.
"""

from typing import Any

import torch

from ..base.losses.reductions import HingeSum, LogSumExp
from ..base.processes import ALONE, Processes
from .exclusions import TilePairs
from .functional import EXP_CUTOFF, PairwiseOperands
from .listed import refine_listed
from .ops import Tensor
from .tile import LOG_2, Tile, along

__all__ = ["HingeReduction", "ListedReduction", "LogSumExpReduction", "TileReduction", "parameters_of"]

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
        self.like = operands.queries.detach()
        self.processes: Processes = ALONE  # that share the tiles

    def accumulators(self, *shape: int, fill: float = 0.0) -> list[Tensor]:
        """Accumulators of the rows and of the columns; the same if a batch is compared with itself."""
        rows = self.like.new_full((len(self.like), *shape), fill)
        return [rows, rows if self.columns is None else self.like.new_full((self.columns, *shape), fill)]

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
            sums.copy_(processes.add(sums))

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
        return along(self.upstream[side][tile.slices[side]], side)

    def gradient(self, tile: Tile) -> Tensor:
        """The gradient by the distances of a tile, ``[R, C]``; of one on the diagonal, with its transpose."""
        first, *others = (self.side_gradient(tile, side) for side in tile.sides)
        for other in others:
            first += other
        return first

    def add_gradient(self, tile: Tile, total: Tensor) -> None:
        """Add :meth:`gradient` to that of other reductions."""
        if not self.adds_nothing(tile):
            total += self.gradient(tile)

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
        self.limit = self.like.new_tensor(one.limit)

    def add(self, tile: Tile, side: int) -> None:
        terms = tile.once(
            (self, "terms"),
            side,
            lambda: torch.sub(self.limit, tile.without(self.one.over, side), out=tile.empty()).clamp_(min=0),
        )
        active = tile.once((self, "active"), side, lambda: torch.gt(terms, 0, out=tile.empty()))
        self.sums[side][tile.slices[side]] += terms.sum(dim=1 - side)
        self.active[side][tile.slices[side]] += active.sum(dim=1 - side)

    def partial_sums(self) -> list[Tensor]:
        return [*self.sums, *self.active]

    def results(self, side: int) -> tuple[Tensor, ...]:
        return self.sums[side], self.active[side]

    def side_gradient(self, tile: Tile, side: int) -> Tensor:
        distances = tile.without(self.one.over, side)
        active = torch.lt(distances, self.one.limit, out=tile.empty())  # 1 or 0: faster than booleans
        return active.mul_(-self.factors(tile, side))


class ListedReduction(TileReduction):
    """The distances of the listed positives ``[N, K]``, from the tiles that other reductions need. Padding is 0."""

    def __init__(self, one: TilePairs, operands: PairwiseOperands, columns: int | None, distance: str):
        super().__init__(one, operands, columns, distance)
        self.found = self.like.new_zeros(one.listed.valid.shape)

    def add(self, tile: Tile, side: int) -> None:
        if side == 0:
            part = self.one.part(*tile.slices)
            places = self.one.anchors[part], self.one.slots[part]
            self.found[places] = tile.values[self.one.rows[part], self.one.columns[part]]

    def can_keep(self, tile: Tile) -> bool:
        return True

    def partial_sums(self) -> list[Tensor]:
        return [self.found]

    def results(self, side: int) -> tuple[Tensor, ...]:
        if self.scale_of_tiles is not None:
            self.found = torch.where(self.one.listed.valid, self.found * (LOG_2 / self.scale_of_tiles) + 1, 0.0)
            refine_listed(self.found, self.one.listed, self.operands, self.distance)
        return (self.found,)

    def prepare(self, upstream: list[Tensor]) -> None:
        super().prepare([torch.where(self.found == 0, 0.0, one) for one in upstream[:1]])

    def gradient(self, tile: Tile) -> Tensor:
        total = tile.empty().zero_()
        self.add_gradient(tile, total)
        return total

    def add_gradient(self, tile: Tile, total: Tensor) -> None:
        part = self.one.part(*tile.slices)
        upstream = self.upstream[0][self.one.anchors[part], self.one.slots[part]]
        rows, columns = self.one.rows[part], self.one.columns[part]
        total.index_put_((rows, columns), upstream, accumulate=True)  # a pair may occur in both orders
        if tile.on_diagonal:
            total.index_put_((columns, rows), upstream, accumulate=True)


class LogSumExpReduction(TileReduction):
    """Log-sum-exp.

    Where all exponents are known to be in a narrow range, a constant is subtracted from them, so that rows and columns
    have the same exponentials. Otherwise the maximum of each row is, as far as it is known.
    """

    def __init__(self, one: LogSumExp, operands: PairwiseOperands, columns: int | None, distance: str):
        super().__init__(one, operands, columns, distance)
        self.learnable, self.scale = isinstance(one.scale, torch.Tensor), float(one.scale)
        self.bounded = distance == "cosine" and MIN_SCALE <= abs(self.scale) <= MAX_SHIFTED and one.log_weights is None
        self.scale_of_exponents = self.scale if self.bounded else None
        self.least = torch.finfo(self.like.dtype).min
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
        tile.keep((self.scale, self.one.over, 0), self.exponentials(tile, 0))

    def exponents(self, tile: Tile, side: int) -> Tensor:
        """``scale d + log w`` of the items that count, else the smallest number."""
        x = torch.mul(tile.distances, self.scale, out=tile.empty())
        if self.one.log_weights is not None:
            x.add_(along(self.one.log_weights[tile.slices[1 - side]], 1 - side))
        return tile.exclude(x, self.one.over, side, self.least)

    def add(self, tile: Tile, side: int) -> None:
        rows, axis = tile.slices[side], 1 - side
        if self.bounded:
            self.sums[side][rows] += self.exponentials(tile, side).sum(dim=axis)
            return
        exponents, old = self.exponents(tile, side), self.maxima[side][rows]
        new = torch.maximum(old, exponents.amax(dim=axis))
        x = exponents.sub_(along(new, side)).clamp_(min=EXP_CUTOFF).exp_()
        added = tile.exclude(x, self.one.over, side, 0.0).sum(dim=axis)
        self.sums[side][rows] = self.sums[side][rows] * (old - new).exp() + added
        self.maxima[side][rows] = new

    def partial_sums(self) -> list[Tensor]:
        return self.sums

    def merge(self, processes: Processes) -> None:
        if not self.bounded:  # sums are relative to the maxima that this process has seen
            for sums, maxima in {id(x): (x, y) for x, y in zip(self.sums, self.maxima, strict=True)}.values():
                own = maxima.clone()
                maxima.copy_(processes.largest(maxima))
                sums *= (own - maxima).exp()
        super().merge(processes)

    def results(self, side: int) -> tuple[Tensor, ...]:
        sums = self.sums[side]
        self.found[side] = torch.where(sums == 0, self.least, sums.log() + self.maxima[side])  # NaN stays
        return (self.found[side],)

    def prepare(self, upstream: list[Tensor]) -> None:
        found = [self.found[side] if side in self.found else self.found[0] for side in (0, 1)]
        empty = [lse == self.least for lse in found]
        self.ends = [torch.where(none, 0.0, lse) for none, lse in zip(empty, found, strict=True)]
        # The share of an item is e^(x - lse), and scale e^(x - lse) is the derivative by its distance.
        shares = [self.scale * (self.scale - end).exp() if self.bounded else self.scale for end in self.ends]
        super().prepare([torch.where(e, 0.0, g * share) for e, g, share in zip(empty, upstream, shares, strict=True)])
        self.by_scale = self.like.new_zeros(())

    def gradient(self, tile: Tile) -> Tensor:
        if self.bounded and tile.symmetric and len(tile.sides) > 1:
            factors = torch.add(*(self.factors(tile, side) for side in tile.sides), out=tile.empty())
            found = factors.mul_(self.exponentials(tile, 0))
        else:
            found = super().gradient(tile)
        if self.learnable:
            by_scale = (found * tile.distances).sum() / self.scale
            self.by_scale += by_scale / 2 if tile.on_diagonal else by_scale
        return found

    def side_gradient(self, tile: Tile, side: int) -> Tensor:
        if self.bounded:
            return torch.mul(self.exponentials(tile, side), self.factors(tile, side), out=tile.empty())
        x = self.exponents(tile, side).sub_(along(self.ends[side][tile.slices[side]], side))
        shares = tile.exclude(x.clamp_(min=EXP_CUTOFF).exp_(), self.one.over, side, 0.0)
        return shares.mul_(self.factors(tile, side))

    def by_parameters(self) -> tuple[Tensor, ...]:
        return (self.processes.add(self.by_scale),) if self.learnable else ()


def parameters_of(reduction: Any) -> list[Tensor]:
    """The tensors with a gradient that a reduction depends on."""
    parameter = getattr(reduction, "scale", getattr(reduction, "limits", None))
    return [parameter] if isinstance(parameter, torch.Tensor) else []
