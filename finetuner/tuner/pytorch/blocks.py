"""Sums over the rows of a batch, a block of rows at a time, for PyTorch; see :mod:`..base.blocks`."""

from collections.abc import Callable
from typing import Any

import torch
from torch.autograd.function import once_differentiable
from torch.utils.checkpoint import checkpoint

from ..base import blocks
from .functional import Masks, Places, Relations, block_of, distances_of, pairwise_distance, places_of, spread

__all__ = ["in_blocks", "of_distances", "selected"]

Terms = Callable[..., tuple[torch.Tensor, ...]]


def in_blocks(
    terms: Terms,
    queries: torch.Tensor,
    references: torch.Tensor,
    relations: Any,
    distance: str,
    each: bool = False,
    weights: tuple[torch.Tensor, ...] = (),
) -> tuple[torch.Tensor, ...]:
    """Numbers of the rows of ``queries`` against ``references``, or their sums, in the memory of a block of rows.

    A batch of one block is seen as a whole, with gradients of any order. Of more blocks no distance outlives its block:
    where only sums are asked for, the gradient is taken along with them, once; else each block is computed again
    when its gradient is due. Only the first number has a gradient.

    Args:
        terms: ``terms(distances, positive, negative, *weights)``, of a block's distances and two masks ``[B, M]``,
            gives numbers of its rows, ``[B]`` each. A row's must depend on that row alone.
        queries: ``[N, D]``.
        references: ``[M, D]``.
        relations: ``relations.rows(start, size)`` gives the masks of a block.
        distance: the name of the distance.
        each: whether the numbers of each row are wanted, ``[N]`` each, rather than sums ``[]``.
        weights: further tensors that the terms depend on, with gradients.
    """
    slices = blocks.row_blocks(len(queries), len(references), queries.device.type == "cpu")
    if len(slices) < 2:
        return terms(pairwise_distance(queries, references, distance), *relations.rows(), *weights)
    places = places_of(queries, references, distance)
    if not each and not torch.compiler.is_compiling():
        return Sums.apply(terms, relations, distance, slices, places, places.queries, places.references, *weights)

    def block(rows: tuple[int, int], *given: torch.Tensor) -> tuple[torch.Tensor, ...]:
        here, masks = Places(*given[: len(places)]), relations.rows(*rows)
        return terms(distances_of(here, distance, *rows), *masks, *given[len(places) :])

    found = [checkpoint(block, s, *places, *weights, use_reentrant=False, preserve_rng_state=False) for s in slices]
    numbers = tuple(torch.cat(parts) for parts in zip(*found, strict=True))
    return numbers if each else tuple(number.sum() for number in numbers)


class Sums(torch.autograd.Function):
    """Sums over all rows, in one pass over the blocks.

    As every row weighs the same, the gradient of the sum is known but for one factor: it is taken while the block is
    there, and ``backward`` has only to scale it.
    """

    @staticmethod
    def forward(
        ctx: Any,
        terms: Terms,
        relations: Any,
        distance: str,
        slices: list[tuple[int, int]],
        places: Places,
        queries: torch.Tensor,
        references: torch.Tensor,
        *weights: torch.Tensor,
    ) -> tuple[torch.Tensor, ...]:
        moving = any(ctx.needs_input_grad)
        by_queries, by_references = torch.zeros_like(queries), torch.zeros_like(references)
        columns = queries.new_zeros(len(references))
        leaves = [weight.detach().requires_grad_(moving) for weight in weights]
        by_weights = [torch.zeros_like(weight) for weight in weights]
        totals: list[torch.Tensor] = []
        for rows in slices:
            distances = distances_of(places, distance, *rows).detach().requires_grad_(moving)
            masks = relations.rows(*rows)
            with torch.set_grad_enabled(moving):
                numbers = [number.sum() for number in terms(distances, *masks, *leaves)]
            if moving:
                slopes, *others = torch.autograd.grad(numbers[0], [distances, *leaves])
                slopes = by_square(distances.detach(), slopes, distance)
                # |q - r|^2 has the gradients 2 (q - r) and 2 (r - q), and half of it has half of them.
                own = block_of(queries, *rows)
                block_of(by_queries, *rows).copy_(slopes.sum(dim=1, keepdim=True) * own).addmm_(
                    slopes, references, alpha=-1
                )
                by_references.addmm_(slopes.T, own, alpha=-1)
                columns += slopes.sum(dim=0)
                for total, other in zip(by_weights, others, strict=True):
                    total += other
            numbers = [number.detach() for number in numbers]
            totals = [a + b for a, b in zip(totals, numbers, strict=True)] if totals else numbers
        if moving:
            by_references += columns[:, None] * references
            rate = 1 if distance == "cosine" else 2
            ctx.save_for_backward(rate * by_queries, rate * by_references, *by_weights)
        ctx.mark_non_differentiable(*totals[1:])
        return tuple(totals)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, upstream: torch.Tensor, *others: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        return *[None] * 5, *(upstream * gradient for gradient in ctx.saved_tensors)


def by_square(distances: torch.Tensor, slopes: torch.Tensor, distance: str) -> torch.Tensor:
    """Slopes by squares (of the cosine distance, half of them), of slopes by distances: 0 where the distance is."""
    if distance == "euclidean":
        return torch.where(distances > 0, slopes / torch.where(distances > 0, 2 * distances, 1.0), 0.0)
    return slopes * distances.sign()


@torch.no_grad()
def selected(miner: Any, queries: torch.Tensor, references: torch.Tensor, relations: Relations, distance: str) -> Masks:
    """All that a miner selects, as two masks ``[N, M]``: a byte a pair each, and nothing larger."""
    places = places_of(queries, references, distance)
    found = []
    for rows in blocks.row_blocks(len(queries), len(references), queries.device.type == "cpu"):
        masks = relations.rows(*rows)
        found.append(miner.refine(distances_of(places, distance, *rows), *masks))
    positive, negative = (torch.cat(parts) for parts in zip(*found, strict=True))
    return Masks(positive, negative)


@torch.no_grad()
def of_distances(
    queries: torch.Tensor, references: torch.Tensor, relations: Relations, distance: str
) -> dict[str, torch.Tensor]:
    """What a loss with ``need_logs`` tells of all distances: means of positives' and negatives', and the spread."""
    found = in_blocks(masked_sums, queries, references, relations, distance)
    near, positives, far, negatives = (number.sum() for number in found)
    return {
        "positive_distance": near / positives.clamp(min=1),
        "negative_distance": far / negatives.clamp(min=1),
        "spread": spread(queries),
    }


def masked_sums(
    distances: torch.Tensor, positive: torch.Tensor, negative: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Of each row: the sum of its positives' distances and their number, and the same of its negatives."""
    near, far = (torch.where(mask, distances, 0.0).sum(dim=1) for mask in (positive, negative))
    counts = [mask.sum(dim=1).to(distances.dtype) for mask in (positive, negative)]
    return near, counts[0], far, counts[1]
