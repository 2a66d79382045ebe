"""The square tiles of a comparison, for Keras: their distances, and which of these count."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from keras import ops

from ..base.losses import blocks
from ..base.losses.reductions import ANY, NEGATIVE, POSITIVE
from .functional import MIN_SQUARE, NEAR, PairwiseOperands, refine_near
from .gradients import is_eager_torch
from .listed import most_listed
from .ops import Tensor, row_slice
from .relations import Relations
from .sorted_rows import SortedRows, sort_rows
from .tile_reductions import Numbers

__all__ = ["Tile", "Tiling"]

MAX_LISTED = 64  # positives of a row; with more, blocks of rows are computed
COMPILED_SIZE = 256  # rows and columns of a tile, at most, where a compiler needs no time to start an operation


class Tile(NamedTuple):
    """Distances of some rows to some columns."""

    rows: Any  # the place of the first row
    columns: Any
    distances: Tensor  # [R, C]
    on_diagonal: Tensor  # whether its columns are its rows
    crowded: bool  # whether some of the distances may not count
    near: bool  # whether some of them may be 0


class Tiling:
    """The tiles of a comparison.

    Args:
        operands: Queries and references, without gradients.
        relations: Which of them belong together: classes.
        distance: The name of the distance.
        same: Whether the batch is compared with itself.
        both: Whether the references are anchors, too.
    """

    def __init__(
        self, operands: PairwiseOperands, relations: Relations, distance: str, same: bool = False, both: bool = False
    ):
        self.distance, self.same, self.both = distance, same, both
        self.lengths = operands.queries.shape[0], operands.references.shape[0]
        sizes = blocks.tile_sizes(*self.lengths, same)
        if not is_eager_torch():
            sizes = min(sizes[0], COMPILED_SIZE), min(sizes[1], COMPILED_SIZE)
        self.sizes = even(self.lengths[0], sizes[0]), even(self.lengths[1], sizes[1])
        self.queries, self.references, self.in_place = sort_rows(operands, relations, distance, self.sizes)
        self.has_own = relations.self_offset is not None
        self.two_sided = same or both
        counts = [side.rows.shape[0] // size for side, size in zip(self.sides, self.sizes, strict=True)]
        grid = np.triu_indices(counts[0]) if same else np.indices(counts).reshape(2, -1)
        self.starts = [(numbers * size).astype("int32") for numbers, size in zip(grid, self.sizes, strict=True)]
        self.crowded: list[bool] | None = None
        self.factors: tuple[Tensor, Tensor] | None = None
        if is_eager_torch():
            self.crowded = self.find_crowded()
            self.factors = self.make_factors()

    @property
    def sides(self) -> tuple[SortedRows, SortedRows]:
        """Queries and references, in order."""
        return self.queries, self.references

    def find_crowded(self) -> list[bool]:
        """Which tiles have positives, rows themselves, or places at the end that are no rows."""
        lows, highs, ends = [], [], []
        for side, starts, size, length in zip(self.sides, self.starts, self.sizes, self.lengths, strict=True):
            lows.append(ops.take(side.classes, starts))
            highs.append(ops.take(side.classes, starts + (size - 1)))
            ends.append(starts + size > length)
        overlap = ops.logical_and(highs[0] >= lows[1], highs[1] >= lows[0])
        return (ops.convert_to_numpy(overlap) | ends[0] | ends[1]).tolist()

    def make_factors(self) -> tuple[Tensor, Tensor]:
        """Two arrays whose product has all terms of the squared distances, where each operation takes time."""
        (queries, own), (references, other) = ((side.rows, side.norms[:, None]) for side in self.sides)
        scaled = -queries if self.distance == "cosine" else -2 * queries
        ones = [ops.ones_like(norms) for norms in (own, other)]
        return ops.concatenate([scaled, own, ones[0]], axis=1), ops.concatenate([references, ones[1], other], axis=1)

    def fits(self) -> Tensor:
        """Whether no row has too many positives for a list, and the rows themselves are in their classes."""
        few = most_listed(self.queries) <= MAX_LISTED
        if self.both:
            few = ops.logical_and(few, most_listed(self.references) <= MAX_LISTED)
        return ops.logical_and(few, self.in_place)

    def width(self, side: SortedRows) -> int:
        """The length of the lists of positives: the longest where that may depend on values."""
        return max(1, int(most_listed(side))) if is_eager_torch() else MAX_LISTED

    def tile(self, number: Any) -> Tile:
        """One tile."""
        row, column = (at(starts, number) for starts in self.starts)
        parts = [
            [row_slice(x, start, size) for x in (side.rows, side.norms)]
            for side, start, size in zip(self.sides, (row, column), self.sizes, strict=True)
        ]
        (left, own), (right, other) = parts
        halved = self.distance == "cosine"
        if self.factors is None:
            square = own[:, None] + other[None, :] - ops.matmul(left if halved else 2 * left, ops.transpose(right))
        else:
            first, second = self.factors
            square = ops.matmul(
                row_slice(first, row, self.sizes[0]), ops.transpose(row_slice(second, column, self.sizes[1]))
            )
        on_diagonal = ops.equal(row, column) if self.same else ops.zeros((), "bool")
        if self.same and (self.factors is None or row == column):
            # A row itself does not count, and need not be refined: as if it were far away.
            places = ops.arange(self.sizes[0], dtype="int32")
            itself = ops.equal(places[:, None], places[None, :]) & on_diagonal
            square = ops.where(itself, own[:, None] + other[None, :], square)
        near = ops.logical_not(ops.min(square) > NEAR * (ops.max(own) + ops.max(other)))  # also for NaN

        def refined() -> Tensor:
            exact = refine_near(square, left, right, own, other, halved)
            return ops.where(exact <= MIN_SQUARE, 0.0, exact)

        distances = ops.cond(near, refined, lambda: square)
        if self.distance == "euclidean":
            distances = ops.sqrt(distances)
        crowded = self.crowded is None or self.crowded[number]
        return Tile(row, column, distances, on_diagonal, crowded, self.crowded is None or bool(near))

    def mask(self, tile: Tile, over: str) -> Tensor:
        """Which distances of a tile a reduction is over: ``[R, C]``."""
        starts = tile.rows, tile.columns
        own, classes = (row_slice(x, tile.rows, self.sizes[0]) for x in (self.queries.own, self.queries.classes))
        others = row_slice(self.references.classes, tile.columns, self.sizes[1])
        column = ops.arange(self.sizes[1], dtype="int32") + tile.columns
        if over == ANY:
            found = ops.not_equal(own[:, None], column[None, :])
        elif over == NEGATIVE:  # the row itself is of its class
            found = ops.not_equal(classes[:, None], others[None, :])
        else:
            found = ops.equal(classes[:, None], others[None, :]) & ops.not_equal(own[:, None], column[None, :])
        for side in (0, 1):
            if self.sides[side].rows.shape[0] > self.lengths[side]:
                places = ops.arange(self.sizes[side], dtype="int32") + starts[side]
                found = found & (places < self.lengths[side])[(slice(None), None) if side == 0 else (None, slice(None))]
        return found

    def mask_of(self, tile: Tile, over: str) -> Tensor | None:
        """Which distances of a tile a reduction is over; None for all, where that is known."""
        # A compiler computes the mask with the rest; a condition would take it longer to compile.
        return self.mask(tile, over) if tile.crowded or over == POSITIVE else None

    def parts(self, numbers: Sequence[Numbers], tile: Tile) -> tuple[Numbers, ...]:
        """The numbers of a tile's rows and columns, from those of all rows."""
        starts = zip(numbers, tile[:2], self.sizes, strict=False)
        return tuple(tuple(row_slice(x, start, size) for x in side) for side, start, size in starts)

    def loop(self, body: Callable[[Any, Any], Any], state: Any) -> Any:
        """``body(number, state)`` for all tiles."""
        return ops.fori_loop(0, len(self.starts[0]), body, state)


def at(numbers: Any, index: Any) -> Any:
    """One of some numbers. PyTorch's loops count in Python."""
    return int(numbers[index]) if isinstance(index, int) else ops.take(ops.convert_to_tensor(numbers), index)


def even(length: int, size: int) -> int:
    """A size, at most the given, of which a whole number exceeds ``length`` by little."""
    return -(-length // -(-length // size))
