"""Sums over the rows of a batch, in blocks of rows, for Keras; see :mod:`finetuner.tuner.base.losses.blocks`."""

import functools
from collections.abc import Callable
from typing import Any

import keras
from keras import ops

from ..base.losses import blocks
from ..base.losses.reductions import NEGATIVE, POSITIVE
from .comparison import Comparison
from .functional import PairwiseOperands, block_distances, pairwise_distance, prepare_rows, spread
from .gradients import aux_and_gradients, compile_xla, grad_wrt_squared_distance, known_gradient
from .ops import Tensor, row_slice
from .relations import Masks, Relations
from .sorted_rows import suits_sorting
from .tiles import sum_tiles
from .tiling import Tiling

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
    count: int = 3,
) -> tuple[Tensor, ...]:
    """Numbers of the rows of ``queries`` against ``references``, or their sums, in bounded memory.

    A batch of one block is computed as a whole; so is a batch whose sizes a compiler has left open, or whose numbers
    are needed per row. A larger one is computed in square tiles if the terms allow it and each row has few positives,
    else in blocks of rows. No distance outlives its tile or block. All rows have the same weight in a sum, so its
    gradient is known except for one factor and is computed together with the value. Only the first number has a
    gradient.

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
        count: How many numbers ``terms`` returns.
    """
    size = block_size(queries, references)
    if per_row or size is None:
        return terms(Comparison(pairwise_distance(queries, references, distance), *relations.rows()), *weights)
    operands = prepare_rows(queries, references, distance)
    function = sum_blocks
    per_reference = any(len(weight.shape) > 0 for weight in weights)  # tiles have the references in another order
    if tiled and not per_reference and suits_tiles(terms, relations, size, queries):
        function = functools.partial(sum_tiles_or_blocks, relations.self_comparison and queries is references)
    totals, gradients = known_sums(function, terms, relations, distance, size, count, operands, weights)
    return attach(totals, gradients, operands, weights)


def known_sums(
    function: Callable[..., Any],
    terms: Terms,
    relations: Any,
    distance: str,
    size: int,
    count: int,
    operands: PairwiseOperands,
    weights: tuple[Tensor, ...],
) -> tuple[Tensor, list[Tensor]]:
    """What :func:`sum_blocks` or another such function returns, without gradients."""
    fixed = [*map(ops.stop_gradient, operands)], [*map(ops.stop_gradient, weights)]
    return compile_xla(function, terms, relations, distance, size, count)(*fixed)


def attach(
    totals: Tensor, gradients: list[Tensor], operands: PairwiseOperands, weights: tuple[Tensor, ...]
) -> tuple[Tensor, ...]:
    """The numbers that :func:`known_sums` returns, the first with its gradient by queries, references and weights."""
    first, *others = ops.unstack(totals, num=totals.shape[0])
    zero = ops.zeros_like(first)
    inputs = (operands.queries, operands.references, *weights)
    attached = (known_gradient(zero, g, x) for g, x in zip(gradients, inputs, strict=True))
    return sum(attached, start=first), *others


def suits_tiles(terms: Terms, relations: Any, size: int, queries: Tensor) -> bool:
    """Whether a loss is computed in tiles: of classes, not of triplets, and not if two blocks of rows are enough.

    Several devices share blocks of rows, and would all compute all tiles.
    """
    if keras.distribution.distribution() is not None:
        return False
    return queries.shape[0] > 2 * size and suits_sorting(relations) and not has_triplets(terms)


def reduce_both_ways(
    terms: Terms, first: Tensor, second: Tensor, relations: Relations, distance: str, weights: tuple[Tensor, ...] = ()
) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
    """:func:`reduce_rows` of ``first`` against ``second``, and of ``second`` against ``first``.

    Both are computed from the same tiles. Then only the sum of their first numbers has the right gradient, which is
    attached to the first.
    """
    size = block_size(first, second)
    if size is None or not suits_tiles(terms, relations, size, first):
        forwards = reduce_rows(terms, first, second, relations, distance, weights=weights)
        return forwards, reduce_rows(terms, second, first, relations, distance, weights=weights)
    operands = prepare_rows(first, second, distance)
    totals, gradients = known_sums(sum_both_ways, terms, relations, distance, size, 3, operands, weights)
    found = attach(totals, gradients, operands, weights)
    return found[:3], found[3:]


