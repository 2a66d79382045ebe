"""Sums of losses in square tiles, for Keras.

Rows are put in the order of their classes. A tile of distances fits into a core's cache. It serves its rows and, where
a batch is compared with itself, its columns, so half of the tiles are enough. The first pass over the tiles computes
the reductions of a loss. The second pass computes each tile again and multiplies its gradient with the embeddings. Both
are loops over a number of tiles that a compiler knows. No array of size N x M exists.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from keras import ops

from ..base.losses import blocks
from ..base.losses.reductions import ANY, NEGATIVE, POSITIVE
from .comparison import Positives
from .functional import MIN_SQUARE, NEAR, PairwiseOperands, refine_near
from .gradients import add_rows, aux_and_gradients, grad_wrt_squared_distance, is_eager_torch, set_rows
from .listed import listed_distances, listed_gradients, listed_valid, most_listed
from .ops import Tensor, row_slice
from .relations import Relations
from .sorted_rows import SortedRows, sort_rows
from .tile_reductions import LogSumExpReduction, Numbers, TileReduction, tile_reduction

__all__ = ["MAX_LISTED", "Tiling", "sum_tiles"]

MAX_LISTED = 64  # positives of a row; with more, blocks of rows are computed
COMPILED_SIZE = 256  # rows and columns of a tile, at most, where a compiler needs no time to start an operation

Sums = tuple[Tensor, list[Tensor]]


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
            sizes = tuple(min(size, COMPILED_SIZE) for size in sizes)
        self.sizes = tuple(map(even, self.lengths, sizes))
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

    def masked(self, tile: Tile, over: str, compute: Callable[[Tensor | None], Any]) -> Any:
        """``compute(mask)``, without a mask where all distances of a tile count."""
        # A compiler computes the mask with the rest; a condition would take it longer to compile.
        without = self.crowded is not None and over != POSITIVE and not tile.crowded
        return compute(None if without else self.mask(tile, over))

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


class TiledComparison:
    """Queries compared with references in tiles; for a loss the same as a :class:`.comparison.Comparison`.

    Args:
        tiling: The tiles.
        number: 0 for the queries compared with the references, 1 for the reverse.
        distances: Of the positives of each row, ``[K, P]``.
        known: The results of the reductions that will be asked for; None to compute them.

    Attributes:
        asked: The reductions that were asked for.
        passed: Each of them as it goes over the tiles.
        found: Their results for the queries and, if they are anchors, the references: ``[P]`` each.
    """

    def __init__(self, tiling: Tiling, number: int, distances: Tensor, known: list[Any] | None = None):
        self.tiling, self.number, self.distances, self.known = tiling, number, distances, known
        self.side = tiling.sides[number]
        self.asked: list[Any] = []
        self.passed: list[TileReduction] = []
        self.found: list[list[tuple[Tensor, ...]]] = [[], []]

    def rows_of(self, x: Tensor) -> Tensor:
        """The rows of the batch, without what fills up the last tile."""
        return x[: self.tiling.lengths[self.number]]

    def count(self, over: str) -> Tensor:
        """How many items each row has, ``[N]`` floats."""
        positives = self.side.count
        others = self.tiling.lengths[1 - self.number] - ops.cast(self.side.own >= 0, "int32")
        found = {POSITIVE: positives, NEGATIVE: others - positives, ANY: others}[over]
        return self.rows_of(ops.cast(found, self.side.rows.dtype))

    def positives(self) -> Positives:
        """The distances of the positives of each row."""
        valid = listed_valid(self.side, self.distances.shape[0])
        return Positives(*(self.rows_of(ops.transpose(x)) for x in (self.distances, valid)))

    def reduce(self, *reductions: Any) -> tuple[Any, ...]:
        """The reductions over the items of each row, ``[N]`` each; two for a :class:`HingeSum`."""
        start = len(self.asked)
        self.asked += reductions
        if self.known is None:
            passed = [tile_reduction(one, self.tiling.distance) for one in reductions]
            self.passed += passed
            for side, found in enumerate(first_pass(self.tiling, passed)):
                self.found[side] += found
        results = (self.found[0] if self.known is None else self.known)[start:]
        shown = [tuple(map(self.rows_of, numbers)) for numbers in results]
        return tuple(numbers if len(numbers) > 1 else numbers[0] for numbers in shown)


def first_pass(tiling: Tiling, passed: list[TileReduction]) -> list[list[tuple[Tensor, ...]]]:
    """The results ``[P]`` of each reduction, for the queries and, if they are anchors, for the references."""
    dtype = tiling.queries.rows.dtype
    sides = tiling.sides if tiling.two_sided else tiling.sides[:1]
    state = tuple(tuple(one.start(side.rows.shape[0], dtype) for side in sides) for one in passed)

    def add(number: Any, state: Any) -> Any:
        tile = tiling.tile(number)
        after = []
        for one, numbers in zip(passed, state, strict=True):
            parts = tiling.parts(numbers, tile)
            new = tiling.masked(tile, one.one.over, lambda mask, one=one, p=parts: one.add(p, tile.distances, mask))
            if tiling.same:
                kept = (ops.where(tile.on_diagonal, a, b) for a, b in zip(parts[1], new[1], strict=True))
                new = new[0], tuple(kept)
            after.append(
                tuple(
                    tuple(set_rows(x, start, rows) for x, rows in zip(whole, part, strict=True))
                    for whole, part, start in zip(numbers, new, tile[:2], strict=False)
                )
            )
        return tuple(after)

    state = tiling.loop(add, state)
    if tiling.same:
        state = tuple((one.merge(*numbers),) for one, numbers in zip(passed, state, strict=True))
    return [
        [one.results(numbers[side]) for one, numbers in zip(passed, state, strict=True)]
        for side in range(len(state[0]))
    ]


def second_pass(
    tiling: Tiling, passed: list[TileReduction], factors: list[list[Numbers]]
) -> tuple[Tensor, Tensor, list[Tensor]]:
    """The gradients by queries and references, up to a factor of the distance, and by the scales of the reductions.

    Args:
        tiling: The tiles.
        passed: The reductions.
        factors: Of each side, of each reduction, what its gradient needs of each row.
    """
    sizes, same = tiling.sizes, tiling.same
    with_ones = [ops.concatenate([side.rows, ops.ones_like(side.rows[:, :1])], axis=1) for side in tiling.sides]

    def add(number: Any, state: Any) -> Any:
        by_queries, by_references, *by_scales = state
        tile = tiling.tile(number)
        gradient: Any = None
        for i, one in enumerate(passed):
            parts = tiling.parts([of_side[i] for of_side in factors], tile)
            if same:  # a tile on the diagonal has each pair twice
                first, *others = parts[1]
                parts = parts[0], (ops.where(tile.on_diagonal, 0.0, first), *others)
            own = tiling.masked(
                tile, one.one.over, lambda mask, one=one, p=parts: one.gradient(p, tile.distances, mask)
            )
            gradient = own if i == 0 else gradient + own
            if by_scales:
                by_scales[i] = by_scales[i] + ops.sum(own * tile.distances) / one.scale
        if tile.near or tiling.distance == "euclidean":
            gradient = grad_wrt_squared_distance(tile.distances, gradient, tiling.distance)
        left, right = (row_slice(x, start, size) for x, start, size in zip(with_ones, tile[:2], sizes, strict=True))
        return (
            add_rows(by_queries, tile.rows, ops.matmul(gradient, right)),
            add_rows(by_references, tile.columns, ops.matmul(ops.transpose(gradient), left)),
            *by_scales,
        )

    learnable = any(isinstance(one, LogSumExpReduction) and one.learnable for one in passed)
    zeros = [ops.zeros((), tiling.queries.rows.dtype) for _ in passed] if learnable else []
    found = tiling.loop(add, (*map(ops.zeros_like, with_ones), *zeros))
    # |q - r|^2 has the gradients 2 (q - r) and 2 (r - q), and half of it has half of them.
    by_rows = [total[:, -1:] * side.rows - total[:, :-1] for total, side in zip(found, tiling.sides, strict=False)]
    if same:
        by_rows = [by_rows[0] + by_rows[1], ops.zeros_like(by_rows[1])]
    return *by_rows, list(found[2:])


def sum_tiles(terms: Callable[..., tuple[Tensor, ...]], tiling: Tiling, weights: list[Tensor]) -> Sums:
    """The sums of the terms over all rows, and the gradient of the first by queries, references and weights.

    If the references are anchors, too, there are as many sums of theirs behind, and the gradient is that of the sum of
    the first of both.
    """
    anchors = (0, 1) if tiling.both else (0,)
    sides = [(tiling.sides[number], tiling.sides[1 - number]) for number in anchors]
    listed = [listed_distances(*side, tiling.distance, tiling.width(side[0])) for side in sides]
    rows = TiledComparison(tiling, 0, listed[0])
    terms(rows, *weights)
    passed, found = rows.passed, rows.found
    count, number_of_weights = len(passed), len(weights)

    def repeat(inputs: list[Tensor]) -> tuple[list[Tensor], list[Any]]:
        """The sums, and the reductions that were asked for, as functions of distances, results and weights."""
        sums, asked = [], []
        for number in anchors:
            first = len(anchors) + number * count
            known = [
                (one, *results[1:]) for one, results in zip(inputs[first : first + count], found[number], strict=True)
            ]
            shown = TiledComparison(tiling, number, inputs[number], known)
            numbers = terms(shown, *inputs[len(inputs) - number_of_weights :])
            sums.append([ops.sum(one) for one in numbers])
            asked += shown.asked
        return sums, asked

    def total(inputs: list[Tensor]) -> tuple[Tensor, Tensor]:
        sums, _ = repeat(inputs)
        return sum(each[0] for each in sums), ops.stack([one for each in sums for one in each])

    results = [numbers[0] for number in anchors for numbers in found[number]]
    inputs = [*listed, *results, *weights]
    totals, gradients = aux_and_gradients(total, inputs)
    by_listed, by_results = gradients[: len(anchors)], gradients[len(anchors) : len(anchors) + len(results)]
    by_weights = gradients[len(anchors) + len(results) :]
    factors = [
        [one.prepare(by_results[number * count + i], found[number][i][0]) for i, one in enumerate(passed)]
        for number in anchors
    ]
    if tiling.same:
        factors = [factors[0], factors[0]]
    *by_rows, by_scales = second_pass(tiling, passed, factors)
    if by_scales:

        def scales(inputs: list[Tensor]) -> tuple[Tensor, Tensor]:
            _, asked = repeat(inputs)
            parts = [one.scale * by for one, by in zip(asked[:count], by_scales, strict=True)]
            return sum(parts), ops.zeros(())

        _, others = aux_and_gradients(scales, inputs)
        by_weights = [a + b for a, b in zip(by_weights, others[len(inputs) - number_of_weights :], strict=True)]
    for number, (side, distances, upstream) in enumerate(zip(sides, listed, by_listed, strict=True)):
        pulls = listed_gradients(*side, distances, upstream, tiling.distance, tiling.same)
        by_rows = [a + b for a, b in zip(by_rows, pulls if number == 0 else pulls[::-1], strict=True)]
    scale = 1 if tiling.distance == "cosine" else 2
    by_inputs = [scale * ops.take(by, side.places, axis=0) for by, side in zip(by_rows, tiling.sides, strict=True)]
    return totals, [*by_inputs, *by_weights]
