"""Triplets that a miner has selected from tiles, for PaddlePaddle."""

import math
from typing import Any, NamedTuple

import paddle

from ..base.losses.reductions import NEGATIVE
from ..base.processes import Processes
from .functional import hinge
from .listed import CHUNK, Listed, from_squares, listed_distances, zero_vectors
from .ops import Tensor, detached, row_sums, softplus, where

__all__ = ["MinedTriplets", "mine_triplets"]
ROUNDINGS = 8  # of the squared lengths, by which two computations of a squared distance may differ


class Selection(NamedTuple):
    """One reference of each row."""

    columns: Tensor  # [N] int64
    found: Tensor  # [N] boolean, False for a row without any
    distances: Tensor  # [N], 0 for a row without any


class MinedTriplets:
    """The triplets of each row's selected positives with its selected negative, or with all its negatives.

    Args:
        comparison: The comparison in tiles.
        positives: The selected positives.
        negatives: The selected negatives; None for all.
    """

    def __init__(self, comparison: Any, positives: Listed, negatives: Listed | None):
        self.comparison, self.selected_positives, self.selected_negatives = comparison, positives, negatives

    def triplets(self, margin: float | None) -> tuple[Tensor, Tensor, Tensor]:
        """Sum of the hinges, number of triplets, and number of active triplets of each row; without a margin, soft."""
        operands, distance = self.comparison.operands, self.comparison.distance
        valid, negatives = self.selected_positives.valid, self.selected_negatives
        positive_distances = listed_distances(operands, self.selected_positives, distance)
        if negatives is None:
            return self.comparison.triplets_of(positive_distances, valid, margin)
        gap = positive_distances - listed_distances(operands, negatives, distance)
        terms = softplus(gap) if margin is None else hinge(gap + margin)
        terms = where(valid & negatives.valid, terms, 0.0)
        count = (valid & negatives.valid).sum(axis=1).astype(terms.dtype)
        return row_sums(terms), count, count if margin is None else row_sums(detached(terms) > 0).astype(terms.dtype)


@paddle.no_grad()
def mine_triplets(comparison: Any, miner: Any) -> MinedTriplets:
    """What a :class:`~finetuner.tuner.base.miner.TripletEasyHardMiner` selects."""
    listed, margin = comparison.listed, miner.margin or math.inf
    distances = listed_distances(comparison.operands, listed, comparison.distance)
    positives: Selection | None = None
    negatives: Selection | None = None
    if miner.pos_strategy == "semihard":
        negatives = select_negatives(comparison, miner.neg_strategy == "hard")
        chosen = Listed(negatives.columns[:, None], negatives.found[:, None])
        nearer = exact_squares(comparison, listed) < exact_squares(comparison, chosen)
        in_range = listed.valid & nearer & (distances > negatives.distances[:, None] - margin) & chosen.valid
        positives = select_positives(distances, listed, in_range, farthest=True)
    else:
        if miner.pos_strategy != "all":
            positives = select_positives(distances, listed, listed.valid, farthest=miner.pos_strategy == "hard")
        if miner.neg_strategy == "semihard" and positives is not None:
            chosen = Listed(positives.columns[:, None], positives.found[:, None])
            limit = exact_squares(comparison, chosen)[:, 0]
            negatives = select_negatives(comparison, True, above=limit, below=positives.distances + margin)
            negatives = negatives._replace(found=negatives.found & positives.found)
        elif miner.neg_strategy != "all":
            negatives = select_negatives(comparison, miner.neg_strategy == "hard")
    return MinedTriplets(
        comparison,
        listed if positives is None else Listed(positives.columns[:, None], positives.found[:, None]),
        None if negatives is None else Listed(negatives.columns[:, None], negatives.found[:, None]),
    )


def exact_squares(comparison: Any, listed: Listed) -> Tensor:
    """:func:`pair_squares` of all rows and their listed references, ``[N, K]``."""
    shape = listed.columns.shape
    rows = paddle.arange(shape[0])[:, None].expand(shape)
    return pair_squares(comparison, rows.flatten(), listed.columns.flatten()).reshape(shape)


