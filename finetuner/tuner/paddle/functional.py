"""Distances, selections and reductions, for PaddlePaddle.

Each function guards its own edge cases, because the frameworks' gradients differ there (zero norms, roots of zero,
bounds, ties): a value without a usable gradient is replaced before the operation that would return NaN.
"""

from typing import Any, NamedTuple

import paddle

from .ops import (
    Tensor,
    at_least,
    broadcast_pairs,
    cast,
    comparable,
    detached,
    reduce_sum,
    row_slice,
    row_sums,
    where,
)

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
ROUNDING = 16 * float(
    paddle.finfo("float32").eps
)  # relative to the squared norms; smaller squared distances are rounding errors
MIN_SQUARE = 1.2e-38  # the smallest normal float32 number; a smaller squared distance has no usable root
NEAR = 1e-3  # relative to the squared norms; smaller squared distances are computed from the differences of rows
NEAR_AT_ONCE = 2**13  # pairs
EXP_CUTOFF = -60.0  # relative to the row's maximum; smaller exponents add nothing, and denormal results are slow


def l2_normalize(x: Tensor) -> Tensor:
    """Rows of length 1. A zero vector stays zero and has a gradient of zero: ``[N, D]`` to ``[N, D]``.

    Dividing by the largest component first avoids over- and underflow for every float32 norm.
    """
    largest = detached(x).abs().max(axis=1, keepdim=True)  # ONNX has no amax
    zero = largest <= MIN_NORM
    x = where(zero, 0.0, x / where(zero, 1.0, largest))
    square = (x * x).sum(axis=1, keepdim=True)
    return x / paddle.sqrt(where(zero, 1.0, square))


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
        is_zero_vector = [(detached(x) == 0).all(axis=1).astype(x.dtype) for x in (queries, references)]
    fixed = detached(references)
    offset = fixed.mean(axis=0)
    dominates = (offset * offset).sum() > 0.9 * (fixed * fixed).sum(axis=1).mean()
    offset = where(dominates, offset, 0.0)
    queries = queries - offset
    references = queries if self_comparison else references - offset
    norms = [(x * x).sum(axis=1) for x in (queries, references)]
    norms = [where(paddle.isinf(norm), paddle.nan, norm) for norm in norms]
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
    norms = paddle.add(*broadcast_pairs(own, other))
    square = norms - paddle.matmul(queries if distance == "cosine" else 2 * queries, references, transpose_y=True)
    fixed, queries, references = detached(square), detached(queries), detached(references)
    exact = refine_near(fixed, queries, references, detached(own), detached(other), distance == "cosine")
    zero = exact <= MIN_SQUARE  # False for NaN
    square = square + (exact - fixed)
    if distance == "euclidean":
        return where(zero, 0.0, paddle.sqrt(where(zero, 1.0, square)))
    return where(zero, 0.0, square)


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
    if paddle.in_dynamic_mode():
        return refine_near_(square.clone(), queries, references, own, other, halved)
    near = is_near(square, own, other)
    pairs = near.nonzero()

    def is_left(start: Tensor, found: Tensor) -> Tensor:
        return start < paddle.shape(pairs)[0]

    def add_part(start: Tensor, found: Tensor) -> list[Tensor]:
        part = paddle.slice(pairs, [0], [start], [start + NEAR_AT_ONCE])
        exact = row_squares(queries, references, part)
        return [start + NEAR_AT_ONCE, paddle.scatter_nd_add(found, part, exact / 2 if halved else exact)]

    # A compiler does not know the number of pairs.
    start = paddle.zeros([1], dtype="int32")
    return paddle.static.nn.while_loop(is_left, add_part, [start, where(near, 0.0, square)])[1]


def refine_near_(
    square: Tensor, queries: Tensor, references: Tensor, own: Tensor, other: Tensor, halved: bool
) -> Tensor:
    """:func:`refine_near` in place."""
    pairs = is_near(square, own, other).nonzero()
    count = int(paddle.shape(pairs)[0])  # to_static cannot follow pairs.shape
    for start in range(0, count, NEAR_AT_ONCE):
        part = pairs[start : start + NEAR_AT_ONCE]
        exact = row_squares(queries, references, part)
        paddle.index_put_(square, (part[:, 0], part[:, 1]), exact / 2 if halved else exact)
    return square


def is_near(square: Tensor, own: Tensor, other: Tensor) -> Tensor:
    """Which squared distances are so small that products cancel in them: boolean ``[R, C]``, False for NaN."""
    ones = paddle.ones_like(own)[:, None], paddle.ones_like(other)[:, None]
    first = paddle.concat([NEAR * own[:, None], ones[0]], axis=1)
    second = paddle.concat([ones[1], NEAR * other[:, None]], axis=1)
    return square < paddle.matmul(first, second, transpose_y=True)  # faster than a sum of columns and rows


def row_squares(queries: Tensor, references: Tensor, pairs: Tensor) -> Tensor:
    """The squared distance of each pair of rows, from their differences: ``[P, 2]`` to ``[P]``."""
    return (queries.gather(pairs[:, 0]) - references.gather(pairs[:, 1])).square().sum(axis=1)


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
    square = ((first - second) ** 2).sum(axis=1)
    square = where(paddle.isinf(square), paddle.nan, square)
    if distance == "euclidean":
        zero = square <= MIN_SQUARE
        return where(zero, 0.0, paddle.sqrt(where(zero, 1.0, square)))
    if distance == "sqeuclidean":
        return square
    is_zero_vector = [(detached(x) == 0).all(axis=1).astype(x.dtype) for x in (first, second)]
    return (square + is_zero_vector[0] + is_zero_vector[1]) / 2


