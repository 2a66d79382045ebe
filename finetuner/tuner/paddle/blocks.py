"""Sums over the rows of a batch, in blocks of rows, for PaddlePaddle; see :mod:`finetuner.tuner.base.losses.blocks`."""

from collections.abc import Callable
from typing import Any, NamedTuple

import paddle
from paddle.autograd import PyLayer
from paddle.distributed.fleet.utils import recompute
from paddle.jit.sot.utils import no_eval_frame

from ..base.losses import blocks
from ..base.losses.reductions import NEGATIVE, POSITIVE
from ..base.processes import ALONE, work_is_shared_by
from .comparison import Comparison
from .functional import PairwiseOperands, block_distances, pairwise_distance, prepare_rows, spread
from .ops import Tensor, detached, on_cpu, refuse_second_derivatives, row_slice, row_sums, where
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
    if not paddle.in_dynamic_mode():  # compiled, shapes may be open: the batch is computed as a whole
        return terms(Comparison(pairwise_distance(queries, references, distance), *relations.rows()), *weights)
    if tiled and blocks.suits_tiles(queries.shape[0], references.shape[0], on_cpu(queries)):
        found = reduce_tiles(terms, queries, references, relations, distance, weights)
        if found is not None:
            return found[0] if per_row else tuple(number.sum() for number in found[0])
    slices = blocks.row_blocks(queries.shape[0], references.shape[0], on_cpu(queries))
    if len(slices) < 2:
        return terms(Comparison(pairwise_distance(queries, references, distance), *relations.rows()), *weights)
    operands = prepare_rows(queries, references, distance)
    if not per_row:
        inputs = BlockInputs(terms, relations, distance, slices, operands)
        return BlockSums.apply(inputs, operands.queries, operands.references, *weights)

    def block(rows: tuple[int, int], *given: Tensor) -> tuple[Tensor, ...]:
        block_operands, masks = PairwiseOperands(*given[: len(operands)]), relations.rows(*rows)
        return terms(Comparison(block_distances(block_operands, distance, *rows), *masks), *given[len(operands) :])

    found = [recompute(block, s, *operands, *weights, preserve_rng_state=False) for s in slices]
    first, *others = (paddle.concat(parts) for parts in zip(*found, strict=True))
    return FirstDerivative.apply(first), *others


def reduce_both_ways(
    terms: Terms, first: Tensor, second: Tensor, relations: Relations, distance: str, weights: tuple[Tensor, ...] = ()
) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
    """:func:`reduce_rows` of ``first`` against ``second``, and of ``second`` against ``first``.

    Both are computed from the same tiles.
    """
    found = None
    if paddle.in_dynamic_mode() and blocks.suits_tiles(first.shape[0], second.shape[0], on_cpu(first)):
        found = reduce_tiles(terms, first, second, relations, distance, weights, both=True)
    if found is not None:
        return tuple(number.sum() for number in found[0]), tuple(number.sum() for number in found[1])
    forwards = reduce_rows(terms, first, second, relations, distance, weights=weights)
    return forwards, reduce_rows(terms, second, first, relations, distance, weights=weights)


@no_eval_frame  # to_static, as it is by default, cannot follow what is done in place
def reduce_tiles(
    terms: Terms,
    queries: Tensor,
    references: Tensor,
    relations: Any,
    distance: str,
    weights: tuple[Tensor, ...],
    both: bool = False,
) -> list[tuple[Tensor, ...]] | None:
    """Numbers of the rows in tiles, for the queries and, if ``both``, the references; None if they cannot be tiled."""
    rows = tiled_comparison(queries, references, relations, distance, both)
    if rows is None:
        return None
    found = [terms(rows, *weights)]
    return [*found, terms(rows.reverse, *weights)] if both else found


