"""How each reduction goes over the tiles of a comparison, for Keras.

A reduction is a set of functions: of its numbers, which begin with :meth:`TileReduction.start` and get each tile by
:meth:`TileReduction.add`, and of the gradient by the distances of a tile. Side 0 of a tile are its rows, side 1 its
columns. Both see the same relations.
"""

from collections.abc import Sequence
from typing import Any

from keras import ops

from ..base.losses.reductions import HingeSum, LogSumExp
from .functional import EXP_CUTOFF
from .ops import Tensor

__all__ = ["HingeReduction", "LogSumExpReduction", "TileReduction", "tile_reduction"]

MAX_SHIFTED = 60.0  # the largest |scale| for which e^(scale (d - 1)) and its sums are normal numbers for d from 0 to 2
LEAST = -3.4e38  # of a row without any item, see functional.row_logsumexp

Numbers = tuple[Tensor, ...]


class TileReduction:
    """A reduction over the tiles of a comparison.

    Args:
        one: The reduction.
        distance: The name of the distance.
    """

    learnable = False  # whether the reduction has a scale with a gradient

    def __init__(self, one: Any, distance: str):
        self.one, self.distance = one, distance

    def start(self, length: int, dtype: str) -> Numbers:
        """The numbers of the rows, or of the columns, before the first tile: ``[P]`` each."""
        raise NotImplementedError

    def add(self, numbers: Sequence[Numbers], distances: Tensor, mask: Tensor | None) -> tuple[Numbers, ...]:
        """The numbers of the rows, and of the columns if they are given, of a tile with it.

        Args:
            numbers: Of each side, ``[R]`` and ``[C]`` each.
            distances: Of the tile, ``[R, C]``.
            mask: Which of them count; all without a mask.
        """
        raise NotImplementedError

    def merge(self, first: Numbers, second: Numbers) -> Numbers:
        """The numbers of the same rows over different items."""
        return tuple(a + b for a, b in zip(first, second, strict=True))

    def results(self, numbers: Numbers) -> tuple[Tensor, ...]:
        """The reduction of each row after the last tile. The first has a gradient."""
        return numbers

    def prepare(self, upstream: Tensor, result: Tensor) -> Numbers:
        """What the gradient by a distance needs of each row: ``[P]`` each, and 0 for a gradient of 0.

        Args:
            upstream: The gradient by the first result.
            result: The first result.
        """
        return (upstream,)

    def gradient(self, factors: Sequence[Numbers], distances: Tensor, mask: Tensor | None) -> Tensor:
        """The gradient by the distances of a tile ``[R, C]``, from what :meth:`prepare` has returned for each side."""
        raise NotImplementedError

    def by_scale(self, gradient: Tensor, distances: Tensor) -> Tensor:
        """The gradient by a learnable scale, from that by the distances of a tile."""
        raise NotImplementedError


class HingeReduction(TileReduction):
    def start(self, length: int, dtype: str) -> Numbers:
        return ops.zeros((length,), dtype), ops.zeros((length,), dtype)

    def add(self, numbers: Sequence[Numbers], distances: Tensor, mask: Tensor | None) -> tuple[Numbers, ...]:
        terms = ops.relu(self.one.limit - distances)
        if mask is not None:
            terms = ops.where(mask, terms, 0.0)
        active = ops.cast(terms > 0, terms.dtype)
        return tuple(
            (sums + ops.sum(terms, axis=1 - side), count + ops.sum(active, axis=1 - side))
            for side, (sums, count) in enumerate(numbers)
        )

    def gradient(self, factors: Sequence[Numbers], distances: Tensor, mask: Tensor | None) -> Tensor:
        active = distances < self.one.limit
        if mask is not None:
            active = ops.logical_and(active, mask)
        return ops.where(active, -total(factors), 0.0)


