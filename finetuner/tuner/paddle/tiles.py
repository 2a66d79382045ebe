"""Reductions over the items of each row in square tiles, for PaddlePaddle.

A tile of distances fits into a core's cache. It serves its rows and, where a batch is compared with itself, its
columns, so half of the tiles are enough. The forward pass computes the reductions. The backward pass computes each tile
again, unless all are so few that they are kept, and multiplies its gradient with the embeddings. No array of size N x M
exists.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import paddle
from paddle.autograd import PyLayer

from ..base.losses import blocks
from ..base.losses.reductions import NEGATIVE, POSITIVE, HingeSum, LogSumExp, Triplets
from ..base.processes import ALONE, work_is_shared_by
from .comparison import Positives
from .exclusions import Exclusions, TilePairs
from .functional import PairwiseOperands, prepare_rows
from .listed import Listed, list_positives, listed_distances
from .mined import MinedTriplets, mine_triplets
from .ops import Tensor, detached, on_cpu, refuse_second_derivatives
from .relations import Relations
from .tile import Tile
from .tile_distances import TileDistances
from .tile_gradients import RowGradients
from .tile_reductions import (
    HingeReduction,
    ListedReduction,
    LogSumExpReduction,
    TileReduction,
    parameters_of,
)
from .tile_triplets import PolynomialTripletReduction, SoftTripletReduction, TripletReduction

__all__ = ["TiledComparison", "tiled_comparison"]

MAX_LISTED = 64  # positives of a row; with more, blocks of rows are faster


def tiled_comparison(
    queries: Tensor, references: Tensor, relations: Any, distance: str, both: bool = False
) -> "TiledComparison | None":
    """The comparison in tiles; None while compiling, for masks of a miner, or if a row has many positives.

    Args:
        queries: ``[N, D]``.
        references: ``[M, D]``.
        relations: Which of them belong together.
        distance: The name of the distance.
        both: Whether the references are anchors, too, see :attr:`TiledComparison.reverse`.
    """
    if not paddle.in_dynamic_mode() or not isinstance(relations, Relations):
        return None
    listed = list_positives(relations, MAX_LISTED)
    return None if listed is None else TiledComparison(queries, references, relations, distance, listed, both)


class TiledComparison:
    """Queries compared with references in tiles; for a loss the same as a :class:`.comparison.Comparison`.

    Args:
        queries: ``[N, D]``.
        references: ``[M, D]``.
        relations: Which of them belong together.
        distance: The name of the distance.
        positives: The positives of each row.
        both: Whether the references are anchors, too.

    Attributes:
        reverse: The references compared with the queries, if both are anchors. Its reductions are those of the queries,
            computed with them.
    """

    def __init__(
        self,
        queries: Tensor,
        references: Tensor,
        relations: Relations,
        distance: str,
        positives: Listed,
        both: bool = False,
    ):
        self.operands = prepare_rows(queries, references, distance)
        self.relations, self.distance, self.listed = relations, distance, positives
        self.self_comparison = relations.self_comparison and queries is references
        self.sizes = blocks.tile_sizes(*self.lengths, self.self_comparison, on_cpu(queries))
        self.pairs: TilePairs | None = None
        if relations.by_class:
            self.pairs = TilePairs(positives, self.lengths, self.sizes, self.self_comparison)
        self.exclusions = Exclusions(relations, self.pairs)
        self.positive_distances: Tensor | None = None  # as far as they come from tiles
        self.reverse = Reverse(self.operands, relations, distance) if both else None
        self.processes = work_is_shared_by.get()
        if self.num_tiles < self.processes.count:
            self.processes = ALONE

    def slices(self, side: int) -> list[slice]:
        """The rows, or the columns, of all tiles."""
        length, size = self.lengths[side], self.sizes[side]
        return [slice(start, min(start + size, length)) for start in range(0, length, size)]

    @property
    def lengths(self) -> tuple[int, int]:
        """N and M."""
        return self.operands.queries.shape[0], self.operands.references.shape[0]

    @property
    def num_tiles(self) -> int:
        """The number of all tiles."""
        rows, columns = (len(self.slices(side)) for side in (0, 1))
        return rows * (rows + 1) // 2 if self.self_comparison else rows * columns

    @property
    def can_be_kept(self) -> bool:
        """Whether there are so few tiles that the backward pass need not compute them again."""
        return self.num_tiles * self.sizes[0] * self.sizes[1] <= blocks.kept_size(on_cpu(self.operands.queries))

    def tiles(self, scale: float | None = None, kept: Sequence[Tile] | None = None) -> Iterator[Tile]:
        """All tiles; of a batch that is compared with itself, those on and above the diagonal.

        Where several processes share the work, these are the tiles of this process, and what is computed from them must
        be brought together.

        Args:
            scale: Of exponents in place of distances; see :class:`.tile_reductions.Tile`.
            kept: Those of a pass before that are not computed again.
        """
        if kept is not None:
            yield from kept
            return
        two_sided = self.self_comparison or self.reverse is not None
        symmetric = two_sided and self.relations.is_symmetric
        number, processes = -1, self.processes
        computed = TileDistances(self.operands, self.distance, scale)
        for rows in self.slices(0):
            for columns in self.slices(1):
                if self.self_comparison and columns.start < rows.start:
                    continue
                number += 1
                if number % processes.count != processes.rank:
                    continue
                on_diagonal = self.self_comparison and columns.start == rows.start  # its rows are its columns
                values, least = computed.tile(rows, columns)
                exclude = partial(self.exclusions.fill, rows, columns)
                sides = (0, 1) if two_sided and not on_diagonal else (0,)
                yield Tile(rows, columns, values, least, exclude, sides, symmetric, scale, on_diagonal)

    def count(self, over: str) -> Tensor:
        """How many items each row has, ``[N]`` floats."""
        positives = self.listed.valid.sum(axis=1)
        found = positives if over == POSITIVE else self.relations.count(over, positives)
        return found.astype(self.operands.queries.dtype)

    def positives(self) -> Positives:
        """The distances of the positives of each row: from the tiles, if reductions have been computed before."""
        distances, self.positive_distances = self.positive_distances, None  # its graph holds this comparison
        if distances is None:
            distances = listed_distances(self.operands, self.listed, self.distance)
        return Positives(distances, self.listed.valid)

    def reduce(self, *reductions: Any) -> tuple[Any, ...]:
        """The reductions over the items of each row, ``[N]`` each; two for a :class:`HingeSum`."""
        parameters = [parameter for one in reductions for parameter in parameters_of(one)]
        with_positives = self.pairs is not None and self.reverse is None and not parameters
        if with_positives:
            reductions = (*reductions, self.pairs)
        inputs = TileInputs(self, reductions)
        found = TileReductions.apply(inputs, self.operands.queries, self.operands.references, *parameters)
        if self.reverse is not None:
            found, self.reverse.found = found[: len(found) // 2], found[len(found) // 2 :]
        if with_positives:
            *found, self.positive_distances = found
        return grouped(reductions[: len(reductions) - with_positives], found)

    def mined(self, miner: Any) -> "TiledComparison | MinedTriplets":
        """The comparison with the triplets that a miner selects; all of them without a miner."""
        return self if miner is None else mine_triplets(self, miner)

    def triplets(self, margin: float | None) -> tuple[Tensor, Tensor, Tensor]:
        """Sum of the hinges, number of triplets, and number of active triplets of each row; without a margin, soft."""
        distances, valid = self.positives()
        return self.triplets_of(distances, valid, margin)

    def triplets_of(self, distances: Tensor, valid: Tensor, margin: float | None) -> tuple[Tensor, Tensor, Tensor]:
        """:meth:`triplets` of some positives ``[N, K]`` with all negatives."""
        ((sums, active),) = self.reduce(Triplets(distances + (margin or 0.0), valid, margin is None))
        count = valid.sum(axis=1).astype(sums.dtype) * self.count(NEGATIVE)
        return sums, count, count if margin is None else active


class Reverse:
    """The references compared with the queries, from the tiles of a :class:`TiledComparison`."""

    def __init__(self, operands: PairwiseOperands, relations: Relations, distance: str):
        self.operands, self.relations, self.distance = operands, relations, distance
        self.found: tuple[Tensor, ...] = ()

    def positives(self) -> Positives:
        """The distances of the positives of each reference."""
        queries, references, *norms = self.operands
        operands = PairwiseOperands(references, queries, *reversed(norms))
        listed = list_positives(Relations(self.relations.reference_labels, self.relations.labels), MAX_LISTED)
        assert listed is not None  # both sides have equally many
        return Positives(listed_distances(operands, listed, self.distance), listed.valid)

    def reduce(self, *reductions: Any) -> tuple[Any, ...]:
        """What the reductions of the queries have found for the references."""
        found, self.found = self.found, ()  # their graph holds this
        return grouped(reductions, found)


def grouped(reductions: tuple[Any, ...], numbers: tuple[Tensor, ...]) -> tuple[Any, ...]:
    """The numbers of each reduction: a tensor, or a tuple of them."""
    each = iter(numbers)
    return tuple(next(each) if isinstance(one, LogSumExp) else (next(each), next(each)) for one in reductions)


def tile_reduction(one: Any, comparison: TiledComparison) -> TileReduction:
    """How a reduction goes over the tiles."""
    kinds: dict[type, Any] = {HingeSum: HingeReduction, LogSumExp: LogSumExpReduction, TilePairs: ListedReduction}
    soft = PolynomialTripletReduction if comparison.distance == "cosine" else SoftTripletReduction
    kind = kinds.get(type(one)) or (soft if one.soft else TripletReduction)
    columns = None if comparison.reverse is None else comparison.lengths[1]
    return kind(one, comparison.operands, columns, comparison.distance)


def scale_of_exponents(over_tiles: Sequence[TileReduction]) -> float | None:
    """The scale of the exponents that are all that reductions need of the tiles; None if they need distances."""
    first, *others = over_tiles
    return first.scale_of_exponents if all(isinstance(other, ListedReduction) for other in others) else None


@dataclass
class TileInputs:
    """The inputs of :class:`TileReductions` that are not differentiated. Paddle does not look into it."""

    comparison: TiledComparison
    reductions: tuple[Any, ...]


class TileReductions(PyLayer):
    """Reductions ``[N]``, and ``[M]`` if the references are anchors, too. Their gradient needs a second pass."""

    @staticmethod
    def forward(
        ctx: Any, inputs: TileInputs, queries: Tensor, references: Tensor, *parameters: Tensor
    ) -> tuple[Tensor, ...]:
        comparison = inputs.comparison
        over_tiles = [tile_reduction(one, comparison) for one in inputs.reductions]
        scale = scale_of_exponents(over_tiles)
        for one in over_tiles:
            one.scale_of_tiles = scale
        ctx.needs_gradient = [not x.stop_gradient for x in (queries, references, *parameters)]
        keep = any(ctx.needs_gradient) and comparison.can_be_kept
        kept: list[Tile] | None = None
        for tile in comparison.tiles(scale):
            for one in reversed(over_tiles):  # the positives first: exponentials overwrite their exponents
                for side in tile.sides[:1] if tile.on_diagonal else tile.sides:
                    one.add(tile, side)
            if keep and all(one.can_keep(tile) for one in over_tiles):
                kept = [] if kept is None else kept
                if not all(one.adds_nothing(tile) for one in over_tiles):
                    for one in over_tiles:
                        one.keep(tile)
                    kept.append(tile)
        for one in over_tiles:
            one.merge(comparison.processes)
        sides = (0,) if comparison.reverse is None else (0, 1)
        # Aliases: a result that a reduction holds would hold the graph, and the graph the reduction.
        results = [[detached(number) for number in one.results(side)] for side in sides for one in over_tiles]
        ctx.comparison, ctx.over_tiles = comparison, over_tiles
        ctx.scale, ctx.kept = scale, kept
        ctx.first = [
            i for i, name in enumerate(name for numbers in results for name in range(len(numbers))) if not name
        ]
        ctx.mark_non_differentiable(*(number for numbers in results for number in numbers[1:]))
        return tuple(number for numbers in results for number in numbers)

    @staticmethod
    def backward(ctx: Any, *upstream: Tensor) -> tuple[Tensor | None, ...]:
        refuse_second_derivatives()
        upstream = tuple(upstream[i] for i in ctx.first)
        comparison, over_tiles = ctx.comparison, ctx.over_tiles
        for i, one in enumerate(over_tiles):
            one.prepare([upstream[i], upstream[i if comparison.reverse is None else i + len(over_tiles)]])
        of_references = ctx.needs_gradient[1]
        gradients = RowGradients(comparison.operands, comparison.distance, comparison.self_comparison, of_references)
        first, *others = over_tiles
        for tile in comparison.tiles(ctx.scale, ctx.kept):
            if all(one.adds_nothing(tile) for one in over_tiles):
                continue
            by_distances = first.gradient(tile)
            for other in others:
                other.add_gradient(tile, by_distances)
            gradients.add(tile, by_distances)
        by_parameters = [gradient for one in over_tiles for gradient in one.by_parameters()]
        by_rows = [comparison.processes.add(x) for x in gradients.results()]
        found = zip(ctx.needs_gradient, (*by_rows, *by_parameters), strict=True)
        return tuple(gradient if needed else None for needed, gradient in found)
