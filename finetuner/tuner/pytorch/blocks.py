"""Sums over the rows of a batch, in blocks of rows, for PyTorch; see :mod:`finetuner.tuner.base.losses.blocks`."""

from collections.abc import Callable
from typing import Any

import torch
from torch.utils.checkpoint import checkpoint

from ..base.losses import blocks
from ..base.losses.reductions import NEGATIVE, POSITIVE
from ..base.processes import ALONE, work_is_shared_by
from .comparison import Comparison
from .functional import PairwiseOperands, block_distances, pairwise_distance, prepare_rows, spread
from .ops import Tensor, row_slice
from .relations import Masks, Relations
from .tiles import tiled_comparison

__all__ = ["distance_statistics", "mined_masks", "reduce_both_ways", "reduce_rows"]

Terms = Callable[..., tuple[Tensor, ...]]


def reduce_rows(
    terms: Terms,
    queries: Tensor,
    references: Tensor,
    relations: Any,
    distance: str,
    per_row: bool = False,
    weights: tuple[Tensor, ...] = (),
    tiled: bool = True,
) -> tuple[Tensor, ...]:
    """Numbers of the rows of ``queries`` against ``references``, or their sums, in bounded memory.

    A small batch is computed as a whole. A larger one is computed in square tiles if the terms allow it and each row
    has few positives, else in blocks of rows. For sums in blocks, the gradient is computed together with the value,
    once. For numbers per row, each block is computed again in the backward pass. Only the first number has a gradient.
    If a gradient itself is differentiated, the batch is computed again as a whole.

    Args:
        terms: ``terms(rows, *weights)`` of a :class:`.comparison.Comparison` returns numbers of its rows, ``[B]`` each.
            The numbers of a row must depend on that row only.
        queries: ``[N, D]``.
        references: ``[M, D]``.
        relations: ``relations.rows(start, size)`` returns the masks of a block.
        distance: The name of the distance.
        per_row: Whether to return the numbers of each row, ``[N]`` each, instead of their sums ``[]``.
        weights: Further tensors with gradients that the terms depend on.
        tiled: Whether the terms need no array of all distances.
    """
    on_cpu = queries.device.type == "cpu"
    if tiled and blocks.suits_tiles(len(queries), len(references), on_cpu):
        rows = tiled_comparison(queries, references, relations, distance)
        if rows is not None:
            numbers = terms(rows, *weights)
            return numbers if per_row else tuple(number.sum() for number in numbers)
    slices = blocks.row_blocks(len(queries), len(references), on_cpu)
    if len(slices) < 2:
        return terms(Comparison(pairwise_distance(queries, references, distance), *relations.rows()), *weights)
    operands = prepare_rows(queries, references, distance)
    if not per_row and not torch.compiler.is_compiling():
        sums: tuple[Tensor, ...] = BlockSums.apply(  # type: ignore[no-untyped-call]
            terms, relations, distance, slices, operands, operands.queries, operands.references, *weights
        )
        return sums

    def block(rows: tuple[int, int], *given: Tensor) -> tuple[Tensor, ...]:
        block_operands, masks = PairwiseOperands(*given[: len(operands)]), relations.rows(*rows)
        return terms(Comparison(block_distances(block_operands, distance, *rows), *masks), *given[len(operands) :])

    found = [checkpoint(block, s, *operands, *weights, use_reentrant=False, preserve_rng_state=False) for s in slices]
    numbers = tuple(torch.cat(parts) for parts in zip(*found, strict=True))
    return numbers if per_row else tuple(number.sum() for number in numbers)


def reduce_both_ways(
    terms: Terms, first: Tensor, second: Tensor, relations: Relations, distance: str, weights: tuple[Tensor, ...] = ()
) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
    """:func:`reduce_rows` of ``first`` against ``second``, and of ``second`` against ``first``.

    Both are computed from the same tiles.
    """
    rows = None
    if blocks.suits_tiles(len(first), len(second), first.device.type == "cpu"):
        rows = tiled_comparison(first, second, relations, distance, both=True)
    if rows is None:
        forwards = reduce_rows(terms, first, second, relations, distance, weights=weights)
        return forwards, reduce_rows(terms, second, first, relations, distance, weights=weights)
    found, reverse = terms(rows, *weights), terms(rows.reverse, *weights)
    return tuple(number.sum() for number in found), tuple(number.sum() for number in reverse)


