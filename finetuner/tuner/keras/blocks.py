"""Sums over the rows of a batch, a block of rows at a time, for Keras; see :mod:`..base.blocks`."""

from collections.abc import Callable
from typing import Any

import keras
from keras import KerasTensor, ops

from ..base import blocks
from .functional import Masks, Places, Relations, distances_of, pairwise_distance, places_of, spread

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
) -> tuple[KerasTensor, ...]:
    """Numbers of the rows of ``queries`` against ``references``, or their sums, in the memory of a block of rows.

    A batch of one block is seen as a whole, with gradients of any order. Of more blocks no distance outlives its block:
    each block is computed again when its gradient is due. Only the first number has a gradient.

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
    size = size_of_blocks(queries, references)
    if size is None:
        return terms(pairwise_distance(queries, references, distance), *relations.rows(), *weights)
    places = places_of(queries, references, distance)
    starts, index = starts_of_blocks(queries.shape[0], size)

    # All that has a gradient is an argument: TensorFlow's recomputation loses the gradient of what is closed over.
    def block(start: KerasTensor, *given: KerasTensor) -> KerasTensor:
        numbers = terms(distances_of(Places(*given[:6]), distance), *relations.rows(start, size), *given[6:])
        return ops.stack([numbers[0], *map(ops.stop_gradient, numbers[1:])], axis=1)

    again = keras.remat(block)
    sides = [places.queries, places.query_norms, places.query_lost]
    sides = [ops.reshape(ops.take(side, index, axis=0), (-1, size, *side.shape[1:])) for side in sides]

    def at(given: tuple[KerasTensor, ...]) -> KerasTensor:
        start, own, norms, lost = given
        shared = places.references, norms, places.reference_norms, lost, places.reference_lost
        return again(start, own, *shared, *weights)

    found = in_order(ops.map(at, (starts, *sides)), queries.shape[0])  # [N, numbers]
    return tuple(ops.unstack(found, axis=1) if each else ops.unstack(ops.sum(found, axis=0)))


def size_of_blocks(queries: KerasTensor, references: KerasTensor) -> int | None:
    """How many rows a block has; None if one is enough, or a compiler has left the sizes open."""
    rows, columns = queries.shape[0], references.shape[0]
    if rows is None or columns is None:
        return None
    size = blocks.rows_per_block(columns)
    return size if size < rows else None


def starts_of_blocks(rows: int, size: int) -> tuple[KerasTensor, KerasTensor]:
    """The first row of each block, and all their rows: the last block begins early, so that it is as long as others."""
    count = -(-rows // size)
    starts = ops.minimum(ops.arange(count, dtype="int32") * size, rows - size)
    return starts, ops.reshape(starts[:, None] + ops.arange(size, dtype="int32"), (-1,))


def in_order(found: KerasTensor, rows: int) -> KerasTensor:
    """What blocks ``[blocks, B, ...]`` tell of each row, without what the last one tells again: ``[rows, ...]``."""
    count, size = found.shape[:2]
    found = ops.reshape(found, (count * size, *found.shape[2:]))
    whole = (count - 1) * size
    return ops.concatenate([found[:whole], found[count * size - (rows - whole) :]])


def selected(miner: Any, queries: KerasTensor, references: KerasTensor, relations: Relations, distance: str) -> Masks:
    """All that a miner selects, as two masks ``[N, M]``: a byte a pair each, and nothing larger."""
    places = places_of(ops.stop_gradient(queries), ops.stop_gradient(references), distance)
    size = size_of_blocks(queries, references)
    if size is None:
        return Masks(*miner.refine(distances_of(places, distance), *relations.rows()))

    def block(start: KerasTensor) -> KerasTensor:
        return ops.stack(miner.refine(distances_of(places, distance, start, size), *relations.rows(start, size)))

    found = ops.map(block, starts_of_blocks(queries.shape[0], size)[0])  # [blocks, 2, B, M]
    return Masks(*(in_order(found[:, side], queries.shape[0]) for side in (0, 1)))


def of_distances(
    queries: KerasTensor, references: KerasTensor, relations: Relations, distance: str
) -> dict[str, KerasTensor]:
    """What a loss with ``need_logs`` tells of all distances: means of positives' and negatives', and the spread."""
    queries, references = ops.stop_gradient(queries), ops.stop_gradient(references)
    found = in_blocks(masked_sums, queries, references, relations, distance)
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
