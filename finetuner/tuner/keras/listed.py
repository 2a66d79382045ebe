"""The distances of the positives of each row, and their gradients, for Keras.

The k-th positives of all rows are taken at a time, so that no array of size N x K x D is needed.
"""

from collections.abc import Callable

from keras import ops

from .functional import MIN_SQUARE
from .gradients import grad_wrt_squared_distance
from .ops import Tensor
from .sorted_rows import SortedRows

__all__ = ["listed_distances", "listed_gradients", "listed_valid", "most_listed"]


def most_listed(side: SortedRows) -> Tensor:
    """The largest number of positives of a row."""
    return ops.max(side.count)


def listed_places(side: SortedRows, k: Tensor) -> tuple[Tensor, Tensor]:
    """The place of the k-th positive of each row on the other side, and whether there is one: two ``[P]``."""
    place = side.first + k
    place = place + ops.cast(ops.logical_and(side.own >= 0, place >= side.own), "int32")  # not the row itself
    valid = k < side.count
    return ops.where(valid, place, 0), valid


def listed_valid(side: SortedRows, width: int) -> Tensor:
    """Which of the first ``width`` positives of each row exist: ``[width, P]``."""
    return ops.arange(width, dtype="int32")[:, None] < side.count[None, :]


def listed_distances(side: SortedRows, other: SortedRows, distance: str, width: int) -> Tensor:
    """The distance of each row to its positives, ``[width, P]``, from the differences of the rows; 0 for padding."""

    def add(k: Tensor, found: Tensor) -> tuple[Tensor, Tensor]:
        place, valid = listed_places(side, k)
        square = ops.sum((side.rows - ops.take(other.rows, place, axis=0)) ** 2, axis=1)
        zeros = side.zero_vectors + ops.take(other.zero_vectors, place)
        distances = ops.where(valid, from_squares(square, zeros, distance), 0.0)
        return k + 1, ops.slice_update(found, (k, 0), distances[None, :])

    most = ops.minimum(most_listed(side), width)
    found = ops.zeros((width, side.rows.shape[0]), side.rows.dtype)
    return ops.while_loop(lambda k, _: k < most, add, (ops.zeros((), "int32"), found))[1]


def from_squares(square: Tensor, zero_vectors: Tensor, distance: str) -> Tensor:
    """Distances from squared distances."""
    if distance == "cosine":
        return (square + zero_vectors) / 2
    square = ops.where(ops.isinf(square), float("nan"), square)
    if distance == "sqeuclidean":
        return square
    zero = square <= MIN_SQUARE
    return ops.where(zero, 0.0, ops.sqrt(ops.where(zero, 1.0, square)))


def listed_gradients(
    side: SortedRows, other: SortedRows, distances: Tensor, upstream: Tensor, distance: str, same: bool
) -> tuple[Tensor, Tensor]:
    """The gradients by the rows of both sides, from the gradient by the distances, up to a factor of the distance.

    Args:
        side: The rows that have positives.
        other: Their positives.
        distances: Of the positives, ``[K, P]``.
        upstream: The gradient by them, ``[K, P]``.
        distance: The name of the distance.
        same: Whether both sides are the same rows. The first gradient is then that of both.
    """
    width, length = distances.shape
    upstream = ops.where(listed_valid(side, width), upstream, 0.0)
    flat = ops.reshape(grad_wrt_squared_distance(distances, upstream, distance), (-1,))

    def forwards(k: Tensor, place: Tensor, valid: Tensor) -> Tensor:
        return ops.take(flat, k * length + ops.arange(length, dtype="int32"))

    def backwards(k: Tensor, place: Tensor, valid: Tensor) -> Tensor:
        """Of the rows at ``place``, whose positives the rows of ``other`` are."""
        mine = ops.arange(other.rows.shape[0], dtype="int32")
        first, own = ops.take(side.first, place), ops.take(side.own, place)
        slot = mine - first - ops.cast(ops.logical_and(own >= 0, mine > own), "int32")
        return ops.where(valid, ops.take(flat, ops.where(valid, slot * length + place, 0)), 0.0)

    if same:
        return pulled(side, other, lambda *at: forwards(*at) + backwards(*at)), ops.zeros_like(other.rows)
    return pulled(side, other, forwards), pulled(other, side, backwards)


def pulled(side: SortedRows, other: SortedRows, factors: Callable[..., Tensor]) -> Tensor:
    """The sum of the differences of each row and the rows listed for it, times factors: ``[P, D]``."""

    def add(k: Tensor, total: Tensor) -> tuple[Tensor, Tensor]:
        place, valid = listed_places(side, k)
        differences = side.rows - ops.take(other.rows, place, axis=0)
        return k + 1, total + factors(k, place, valid)[:, None] * differences

    most = most_listed(side)
    return ops.while_loop(lambda k, _: k < most, add, (ops.zeros((), "int32"), ops.zeros_like(side.rows)))[1]