class BlockSums(torch.autograd.Function):
    """Sums over all rows, in one pass over the blocks.

    All rows have the same weight in a sum, so its gradient is known except for one factor. It is computed while the
    block exists, and ``backward`` only multiplies it. Several processes share the blocks.
    """

    @staticmethod
    def forward(
        ctx: Any,
        terms: Terms,
        relations: Any,
        distance: str,
        slices: list[tuple[int, int]],
        operands: PairwiseOperands,
        queries: Tensor,
        references: Tensor,
        *weights: Tensor,
    ) -> tuple[Tensor, ...]:
        needs_gradient = any(ctx.needs_input_grad)
        by_queries, by_references = torch.zeros_like(queries), torch.zeros_like(references)
        column_sums = queries.new_zeros(len(references))
        inputs_requiring_grad = [weight.detach().requires_grad_(needs_gradient) for weight in weights]
        by_weights = [torch.zeros_like(weight) for weight in weights]
        totals: list[Tensor] = []
        processes = work_is_shared_by.get()
        if len(slices) < processes.count:
            processes = ALONE
        for rows in slices[processes.rank :: processes.count]:
            distances = block_distances(operands, distance, *rows).detach().requires_grad_(needs_gradient)
            masks = relations.rows(*rows)
            with torch.set_grad_enabled(needs_gradient):
                numbers = [n.sum() for n in terms(Comparison(distances, *masks), *inputs_requiring_grad)]
            if needs_gradient:
                gradient, *others = torch.autograd.grad(numbers[0], [distances, *inputs_requiring_grad])
                gradient = grad_wrt_squared_distance(distances.detach(), gradient, distance)
                # |q - r|^2 has the gradients 2 (q - r) and 2 (r - q), and half of it has half of them.
                own = row_slice(queries, *rows)
                row_slice(by_queries, *rows).copy_(gradient.sum(dim=1, keepdim=True) * own).addmm_(
                    gradient, references, alpha=-1
                )
                by_references.addmm_(gradient.T, own, alpha=-1)
                column_sums += gradient.sum(dim=0)
                for total, other in zip(by_weights, others, strict=True):
                    total += other
            numbers = [number.detach() for number in numbers]
            totals = [a + b for a, b in zip(totals, numbers, strict=True)] if totals else numbers
        totals = [processes.add(total) for total in totals]
        if needs_gradient:
            for x in (by_queries, by_references, column_sums, *by_weights):
                x.copy_(processes.add(x))
            by_references += column_sums[:, None] * references
            scale = 1 if distance == "cosine" else 2
            ctx.save_for_backward(scale * by_queries, scale * by_references, *by_weights)
            ctx.whole = lambda: terms(Comparison(block_distances(operands, distance), *relations.rows()), *weights)[
                0
            ].sum()
            ctx.inputs = [operands.queries, operands.references, *weights]
        ctx.mark_non_differentiable(*totals[1:])
        return tuple(totals)

    @staticmethod
    def backward(ctx: Any, upstream: Tensor, *others: Tensor) -> tuple[Tensor | None, ...]:
        gradients = ctx.saved_tensors
        if torch.is_grad_enabled():  # the gradient is differentiated itself: it is computed again, as a whole
            gradients = torch.autograd.grad(ctx.whole(), ctx.inputs, create_graph=True, allow_unused=True)
            if ctx.inputs[0] is ctx.inputs[1]:
                gradients = (gradients[0], None, *gradients[2:])  # autograd gives the sum of both sides for each
        return *[None] * 5, *(None if gradient is None else upstream * gradient for gradient in gradients)


def grad_wrt_squared_distance(distances: Tensor, gradient: Tensor, distance: str) -> Tensor:
    """From the gradient by distances, the gradient by squared distances; for the cosine distance, by half of them.

    It is 0 where the distance is 0.
    """
    if distance == "euclidean":
        return torch.where(distances > 0, gradient / torch.where(distances > 0, 2 * distances, 1.0), 0.0)
    return gradient * distances.sign()


@torch.no_grad()
def mined_masks(miner: Any, queries: Tensor, references: Tensor, relations: Relations, distance: str) -> Masks:
    """Everything that a miner selects, as two masks ``[N, M]`` with one byte per pair."""
    operands = prepare_rows(queries, references, distance)
    found = []
    for rows in blocks.row_blocks(len(queries), len(references), queries.device.type == "cpu"):
        masks = relations.rows(*rows)
        found.append(miner.refine(block_distances(operands, distance, *rows), *masks))
    positive, negative = (torch.cat(parts) for parts in zip(*found, strict=True))
    return Masks(positive, negative)


@torch.no_grad()
def distance_statistics(queries: Tensor, references: Tensor, relations: Relations, distance: str) -> dict[str, Tensor]:
    """Mean distances of positives and of negatives, and the spread: the logs of a loss with ``need_logs``."""
    found = reduce_rows(masked_distance_sums, queries, references, relations, distance, tiled=False)
    positive_sum, positives, negative_sum, negatives = (number.sum() for number in found)
    return {
        "positive_distance": positive_sum / positives.clamp(min=1),
        "negative_distance": negative_sum / negatives.clamp(min=1),
        "spread": spread(queries),
    }


def masked_distance_sums(rows: Comparison) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """For each row, the sum of the positives' distances and their number, and the same for the negatives."""
    masks = rows.positive, rows.negative
    sums = [torch.where(mask, rows.distances, 0.0).sum(dim=1) for mask in masks]
    return sums[0], rows.count(POSITIVE), sums[1], rows.count(NEGATIVE)
