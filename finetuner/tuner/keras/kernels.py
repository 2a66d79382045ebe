"""Sums over triples of items, of which no tensor of N x N x N is ever made, for Keras."""

from collections.abc import Callable
from typing import Any

from keras import KerasTensor, ops

from .gradients import is_eager_torch

__all__ = ["soft_precision", "soft_triplets", "triplets"]


def over_positives(step: Callable[..., Any], positive: KerasTensor, dtype: str, *state: KerasTensor) -> Any:
    """``pull, push, *state = step(column, *state)`` with the first positive of each row, then the second, to the last.

    ``column`` is ``[B, 1]``, and M in rows that have no more, so that no shape depends on how many there are. Returns
    the slopes ``[B, M]``, each positive's pull, ``[B]`` a step, in its place less all pushes ``[B, M]``, and the last
    state; without gradients.
    """
    if is_eager_torch():
        return over_listed(step, positive, dtype, *state)
    end = ops.shape(positive)[1]
    columns = ops.where(positive, ops.arange(end, dtype="int32")[None, :], end)

    def body(column: KerasTensor, slopes: KerasTensor, *state: KerasTensor) -> tuple[KerasTensor, ...]:
        after = ops.min(ops.where(columns > column, columns, end), axis=1, keepdims=True)
        pull, push, *state = step(column, *state)
        return after, slopes + ops.where(here(column, slopes), pull[:, None], 0.0) - push, *state

    def more(column: KerasTensor, *state: KerasTensor) -> KerasTensor:
        return ops.any(column < end)

    slopes = ops.zeros_like(columns, dtype=dtype)
    _, *found = ops.while_loop(more, body, (ops.min(columns, axis=1, keepdims=True), slopes, *state))
    return [*map(ops.stop_gradient, found)]  # or XLA would ask how often to go back through the loop


def over_listed(step: Callable[..., Any], positive: KerasTensor, dtype: str, *state: KerasTensor) -> Any:
    """The same, of positives that are counted and listed first: where nothing is compiled, half as much to do."""
    rows, columns = ops.nonzero(positive)
    count = ops.sum(ops.cast(positive, "int32"), axis=1)
    rank = ops.arange(len(rows)) - ops.take(ops.cumsum(count) - count, rows)
    size, end = positive.shape
    most = int(ops.max(count))
    listed = ops.full((size, most), end, dtype="int32")
    listed = ops.scatter_update(listed, ops.stack([rows, rank], axis=1), ops.cast(columns, "int32"))
    slopes, pulls = ops.zeros((size, end), dtype=dtype), []
    for k in range(most):
        pull, push, *state = step(listed[:, k : k + 1], *state)
        slopes = slopes - push
        pulls.append(pull)
    if pulls:
        values = ops.stack(pulls, axis=1)[rows, rank]
        slopes = slopes + ops.scatter_update(ops.zeros_like(slopes), ops.stack([rows, columns], axis=1), values)
    return [*map(ops.stop_gradient, (slopes, *state))]


def here(column: KerasTensor, x: KerasTensor) -> KerasTensor:
    """The mask of each row's ``column``, as wide as ``x``: ``[B, M]``."""
    return ops.equal(ops.arange(ops.shape(x)[1], dtype="int32")[None, :], column)


def at(column: KerasTensor, x: KerasTensor, otherwise: float) -> KerasTensor:
    """What ``x`` has in each row's ``column``, ``[B, 1]``, or else a number."""
    end = ops.shape(x)[1]
    return ops.where(column < end, ops.take_along_axis(x, ops.minimum(column, end - 1), axis=1), otherwise)


def carried(values: KerasTensor, slopes: KerasTensor, distances: KerasTensor) -> KerasTensor:
    """``values`` ``[B]`` with ``slopes`` ``[B, M]`` by the distances: a difference that is 0 in value carries them."""
    values, slopes = ops.stop_gradient(values), ops.stop_gradient(slopes)
    along = ops.sum(slopes * distances, axis=1)
    return values + (along - ops.stop_gradient(along))


def counted(mask: KerasTensor, dtype: str) -> KerasTensor:
    """How many of each row a mask holds, ``[B]``."""
    return ops.sum(ops.cast(mask, dtype), axis=1)