class FirstDerivative(PyLayer):
    """The same numbers, whose gradient cannot be differentiated: Paddle's ``recompute`` would do it wrong."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x.clone()

    @staticmethod
    def backward(ctx: Any, upstream: Tensor) -> Tensor:
        refuse_second_derivatives()
        return upstream


class BlockSums(PyLayer):
    """Sums over all rows, in one pass over the blocks.

    All rows have the same weight in a sum, so its gradient is known except for one factor. It is computed while the
    block exists, and ``backward`` only multiplies it. Several processes share the blocks.
    """

    @staticmethod
    def forward(
        ctx: Any, inputs: "BlockInputs", queries: Tensor, references: Tensor, *weights: Tensor
    ) -> tuple[Tensor, ...]:
        needs_gradient = [not x.stop_gradient for x in (queries, references, *weights)]
        by_queries, by_references = paddle.zeros_like(queries), paddle.zeros_like(references)
        column_sums = paddle.zeros_like(references[:, 0])
        inputs_requiring_grad = [as_leaf(weight) for weight in weights]
        by_weights = [paddle.zeros_like(weight) for weight in weights]
        totals: list[Tensor] = []
        processes = work_is_shared_by.get()
        if len(inputs.slices) < processes.count:
            processes = ALONE
        for rows in inputs.slices[processes.rank :: processes.count]:
            distances = as_leaf(block_distances(inputs.operands, inputs.distance, *rows))
            masks = inputs.relations.rows(*rows)
            with paddle.set_grad_enabled(any(needs_gradient)):
                numbers = [n.sum() for n in inputs.terms(Comparison(distances, *masks), *inputs_requiring_grad)]
            if any(needs_gradient):
                gradient, *others = paddle.grad(numbers[0], [distances, *inputs_requiring_grad])
                gradient = grad_wrt_squared_distance(detached(distances), gradient, inputs.distance)
                # |q - r|^2 has the gradients 2 (q - r) and 2 (r - q), and half of it has half of them.
                own = row_slice(queries, *rows)
                by_queries[rows[0] : rows[0] + rows[1]] = row_sums(gradient)[:, None] * own - gradient @ references
                by_references -= paddle.matmul(gradient, own, transpose_x=True)
                column_sums += paddle.ones_like(gradient[:, 0]) @ gradient  # faster than a sum
                for total, other in zip(by_weights, others, strict=True):
                    total += other
            numbers = [detached(number) for number in numbers]
            totals = [a + b for a, b in zip(totals, numbers, strict=True)] if totals else numbers
        totals = [processes.add(total) for total in totals]
        if any(needs_gradient):
            by_queries, by_references, column_sums, *by_weights = (
                processes.add(x) for x in (by_queries, by_references, column_sums, *by_weights)
            )
            by_references += column_sums[:, None] * references
            ctx.needs_gradient = needs_gradient
            scale = 1 if inputs.distance == "cosine" else 2
            ctx.save_for_backward(scale * by_queries, scale * by_references, *by_weights)
        ctx.mark_non_differentiable(*totals[1:])
        return tuple(totals)

    @staticmethod
    def backward(ctx: Any, upstream: Tensor, *others: Tensor) -> tuple[Tensor | None, ...]:
        refuse_second_derivatives()
        gradients = zip(ctx.needs_gradient, ctx.saved_tensor(), strict=True)
        return tuple(upstream * gradient if needed else None for needed, gradient in gradients)


class BlockInputs(NamedTuple):
    """The inputs of :class:`BlockSums` that are not differentiated. Paddle does not look into a named tuple."""

    terms: Terms
    relations: Any
    distance: str
    slices: list[tuple[int, int]]
    operands: PairwiseOperands


def as_leaf(x: Tensor) -> Tensor:
    """``x`` without its history, as a tensor that gradients can be taken by."""
    x = x.detach()
    x.stop_gradient = False
    return x


def grad_wrt_squared_distance(distances: Tensor, gradient: Tensor, distance: str) -> Tensor:
    """From the gradient by distances, the gradient by squared distances; for the cosine distance, by half of them.

    It is 0 where the distance is 0.
    """
    if distance == "euclidean":
        return where(distances > 0, gradient / where(distances > 0, 2 * distances, 1.0), 0.0)
    return gradient * (distances > 0).astype(gradient.dtype)


@paddle.no_grad()
def mined_masks(miner: Any, queries: Tensor, references: Tensor, relations: Relations, distance: str) -> Masks:
    """Everything that a miner selects, as two masks ``[N, M]`` with one byte per pair."""
    operands = prepare_rows(queries, references, distance)
    if not paddle.in_dynamic_mode():
        return Masks(*miner.refine(block_distances(operands, distance), *relations.rows()))
    found = []
    for rows in blocks.row_blocks(queries.shape[0], references.shape[0], on_cpu(queries)):
        masks = relations.rows(*rows)
        found.append(miner.refine(block_distances(operands, distance, *rows), *masks))
    positive, negative = (paddle.concat(parts) for parts in zip(*found, strict=True))
    return Masks(positive, negative)


@paddle.no_grad()
def distance_statistics(queries: Tensor, references: Tensor, relations: Relations, distance: str) -> dict[str, Tensor]:
    """Mean distances of positives and of negatives, and the spread: the logs of a loss with ``need_logs``."""
    found = reduce_rows(masked_distance_sums, queries, references, relations, distance, tiled=False)
    positive_sum, positives, negative_sum, negatives = (number.sum() for number in found)
    return {
        "positive_distance": positive_sum / positives.clip(min=1),
        "negative_distance": negative_sum / negatives.clip(min=1),
        "spread": spread(queries),
    }


def masked_distance_sums(rows: Comparison) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """For each row, the sum of the positives' distances and their number, and the same for the negatives."""
    sums = [row_sums(where(mask, rows.distances, 0.0)) for mask in (rows.positive, rows.negative)]
    return sums[0], rows.count(POSITIVE), sums[1], rows.count(NEGATIVE)
