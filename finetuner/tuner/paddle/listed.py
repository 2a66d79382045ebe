"""The distances of a few listed references of each row, for PaddlePaddle."""

from dataclasses import dataclass
from typing import Any, NamedTuple

import paddle
from paddle.autograd import PyLayer

from ..base.losses import blocks
from .functional import MIN_SQUARE, NEAR, PairwiseOperands
from .ops import Tensor, detached, on_cpu, refuse_second_derivatives, where
from .relations import Relations

__all__ = ["Listed", "list_positives", "listed_distances", "refine_listed", "zero_vectors"]

CHUNK = 2**17  # components of references that are in memory at once; they fit into a core's cache
CHUNK_ACCELERATOR = 2**24


class Listed(NamedTuple):
    """The columns of some references of each row. All rows are padded to the length of the longest."""

    columns: Tensor  # [N, K] int64
    valid: Tensor  # [N, K] boolean, False for padding


def list_positives(relations: Relations, most: int) -> Listed | None:
    """The positives of each row in ascending order; None if the longest list has more than ``most``."""
    both = relations.labels, relations.reference_labels
    if relations.by_class and not any(labels.is_floating_point() for labels in both):  # NaN cannot be sorted
        return list_classes(relations, most)
    rows = blocks.rows_per_block(relations.reference_labels.shape[0], on_cpu(relations.labels))
    found, width = [], 1
    for start in range(0, relations.labels.shape[0], rows):
        mask, _ = relations.rows(start, rows)
        width = max(width, int(mask.sum(axis=1).max()))
        if width > most:
            return None
        found.append(mask.nonzero())
    row = paddle.concat([start * rows + selected[:, 0] for start, selected in enumerate(found)])
    return padded(row, paddle.concat([selected[:, 1] for selected in found]), relations.labels.shape[0], width)


def list_classes(relations: Relations, most: int) -> Listed | None:
    """:func:`list_positives` for class labels, by sorting them."""
    labels, references = relations.labels.astype("int64"), relations.reference_labels.astype("int64")
    order = references.argsort(stable=True)
    ordered = references[order]
    first = paddle.searchsorted(ordered, labels)
    count = paddle.searchsorted(ordered, labels, right=True) - first
    offset = relations.self_offset
    with_own = offset is not None
    width = max(1, int(count.max()) - with_own)  # one of them is the row itself
    if width > most:
        return None
    place = paddle.arange(width + with_own).expand([first.shape[0], -1])
    columns = order[(first[:, None] + place).clip(max=order.shape[0] - 1)]
    if offset is not None:
        # Without the row itself: what stands behind it moves to the left.
        own = paddle.arange(columns.shape[0])[:, None] + offset
        place = place[:, :width] + (columns >= own)[:, :-1].astype("int64")
        columns = columns.take_along_axis(place, axis=1)
    return Listed(columns, place < count[:, None])


def padded(rows: Tensor, columns: Tensor, count: int, width: int) -> Listed:
    """Lists of equal length from the rows and columns of all their members, in order of the rows."""
    lengths = paddle.bincount(rows, minlength=count)
    slot = paddle.arange(rows.shape[0]) - (lengths.cumsum(0) - lengths)[rows]
    valid = paddle.arange(width) < lengths[:, None]
    found = paddle.zeros(valid.shape, dtype="int64")
    if rows.shape[0]:  # Paddle cannot write to no place
        found[rows, slot] = columns
    return Listed(found, valid)


def listed_distances(operands: PairwiseOperands, listed: Listed, distance: str) -> Tensor:
    """The distance of each row to its listed references, ``[N, K]``, from the differences of the rows.

    Padding has the distance of some reference.
    """
    inputs = ListedInputs(operands, listed.columns, distance)
    return ListedDistances.apply(inputs, operands.queries, operands.references)


def refine_listed(distances: Tensor, listed: Listed, operands: PairwiseOperands, distance: str) -> None:
    """Compute the distances that are small from the differences of the rows, in place: ``[N, K]``."""
    queries, references, own, other = (detached(x) for x in operands)
    listed_norms = other.gather(listed.columns.flatten()).reshape(listed.columns.shape)
    near = listed.valid & (distances < NEAR * (own[:, None] + listed_norms))
    places = near.nonzero()
    if not places.shape[0]:
        return
    rows, slots = places[:, 0], places[:, 1]
    few = Listed(listed.columns[rows, slots][:, None], listed.valid[rows, slots][:, None])
    pairs = PairwiseOperands(queries.gather(rows), references, own.gather(rows), other)
    distances[rows, slots] = listed_distances(pairs, few, distance)[:, 0]


