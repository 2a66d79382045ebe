"""Sums over triplets of items without a tensor of size N x N x N, for Keras."""

from collections.abc import Callable
from typing import Any

from keras import ops

from .gradients import is_eager_torch, known_gradient
from .ops import Tensor

__all__ = ["soft_precision", "soft_triplets", "triplets"]


def loop_over_positives(step: Callable[..., Any], positive: Tensor, dtype: str, *state: Tensor) -> Any:
    """Call ``pull, push, *state = step(column, *state)`` for the first positive of each row, then for the second, ...

    ``column`` is ``[B, 1]``, and M for rows without another positive, so no shape depends on the number of positives.
    Returns the gradient ``[B, M]``, the pull of each positive, ``[B]`` per step, at its position minus all pushes
    ``[B, M]``, and the last state. The results have no gradient.
    """
    if is_eager_torch():
        return loop_over_padded_positives(step, positive, dtype, *state)
    end = ops.shape(positive)[1]
    columns = ops.where(positive, ops.arange(end, dtype="int32")[None, :], end)

    def body(column: Tensor, gradient: Tensor, *state: Tensor) -> tuple[Tensor, ...]:
        after = ops.min(ops.where(columns > column, columns, end), axis=1, keepdims=True)
        pull, push, *state = step(column, *state)
        return after, gradient + ops.where(column_mask(column, gradient), pull[:, None], 0.0) - push, *state

    def more(column: Tensor, *state: Tensor) -> Tensor:
        return ops.any(column < end)

    gradient = ops.zeros_like(columns, dtype=dtype)
    _, *found = ops.while_loop(more, body, (ops.min(columns, axis=1, keepdims=True), gradient, *state))
    return [*map(ops.stop_gradient, found)]  # else XLA would need the number of iterations for a backward pass


def loop_over_padded_positives(step: Callable[..., Any], positive: Tensor, dtype: str, *state: Tensor) -> Any:
    """The same with positives that are counted and listed first, which halves the work where nothing is compiled."""
    rows, columns = ops.nonzero(positive)
    count = ops.sum(ops.cast(positive, "int32"), axis=1)
    rank = ops.arange(len(rows)) - ops.take(ops.cumsum(count) - count, rows)
    size, end = positive.shape
    width = int(ops.max(count))
    padded = ops.full((size, width), end, dtype="int32")
    padded = ops.scatter_update(padded, ops.stack([rows, rank], axis=1), ops.cast(columns, "int32"))
    gradient, pulls = ops.zeros((size, end), dtype=dtype), []
    for k in range(width):
        pull, push, *state = step(padded[:, k : k + 1], *state)
        gradient = gradient - push
        pulls.append(pull)
    if pulls:
        values = ops.stack(pulls, axis=1)[rows, rank]
        indices = ops.stack([rows, columns], axis=1)
        gradient = gradient + ops.scatter_update(ops.zeros_like(gradient), indices, values)
    return [*map(ops.stop_gradient, (gradient, *state))]


def column_mask(column: Tensor, x: Tensor) -> Tensor:
    """The mask of each row's ``column``, as wide as ``x``: ``[B, M]``."""
    return ops.equal(ops.arange(ops.shape(x)[1], dtype="int32")[None, :], column)


def take_column(column: Tensor, x: Tensor, default: float) -> Tensor:
    """The value of ``x`` in each row's ``column``, ``[B, 1]``; the default beyond the last column."""
    end = ops.shape(x)[1]
    return ops.where(column < end, ops.take_along_axis(x, ops.minimum(column, end - 1), axis=1), default)


def attach_gradient(values: Tensor, gradient: Tensor, distances: Tensor) -> Tensor:
    """Attach a known gradient by the distances, ``[B, M]``, to ``values`` ``[B]``.

    Adds ``(g * d) - stop_gradient(g * d)``, which is zero in value.
    """
    values, gradient = ops.stop_gradient(values), ops.stop_gradient(gradient)
    product = ops.sum(gradient * distances, axis=1)
    return values + (product - ops.stop_gradient(product))


def row_values(values: Tensor, gradient: Tensor, distances: Tensor) -> Tensor:
    """Values ``[B]`` with a known gradient by the distances, ``[B, M]``, that depends on them: it has no second one."""
    return known_gradient(values[:, None], gradient, distances)[:, 0]


def count_true(mask: Tensor, dtype: str) -> Tensor:
    """The number of true values in each row, ``[B]``."""
    return ops.sum(ops.cast(mask, dtype), axis=1)


