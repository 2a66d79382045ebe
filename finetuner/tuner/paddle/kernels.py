"""Sums over triplets of items without a tensor of size N x N x N, for PaddlePaddle."""

from dataclasses import dataclass
from typing import Any

import paddle
from paddle.autograd import PyLayer

from ..base.losses import blocks
from .ops import Tensor, detached, on_cpu, refuse_second_derivatives, row_sums, softplus, where

__all__ = ["soft_precision", "soft_triplets", "triplets"]

MAX_COMPARISONS = 32  # positives of a row; for more, sorting and searching is faster than comparing with each


@dataclass
class PaddedIndices:
    """The columns of each row that a mask selects. All rows are padded to the length of the longest."""

    columns: Tensor  # [B, K] int64
    valid: Tensor  # [B, K] boolean, False for padding
    counts: Tensor  # [B] int64


def pad_mask_indices(mask: Tensor) -> PaddedIndices:
    """The selected columns of a mask ``[B, M]``. Compiled, all columns: a compiler cannot count the selected ones."""
    count = row_sums(mask).astype("int64")
    if not paddle.in_dynamic_mode():
        columns = paddle.arange(mask.shape[1]) + paddle.zeros_like(mask, dtype="int64")
        return PaddedIndices(columns, mask, count)
    selected = mask.nonzero()
    row, column = selected[:, 0], selected[:, 1]
    slot = paddle.arange(row.shape[0]) - (count.cumsum(0) - count)[row]
    valid = paddle.arange(int(count.max())) < count[:, None]
    columns = paddle.zeros(valid.shape, dtype="int64")
    if row.shape[0]:
        columns = paddle.scatter_nd_add(columns, paddle.stack([row, slot], axis=1), column)
    return PaddedIndices(columns, valid, count)


def positive_chunks(positives: PaddedIndices, columns: int) -> list[tuple[Tensor, Tensor]]:
    """Chunks ``[B, k]`` of the columns and their validity, so small that ``[B, k, M]`` is not larger than a block."""
    if not paddle.in_dynamic_mode():  # shapes may be open
        return [(positives.columns, positives.valid)]
    step = blocks.rows_per_block(positives.counts.shape[0] * columns, on_cpu(positives.counts))
    chunks = [slice(start, start + step) for start in range(0, positives.columns.shape[1], step)]
    return [(positives.columns[:, chunk], positives.valid[:, chunk]) for chunk in chunks]


def attach_gradient(values: Tensor, gradient: Tensor, distances: Tensor) -> Tensor:
    """Attach a known gradient by the distances, ``[B, M]``, to ``values`` ``[B]``.

    Adds ``(g * d) - stop_gradient(g * d)``, which is zero in value.
    """
    product = row_sums(gradient * distances)
    return values + (product - detached(product))


class KnownGradient(PyLayer):
    """Values ``[B]`` with a gradient by the distances ``[B, M]`` that was computed with them. It has no second one."""

    @staticmethod
    def forward(ctx: Any, values: Tensor, gradient: Tensor, distances: Tensor) -> Tensor:
        ctx.save_for_backward(gradient)
        return values.clone()

    @staticmethod
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor | None, ...]:
        refuse_second_derivatives()
        return None, None, upstream[:, None] * ctx.saved_tensor()[0]


def triplets(distances: Tensor, positive: Tensor, negative: Tensor, margin: float) -> tuple[Tensor, Tensor, Tensor]:
    r"""Sum of the hinges, number of triplets, and number of active triplets of each anchor: three ``[B]``.

    With :math:`a_p = d_p + m`, the hinge :math:`\max(0, a_p - d_n)` is linear on either side of its kink. The sum of an
    anchor is therefore :math:`\sum_p c_p a_p - \sum_n c_n d_n`, where :math:`c_p` counts the negatives below
    :math:`a_p`, and :math:`c_n` the positives with :math:`a_p` above :math:`d_n`. Few positives are compared with all
    negatives one after the other; many are sorted and searched. As :math:`\sum_p c_p = \sum_n c_n`, the same number can
    be subtracted from all values; the mean of the positives keeps the sums small.
    """
    dtype = distances.dtype
    with paddle.no_grad():
        positives = pad_mask_indices(positive)
        limits = distances.take_along_axis(positives.columns, axis=1) + margin
        shift = where(positives.valid, limits, 0.0).sum(axis=1, keepdim=True)
        shift = shift / positives.counts.clip(min=1)[:, None].astype(dtype)
        negative_distances = where(negative, distances, paddle.inf)
        few = paddle.in_dynamic_mode() and limits.shape[1] <= MAX_COMPARISONS
        below, above = (count_by_comparison if few else count_by_search)(limits, positives, negative_distances)
        sums = (below * (limits - shift)).sum(axis=1) - row_sums(above * (distances - shift.expand_as(distances)))
        gradient = (-above).put_along_axis(positives.columns, below, axis=1, reduce="add")
        count = positives.counts.astype(dtype) * row_sums(negative).astype(dtype)
    return attach_gradient(sums, gradient, distances), count, below.sum(axis=1)


