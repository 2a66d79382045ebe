"""Sums over the rows of a batch, a block of rows at a time, for PaddlePaddle; see :mod:`..base.blocks`."""

from collections.abc import Callable
from typing import Any, NamedTuple

import paddle
from paddle.autograd import PyLayer
from paddle.distributed.fleet.utils import recompute

from ..base import blocks
from .functional import (
    Masks,
    Places,
    Relations,
    block_of,
    detached,
    distances_of,
    pairwise_distance,
    places_of,
    row_sums,
    spread,
    where,
)

__all__ = ["in_blocks", "of_distances", "selected"]

Terms = Callable[..., tuple[paddle.Tensor, ...]]


def in_blocks(
    terms: Terms,
    queries: paddle.Tensor,
    references: paddle.Tensor,
    relations: Any,
    distance: str,
    each: bool = False,
    weights: tuple[paddle.Tensor, ...] = (),
) -> tuple[paddle.Tensor, ...]:
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
    if not paddle.in_dynamic_mode():  # compiled, with shapes that may be open: all at once
        return terms(pairwise_distance(queries, references, distance), *relations.rows(), *weights)
    slices = blocks.row_blocks(queries.shape[0], references.shape[0], queries.place.is_cpu_place())
    if len(slices) < 2:
        return terms(pairwise_distance(queries, references, distance), *relations.rows(), *weights)
    places = places_of(queries, references, distance)
    if not each:
        return Sums.apply(
            Given(terms, relations, distance, slices, places), places.queries, places.references, *weights
        )

    def block(rows: tuple[int, int], *given: paddle.Tensor) -> tuple[paddle.Tensor, ...]:
        here, masks = Places(*given[: len(places)]), relations.rows(*rows)
        return terms(distances_of(here, distance, *rows), *masks, *given[len(places) :])

    found = [recompute(block, s, *places, *weights, preserve_rng_state=False) for s in slices]
    return tuple(paddle.concat(parts) for parts in zip(*found, strict=True))


class Sums(PyLayer):
    """Sums over all rows, in one pass over the blocks.

    As every row weighs the same, the gradient of the sum is known but for one factor: it is taken while the block is
    there, and ``backward`` has only to scale it.
    """

    @staticmethod
    def forward(
        ctx: Any, given: "Given", queries: paddle.Tensor, references: paddle.Tensor, *weights: paddle.Tensor
    ) -> tuple[paddle.Tensor, ...]:
        moving = [not x.stop_gradient for x in (queries, references, *weights)]
        by_queries, by_references = [], paddle.zeros_like(references)
        columns = paddle.zeros_like(references[:, 0])
        leaves = [leaf(weight) for weight in weights]
        by_weights = [paddle.zeros_like(weight) for weight in weights]
        totals: list[paddle.Tensor] = []
        for rows in given.slices:
            distances = leaf(distances_of(given.places, given.distance, *rows))
            masks = given.relations.rows(*rows)
            with paddle.set_grad_enabled(any(moving)):
                numbers = [number.sum() for number in given.terms(distances, *masks, *leaves)]
            if any(moving):
                slopes, *others = paddle.grad(numbers[0], [distances, *leaves])
                slopes = by_square(detached(distances), slopes, given.distance)
                # |q - r|^2 has the gradients 2 (q - r) and 2 (r - q), and half of it has half of them.
                own = block_of(queries, *rows)
                by_queries.append(row_sums(slopes)[:, None] * own - slopes @ references)
                by_references -= paddle.matmul(slopes, own, transpose_x=True)
                columns += paddle.ones_like(slopes[:, 0]) @ slopes  # faster than a sum
                for total, other in zip(by_weights, others, strict=True):
                    total += other
            numbers = [detached(number) for number in numbers]
            totals = [a + b for a, b in zip(totals, numbers, strict=True)] if totals else numbers
        if any(moving):
            by_references += columns[:, None] * references
            ctx.moving = moving
            rate = 1 if given.distance == "cosine" else 2
            ctx.save_for_backward(rate * paddle.concat(by_queries), rate * by_references, *by_weights)
        ctx.mark_non_differentiable(*totals[1:])
        return tuple(totals)

    @staticmethod
    def backward(ctx: Any, upstream: paddle.Tensor, *others: paddle.Tensor) -> tuple[paddle.Tensor | None, ...]:
        gradients = zip(ctx.moving, ctx.saved_tensor(), strict=True)
        return tuple(upstream * gradient if moving else None for moving, gradient in gradients)


class Given(NamedTuple):
    """What blocks are made of."""

    terms: Terms
    relations: Any
    distance: str
    slices: list[tuple[int, int]]
    places: Places


def leaf(x: paddle.Tensor) -> paddle.Tensor:
    """``x`` without its past, to take gradients by."""
    x = x.detach()
    x.stop_gradient = False
    return x


def by_square(distances: paddle.Tensor, slopes: paddle.Tensor, distance: str) -> paddle.Tensor:
    """Slopes by squares (of the cosine distance, half of them), of slopes by distances: 0 where the distance is."""
    if distance == "euclidean":
        return where(distances > 0, slopes / where(distances > 0, 2 * distances, 1.0), 0.0)
    return slopes * (distances > 0).astype(slopes.dtype)


@paddle.no_grad()
def selected(
    miner: Any, queries: paddle.Tensor, references: paddle.Tensor, relations: Relations, distance: str
) -> Masks:
    """All that a miner selects, as two masks ``[N, M]``: a byte a pair each, and nothing larger."""
    places = places_of(queries, references, distance)
    if not paddle.in_dynamic_mode():
        return Masks(*miner.refine(distances_of(places, distance), *relations.rows()))
    found = []
    for rows in blocks.row_blocks(queries.shape[0], references.shape[0], queries.place.is_cpu_place()):
        masks = relations.rows(*rows)
        found.append(miner.refine(distances_of(places, distance, *rows), *masks))
    positive, negative = (paddle.concat(parts) for parts in zip(*found, strict=True))
    return Masks(positive, negative)


@paddle.no_grad()
def of_distances(
    queries: paddle.Tensor, references: paddle.Tensor, relations: Relations, distance: str
) -> dict[str, paddle.Tensor]:
    """What a loss with ``need_logs`` tells of all distances: means of positives' and negatives', and the spread."""
    found = in_blocks(masked_sums, queries, references, relations, distance)
    near, positives, far, negatives = (number.sum() for number in found)
    return {
        "positive_distance": near / positives.clip(min=1),
        "negative_distance": far / negatives.clip(min=1),
        "spread": spread(queries),
    }


def masked_sums(
    distances: paddle.Tensor, positive: paddle.Tensor, negative: paddle.Tensor
) -> tuple[paddle.Tensor, paddle.Tensor, paddle.Tensor, paddle.Tensor]:
    """Of each row: the sum of its positives' distances and their number, and the same of its negatives."""
    near, far = (row_sums(where(mask, distances, 0.0)) for mask in (positive, negative))
    counts = [row_sums(mask).astype(distances.dtype) for mask in (positive, negative)]
    return near, counts[0], far, counts[1]
