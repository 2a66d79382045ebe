"""A tile of distances and what is known of it, for PaddlePaddle."""

from collections.abc import Callable
from functools import cached_property
from typing import Any

import paddle

from .ops import Tensor, on_cpu

__all__ = ["Tile", "is_positive_"]


class Tile:
    """Distances of some rows to some columns, and which of them belong together.

    Args:
        rows: Which rows.
        columns: Which columns.
        values: Distances, or exponents, ``[R, C]``.
        least: No distance is smaller; -inf if one may be 0, or if they are exponents.
        exclude: ``exclude(x, over, side, value)`` sets what is not in a reduction to a value and returns ``x``.
        sides: 0 for the rows, 1 for the columns; those that the tile serves.
        symmetric: Whether the columns see the same relations as the rows.
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
        scale: float | None = None,
        on_diagonal: bool = False,
    ):
        self.slices, self.values, self.least, self.exclude = (rows, columns), values, least, exclude
        self.scale = scale
        self.sides, self.symmetric, self.on_diagonal = sides, symmetric, on_diagonal
        self.known: dict[Any, Tensor] = {}
        self.is_kept = False  # whether only what is known is left of it
        self.ones = paddle.ones_like(values[:, 0]), paddle.ones_like(values[0])

    @property
    def is_near(self) -> bool:
        """Whether one of the distances may be 0 and matters."""
        return self.least == -paddle.inf and self.scale is None and not self.is_kept

    @property
    def serves_once(self) -> bool:
        """Whether all sides see the same relations, so that one array of each kind serves them."""
        return self.symmetric or (len(self.sides) == 1 and not self.on_diagonal)

    @property
    def distances(self) -> Tensor:
        """The distances, ``[R, C]``."""
        return self.values if self.scale is None else paddle.scale(self.values, 1 / self.scale, 1.0)

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

    def keep(self, key: Any, x: Tensor) -> None:
        """Keep an array for the backward pass."""
        if not self.is_kept:
            self.known, self.is_kept = {}, True
        self.known[key] = x

    def keep_exponentials(self, scale: float, over: str) -> None:
        """Keep :meth:`exponentials` that were computed in place of the exponents."""
        self.keep((scale, over, 0), self.exponentials(scale, over, 0))

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
                x = paddle.scale(self.distances, scale, -scale).exp_()
            else:
                in_place = self.serves_once and not again
                x = self.values.exp_() if in_place else self.values.exp()
            return self.exclude(x, over, side, 0.0)

        return self.once((scale, over), side, make)

    def without(self, over: str, side: int, sign: float = 1.0) -> Tensor:
        """The distances, or their negatives, infinite for what is not in a reduction."""

        def make() -> Tensor:
            return self.exclude(paddle.scale(self.distances, sign), over, side, paddle.inf)

        return self.once((over, sign), side, make)


def is_positive_(x: Tensor) -> Tensor:
    """1 for numbers above 0, else 0, in place. Faster than booleans."""
    return x.scale_(3e38).clip_(0.0, 1.0)