def sum_blocks(
    terms: Terms,
    relations: Any,
    distance: str,
    size: int,
    count: int,
    given: list[Tensor],
    weights: list[Tensor],
) -> tuple[Tensor, list[Tensor]]:
    """The sums over all rows ``[count]``, and the gradient of the first by queries, references and weights."""
    operands = PairwiseOperands(*given)
    queries, references = operands.queries, operands.references
    rows = queries.shape[0]

    def block(index: Tensor, state: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        totals, by_queries, by_references, column_sums, *by_weights = state
        start = block_start(index, size, rows)
        is_new = start + ops.arange(size, dtype="int32") >= index * size
        distances, masks = block_distances(operands, distance, start, size), relations.rows(start, size)

        def total(inputs: list[Tensor]) -> tuple[Tensor, Tensor]:
            numbers = terms(Comparison(inputs[0], *masks), *inputs[1:])
            sums = [ops.sum(ops.where(is_new, number, 0.0)) for number in numbers]
            return sums[0], ops.stack(sums)

        found, (gradient, *others) = aux_and_gradients(total, [distances, *weights])
        gradient = grad_wrt_squared_distance(distances, gradient, distance)
        # |q - r|^2 has the gradients 2 (q - r) and 2 (r - q), and half of it has half of them.
        own = row_slice(queries, start, size)
        added = ops.sum(gradient, axis=1, keepdims=True) * own - ops.matmul(gradient, references)
        return (
            totals + found,
            ops.slice_update(by_queries, (start, 0), row_slice(by_queries, start, size) + added),
            by_references - ops.matmul(ops.transpose(gradient), own),
            column_sums + ops.sum(gradient, axis=0),
            *(a + b for a, b in zip(by_weights, others, strict=True)),
        )

    state = (ops.zeros((count,), queries.dtype), *map(ops.zeros_like, (queries, references, references[:, 0])))
    state = ops.fori_loop(0, -(-rows // size), block, (*state, *map(ops.zeros_like, weights)))
    totals, by_queries, by_references, column_sums, *by_weights = map(ops.stop_gradient, state)
    scale = 1 if distance == "cosine" else 2
    return totals, [scale * by_queries, scale * (by_references + column_sums[:, None] * references), *by_weights]


def sum_tiles_or_blocks(
    same: bool,
    terms: Terms,
    relations: Relations,
    distance: str,
    size: int,
    count: int,
    given: list[Tensor],
    weights: list[Tensor],
) -> tuple[Tensor, list[Tensor]]:
    """The same as :func:`sum_blocks`, in tiles if each row has few positives."""
    tiling = Tiling(PairwiseOperands(*given), relations, distance, same=same)
    return ops.cond(
        tiling.fits(),
        lambda: sum_tiles(terms, tiling, weights),
        lambda: sum_blocks(terms, relations, distance, size, count, given, weights),
    )


def sum_both_ways(
    terms: Terms,
    relations: Relations,
    distance: str,
    size: int,
    count: int,
    given: list[Tensor],
    weights: list[Tensor],
) -> tuple[Tensor, list[Tensor]]:
    """The sums of the queries, then those of the references, and the gradient of the sum of the first of both."""
    tiling = Tiling(PairwiseOperands(*given), relations, distance, both=True)

    def in_blocks() -> tuple[Tensor, list[Tensor]]:
        reverse = Relations(relations.reference_labels, relations.labels)
        turned = [given[1], given[0], given[3], given[2]]
        sums, gradients = sum_blocks(terms, relations, distance, size, count, given, weights)
        size_back = min(blocks.rows_per_block(given[0].shape[0]), given[1].shape[0])
        others, back = sum_blocks(terms, reverse, distance, size_back, count, turned, weights)
        back = [back[1], back[0], *back[2:]]
        return ops.concatenate([sums, others]), [a + b for a, b in zip(gradients, back, strict=True)]

    return ops.cond(tiling.fits(), lambda: sum_tiles(terms, tiling, weights), in_blocks)


def has_triplets(terms: Terms) -> bool:
    """Whether the terms are over triplets, which a miner may select: these are computed in blocks of rows."""
    loss: Any = getattr(terms, "__self__", None)
    return hasattr(loss, "miner") and loss.tuples == "triplets"


def block_size(queries: Tensor, references: Tensor) -> int | None:
    """The rows of a block; None if one block is enough, or a compiler has left the sizes open."""
    rows, columns = queries.shape[0], references.shape[0]
    if not isinstance(rows, int) or not isinstance(columns, int):  # None, or a symbolic dimension of JAX
        return None
    size = blocks.rows_per_block(columns)
    return size if size < rows else None


def block_start(index: Tensor, size: int, rows: int) -> Tensor:
    """The first row of a block. The last block begins early, so that all blocks have the same size."""
    return ops.minimum(index * size, rows - size)


def mined_masks(miner: Any, queries: Tensor, references: Tensor, relations: Relations, distance: str) -> Masks:
    """Everything that a miner selects, as two masks ``[N, M]`` with one byte per pair."""
    operands = prepare_rows(ops.stop_gradient(queries), ops.stop_gradient(references), distance)
    size = block_size(queries, references)
    if size is None:
        return Masks(*miner.refine(block_distances(operands, distance), *relations.rows()))

    def block(start: Tensor) -> Tensor:
        return ops.stack(miner.refine(block_distances(operands, distance, start, size), *relations.rows(start, size)))

    rows = queries.shape[0]
    count = -(-rows // size)
    found = ops.map(block, block_start(ops.arange(count, dtype="int32"), size, rows))  # [blocks, 2, B, M]
    found = ops.reshape(ops.transpose(found, (1, 0, 2, 3)), (2, count * size, -1))
    repeated = count * size - rows  # rows of the last block but one that the last block contains again
    whole = (count - 1) * size
    return Masks(*(ops.concatenate([side[:whole], side[whole + repeated :]]) for side in ops.unstack(found, num=2)))


def distance_statistics(queries: Tensor, references: Tensor, relations: Relations, distance: str) -> dict[str, Tensor]:
    """Mean distances of positives and of negatives, and the spread: the logs of a loss with ``need_logs``."""
    queries, references = ops.stop_gradient(queries), ops.stop_gradient(references)
    found = reduce_rows(masked_distance_sums, queries, references, relations, distance, tiled=False, count=4)
    positive_sum, positives, negative_sum, negatives = map(ops.sum, found)
    return {
        "positive_distance": positive_sum / ops.maximum(positives, 1),
        "negative_distance": negative_sum / ops.maximum(negatives, 1),
        "spread": spread(queries),
    }


def masked_distance_sums(rows: Comparison) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """For each row, the sum of the positives' distances and their number, and the same for the negatives."""
    masks = rows.positive, rows.negative
    sums = [ops.sum(ops.where(mask, rows.distances, 0.0), axis=1) for mask in masks]
    return sums[0], rows.count(POSITIVE), sums[1], rows.count(NEGATIVE)