def triplets(distances: Tensor, positive: Tensor, negative: Tensor, margin: float) -> tuple[Tensor, Tensor, Tensor]:
    r"""Sum of the hinges, number of triplets, and number of active triplets of each anchor: three ``[B]``.

    With :math:`a_p = d_p + m`, the hinge :math:`\max(0, a_p - d_n)` is linear on either side of its kink. The sum of an
    anchor is therefore :math:`\sum_p c_p a_p - \sum_n c_n d_n`, where :math:`c_p` counts the negatives below
    :math:`a_p`, and :math:`c_n` the positives with :math:`a_p` above :math:`d_n`. Comparing all negatives with one
    positive at a time counts both at once; compilers are slow at sorting. As :math:`\sum_p c_p = \sum_n c_n`, the same
    number can be subtracted from all values; the mean of the positives keeps the sums small.
    """
    fixed, dtype = ops.stop_gradient(distances), distances.dtype
    count, negative_count = count_true(positive, dtype), count_true(negative, dtype)
    limits = fixed + margin
    shift = ops.sum(ops.where(positive, limits, 0.0), axis=1) / ops.maximum(count, 1)
    negative_distances = ops.where(negative, fixed, float("inf"))

    def step(column: Tensor, active: Tensor) -> tuple[Tensor, ...]:
        below = ops.cast(negative_distances < take_column(column, limits, -float("inf")), dtype)
        number = ops.sum(below, axis=1)
        return number, below, active + number

    gradient, active = loop_over_positives(step, positive, dtype, ops.zeros_like(count))
    sums = ops.sum(gradient * (ops.where(positive, limits, fixed) - shift[:, None]), axis=1)
    return attach_gradient(sums, gradient, distances), count * negative_count, active


def soft_triplets(distances: Tensor, positive: Tensor, negative: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    r"""The same as :func:`triplets` for the terms :math:`\log(1 + e^{d_p - d_n})`, one positive at a time.

    The derivative by :math:`d_p` is :math:`\sum_n \sigma(d_p - d_n)`. The derivative by :math:`d_n` is the negative sum
    over p.
    """
    fixed, dtype = ops.stop_gradient(distances), distances.dtype
    count = count_true(positive, dtype) * count_true(negative, dtype)
    negative_distances = ops.where(negative, fixed, float("inf"))

    def step(column: Tensor, values: Tensor) -> tuple[Tensor, ...]:
        gap = take_column(column, fixed, -float("inf")) - negative_distances
        slope = ops.sigmoid(gap)
        return ops.sum(slope, axis=1), slope, values + ops.sum(ops.softplus(gap), axis=1)

    gradient, values = loop_over_positives(step, positive, dtype, ops.zeros_like(count))
    return row_values(values, gradient, distances), count, count


def soft_precision(
    distances: Tensor,
    positive: Tensor,
    negative: Tensor,
    k: int,
    temperature1: float,
    temperature2: float,
    first_rank: float = 1.0,
) -> Tensor:
    r"""Precision at k of each row with soft ranks, one positive at a time: ``[B]``.

    For the positives j of a row this is :math:`\frac{1}{\min(k, |P|)} \sum_j \sigma((k - r_j) / \tau_1)` with
    :math:`r_j = f + \sum_l \sigma((d_j - d_l) / \tau_2)` over all other items l, where f is ``first_rank``. Let
    :math:`g_j` be the derivative by :math:`r_j`, and :math:`s_{jl}` that of the inner sigmoid by its argument, divided
    by :math:`\tau_2`. Each j adds :math:`g_j \sum_l s_{jl}` to the derivative by :math:`d_j` and subtracts
    :math:`g_j s_{jl}` from the derivative by each :math:`d_l`.
    """
    fixed, dtype = ops.stop_gradient(distances), distances.dtype
    cutoff = k - (first_rank - 0.5)  # j counts as half ahead of itself
    best = ops.clip(count_true(positive, dtype), 1, k)
    others = ops.where(positive | negative, fixed, float("inf"))

    def step(column: Tensor, values: Tensor) -> tuple[Tensor, ...]:
        valid = ops.cast(column < ops.shape(fixed)[1], dtype)[:, 0]
        ahead = ops.sigmoid((take_column(column, fixed, 0.0) - others) / temperature2)
        inside = ops.sigmoid((cutoff - ops.sum(ahead, axis=1)) / temperature1)
        by_rank = -valid * inside * (1 - inside) / (temperature1 * best)
        slope = by_rank[:, None] * ahead * (1 - ahead) / temperature2
        return ops.sum(slope, axis=1), slope, values + valid * inside / best

    gradient, values = loop_over_positives(step, positive, dtype, ops.zeros_like(best))
    return row_values(values, gradient, distances)
