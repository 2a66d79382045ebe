"""Queries and references in the order of their classes, for Keras.

The rows of a class stand side by side, so the positives of a row are a range of places, whose length no compiler has to
know. Only tiles in which classes overlap need masks.
"""

from typing import Any, NamedTuple

from keras import backend, ops

from .functional import PairwiseOperands
from .ops import Tensor
from .relations import Relations

__all__ = ["SortedRows", "sort_rows", "suits_sorting"]

INTEGERS = ("bool", "int8", "uint8", "int16", "uint16", "int32", "int64")


class SortedRows(NamedTuple):
    """Queries, or references, in ascending order of their classes, filled up to whole tiles.

    The place of a row is its number in this order.
    """

    rows: Tensor  # [P, D], zeros at the end
    norms: Tensor  # [P], see PairwiseOperands
    zero_vectors: Tensor  # [P], 1 for a row that is a zero vector to the cosine distance
    classes: Tensor  # [P] int32
    own: Tensor  # [P] int32, the place of the same row on the other side, -1 for none
    first: Tensor  # [P] int32, the place where the row's class begins on the other side
    count: Tensor  # [P] int32, how many positives the row has
    order: Tensor  # [N] int32, the number of the row at each place
    places: Tensor  # [N] int32, the place of each row


def suits_sorting(relations: Any) -> bool:
    """Whether the relations are those of classes, which can be sorted; NaN cannot."""
    if type(relations) is not Relations or relations.without_own:
        return False
    both = relations.labels, relations.reference_labels
    return all(len(x.shape) == 1 and backend.standardize_dtype(x.dtype) in INTEGERS for x in both)


def sort_rows(
    operands: PairwiseOperands, relations: Relations, distance: str, sizes: tuple[int, int]
) -> tuple[SortedRows, SortedRows, Tensor]:
    """Queries and references in order, and whether each query has the label of the reference that is the query itself.

    Args:
        operands: Of N queries and M references.
        relations: Of both.
        distance: The name of the distance.
        sizes: The rows and the columns of a tile.
    """
    classes, reference_classes, total = number_classes(relations)
    order, reference_order = ops.argsort(classes), ops.argsort(reference_classes)
    places, reference_places = ops.argsort(order), ops.argsort(reference_order)
    lengths = classes.shape[0], reference_classes.shape[0]
    offset = relations.self_offset
    own = reference_own = None
    equal = ops.ones((), "bool")
    if offset is not None:
        own = ops.take(reference_places, order + offset)
        inside = ops.logical_and(reference_order >= offset, reference_order < offset + lengths[0])
        number = ops.clip(reference_order - offset, 0, lengths[0] - 1)
        reference_own = ops.where(inside, ops.take(places, number), -1)
        equal = ops.all(ops.equal(classes, reference_classes[offset : offset + lengths[0]]))
    found = [
        sort_side(side, (order, places), (one, other), own, distance, total, size)
        for side, order, places, one, other, own, size in (
            ((operands.queries, operands.query_norms), order, places, classes, reference_classes, own, sizes[0]),
            (
                (operands.references, operands.reference_norms),
                reference_order,
                reference_places,
                reference_classes,
                classes,
                reference_own,
                sizes[1],
            ),
        )
    ]
    return found[0], found[1], equal


def sort_side(
    side: tuple[Tensor, Tensor],
    by_order: tuple[Tensor, Tensor],
    classes: tuple[Tensor, Tensor],
    own: Tensor | None,
    distance: str,
    total: int,
    size: int,
) -> SortedRows:
    """One side, in order."""
    (rows, norms), (order, places), (mine, others) = side, by_order, classes
    length = rows.shape[0]
    missing = -length % size
    rows, norms, mine = (ops.take(x, order, axis=0) for x in (rows, norms, mine))
    counts = ops.segment_sum(ops.ones_like(others), others, num_segments=total)
    count, first = ops.take(counts, mine), ops.take(ops.cumsum(counts) - counts, mine)
    own = ops.full_like(order, -1) if own is None else own
    count = count - ops.cast(own >= 0, "int32")
    zeros = ops.zeros_like(norms)
    if distance == "cosine":
        zeros = ops.cast(2 * norms - ops.sum(rows * rows, axis=1) > 0.5, norms.dtype)
    own, first, count, order, places = (ops.cast(x, "int32") for x in (own, first, count, order, places))
    norms, zeros, first, count = (ops.pad(x, ((0, missing),)) for x in (norms, zeros, first, count))
    return SortedRows(
        ops.pad(rows, ((0, missing), (0, 0))),
        norms,
        zeros,
        ops.concatenate([mine, ops.repeat(mine[-1:], missing)]) if missing else mine,  # in order to the end
        ops.pad(own, ((0, missing),), constant_values=-1),
        first,
        count,
        order,
        places,
    )


def number_classes(relations: Relations) -> tuple[Tensor, Tensor, int]:
    """The labels of both sides as numbers from 0 on, and a bound of these."""
    labels, references = relations.labels, relations.reference_labels
    dtype = "int64" if "int64" in {backend.standardize_dtype(x.dtype) for x in (labels, references)} else "int32"
    both = ops.cast(labels, dtype)
    if not relations.self_comparison:
        both = ops.concatenate([both, ops.cast(references, dtype)])
    order = ops.argsort(both)
    ordered = ops.take(both, order)
    begins = ops.cast(ops.not_equal(ordered[1:], ordered[:-1]), "int32")
    numbers = ops.concatenate([ops.zeros((1,), "int32"), ops.cast(ops.cumsum(begins), "int32")])
    numbers = ops.take(numbers, ops.argsort(order))
    if relations.self_comparison:
        return numbers, numbers, numbers.shape[0]
    return numbers[: labels.shape[0]], numbers[labels.shape[0] :], numbers.shape[0]