def angle(distances: Tensor) -> Tensor:
    """The angle of a cosine distance, from 0 to pi. At either end the gradient does not exist and is set to 0."""
    inside = (distances > 0) & (2 - distances > ROUNDING)
    safe = where(inside, distances, 1.0)
    end = (detached(distances) > 1).astype(safe.dtype) * paddle.pi
    return where(inside, paddle.atan2(paddle.sqrt(safe * (2 - safe)), 1 - safe), end)


def monotone_cosine(x: Tensor) -> Tensor:
    """The cosine up to pi, continued so that it keeps falling: each further half period is placed below the last."""
    half = paddle.floor(detached(x) / paddle.pi)
    return (1 - 2 * (half % 2)) * paddle.cos(x) - 2 * half


def hinge(x: Tensor) -> Tensor:
    """``max(0, x)``, with a gradient of 0 at 0."""
    return where(x <= 0, 0.0, x)  # NaN stays


def farthest(distances: Tensor, mask: Tensor) -> Tensor:
    """Mask of the farthest item of each row among those of ``mask``, the first of equals: to ``[N, M]``."""
    distances = where(paddle.isnan(distances), paddle.inf, distances)  # NaN is selected, and the loss is NaN
    index = where(mask, distances, -paddle.inf).argmax(axis=1, keepdim=True)
    return mask & (paddle.arange(distances.shape[1]) == index)


def nearest(distances: Tensor, mask: Tensor) -> Tensor:
    """Mask of the nearest item of each row among those of ``mask``, the first of equals: to ``[N, M]``."""
    return farthest(-distances, mask)


def row_logsumexp(x: Tensor, mask: Tensor) -> Tensor:
    """Log-sum-exp of each row over ``mask``: ``[N, M]`` to ``[N, 1]``; about -3e38 for a row without any."""
    x = where(mask, x, float(paddle.finfo(x.dtype).min))
    largest = detached(x).max(axis=1, keepdim=True)
    return largest + row_sums((x - largest.expand_as(x)).clip(min=EXP_CUTOFF).exp()).log()[:, None]


def masked_mean(x: Tensor, mask: Tensor) -> Tensor:
    """Mean of ``x`` over a mask, or weighted by numbers; 0 if nothing counts."""
    weights = cast(mask, x.dtype)
    return reduce_sum(x * weights) / at_least(reduce_sum(weights), 1e-12)


def spread(x: Tensor) -> Tensor:
    """1 minus the squared norm of the mean unit row: 0 if all are equal, close to 1 if they point in all directions."""
    centre = l2_normalize(x).mean(axis=0)
    return 1 - (centre * centre).sum()


def one_hot(labels: Tensor, num_classes: int) -> Tensor:
    """Mask ``[N, C]`` of the class of each label ``[N]``."""
    labels = comparable(labels)
    return labels[:, None] == paddle.arange(num_classes, dtype=labels.dtype)


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
    same = paddle.ones_like(own)
    if categories is not None:
        categories = paddle.to_tensor(categories)
        same = categories[y.astype("int64")][:, None] == categories[None, :]
    own, same = own.astype("float32"), same.astype("float32")
    return (1 - epsilon) * own + epsilon * same / same.sum(axis=1, keepdim=True)


def same_group(x: Tensor, groups: Tensor | None) -> Tensor:
    """Mask ``[N, N]`` of the items in the same group, of rows ``[N]``. Without groups all items are in one."""
    if groups is None:
        return paddle.ones((x.shape[0], x.shape[0]), dtype="bool")
    return groups[:, None] == groups[None, :]


def group_ranks(x: Tensor, same: Tensor) -> Tensor:
    """Rank of each item in its group from 1, the highest first and of equals the first: ``[N]`` to ``[N]``."""
    position = paddle.arange(x.shape[0])
    ahead = (x[None, :] > x[:, None]) | ((x[None, :] == x[:, None]) & (position[None, :] < position[:, None]))
    return 1 + (same & ahead).sum(axis=1).astype(x.dtype)


def at_least_float32(x: Tensor) -> Tensor:
    """``x`` unchanged if it is float32 or float64, else in float32."""
    return x if x.dtype == paddle.float64 else x.astype("float32")


def common_float(*tensors: Tensor) -> tuple[Tensor, ...]:
    """The tensors in one type: float64 if one of them is, else float32."""
    dtype = "float64" if any(x.dtype == paddle.float64 for x in tensors) else "float32"
    return tuple(x.astype(dtype) for x in tensors)


def reduce(sums: Tensor, count: Tensor, active: Tensor, reduction: str) -> Tensor:
    """Reduce sum, number of tuples and number of active tuples of each row, ``[N]``, to ``[]`` or ``[N]``."""
    sums = where(count > 0, sums, 0.0)  # rows without tuples may have distances that overflow
    if reduction == "none":
        return sums
    if reduction == "sum":
        return reduce_sum(sums)
    tuples = count if reduction == "mean" else active
    return reduce_sum(sums) / at_least(reduce_sum(tuples), 1)
