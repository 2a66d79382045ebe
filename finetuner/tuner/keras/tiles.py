"""Sums of losses in square tiles, for Keras.

Rows are put in the order of their classes. A tile of distances fits into a core's cache. It serves its rows and, where
a batch is compared with itself, its columns, so half of the tiles are enough. The first pass over the tiles computes
the reductions of a loss. The second pass computes each tile again and multiplies its gradient with the embeddings. Both
are loops over a number of tiles that a compiler knows. No array of size N x M exists.
"""

from collections.abc import Callable
from typing import Any

from keras import ops

from ..base.losses.reductions import ANY, NEGATIVE, POSITIVE
from .comparison import Positives
from .gradients import add_rows, aux_and_gradients, grad_wrt_squared_distance, set_rows
from .listed import listed_distances, listed_gradients, listed_valid
from .ops import Tensor, row_slice
from .tile_reductions import Numbers, TileReduction, tile_reduction
from .tiling import Tiling

__all__ = ["TiledComparison", "sum_tiles"]

Sums = tuple[Tensor, list[Tensor]]


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
            new = one.add(parts, tile.distances, tiling.mask_of(tile, one.one.over))
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
    """The gradients by queries and references, up to a factor of the distance, and by the learnable scales.

    Args:
        tiling: The tiles.
        passed: The reductions.
        factors: Of each side, of each reduction, what its gradient needs of each row.
    """
    sizes, same = tiling.sizes, tiling.same
    learnable = [i for i, one in enumerate(passed) if one.learnable]
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
            own = one.gradient(parts, tile.distances, tiling.mask_of(tile, one.one.over))
            gradient = own if i == 0 else gradient + own
            if one.learnable:
                place = learnable.index(i)
                by_scales[place] = by_scales[place] + one.by_scale(own, tile.distances)
        if tile.near or tiling.distance == "euclidean":
            gradient = grad_wrt_squared_distance(tile.distances, gradient, tiling.distance)
        left, right = (row_slice(x, start, size) for x, start, size in zip(with_ones, tile[:2], sizes, strict=True))
        return (
            add_rows(by_queries, tile.rows, ops.matmul(gradient, right)),
            add_rows(by_references, tile.columns, ops.matmul(ops.transpose(gradient), left)),
            *by_scales,
        )

    zeros = [ops.zeros((), tiling.queries.rows.dtype) for _ in learnable]
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
            learnable = (own for own, one in zip(asked, passed, strict=False) if one.learnable)
            parts = [own.scale * by for own, by in zip(learnable, by_scales, strict=True)]
            return sum(parts), ops.zeros(())

        _, others = aux_and_gradients(scales, inputs)
        by_weights = [a + b for a, b in zip(by_weights, others[len(inputs) - number_of_weights :], strict=True)]
    for number, (side, distances, upstream) in enumerate(zip(sides, listed, by_listed, strict=True)):
        pulls = listed_gradients(*side, distances, upstream, tiling.distance, tiling.same)
        by_rows = [a + b for a, b in zip(by_rows, pulls if number == 0 else pulls[::-1], strict=True)]
    scale = 1 if tiling.distance == "cosine" else 2
    by_inputs = [scale * ops.take(by, side.places, axis=0) for by, side in zip(by_rows, tiling.sides, strict=True)]
    return totals, [*by_inputs, *by_weights]