class LogSumExpReduction(TileReduction):
    """Log-sum-exp.

    Where all exponents are known to be in a narrow range, a constant is subtracted from them, so that rows and columns
    have the same exponentials. Otherwise the maximum of each row is, as far as it is known.
    """

    def __init__(self, one: LogSumExp, distance: str):
        super().__init__(one, distance)
        self.learnable = ops.is_tensor(one.scale)
        self.scale = ops.stop_gradient(one.scale) if self.learnable else float(one.scale)
        self.bounded = distance == "cosine" and not self.learnable and abs(self.scale) <= MAX_SHIFTED

    def exponentials(self, distances: Tensor, mask: Tensor | None) -> Tensor:
        """``e^(scale (d - 1))`` of the items that count, else 0."""
        x = ops.exp(self.scale * distances - self.scale)
        return x if mask is None else ops.where(mask, x, 0.0)

    def shares(self, distances: Tensor, mask: Tensor | None, ends: Tensor, side: int) -> Tensor:
        """``e^(scale d - end)`` of the items that count, else 0; the ends are those of rows or columns."""
        gap = self.scale * distances - along(ends, side)
        # At most 0 but for rounding. A smaller exponential adds nothing, and denormal results are slow. NaN stays.
        x = ops.exp(ops.where(gap < EXP_CUTOFF, EXP_CUTOFF, gap))
        return x if mask is None else ops.where(mask, x, 0.0)

    def start(self, length: int, dtype: str) -> Numbers:
        sums = ops.zeros((length,), dtype)
        return (sums,) if self.bounded else (sums, ops.full((length,), LEAST, dtype))

    def add(self, numbers: Sequence[Numbers], distances: Tensor, mask: Tensor | None) -> tuple[Numbers, ...]:
        if self.bounded:
            x = self.exponentials(distances, mask)
            return tuple((sums + ops.sum(x, axis=1 - side),) for side, (sums,) in enumerate(numbers))
        exponents = self.scale * distances
        if mask is not None:
            exponents = ops.where(mask, exponents, LEAST)
        found = []
        for side, (sums, old) in enumerate(numbers):
            new = ops.maximum(old, ops.max(exponents, axis=1 - side))
            added = ops.sum(self.shares(distances, mask, new, side), axis=1 - side)
            found.append((sums * ops.exp(old - new) + added, new))
        return tuple(found)

    def merge(self, first: Numbers, second: Numbers) -> Numbers:
        if self.bounded:
            return super().merge(first, second)
        (sums, maxima), (other_sums, other_maxima) = first, second
        new = ops.maximum(maxima, other_maxima)
        return sums * ops.exp(maxima - new) + other_sums * ops.exp(other_maxima - new), new

    def results(self, numbers: Numbers) -> tuple[Tensor, ...]:
        sums, maximum = numbers if len(numbers) > 1 else (numbers[0], self.scale)
        none = ops.equal(sums, 0)  # False for NaN
        return (ops.where(none, LEAST, ops.log(ops.where(none, 1.0, sums)) + maximum),)

    def prepare(self, upstream: Tensor, result: Tensor) -> Numbers:
        # The share of an item is e^(scale d - result), and scale times it is the derivative by its distance.
        none = ops.equal(result, LEAST)
        ends = ops.where(none, 0.0, result)
        factors = ops.where(none, 0.0, upstream * self.scale)
        return (factors * ops.exp(self.scale - ends),) if self.bounded else (factors, ends)

    def gradient(self, factors: Sequence[Numbers], distances: Tensor, mask: Tensor | None) -> Tensor:
        if self.bounded:
            return self.exponentials(distances, mask) * total(factors)
        return sum(
            self.shares(distances, mask, ends, side) * along(of_side, side)
            for side, (of_side, ends) in enumerate(factors)
        )

    def by_scale(self, gradient: Tensor, distances: Tensor) -> Tensor:
        return ops.sum(gradient * distances) / self.scale


def along(numbers: Tensor, side: int) -> Tensor:
    """Numbers of the rows, or of the columns, in the shape of a tile: ``[R, 1]`` or ``[1, C]``."""
    return numbers[:, None] if side == 0 else numbers[None, :]


def total(factors: Sequence[Numbers]) -> Tensor:
    """The sum of the first factors of both sides: ``[R, C]``, or ``[R, 1]`` for the rows alone."""
    return sum(along(of_side[0], side) for side, of_side in enumerate(factors))


def tile_reduction(one: LogSumExp | HingeSum, distance: str) -> TileReduction:
    """How a reduction goes over the tiles."""
    return LogSumExpReduction(one, distance) if isinstance(one, LogSumExp) else HingeReduction(one, distance)
