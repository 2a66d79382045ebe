"""Triplets that a miner has selected from tiles, for PyTorch."""

import math
from typing import Any, NamedTuple

import torch

from ..base.losses.reductions import NEGATIVE
from ..base.processes import Processes
from .functional import hinge
from .listed import Listed, listed_distances
from .ops import Tensor, softplus

__all__ = ["MinedTriplets", "mine_triplets"]


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
        terms = torch.where(valid & negatives.valid, terms, 0.0)
        count = (valid & negatives.valid).sum(dim=1).to(terms.dtype)
        return terms.sum(dim=1), count, count if margin is None else (terms.detach() > 0).sum(dim=1).to(terms.dtype)


@torch.no_grad()
def mine_triplets(comparison: Any, miner: Any) -> MinedTriplets:
    """What a :class:`~finetuner.tuner.base.miner.TripletEasyHardMiner` selects."""
    listed, margin = comparison.listed, miner.margin or math.inf
    distances = listed_distances(comparison.operands, listed, comparison.distance)
    positives: Selection | None = None
    negatives: Selection | None = None
    if miner.pos_strategy == "semihard":
        negatives = select_negatives(comparison, miner.neg_strategy == "hard")
        limit = negatives.distances[:, None]
        in_range = listed.valid & (distances < limit) & (distances > limit - margin) & negatives.found[:, None]
        positives = select_positives(distances, listed, in_range, farthest=True)
    else:
        if miner.pos_strategy != "all":
            positives = select_positives(distances, listed, listed.valid, farthest=miner.pos_strategy == "hard")
        if miner.neg_strategy == "semihard" and positives is not None:
            limit = positives.distances
            negatives = select_negatives(comparison, True, above=limit, below=limit + margin)
            negatives = negatives._replace(found=negatives.found & positives.found)
        elif miner.neg_strategy != "all":
            negatives = select_negatives(comparison, miner.neg_strategy == "hard")
    return MinedTriplets(
        comparison,
        listed if positives is None else Listed(positives.columns[:, None], positives.found[:, None]),
        None if negatives is None else Listed(negatives.columns[:, None], negatives.found[:, None]),
    )


def select_positives(distances: Tensor, listed: Listed, allowed: Tensor, farthest: bool) -> Selection:
    """The farthest or the nearest of the listed references of each row, the first of equals."""
    worst = -math.inf if farthest else math.inf
    if not distances.shape[1]:
        none = torch.zeros(len(distances), dtype=torch.int64, device=distances.device)
        return Selection(none, none.bool(), none.to(distances.dtype))
    kept = torch.where(allowed, distances, worst)
    place = (kept if farthest else -kept).argmax(dim=1, keepdim=True)
    found = allowed.any(dim=1)
    return Selection(
        listed.columns.gather(1, place)[:, 0], found, torch.where(found, distances.gather(1, place)[:, 0], 0.0)
    )


def select_negatives(
    comparison: Any, nearest: bool, above: Tensor | None = None, below: Tensor | None = None
) -> Selection:
    """The nearest or the farthest negative of each row, the first of equals, in one pass over the tiles.

    Args:
        comparison: The comparison in tiles.
        nearest: Whether the nearest is selected, or the farthest.
        above: ``[N]``; only negatives with a larger distance are selected from.
        below: ``[N]``; only negatives with a smaller distance are selected from.
    """
    queries = comparison.operands.queries
    sign, worst = (1.0, math.inf) if nearest else (-1.0, -math.inf)
    best = queries.new_full((len(queries),), math.inf)
    columns = torch.zeros(len(queries), dtype=torch.int64, device=queries.device)
    for tile in comparison.tiles():
        for side in tile.sides:
            rows, others = tile.slices[side], tile.slices[1 - side]
            x = tile.exclude(tile.empty().copy_(tile.distances), NEGATIVE, side, worst)
            if above is not None and below is not None:
                low, high = (one[rows][:, None] if side == 0 else one[rows][None, :] for one in (above, below))
                x.masked_fill_((x <= low) | (x >= high), worst)
            value, place = x.mul_(sign).min(dim=1 - side)
            better = (value < best[rows]) | torch.isnan(value)  # NaN is selected, and the loss is NaN
            best[rows] = torch.where(better, value, best[rows])
            columns[rows] = torch.where(better, place + others.start, columns[rows])
    best, columns = nearest_of_all(comparison.processes, best, columns)
    found = best != math.inf
    return Selection(columns, found, torch.where(found, best * sign, 0.0))


def nearest_of_all(processes: Processes, best: Tensor, columns: Tensor) -> tuple[Tensor, Tensor]:
    """What several processes have selected from their tiles: the smallest value, and the first column that has it."""
    if processes.count == 1:
        return best, columns
    one_each = [slice(rank, rank + 1) for rank in range(processes.count)]
    values = processes.gather(best[None], one_each)
    places = processes.gather(columns[None], one_each)
    best = values.amin(dim=0)  # NaN if there is one
    chosen = torch.where((values == best) | torch.isnan(values), places, torch.iinfo(places.dtype).max)
    return best, chosen.amin(dim=0)