def pair_squares(comparison: Any, rows: Tensor, columns: Tensor) -> Tensor:
    """Distances of pairs ``[P]``, from the differences of their rows; squared for the Euclidean distance.

    They have the same bits for duplicates. A square root need not have: it may be computed in two ways.
    """
    queries, references = (detached(x) for x in comparison.operands[:2])
    own, other = zero_vectors(comparison.operands, comparison.distance)
    size = max(1, CHUNK // queries.shape[1])
    parts = [slice(start, start + size) for start in range(0, rows.shape[0], size)]
    squares = [(queries.gather(rows[part]) - references.gather(columns[part])).square_().sum(axis=1) for part in parts]
    square = paddle.concat(squares) if squares else paddle.zeros([0], queries.dtype)
    kind = "sqeuclidean" if comparison.distance == "euclidean" else comparison.distance
    return from_squares(square, own.gather(rows) + other.gather(columns), kind)


def is_above(comparison: Any, x: Tensor, limits: Tensor, lengths: Tensor, starts: tuple[int, int], side: int) -> Tensor:
    """Which distances of a tile are above a limit. Where rounding would decide, such as for duplicates, they are exact.

    Args:
        comparison: The comparison in tiles.
        x: ``[R, C]``.
        limits: :func:`pair_squares`, in the shape of the tile.
        lengths: The sums of the squared lengths of both rows, ``[R, C]``; for the cosine distance half of them.
        starts: The first row and the first column of the tile.
        side: Whose limits.
    """
    x = x * x if comparison.distance == "euclidean" else x.clone()
    places = ((x - limits).abs() <= ROUNDINGS * float(paddle.finfo(x.dtype).eps) * lengths).nonzero()
    if places.shape[0]:
        rows, columns = places[:, side], places[:, 1 - side]
        exact = pair_squares(comparison, rows + starts[side], columns + starts[1 - side])
        x[places[:, 0], places[:, 1]] = exact
    return x > limits


def select_positives(distances: Tensor, listed: Listed, allowed: Tensor, farthest: bool) -> Selection:
    """The farthest or the nearest of the listed references of each row, the first of equals."""
    worst = -math.inf if farthest else math.inf
    kept = where(allowed, distances, worst)
    kept = kept if farthest else -kept
    place = where(paddle.isnan(kept), math.inf, kept).argmax(axis=1, keepdim=True)
    found = allowed.any(axis=1)
    columns, selected = (x.take_along_axis(place, axis=1)[:, 0] for x in (listed.columns, distances))
    return Selection(columns, found, where(found, selected, 0.0))


def select_negatives(
    comparison: Any, nearest: bool, above: Tensor | None = None, below: Tensor | None = None
) -> Selection:
    """The nearest or the farthest negative of each row, the first of equals, in one pass over the tiles.

    Args:
        comparison: The comparison in tiles.
        nearest: Whether the nearest is selected, or the farthest. The nearest if there are limits.
        above: :func:`pair_squares` ``[N]``; only negatives with a larger distance are selected from.
        below: ``[N]``; only negatives with a smaller distance are selected from.
    """
    queries = detached(comparison.operands.queries)
    sign, worst = (1.0, math.inf) if nearest else (-1.0, -math.inf)
    squares = [detached(one) for one in comparison.operands[2:]]
    best = paddle.full_like(queries[:, 0], math.inf)
    columns = paddle.zeros([queries.shape[0]], dtype="int64")
    for tile in comparison.tiles():
        for side in tile.sides[:1] if tile.on_diagonal else tile.sides:
            rows, others, axis = tile.slices[side], tile.slices[1 - side], 1 - side
            x = tile.exclude(tile.distances.clone(), NEGATIVE, side, worst)
            if above is not None and below is not None:
                low, high = (tile.along(one[rows], side) for one in (above, below))
                lengths = tile.along(squares[side][rows], side) + tile.along(squares[1 - side][others], 1 - side)
                starts = tile.slices[0].start, tile.slices[1].start
                selected = is_above(comparison, x, low, lengths, starts, side) & (x < high) | paddle.isnan(x)
                x.masked_fill_(~selected, worst)
            x = x.scale_(sign)
            x = where(paddle.isnan(x), -math.inf, x)  # NaN is selected, and the loss is NaN
            place = x.argmin(axis=axis, keepdim=True)
            value, place = x.take_along_axis(place, axis=axis).flatten(), place.flatten()
            better = value < best[rows]
            best[rows] = where(better, value, best[rows])
            columns[rows] = where(better, place + others.start, columns[rows])
    best, columns = nearest_of_all(comparison.processes, best, columns)
    found = best != math.inf
    return Selection(columns, found, where(found, best * sign, 0.0))


def nearest_of_all(processes: Processes, best: Tensor, columns: Tensor) -> tuple[Tensor, Tensor]:
    """What several processes have selected from their tiles: the smallest value, and the first column that has it."""
    if processes.count == 1:
        return best, columns
    one_each = [slice(rank, rank + 1) for rank in range(processes.count)]
    values = processes.gather(best[None], one_each)
    places = processes.gather(columns[None], one_each)
    best = values.min(axis=0)
    chosen = where(values == best, places, paddle.iinfo(paddle.int32).max)
    return best, chosen.min(axis=0)