def triplets(
    distances: KerasTensor, positive: KerasTensor, negative: KerasTensor, margin: float
) -> tuple[KerasTensor, KerasTensor, KerasTensor]:
    r"""Sum of the hinges, number, and number of active ones of each anchor's triplets: to three ``[B]``.

    With :math:`a_p = d_p + m`, the hinge :math:`\max(0, a_p - d_n)` is linear on either side of its kink.
    So an anchor's sum is :math:`\sum_p c_p a_p - \sum_n c_n d_n`, where :math:`c_p` counts the negatives
    below :math:`a_p` and :math:`c_n` the positives whose :math:`a_p` is above :math:`d_n`. Comparing all with one
    positive at a time counts both at once: compilers are slow at sorting. As :math:`\sum_p c_p = \sum_n c_n`, any
    number may be taken off all values; the mean of the positives keeps the sums small.
    """
    fixed, dtype = ops.stop_gradient(distances), distances.dtype
    count, others = counted(positive, dtype), counted(negative, dtype)
    limits = fixed + margin
    shift = ops.sum(ops.where(positive, limits, 0.0), axis=1) / ops.maximum(count, 1)
    apart = ops.where(negative, fixed, float("inf"))

    def step(column: KerasTensor, active: KerasTensor) -> tuple[KerasTensor, ...]:
        below = ops.cast(apart < at(column, limits, -float("inf")), dtype)
        found = ops.sum(below, axis=1)
        return found, below, active + found

    slopes, active = over_positives(step, positive, dtype, ops.zeros_like(count))
    sums = ops.sum(slopes * (ops.where(positive, limits, fixed) - shift[:, None]), axis=1)
    return carried(sums, slopes, distances), count * others, active


def soft_triplets(
    distances: KerasTensor, positive: KerasTensor, negative: KerasTensor
) -> tuple[KerasTensor, KerasTensor, KerasTensor]:
    r"""As :func:`triplets`, of :math:`\log(1 + e^{d_p - d_n})`, a positive at a time.

    The slope by :math:`d_p` is :math:`\sum_n \sigma(d_p - d_n)`, and that by :math:`d_n` the same over p, with a minus.
    """
    fixed, dtype = ops.stop_gradient(distances), distances.dtype
    count = counted(positive, dtype) * counted(negative, dtype)
    apart = ops.where(negative, fixed, float("inf"))

    def step(column: KerasTensor, values: KerasTensor) -> tuple[KerasTensor, ...]:
        gap = at(column, fixed, -float("inf")) - apart
        slope = ops.sigmoid(gap)
        return ops.sum(slope, axis=1), slope, values + ops.sum(ops.softplus(gap), axis=1)

    slopes, values = over_positives(step, positive, dtype, ops.zeros_like(count))
    return carried(values, slopes, distances), count, count


def soft_precision(
    distances: KerasTensor, positive: KerasTensor, negative: KerasTensor, depth: int, cut: float, softness: float
) -> KerasTensor:
    r"""Precision at ``depth`` of each row by soft ranks, a positive at a time: to ``[B]``.

    Of the positives j of a row, :math:`\frac{1}{\min(k, |P|)} \sum_j \sigma((k - r_j) / \tau_1)` with
    :math:`r_j = 1 + \sum_l \sigma((d_j - d_l) / \tau_2)` over all others l. With :math:`g_j` its derivative by
    :math:`r_j` and :math:`s_{jl}` that of the inner sigmoid by its argument, over :math:`\tau_2`, each j adds
    :math:`g_j \sum_l s_{jl}` to the slope by :math:`d_j` and takes :math:`g_j s_{jl}` off that by each :math:`d_l`.
    """
    fixed, dtype = ops.stop_gradient(distances), distances.dtype
    best = ops.clip(counted(positive, dtype), 1, depth)
    seen = ops.where(positive | negative, fixed, float("inf"))

    def step(column: KerasTensor, values: KerasTensor) -> tuple[KerasTensor, ...]:
        there = ops.cast(column < ops.shape(fixed)[1], dtype)[:, 0]
        ahead = ops.sigmoid((at(column, fixed, 0.0) - seen) / softness)
        inside = ops.sigmoid((depth - 0.5 - ops.sum(ahead, axis=1)) / cut)  # j is half ahead of itself
        by_rank = -there * inside * (1 - inside) / (cut * best)
        slope = by_rank[:, None] * ahead * (1 - ahead) / softness
        return ops.sum(slope, axis=1), slope, values + there * inside / best

    slopes, values = over_positives(step, positive, dtype, ops.zeros_like(best))
    return carried(values, slopes, distances)
