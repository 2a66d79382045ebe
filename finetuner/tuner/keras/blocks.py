"""Sums over the rows of a batch, a block of rows at a time, for Keras; see :mod:`..base.blocks`."""

from collections.abc import Callable
from typing import Any

from keras import KerasTensor, ops

from ..base import blocks
from .functional import Masks, Places, Relations, block_of, distances_of, pairwise_distance, places_of, spread
from .gradients import fused, noted_and_gradients

__all__ = ["in_blocks", "of_distances", "selected"]

Terms = Callable[..., tuple[KerasTensor, ...]]


def in_blocks(
    terms: Terms,
    queries: KerasTensor,
    references: KerasTensor,
    relations: Any,
    distance: str,
    each: bool = False,
    weights: tuple[KerasTensor, ...] = (),
    numbers: int = 3,
) -> tuple[KerasTensor, ...]:
    """Numbers of the rows of ``queries`` against ``references``, or their sums, in the memory of a block of rows.

    A batch of one block is seen as a whole, with gradients of any order, and so is one whose sizes a compiler has left
    open, or of which each row is asked for. Of more blocks no distance outlives its block: as every row weighs the
    same in a sum, its gradient is known but for one factor, and is taken along. Only the first number has a gradient.

    Args:
        terms: ``terms(distances, positive, negative, *weights)``, of a block's distances and two masks ``[B, M]``,
            gives numbers of its rows, ``[B]`` each. A row's must depend on that row alone.
        queries: ``[N, D]``.
        references: ``[M, D]``.
        relations: ``relations.rows(start, size)`` gives the masks of a block.
        distance: the name of the distance.
        each: whether the numbers of each row are wanted, ``[N]`` each, rather than sums ``[]``.
        weights: further tensors that the terms depend on, with gradients.
        numbers: how many numbers there are.
    """
    size = size_of_blocks(queries, references)
    if each or size is None:
        return terms(pairwise_distance(queries, references, distance), *relations.rows(), *weights)
    places = places_of(queries, references, distance)
    fixed = [*map(ops.stop_gradient, places)], [*map(ops.stop_gradient, weights)]
    totals, gradients = fused(summed, terms, relations, distance, size, numbers)(*fixed)
    moving = (places.queries, places.references, *weights)
    carrier = (ops.sum(g * (x - ops.stop_gradient(x))) for g, x in zip(gradients, moving, strict=True))  # 0 in value
    first, *others = ops.unstack(totals, num=numbers)
    return sum(carrier, start=first), *others


