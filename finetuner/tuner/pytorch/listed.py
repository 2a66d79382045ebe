"""The distances of a few listed references of each row, for PyTorch."""

from typing import Any, NamedTuple

import torch

from .bands import Bands, band_gradients, band_squares, sorted_bands
from .functional import MIN_SQUARE, NEAR, PairwiseOperands
from .ops import Tensor
from .relations import Relations

__all__ = ["Listed", "list_positives", "listed_distances", "refine_listed", "zero_vectors"]

CHUNK = 2**20  # components of references that are in memory at once


class Listed(NamedTuple):
    """The columns of some references of each row. All rows are padded to the length of the longest."""

    columns: Tensor  # [N, K] int64
    valid: Tensor  # [N, K] boolean, False for padding
    bands: Bands | None = None  # of class labels of a batch that is compared with itself


def list_positives(relations: Relations, most: int) -> Listed | None:
    """The positives of each row in ascending order; None if the longest list has more than ``most``."""
    both = relations.labels, relations.reference_labels
    if relations.by_class and not any(labels.is_floating_point() for labels in both):  # NaN cannot be sorted
        return list_classes(relations, most)
    rows = max(1, CHUNK // max(1, len(relations.reference_labels)))
    found, width = [], 1
    for start in range(0, len(relations.labels), rows):
        mask, _ = relations.rows(start, rows)
        width = max(width, int(mask.sum(dim=1).max()))
        if width > most:
            return None
        found.append(mask.nonzero(as_tuple=True))
    row = torch.cat([start * rows + row for start, (row, _) in enumerate(found)])
    return padded(row, torch.cat([column for _, column in found]), len(relations.labels), width)


def list_classes(relations: Relations, most: int) -> Listed | None:
    """:func:`list_positives` for class labels, by sorting them."""
    labels, references = (x.to(torch.int64).contiguous() for x in (relations.labels, relations.reference_labels))
    order = torch.argsort(references, stable=True)
    ordered = references[order]
    first = torch.searchsorted(ordered, labels)
    count = torch.searchsorted(ordered, labels, right=True) - first
    offset = relations.self_offset
    with_own = offset is not None
    width = max(1, int(count.max()) - with_own)  # one of them is the row itself
    if width > most:
        return None
    place = torch.arange(width + with_own, device=order.device)
    valid = place < count[:, None]
    columns = order[(first[:, None] + place).clamp(max=len(order) - 1)]
    if offset is not None:
        # Without the row itself: what stands behind it moves to the left.
        own = torch.arange(len(columns), device=order.device)[:, None] + offset
        place = place[:width] + (columns >= own)[:, :-1]
        columns, valid = columns.gather(1, place), valid.gather(1, place)
    bands = sorted_bands(order, first[:, None] + place, valid) if relations.self_comparison else None
    return Listed(columns, valid, bands)


def padded(rows: Tensor, columns: Tensor, count: int, width: int) -> Listed:
    """Lists of equal length from the rows and columns of all their members, in order of the rows."""
    lengths = torch.bincount(rows, minlength=count)
    slot = torch.arange(len(rows), device=rows.device) - (lengths.cumsum(0) - lengths)[rows]
    valid = torch.arange(width, device=rows.device) < lengths[:, None]
    found = torch.zeros_like(valid, dtype=torch.int64)
    found[rows, slot] = columns
    return Listed(found, valid)


def listed_distances(operands: PairwiseOperands, listed: Listed, distance: str) -> Tensor:
    """The distance of each row to its listed references, ``[N, K]``, from the differences of the rows.

    Padding has the distance of some reference.
    """
    return ListedDistances.apply(  # type: ignore[no-untyped-call]
        operands, listed, distance, operands.queries, operands.references
    )


def refine_listed(distances: Tensor, listed: Listed, operands: PairwiseOperands, distance: str) -> None:
    """Compute the distances that are small from the differences of the rows, in place: ``[N, K]``."""
    own, other = (norms.detach() for norms in operands[2:])
    rows, slots = (listed.valid & (distances < NEAR * (own[:, None] + other[listed.columns]))).nonzero(as_tuple=True)
    if not len(rows):
        return
    few = Listed(listed.columns[rows, slots][:, None], listed.valid[rows, slots][:, None])
    queries, references = (x.detach() for x in operands[:2])
    near = PairwiseOperands(queries[rows], references, own[rows], other)
    distances[rows, slots] = listed_distances(near, few, distance)[:, 0]


def from_squares(square: Tensor, zero_vectors: Tensor, distance: str) -> Tensor:
    """Distances from squared distances."""
    if distance == "cosine":
        return (square + zero_vectors) / 2
    square = torch.where(torch.isinf(square), torch.nan, square)
    if distance == "sqeuclidean":
        return square
    zero = square <= MIN_SQUARE
    return torch.where(zero, 0.0, torch.sqrt(torch.where(zero, 1.0, square)))


def zero_vectors(operands: PairwiseOperands, distance: str) -> list[Tensor]:
    """1 for the queries, and for the references, that are zero vectors to the cosine distance; else 0."""
    sides = (operands.queries, operands.query_norms), (operands.references, operands.reference_norms)
    return [
        ((2 * norms - (x * x).sum(dim=1)).detach() > 0.5).to(x.dtype) if distance == "cosine" else norms.detach() * 0
        for x, norms in sides
    ]


class ListedDistances(torch.autograd.Function):
    """Distances with their gradient, in chunks of rows."""

    @staticmethod
    def forward(
        ctx: Any, operands: PairwiseOperands, listed: Listed, distance: str, queries: Tensor, references: Tensor
    ) -> Tensor:
        own, other = zero_vectors(operands, distance)
        columns, bands = listed.columns, listed.bands if operands.queries is operands.references else None
        if bands is not None:
            distances = from_squares(band_squares(queries, bands), own[:, None] + other[columns], distance)
        else:
            found = []
            for rows in chunks(columns, queries.shape[1]):
                differences = queries[rows][:, None, :] - references[columns[rows]]
                square = differences.square_().sum(dim=2)
                found.append(from_squares(square, own[rows][:, None] + other[columns[rows]], distance))
            distances = torch.cat(found)
        ctx.bands, ctx.valid = bands, listed.valid
        ctx.save_for_backward(columns, queries, references, distances, operands.queries, operands.references)
        ctx.distance, ctx.zeros = distance, (own, other)
        return distances

    @staticmethod
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor | None, ...]:
        columns, queries, references, distances, *inputs = ctx.saved_tensors
        if torch.is_grad_enabled():  # the gradient is differentiated itself: it is computed again, as a whole
            own, other = ctx.zeros
            square = (inputs[0][:, None, :] - inputs[1][columns]).square().sum(dim=2)
            whole = from_squares(square, own[:, None] + other[columns], ctx.distance)
            found = torch.autograd.grad(whole, inputs, upstream, create_graph=True)
            return None, None, None, found[0], None if inputs[0] is inputs[1] else found[1]
        scale = upstream if ctx.distance == "cosine" else 2 * upstream
        if ctx.distance == "euclidean":
            zero = distances == 0
            scale = torch.where(zero, 0.0, upstream / torch.where(zero, 1.0, distances))
        if ctx.bands is not None:
            return None, None, None, band_gradients(queries, ctx.bands, torch.where(ctx.valid, scale, 0.0)), None
        by_queries, by_references = torch.zeros_like(queries), torch.zeros_like(references)
        for rows in chunks(columns, queries.shape[1]):
            part = (queries[rows][:, None, :] - references[columns[rows]]).mul_(scale[rows][:, :, None])
            by_queries[rows] = part.sum(dim=1)
            by_references.index_add_(0, columns[rows].reshape(-1), part.reshape(-1, part.shape[2]), alpha=-1)
        return None, None, None, by_queries, by_references


def chunks(columns: Tensor, width: int) -> list[slice]:
    """Rows of which all listed references are in memory at once."""
    size = max(1, CHUNK // max(1, columns.shape[1] * width))
    return [slice(start, start + size) for start in range(0, len(columns), size)]
