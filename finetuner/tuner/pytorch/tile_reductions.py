"""How each reduction goes over the tiles of a comparison, for PyTorch.

A reduction adds each tile to its accumulators, returns its numbers, and adds its part of the gradient by the distances
of a tile. Side 0 of a tile are its rows, side 1 its columns.
"""

from collections.abc import Callable
from typing import Any

import torch

from ..base.losses.reductions import HingeSum, LogSumExp
from ..base.processes import ALONE, Processes
from .exclusions import TilePairs
from .functional import EXP_CUTOFF
from .ops import Tensor

__all__ = ["HingeReduction", "ListedReduction", "LogSumExpReduction", "Tile", "TileReduction"]

MAX_SHIFTED = 60.0  # the largest |scale| for which e^(scale (d - 1)) and its sums are normal numbers for d from 0 to 2


class Workspace:
    """Memory of the size of a tile that is used again: new memory is slower than what is computed in it."""

    def __init__(self, like: Tensor, size: int):
        self.like, self.size, self.used = like, size, 0
        self.buffers: list[Tensor] = []

    def take(self, rows: int, columns: int) -> Tensor:
        """An array ``[rows, columns]`` of no certain content, until :meth:`reset`."""
        if self.used == len(self.buffers):
            self.buffers.append(self.like.new_empty(self.size))
        self.used += 1
        return self.buffers[self.used - 1][: rows * columns].view(rows, columns)

    def reset(self) -> None:
        """Take all arrays back."""
        self.used = 0


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
        workspace: Memory for what is computed.
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
        workspace: Workspace,
    ):
        self.slices, self.distances, self.near, self.exclude = (rows, columns), distances, near, exclude
        self.workspace = workspace
        self.sides, self.symmetric = sides, symmetric
        self.known: dict[Any, Tensor] = {}

    def empty(self) -> Tensor:
        """An array in the shape of the tile, of no certain content."""
        return self.workspace.take(*self.distances.shape)

    def once(self, key: Any, side: int, make: Callable[[], Tensor]) -> Tensor:
        """What ``make`` returns; computed once for both sides if they see the same relations."""
        key = key, 0 if self.symmetric else side
        if key not in self.known:
            self.known[key] = make()
        return self.known[key]

    def without(self, over: str, side: int) -> Tensor:
        """The distances, infinite for what is not in a reduction."""
        return self.once(over, side, lambda: self.exclude(self.empty().copy_(self.distances), over, side, torch.inf))


def along(numbers: Tensor, side: int) -> Tensor:
    """Numbers of the rows, or of the columns, in the shape of a tile: ``[R, 1]`` or ``[1, C]``."""
    return numbers[:, None] if side == 0 else numbers[None, :]


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

    def prepare(self, upstream: list[Tensor]) -> None:
        """Take the gradient by the first number ``[N]`` of the rows and of the columns."""
        self.upstream = upstream

    def factors(self, tile: Tile, side: int) -> Tensor:
        """The gradient by the numbers of the rows or columns of a tile, in its shape."""
        return along(self.upstream[side][tile.slices[side]], side)

    def gradient(self, tile: Tile) -> Tensor:
        """The gradient by the distances of a tile, ``[R, C]``."""
        first, *others = (self.side_gradient(tile, side) for side in tile.sides)
        for other in others:
            first += other
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
        self.limit = like.new_tensor(one.limit)

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

    def __init__(self, one: TilePairs, like: Tensor, columns: int | None, distance: str):
        super().__init__(one, like, columns, distance)
        self.found = like.new_zeros(one.shape)

    def add(self, tile: Tile, side: int) -> None:
        if side == 0:
            part = self.one.part(*tile.slices)
            places = self.one.anchors[part], self.one.slots[part]
            self.found[places] = tile.distances[self.one.rows[part], self.one.columns[part]]

    def partial_sums(self) -> list[Tensor]:
        return [self.found]

    def results(self, side: int) -> tuple[Tensor, ...]:
        return (self.found,)

    def gradient(self, tile: Tile) -> Tensor:
        part = self.one.part(*tile.slices)
        upstream = self.upstream[0][self.one.anchors[part], self.one.slots[part]]
        places = self.one.rows[part], self.one.columns[part]
        return tile.empty().zero_().index_put_(places, upstream, accumulate=True)  # a pair may occur in both orders


class LogSumExpReduction(TileReduction):
    """Log-sum-exp.

    Where all exponents are known to be in a narrow range, a constant is subtracted from them, so that rows and columns
    have the same exponentials. Otherwise the maximum of each row is, as far as it is known.
    """

    def __init__(self, one: LogSumExp, like: Tensor, columns: int | None, distance: str):
        super().__init__(one, like, columns, distance)
        self.learnable, self.scale = isinstance(one.scale, torch.Tensor), float(one.scale)
        self.bounded = distance == "cosine" and abs(self.scale) <= MAX_SHIFTED
        self.least = torch.finfo(like.dtype).min
        self.sums = self.accumulators()
        self.maxima = self.accumulators(fill=self.scale if self.bounded else self.least)
        self.found: dict[int, Tensor] = {}

    def exponentials(self, tile: Tile, side: int) -> Tensor:
        """``e^(scale (d - 1))`` of the items that count, else 0."""

        def make() -> Tensor:
            x = torch.mul(tile.distances, self.scale, out=tile.empty()).sub_(self.scale).exp_()
            return tile.exclude(x, self.one.over, side, 0.0)

        return tile.once(self, side, make)

    def exponents(self, tile: Tile, side: int) -> Tensor:
        """``scale d`` of the items that count, else the smallest number."""
        return tile.exclude(torch.mul(tile.distances, self.scale, out=tile.empty()), self.one.over, side, self.least)

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
        if self.bounded and tile.symmetric:
            factors = [self.factors(tile, side) for side in tile.sides]
            found = torch.add(*factors, out=tile.empty()) if len(factors) > 1 else factors[0]
            found = torch.mul(self.exponentials(tile, 0), found, out=found if len(factors) > 1 else tile.empty())
        else:
            found = super().gradient(tile)
        if self.learnable:
            self.by_scale += (found * tile.distances).sum() / self.scale
        return found

    def side_gradient(self, tile: Tile, side: int) -> Tensor:
        if self.bounded:
            return torch.mul(self.exponentials(tile, side), self.factors(tile, side), out=tile.empty())
        x = self.exponents(tile, side).sub_(along(self.ends[side][tile.slices[side]], side))
        shares = tile.exclude(x.clamp_(min=EXP_CUTOFF).exp_(), self.one.over, side, 0.0)
        return shares.mul_(self.factors(tile, side))

    def by_parameters(self) -> tuple[Tensor, ...]:
        return (self.processes.add(self.by_scale),) if self.learnable else ()
