"""Distances, selections and reductions, for Keras.

Each function guards its own edge cases, because the frameworks' gradients differ there (zero norms, roots of zero,
bounds, ties): a value without a usable gradient is replaced before the operation that would return NaN.
"""

import math
from typing import Any, NamedTuple

from keras import backend, ops

from .ops import Tensor, at_least, cast, reduce_sum, row_slice, where

__all__ = [
    "PairwiseOperands",
    "angle",
    "at_least_float32",
    "block_distances",
    "common_float",
    "farthest",
    "group_ranks",
    "hinge",
    "l2_normalize",
    "label_smoothing",
    "masked_mean",
    "monotone_cosine",
    "nearest",
    "one_hot",
    "pairwise_distance",
    "prepare_rows",
    "reduce",
    "row_distance",
    "row_logsumexp",
    "same_group",
    "spread",
]

MIN_NORM = 1e-12  # a vector whose components are all at most this is treated as the zero vector
ROUNDING = 16 * 2.0**-23  # relative to the squared norms; smaller squared distances are rounding errors
MIN_SQUARE = 1.2e-38  # the smallest normal float32 number; a smaller squared distance has no usable root
NEAR = 1e-3  # relative to the squared norms; smaller squared distances are computed from the differences of rows
NEAR_AT_ONCE = 8  # pairs of a row; where there are more, all distances of the block are computed so
EXP_CUTOFF = -60.0  # relative to the row's maximum; smaller exponents add nothing, and denormal results are slow


def l2_normalize(x: Tensor) -> Tensor:
    """Rows of length 1. A zero vector stays zero and has a gradient of zero: ``[N, D]`` to ``[N, D]``.

    Dividing by the largest component first avoids over- and underflow for every float32 norm.
    """
    if x.shape[0] == 0:  # Keras has no maximum of an empty tensor
        return x
    largest = ops.max(ops.abs(ops.stop_gradient(x)), axis=1, keepdims=True)
    zero = largest <= MIN_NORM
    x = ops.where(zero, 0.0, x / ops.where(zero, 1.0, largest))
    square = ops.sum(x * x, axis=1, keepdims=True)
    return x / ops.sqrt(ops.where(zero, 1.0, square))


class PairwiseOperands(NamedTuple):
    """Two sets of rows, prepared so that the distances of any block of rows can be computed."""

    queries: Tensor
    references: Tensor
    query_norms: Tensor  # what a distance has beside the product of two rows, [N]
    reference_norms: Tensor


def prepare_rows(queries: Tensor, references: Tensor, distance: str) -> PairwiseOperands:
    """Prepare rows ``[N, D]`` and ``[M, D]`` for :func:`block_distances`.

    Rows are normalized for the cosine distance, and a common offset is subtracted if it is large compared with their
    spread. The norms are squared, and halved for the cosine distance. There a zero vector counts as a vector of length
    1 that is orthogonal to all. A norm whose square overflows is NaN, and so are the distances of its row.
    """
    self_comparison = queries is references
    if distance == "cosine":
        queries = l2_normalize(queries)
        references = queries if self_comparison else l2_normalize(references)
        zeros = [ops.all(ops.equal(ops.stop_gradient(x), 0), axis=1) for x in (queries, references)]
        is_zero_vector = [ops.cast(zero, queries.dtype) for zero in zeros]
    fixed = ops.stop_gradient(references)
    offset = ops.mean(fixed, axis=0)
    dominates = ops.sum(offset * offset) > 0.9 * ops.mean(ops.sum(fixed * fixed, axis=1))
    offset = ops.where(dominates, offset, 0.0)
    queries = queries - offset
    references = queries if self_comparison else references - offset
    norms = [ops.sum(x * x, axis=1) for x in (queries, references)]
    norms = [ops.where(ops.isinf(norm), math.nan, norm) for norm in norms]
    if distance == "cosine":
        norms = [(norms[side] + is_zero_vector[side]) / 2 for side in (0, 1)]
    return PairwiseOperands(queries, references, *norms)


def block_distances(
    operands: PairwiseOperands,
    distance: str,
    start: int = 0,
    size: int | None = None,
    first_column: int = 0,
    num_columns: int | None = None,
) -> Tensor:
    """Distances of ``size`` queries from ``start`` on, or of all, to as many references, or to all: ``[B, C]``."""
    queries, own = (row_slice(x, start, size) for x in (operands.queries, operands.query_norms))
    references, other = (
        row_slice(x, first_column, num_columns) for x in (operands.references, operands.reference_norms)
    )
    scaled = queries if distance == "cosine" else 2 * queries
    square = own[:, None] + other[None, :] - ops.matmul(scaled, ops.transpose(references))
    fixed, queries, references = map(ops.stop_gradient, (square, queries, references))
    norms = ops.stop_gradient(own), ops.stop_gradient(other)
    exact = ops.stop_gradient(refine_near(fixed, queries, references, *norms, distance == "cosine"))
    zero = exact <= MIN_SQUARE  # False for NaN
    square = ops.where(zero, 0.0, square + (exact - fixed))
    return ops.where(zero, 0.0, ops.sqrt(ops.where(zero, 1.0, square))) if distance == "euclidean" else square