def from_squares(square: Tensor, zero_vectors: Tensor, distance: str) -> Tensor:
    """Distances from squared distances."""
    if distance == "cosine":
        return (square + zero_vectors) / 2
    square = where(paddle.isinf(square), paddle.nan, square)
    if distance == "sqeuclidean":
        return square
    zero = square <= MIN_SQUARE
    return where(zero, 0.0, paddle.sqrt(where(zero, 1.0, square)))


def zero_vectors(operands: PairwiseOperands, distance: str) -> list[Tensor]:
    """1 for the queries, and for the references, that are zero vectors to the cosine distance; else 0."""
    queries, references, *norms = (detached(x) for x in operands)
    return [
        ((2 * norm - (x * x).sum(axis=1)) > 0.5).astype(x.dtype) if distance == "cosine" else norm * 0
        for x, norm in zip((queries, references), norms, strict=True)
    ]


@dataclass
class ListedInputs:
    """The inputs of :class:`ListedDistances` that are not differentiated. Paddle does not look into it."""

    operands: PairwiseOperands
    columns: Tensor
    distance: str


class ListedDistances(PyLayer):
    """Distances with their gradient, in chunks of rows."""

    @staticmethod
    def forward(ctx: Any, inputs: ListedInputs, queries: Tensor, references: Tensor) -> Tensor:
        own, other = zero_vectors(inputs.operands, inputs.distance)
        ones, found = paddle.ones_like(queries[0]), []  # a product is faster than sum()
        for rows in chunks(inputs.columns, queries.shape[1]):
            columns = inputs.columns[rows]
            square = row_differences(queries[rows], references, columns).square_() @ ones
            zeros = own[rows][:, None] + other.gather(columns.flatten()).reshape(columns.shape)
            found.append(from_squares(square, zeros, inputs.distance))
        distances = paddle.concat(found)
        ctx.needs_gradient = [not x.stop_gradient for x in (queries, references)]
        ctx.columns, ctx.distance = inputs.columns, inputs.distance
        ctx.save_for_backward(queries, references, distances)
        return distances

    @staticmethod
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor | None, ...]:
        refuse_second_derivatives()
        queries, references, distances = ctx.saved_tensor()
        scale = upstream if ctx.distance == "cosine" else 2 * upstream
        if ctx.distance == "euclidean":
            zero = distances == 0
            scale = where(zero, 0.0, upstream / where(zero, 1.0, distances))
        by_queries, by_references = [], paddle.zeros_like(references)
        for rows in chunks(ctx.columns, queries.shape[1]):
            columns = ctx.columns[rows]
            differences = row_differences(queries[rows], references, columns)
            by_queries.append(-paddle.matmul(scale[rows][:, None, :], differences)[:, 0])
            if ctx.needs_gradient[1]:
                part = differences.multiply_(scale[rows][:, :, None].expand_as(differences))
                paddle.index_add_(by_references, columns.flatten(), 0, part.reshape([-1, part.shape[2]]))
        gradients = paddle.concat(by_queries), by_references
        return tuple(found if needed else None for needed, found in zip(ctx.needs_gradient, gradients, strict=True))


def row_differences(queries: Tensor, references: Tensor, columns: Tensor) -> Tensor:
    """The differences of listed references to rows ``[B, D]``: ``[B, K, D]``."""
    listed = references.gather(columns.flatten()).reshape([*columns.shape, references.shape[1]])
    return listed.subtract_(queries[:, None, :].expand_as(listed))


def chunks(columns: Tensor, width: int) -> list[slice]:
    """Rows of which all listed references are in memory at once."""
    size = max(1, (CHUNK if on_cpu(columns) else CHUNK_ACCELERATOR) // max(1, columns.shape[1] * width))
    return [slice(start, start + size) for start in range(0, columns.shape[0], size)]