def count_by_comparison(limits: Tensor, positives: PaddedIndices, negative_distances: Tensor) -> tuple[Tensor, Tensor]:
    """How many negatives are below each limit ``[B, K]``, and how many limits are above each negative ``[B, M]``."""
    limits = where(positives.valid, limits, -paddle.inf)
    below, above = [limits[:, :0]], paddle.zeros_like(negative_distances)
    for i in range(limits.shape[1]):
        limit = limits[:, i : i + 1].expand_as(negative_distances)
        is_below = (limit > negative_distances).astype(negative_distances.dtype)
        below.append(row_sums(is_below)[:, None])
        above += is_below
    return paddle.concat(below, axis=1), above


def count_by_search(limits: Tensor, positives: PaddedIndices, negative_distances: Tensor) -> tuple[Tensor, Tensor]:
    """The same as :func:`count_by_comparison`, in log K steps instead of K.

    One search finds the position of each negative among the sorted limits. The cumulative number of negatives at these
    positions is the number below each limit, so both counts agree to the last triplet.
    """
    bounds = where(positives.valid, limits, paddle.inf)
    order = bounds.argsort(axis=1)
    passed = paddle.searchsorted(bounds.take_along_axis(order, axis=1), negative_distances, right=True)
    at_position = paddle.zeros_like(paddle.concat([passed[:, :1], order], axis=1))
    at_position = at_position.put_along_axis(passed, paddle.ones_like(passed), axis=1, reduce="add")
    below = at_position[:, :-1].cumsum(axis=1).astype(limits.dtype)
    below = paddle.zeros_like(limits).put_along_axis(order, below, axis=1)
    above = (positives.counts[:, None] - passed).clip(min=0)  # infinite values have passed all limits and the padding
    return where(positives.valid, below, 0.0), above.astype(limits.dtype)


def soft_triplets(distances: Tensor, positive: Tensor, negative: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    r"""The same as :func:`triplets` for the terms :math:`\log(1 + e^{d_p - d_n})`, a few positives at a time.

    The derivative by :math:`d_p` is :math:`\sum_n \sigma(d_p - d_n)`. The derivative by :math:`d_n` is the negative sum
    over p.
    """
    with paddle.no_grad():
        positives = pad_mask_indices(positive)
        negative_distances = where(negative, distances, paddle.inf)
        values, gradient = paddle.zeros_like(distances[:, 0]), paddle.zeros_like(distances)
        for columns, valid in positive_chunks(positives, distances.shape[1]):
            chunk = where(valid, distances.take_along_axis(columns, axis=1), -paddle.inf)
            gap = chunk[:, :, None] - negative_distances[:, None, :]
            values = values + softplus(gap).sum(axis=(1, 2))
            slope = paddle.sigmoid(gap)
            gradient = gradient - slope.sum(axis=1)
            gradient = gradient.put_along_axis(columns, slope.sum(axis=2), axis=1, reduce="add")
        count = positives.counts.astype(distances.dtype) * row_sums(negative).astype(distances.dtype)
    if not paddle.in_dynamic_mode():  # compiled functions have no second derivatives
        return attach_gradient(values, gradient, distances), count, count
    return KnownGradient.apply(values, gradient, distances), count, count


def soft_precision(
    distances: Tensor,
    positive: Tensor,
    negative: Tensor,
    k: int,
    temperature1: float,
    temperature2: float,
    first_rank: float = 1.0,
) -> Tensor:
    r"""Precision at k of each row with soft ranks, a few positives at a time: ``[B]``.

    For the positives j of a row this is :math:`\frac{1}{\min(k, |P|)} \sum_j \sigma((k - r_j) / \tau_1)` with
    :math:`r_j = f + \sum_l \sigma((d_j - d_l) / \tau_2)` over all other items l, where f is ``first_rank``. Let
    :math:`g_j` be the derivative by :math:`r_j`, and :math:`s_{jl}` that of the inner sigmoid by its argument, divided
    by :math:`\tau_2`. Each j adds :math:`g_j \sum_l s_{jl}` to the derivative by :math:`d_j` and subtracts
    :math:`g_j s_{jl}` from the derivative by each :math:`d_l`.
    """
    cutoff = k - (first_rank - 0.5)  # j counts as half ahead of itself
    with paddle.no_grad():
        positives = pad_mask_indices(positive)
        best = positives.counts.clip(min=1, max=k)[:, None].astype(distances.dtype)
        values, gradient = paddle.zeros_like(distances[:, 0]), paddle.zeros_like(distances)
        others = where(positive | negative, distances, paddle.inf)
        for columns, valid in positive_chunks(positives, distances.shape[1]):
            ahead = distances.take_along_axis(columns, axis=1)[:, :, None] - others[:, None, :]
            ahead = paddle.sigmoid(ahead / temperature2)
            inside = paddle.sigmoid((cutoff - ahead.sum(axis=2)) / temperature1)
            values = values + where(valid, inside / best, 0.0).sum(axis=1)
            by_rank = where(valid, -inside * (1 - inside) / (temperature1 * best), 0.0)
            slope = by_rank[:, :, None] * ahead * (1 - ahead) / temperature2
            gradient = gradient - slope.sum(axis=1)
            gradient = gradient.put_along_axis(columns, slope.sum(axis=2), axis=1, reduce="add")
    if not paddle.in_dynamic_mode():
        return attach_gradient(values, gradient, distances)
    return KnownGradient.apply(values, gradient, distances)