def refine_near(
    square: Tensor, queries: Tensor, references: Tensor, own: Tensor, other: Tensor, halved: bool
) -> Tensor:
    """Squared distances ``[R, C]``, those in which products cancel from the differences of the rows.

    Args:
        square: From products of the rows, ``[R, C]``.
        queries: ``[R, D]``.
        references: ``[C, D]``.
        own: The squared norms of the queries ``[R]``.
        other: The squared norms of the references ``[C]``.
        halved: Whether norms and distances are halved.
    """
    near = square < NEAR * (own[:, None] + other[None, :])  # False for NaN
    end, factor = ops.shape(square)[1], 0.5 if halved else 1.0
    numbers = ops.arange(end, dtype="int32")[None, :]
    columns = ops.where(near, numbers, end)

    def one_of_each_row(step: Tensor, column: Tensor, square: Tensor) -> tuple[Tensor, ...]:
        other_rows = ops.take(references, ops.minimum(column, end - 1)[:, 0], axis=0)
        exact = factor * ops.sum((queries - other_rows) ** 2, axis=1, keepdims=True)
        after = ops.min(ops.where(columns > column, columns, end), axis=1, keepdims=True)
        return step + 1, after, ops.where(ops.equal(numbers, column), exact, square)

    def more(step: Tensor, column: Tensor, square: Tensor) -> Tensor:
        return ops.logical_and(step < NEAR_AT_ONCE, ops.any(column < end))

    state = ops.zeros((), "int32"), ops.min(columns, axis=1, keepdims=True), square
    _, column, square = ops.while_loop(more, one_of_each_row, state)

    def all_of_them() -> Tensor:
        def add(index: Tensor, total: Tensor) -> Tensor:
            own_component, component = (ops.take(x, index, axis=1) for x in (queries, references))
            return total + (own_component[:, None] - component[None, :]) ** 2

        exact = factor * ops.fori_loop(0, queries.shape[1], add, ops.zeros_like(square))
        return ops.where(near, exact, square)

    return ops.cond(ops.any(column < end), all_of_them, lambda: square)


def pairwise_distance(queries: Tensor, references: Tensor, distance: str) -> Tensor:
    r"""Distance of each query to each reference, at least 0: ``[N, D]`` and ``[M, D]`` to ``[N, M]``.

    All distances are computed from scalar products, the cosine distance as :math:`1 - \cos = |u - v|^2 / 2` of unit
    vectors. The rounding error of :math:`|u|^2 + |v|^2 - 2uv` is relative to the norms and not to the distance.
    Therefore a common offset that is large compared with the spread is subtracted first, and a distance within the
    rounding error is 0: exact duplicates have distance 0 and gradient 0. A zero vector has a cosine of 0 to all.
    """
    return block_distances(prepare_rows(queries, references, distance), distance)


def row_distance(first: Tensor, second: Tensor, distance: str) -> Tensor:
    """Distance of each row to the same row of the other tensor: two ``[N, D]`` to ``[N]``."""
    if distance == "cosine":
        first, second = l2_normalize(first), l2_normalize(second)
    square = ops.sum((first - second) ** 2, axis=1)
    square = ops.where(ops.isinf(square), math.nan, square)
    if distance == "euclidean":
        zero = square <= MIN_SQUARE
        return ops.where(zero, 0.0, ops.sqrt(ops.where(zero, 1.0, square)))
    if distance == "sqeuclidean":
        return square
    is_zero_vector = [ops.cast(ops.all(ops.equal(ops.stop_gradient(x), 0), axis=1), x.dtype) for x in (first, second)]
    return (square + is_zero_vector[0] + is_zero_vector[1]) / 2


def angle(distances: Tensor) -> Tensor:
    """The angle of a cosine distance, from 0 to pi. At either end the gradient does not exist and is set to 0."""
    inside = (distances > 0) & (2 - distances > ROUNDING)
    safe = where(inside, distances, 1.0)
    end = ops.cast(ops.where(ops.stop_gradient(distances) > 1, math.pi, 0.0), safe.dtype)
    return ops.where(inside, ops.arctan2(ops.sqrt(safe * (2 - safe)), 1 - safe), end)


def monotone_cosine(x: Tensor) -> Tensor:
    """The cosine up to pi, continued so that it keeps falling: each further half period is placed below the last."""
    half = ops.floor(ops.stop_gradient(x) / math.pi)
    return (1 - 2 * (half % 2)) * ops.cos(x) - 2 * half


def hinge(x: Tensor) -> Tensor:
    """``max(0, x)``, with a gradient of 0 at 0."""
    return where(x <= 0, 0.0, x)  # NaN stays


