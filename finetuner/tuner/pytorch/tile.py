"""A tile of distances and what is known of it, for PyTorch."""

import math
from collections.abc import Callable
from typing import Any

import torch

from .ops import Tensor

__all__ = ["LOG_2", "Tile", "Workspace", "along"]

LOG_2 = math.log(2)  # powers of 2 are faster than those of e


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

    def give_away(self) -> None:
        """Leave the first array that has been taken to who took it."""
        self.buffers.pop(0)


class Tile:
    """Distances of some rows to some columns, and which of them belong together.

    Args:
        rows: Which rows.
        columns: Which columns.
        values: Distances, or exponents to the base 2, ``[R, C]``.
        least: No distance is smaller; -inf if one may be 0, or if they are exponents.
        exclude: ``exclude(x, over, side, value)`` sets what is not in a reduction to a value and returns ``x``.
        sides: 0 for the rows, 1 for the columns; those that the tile serves.
        symmetric: Whether the columns see the same relations as the rows.
        workspace: Memory for what is computed.
        scale: Of exponents ``scale (d - 1)``; None if the values are distances.
        on_diagonal: Whether the rows are the columns.
    """

    def __init__(
        self,
        rows: slice,
        columns: slice,
        values: Tensor,
        least: float,
        exclude: Callable[[Tensor, str, int, float], Tensor],
        sides: tuple[int, ...],
        symmetric: bool,
        workspace: Workspace,
        scale: float | None = None,
        on_diagonal: bool = False,
    ):
        self.slices, self.values, self.least, self.exclude = (rows, columns), values, least, exclude
        self.workspace, self.scale = workspace, scale
        self.sides, self.symmetric, self.on_diagonal = sides, symmetric, on_diagonal
        self.known: dict[Any, Tensor] = {}
        self.is_kept = False  # whether only what is known is left of it

    @property
    def is_near(self) -> bool:
        """Whether one of the distances may be 0 and matters."""
        return self.least == -torch.inf and self.scale is None and not self.is_kept

    @property
    def serves_once(self) -> bool:
        """Whether all sides see the same relations, so that one array of each kind serves them."""
        return self.symmetric or (len(self.sides) == 1 and not self.on_diagonal)

    @property
    def distances(self) -> Tensor:
        """The distances, ``[R, C]``."""
        return self.values if self.scale is None else self.values * (LOG_2 / self.scale) + 1

    def empty(self) -> Tensor:
        """An array in the shape of the tile, of no certain content."""
        return self.workspace.take(*self.values.shape)

    def keep(self, key: Any, x: Tensor) -> None:
        """Keep an array for the backward pass. It must not be one of the workspace."""
        if not self.is_kept:
            self.known, self.is_kept = {}, True
        self.known[key] = x

    def keep_exponentials(self, scale: float, over: str) -> None:
        """Keep :meth:`exponentials` that were computed in place of the exponents."""
        x = self.exponentials(scale, over, 0)
        self.workspace.give_away()
        self.keep((scale, over, 0), x)

    def once(self, key: tuple[Any, ...], side: int, make: Callable[[], Tensor]) -> Tensor:
        """What ``make`` returns; computed once for both sides if they see the same relations."""
        key = (*key, 0 if self.symmetric else side)
        if key not in self.known:
            self.known[key] = make()
        return self.known[key]

    def exponentials(self, scale: float, over: str, side: int, again: bool = False) -> Tensor:
        """``e^(scale (d - 1))`` of the items in a reduction, else 0.

        Args:
            scale: That of the exponents, if the tile has exponents.
            over: What the reduction is over.
            side: Of the relations.
            again: Whether the exponents are needed again.
        """

        def make() -> Tensor:
            if self.scale is None:
                x = torch.sub(self.distances, 1, out=self.empty()).mul_(scale / LOG_2).exp2_()
            else:
                in_place = self.serves_once and not again
                x = torch.exp2(self.values, out=self.values if in_place else self.empty())
            return self.exclude(x, over, side, 0.0)

        return self.once((scale, over), side, make)

    def without(self, over: str, side: int, sign: float = 1.0) -> Tensor:
        """The distances, or their negatives, infinite for what is not in a reduction."""

        def make() -> Tensor:
            return self.exclude(torch.mul(self.distances, sign, out=self.empty()), over, side, torch.inf)

        return self.once((over, sign), side, make)


def along(numbers: Tensor, side: int) -> Tensor:
    """Numbers of the rows, or of the columns, in the shape of a tile: ``[R, 1]`` or ``[1, C]``."""
    return numbers[:, None] if side == 0 else numbers[None, :]