def summed(
    terms: Terms,
    relations: Any,
    distance: str,
    size: int,
    numbers: int,
    given: list[KerasTensor],
    weights: list[KerasTensor],
) -> tuple[KerasTensor, list[KerasTensor]]:
    """The sums over all rows ``[numbers]``, and the gradient of the first by queries, references and weights."""
    places = Places(*given)
    queries, references = places.queries, places.references
    rows = queries.shape[0]

    def block(index: KerasTensor, state: tuple[KerasTensor, ...]) -> tuple[KerasTensor, ...]:
        totals, by_queries, by_references, columns, *by_weights = state
        start = start_of(index, size, rows)
        fresh = start + ops.arange(size, dtype="int32") >= index * size
        distances, masks = distances_of(places, distance, start, size), relations.rows(start, size)

        def total(moving: list[KerasTensor]) -> tuple[KerasTensor, KerasTensor]:
            sums = [ops.sum(ops.where(fresh, one, 0.0)) for one in terms(moving[0], *masks, *moving[1:])]
            return sums[0], ops.stack(sums)

        found, (slopes, *others) = noted_and_gradients(total, [distances, *weights])
        slopes = by_square(distances, slopes, distance)
        # |q - r|^2 has the gradients 2 (q - r) and 2 (r - q), and half of it has half of them.
        own = block_of(queries, start, size)
        pull = ops.sum(slopes, axis=1, keepdims=True) * own - ops.matmul(slopes, references)
        return (
            totals + found,
            ops.slice_update(by_queries, (start, 0), block_of(by_queries, start, size) + pull),
            by_references - ops.matmul(ops.transpose(slopes), own),
            columns + ops.sum(slopes, axis=0),
            *(a + b for a, b in zip(by_weights, others, strict=True)),
        )

    state = (ops.zeros((numbers,), queries.dtype), *map(ops.zeros_like, (queries, references, references[:, 0])))
    state = ops.fori_loop(0, -(-rows // size), block, (*state, *map(ops.zeros_like, weights)))
    totals, by_queries, by_references, columns, *by_weights = map(ops.stop_gradient, state)
    rate = 1 if distance == "cosine" else 2
    return totals, [rate * by_queries, rate * (by_references + columns[:, None] * references), *by_weights]


def by_square(distances: KerasTensor, slopes: KerasTensor, distance: str) -> KerasTensor:
    """Slopes by squares (of the cosine distance, half of them), of slopes by distances: 0 where the distance is."""
    if distance == "euclidean":
        return ops.where(distances > 0, slopes / ops.where(distances > 0, 2 * distances, 1.0), 0.0)
    return slopes * ops.sign(distances)


def size_of_blocks(queries: KerasTensor, references: KerasTensor) -> int | None:
    """How many rows a block has; None if one is enough, or a compiler has left the sizes open."""
    rows, columns = queries.shape[0], references.shape[0]
    if not isinstance(rows, int) or not isinstance(columns, int):  # None, and JAX has dimensions that are symbols
        return None
    size = blocks.rows_per_block(columns)
    return size if size < rows else None


def start_of(index: KerasTensor, size: int, rows: int) -> KerasTensor:
    """The first row of a block: the last block begins early, so that it is as long as the others."""
    return ops.minimum(index * size, rows - size)


def selected(miner: Any, queries: KerasTensor, references: KerasTensor, relations: Relations, distance: str) -> Masks:
    """All that a miner selects, as two masks ``[N, M]``: a byte a pair each, and nothing larger."""
    places = places_of(ops.stop_gradient(queries), ops.stop_gradient(references), distance)
    size = size_of_blocks(queries, references)
    if size is None:
        return Masks(*miner.refine(distances_of(places, distance), *relations.rows()))

    def block(start: KerasTensor) -> KerasTensor:
        return ops.stack(miner.refine(distances_of(places, distance, start, size), *relations.rows(start, size)))

    rows = queries.shape[0]
    count = -(-rows // size)
    found = ops.map(block, start_of(ops.arange(count, dtype="int32"), size, rows))  # [blocks, 2, B, M]
    found = ops.reshape(ops.transpose(found, (1, 0, 2, 3)), (2, count * size, -1))
    again = count * size - rows  # rows of the last block but one, which the last one tells again
    whole = (count - 1) * size
    return Masks(*(ops.concatenate([side[:whole], side[whole + again :]]) for side in ops.unstack(found, num=2)))


def of_distances(
    queries: KerasTensor, references: KerasTensor, relations: Relations, distance: str
) -> dict[str, KerasTensor]:
    """What a loss with ``need_logs`` tells of all distances: means of positives' and negatives', and the spread."""
    queries, references = ops.stop_gradient(queries), ops.stop_gradient(references)
    found = in_blocks(masked_sums, queries, references, relations, distance, numbers=4)
    near, positives, far, negatives = map(ops.sum, found)
    return {
        "positive_distance": near / ops.maximum(positives, 1),
        "negative_distance": far / ops.maximum(negatives, 1),
        "spread": spread(queries),
    }


def masked_sums(
    distances: KerasTensor, positive: KerasTensor, negative: KerasTensor
) -> tuple[KerasTensor, KerasTensor, KerasTensor, KerasTensor]:
    """Of each row: the sum of its positives' distances and their number, and the same of its negatives."""
    near, far = (ops.sum(ops.where(mask, distances, 0.0), axis=1) for mask in (positive, negative))
    counts = [ops.sum(ops.cast(mask, distances.dtype), axis=1) for mask in (positive, negative)]
    return near, counts[0], far, counts[1]