def farthest(distances: Tensor, mask: Tensor) -> Tensor:
    """Mask of the farthest item of each row among those of ``mask``, the first of equals: to ``[N, M]``."""
    distances = ops.where(ops.isnan(distances), float("inf"), distances)  # NaN is selected, and the loss is NaN
    index = ops.argmax(ops.where(mask, distances, -float("inf")), axis=1, keepdims=True)
    return mask & ops.equal(ops.arange(ops.shape(distances)[1], dtype=index.dtype), index)


def nearest(distances: Tensor, mask: Tensor) -> Tensor:
    """Mask of the nearest item of each row among those of ``mask``, the first of equals: to ``[N, M]``."""
    return farthest(-distances, mask)


def row_logsumexp(x: Tensor, mask: Tensor) -> Tensor:
    """Log-sum-exp of each row over ``mask``: ``[N, M]`` to ``[N, 1]``; about -3e38 for a row without any."""
    x = ops.where(mask, x, -3.4e38)
    largest = ops.max(ops.stop_gradient(x), axis=1, keepdims=True)
    gap = ops.clip(x - largest, EXP_CUTOFF, 1.0)  # at most 0; with 0 as the bound, JAX would halve the gradient at 0
    return largest + ops.log(ops.sum(ops.exp(gap), axis=1, keepdims=True))


def masked_mean(x: Tensor, mask: Tensor) -> Tensor:
    """Mean of ``x`` over a mask, or weighted by numbers; 0 if nothing counts."""
    weights = cast(mask, x.dtype)
    return reduce_sum(x * weights) / at_least(reduce_sum(weights), 1e-12)


def spread(x: Tensor) -> Tensor:
    """1 minus the squared norm of the mean unit row: 0 if all are equal, close to 1 if they point in all directions."""
    centre = ops.mean(l2_normalize(x), axis=0)
    return 1 - ops.sum(centre * centre)


def one_hot(labels: Tensor, num_classes: int) -> Tensor:
    """Mask ``[N, C]`` of the class of each label ``[N]``."""
    return ops.equal(labels[:, None], ops.arange(num_classes))


def label_smoothing(y: Tensor, num_classes: int, epsilon: float = 0.2, categories: Any = None) -> Tensor:
    r"""Smoothed labels: ``[N]`` integers to ``[N, C]`` floats.

    .. math:: q_{ic} = (1 - \epsilon) [c = y_i] + \epsilon \frac{[c \in S_i]}{|S_i|}

    :math:`S_i` contains all classes, or those of the category of :math:`y_i`.

    Args:
        y: The class of each item, ``[N]``.
        num_classes: C.
        epsilon: The share that is spread, at least 0 and below 1.
        categories: ``[C]`` integers, the category of each class.

    References:
        Szegedy et al., "Rethinking the inception architecture for computer vision", CVPR 2016.
    """
    own = one_hot(y, num_classes)
    same = ops.ones_like(own)
    if categories is not None:
        categories = ops.convert_to_tensor(categories)
        same = ops.equal(ops.take(categories, y)[:, None], categories[None, :])
    own, same = ops.cast(own, "float32"), ops.cast(same, "float32")
    return (1 - epsilon) * own + epsilon * same / ops.sum(same, axis=1, keepdims=True)


def same_group(x: Tensor, groups: Tensor | None) -> Tensor:
    """Mask ``[N, N]`` of the items in the same group, of rows ``[N]``. Without groups all items are in one."""
    if groups is None:
        groups = ops.zeros_like(x, dtype="int32")
    return ops.equal(groups[:, None], groups[None, :])


def group_ranks(x: Tensor, same: Tensor) -> Tensor:
    """Rank of each item in its group from 1, the highest first and of equals the first: ``[N]`` to ``[N]``."""
    position = ops.arange(ops.shape(x)[0])
    tied_before = ops.equal(x[None, :], x[:, None]) & (position[None, :] < position[:, None])
    ahead = (x[None, :] > x[:, None]) | tied_before
    return 1 + ops.sum(ops.cast(same & ahead, x.dtype), axis=1)


def at_least_float32(x: Tensor) -> Tensor:
    """``x`` unchanged if it is float32 or float64, else in float32."""
    return x if backend.standardize_dtype(x.dtype) == "float64" else ops.cast(x, "float32")


def common_float(*tensors: Tensor) -> tuple[Tensor, ...]:
    """The tensors in one type: float64 if one of them is, else float32."""
    dtype = "float64" if any(backend.standardize_dtype(x.dtype) == "float64" for x in tensors) else "float32"
    return tuple(ops.cast(x, dtype) for x in tensors)


def reduce(sums: Tensor, count: Tensor, active: Tensor, reduction: str) -> Tensor:
    """Reduce sum, number of tuples and number of active tuples of each row, ``[N]``, to ``[]`` or ``[N]``."""
    sums = where(count > 0, sums, 0.0)  # rows without tuples may have distances that overflow
    if reduction == "none":
        return sums
    if reduction == "sum":
        return reduce_sum(sums)
    tuples = count if reduction == "mean" else active
    return reduce_sum(sums) / at_least(reduce_sum(tuples), 1)
