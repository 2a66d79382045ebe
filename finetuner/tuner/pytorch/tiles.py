"""Reductions over the items of each row in square tiles, for PyTorch.

A tile of distances fits into a core's cache. It serves its rows and, where a batch is compared with itself, its
columns, so half of the tiles are enough. The forward pass computes the reductions. The backward pass computes each tile
again and multiplies its gradient with the embeddings. No array of size N x M exists.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import torch

from ..base.losses import blocks
from ..base.losses.reductions import NEGATIVE, POSITIVE, HingeSum, LogSumExp, Triplets
from ..base.processes import work_is_shared_by
from .comparison import Comparison, Positives
from .exclusions import Exclusions, TilePairs
from .functional import PairwiseOperands, block_distances, prepare_rows
from .listed import Listed, list_positives, listed_distances, zero_vectors
from .mined import MinedTriplets, mine_triplets
from .ops import Tensor
from .relations import Relations
from .tile_distances import TileDistances
from .tile_gradients import RowGradients
from .tile_reductions import (
    HingeReduction,
    ListedReduction,
    LogSumExpReduction,
    Tile,
    TileReduction,
    Workspace,
)
from .tile_triplets import SoftTripletReduction, TripletReduction

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
    if torch.compiler.is_compiling() or not isinstance(relations, Relations):
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
        self.sizes = blocks.tile_sizes(*self.lengths, self.self_comparison, queries.device.type == "cpu")
        self.distances = TileDistances(self.operands, distance)
        self.pairs: TilePairs | None = None
        if relations.by_class:
            self.pairs = TilePairs(positives, self.lengths, self.sizes, self.self_comparison)
        self.exclusions = Exclusions(relations, self.pairs)
        self.positive_distances: Tensor | None = None  # as far as they come from tiles
        self.workspace = Workspace(self.operands.queries.detach(), self.sizes[0] * self.sizes[1])
        self.reverse = Reverse(self) if both else None
        self.processes = work_is_shared_by.get()

    def slices(self, side: int) -> list[slice]:
        """The rows, or the columns, of all tiles."""
        length, size = self.lengths[side], self.sizes[side]
        return [slice(start, min(start + size, length)) for start in range(0, length, size)]

    @property
    def lengths(self) -> tuple[int, int]:
        """N and M."""
        return len(self.operands.queries), len(self.operands.references)

    def tiles(self) -> Iterator[Tile]:
        """All tiles; of a batch that is compared with itself, those on and above the diagonal.

        Where several processes share the work, these are the tiles of this process, and what is computed from them must
        be brought together.
        """
        two_sided = self.self_comparison or self.reverse is not None
        symmetric = two_sided and self.relations.is_symmetric
        workspace = self.workspace
        number, processes = -1, self.processes
        for rows in self.slices(0):
            for columns in self.slices(1):
                if self.self_comparison and columns.start < rows.start:
                    continue
                number += 1
                if number % processes.count != processes.rank:
                    continue
                on_diagonal = self.self_comparison and columns.start == rows.start  # its rows are its columns
                workspace.reset()
                out = workspace.take(rows.stop - rows.start, columns.stop - columns.start)
                distances, near = self.distances.tile(rows, columns, out)
                exclude = partial(self.exclusions.fill, rows, columns)
                sides = (0, 1) if two_sided and not on_diagonal else (0,)
                yield Tile(rows, columns, distances, near, exclude, sides, symmetric, workspace)

    def count(self, over: str) -> Tensor:
        """How many items each row has, ``[N]`` floats."""
        positives = self.listed.valid.sum(dim=1)
        found = positives if over == POSITIVE else self.relations.count(over, positives)
        return found.to(self.operands.queries.dtype)

    def positives(self) -> Positives:
        """The distances of the positives of each row: from the tiles, if reductions have been computed before."""
        distances = self.positive_distances
        if distances is None:
            distances = listed_distances(self.operands, self.listed, self.distance)
        return Positives(distances, self.listed.valid)

    def reduce(self, *reductions: Any) -> tuple[Any, ...]:
        """The reductions over the items of each row, ``[N]`` each; two for a :class:`HingeSum`."""
        parameters = [parameter for one in reductions for parameter in parameters_of(one)]
        with_positives = self.pairs is not None and self.reverse is None and not parameters
        if with_positives:
            reductions = (*reductions, self.pairs)
        found = TileReductions.apply(  # type: ignore[no-untyped-call]
            self, reductions, self.operands.queries, self.operands.references, *parameters
        )
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
        count = valid.sum(dim=1) * self.count(NEGATIVE)
        return sums, count, count if margin is None else active

    def whole(self, queries: Tensor, references: Tensor) -> Comparison:
        """The comparison with all distances in memory, which can be differentiated twice, of the same rows."""
        norms = [
            zeros + (x * x).sum(dim=1)
            for x, zeros in zip((queries, references), zero_vectors(self.operands, self.distance), strict=True)
        ]
        if self.distance == "cosine":
            norms = [norm / 2 for norm in norms]
        operands = PairwiseOperands(queries, references, *norms)
        return Comparison(block_distances(operands, self.distance), *self.relations.rows())


class Reverse:
    """The references compared with the queries, from the tiles of a :class:`TiledComparison`."""

    def __init__(self, comparison: TiledComparison):
        self.comparison = comparison
        self.found: tuple[Tensor, ...] = ()

    def positives(self) -> Positives:
        """The distances of the positives of each reference."""
        queries, references, *norms = self.comparison.operands
        operands = PairwiseOperands(references, queries, *reversed(norms))
        relations = self.comparison.relations
        listed = list_positives(Relations(relations.reference_labels, relations.labels), MAX_LISTED)
        assert listed is not None  # both sides have equally many
        return Positives(listed_distances(operands, listed, self.comparison.distance), listed.valid)

    def reduce(self, *reductions: Any) -> tuple[Any, ...]:
        """What the reductions of the queries have found for the references."""
        return grouped(reductions, self.found)


def grouped(reductions: Sequence[Any], numbers: Sequence[Tensor]) -> tuple[Any, ...]:
    """The numbers of each reduction: a tensor, or a tuple of them."""
    each = iter(numbers)
    return tuple(next(each) if isinstance(one, LogSumExp) else (next(each), next(each)) for one in reductions)


def parameters_of(reduction: Any) -> list[Tensor]:
    """The tensors with a gradient that a reduction depends on."""
    parameter = getattr(reduction, "scale", getattr(reduction, "limits", None))
    return [parameter] if isinstance(parameter, torch.Tensor) else []


def tile_reduction(one: Any, comparison: TiledComparison) -> TileReduction:
    """How a reduction goes over the tiles."""
    kinds: dict[type, Any] = {HingeSum: HingeReduction, LogSumExp: LogSumExpReduction, TilePairs: ListedReduction}
    kind = kinds.get(type(one)) or (SoftTripletReduction if one.soft else TripletReduction)
    queries, references = (x.detach() for x in comparison.operands[:2])
    return kind(one, queries, None if comparison.reverse is None else len(references), comparison.distance)


class TileReductions(torch.autograd.Function):
    """Reductions ``[N]``, and ``[M]`` if the references are anchors, too. Their gradient needs a second pass."""

    @staticmethod
    def forward(
        ctx: Any,
        comparison: TiledComparison,
        reductions: tuple[Any, ...],
        queries: Tensor,
        references: Tensor,
        *parameters: Tensor,
    ) -> tuple[Tensor, ...]:
        over_tiles = [tile_reduction(one, comparison) for one in reductions]
        for tile in comparison.tiles():
            for one in over_tiles:
                for side in tile.sides:
                    one.add(tile, side)
        for one in over_tiles:
            one.merge(comparison.processes)
        sides = (0,) if comparison.reverse is None else (0, 1)
        results = [numbers for side in sides for numbers in (one.results(side) for one in over_tiles)]
        ctx.comparison, ctx.reductions, ctx.over_tiles = comparison, reductions, over_tiles
        ctx.first = [
            i for i, name in enumerate(name for numbers in results for name in range(len(numbers))) if not name
        ]
        ctx.mark_non_differentiable(*(number for numbers in results for number in numbers[1:]))
        return tuple(number for numbers in results for number in numbers)

    @staticmethod
    def backward(ctx: Any, *upstream: Tensor) -> tuple[Tensor | None, ...]:
        upstream = tuple(upstream[i] for i in ctx.first)
        if torch.is_grad_enabled():  # the gradient is differentiated itself: it is computed again, as a whole
            return second_derivative(ctx.comparison, ctx.reductions, upstream)
        comparison, over_tiles = ctx.comparison, ctx.over_tiles
        for i, one in enumerate(over_tiles):
            one.prepare([upstream[i], upstream[i if comparison.reverse is None else i + len(over_tiles)]])
        of_references = ctx.needs_input_grad[3]
        gradients = RowGradients(comparison.operands, comparison.distance, comparison.self_comparison, of_references)
        for tile in comparison.tiles():
            by_distances, *others = (one.gradient(tile) for one in over_tiles)
            for other in others:
                by_distances += other
            gradients.add(tile, by_distances)
        by_parameters = [gradient for one in over_tiles for gradient in one.by_parameters()]
        by_rows = [x if x is None else comparison.processes.add(x) for x in gradients.results()]
        return None, None, *by_rows, *by_parameters


def second_derivative(
    comparison: TiledComparison, reductions: tuple[Any, ...], upstream: tuple[Tensor, ...]
) -> tuple[Tensor | None, ...]:
    """The gradient of the reductions as a function that can be differentiated."""
    # Aliases of the inputs: limits are functions of the rows, and that path is not a part of this gradient.
    rows = aliases(comparison.operands[:2])
    parameters = aliases([parameter for one in reductions for parameter in parameters_of(one)])
    whole = comparison.whole(*rows)
    sides = [whole]
    if comparison.reverse is not None:
        sides.append(Comparison(whole.distances.T, whole.positive.T, whole.negative.T))
    left = iter(parameters)
    own = [with_parameter(one, next(left)) if parameters_of(one) else one for one in reductions]
    pairs = [one for one in own if isinstance(one, TilePairs)]
    found = [value for side in sides for value in side.reduce(*own[: len(own) - len(pairs)])]
    values = [value[0] if isinstance(value, tuple) else value for value in found]
    values += [whole.distances.gather(1, comparison.listed.columns) * comparison.listed.valid for _ in pairs]
    gradients = torch.autograd.grad(values, [*rows, *parameters], upstream, create_graph=True, allow_unused=True)
    if rows[0] is rows[1]:  # autograd gives the sum of both sides for each
        return None, None, gradients[0], None, *gradients[2:]
    return None, None, *gradients


def aliases(tensors: Sequence[Tensor]) -> list[Tensor]:
    """The same tensors by themselves: a gradient by an alias leaves out how its tensor was computed."""
    made = [x.view_as(x) for x in tensors]
    return made if len(made) != 2 or tensors[0] is not tensors[1] else [made[0], made[0]]


def with_parameter(reduction: Any, parameter: Tensor) -> Any:
    """A reduction with another tensor in place of its own."""
    return replace(reduction, **{"scale" if isinstance(reduction, LogSumExp) else "limits": parameter})
