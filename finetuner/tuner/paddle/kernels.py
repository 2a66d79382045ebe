"""Sums over triples of items, of which no tensor of N x N x N is ever made, for PaddlePaddle."""

from typing import NamedTuple

import paddle
from paddle.nn import functional as F

from ..base import blocks
from .functional import detached, row_sums, where

__all__ = ["soft_precision", "soft_triplets", "triplets"]

FEW = 32  # positives of a row, up to which comparing with each takes no longer than a search among them


class Listed(NamedTuple):
    """The columns of each row that a mask holds, as many as the fullest row has, the others filled up."""

    columns: paddle.Tensor  # [B, K] int64
    there: paddle.Tensor  # [B, K] boolean, False for what fills up
    count: paddle.Tensor  # [B] int64


def listed(mask: paddle.Tensor) -> Listed:
    """List the columns of a mask ``[B, M]``; all of them while a compiler is at work, which cannot count them."""
    count = row_sums(mask).astype("int64")
    if not paddle.in_dynamic_mode():
        columns = paddle.arange(mask.shape[1]) + paddle.zeros_like(mask, dtype="int64")
        return Listed(columns, mask, count)
    found = mask.nonzero()
    row, column = found[:, 0], found[:, 1]
    place = paddle.arange(row.shape[0]) - (count.cumsum(0) - count)[row]
    there = paddle.arange(int(count.max())) < count[:, None]
    columns = paddle.zeros(there.shape, dtype="int64")
    if row.shape[0]:
        columns = paddle.scatter_nd_add(columns, paddle.stack([row, place], axis=1), column)
    return Listed(columns, there, count)


def by_a_few(positives: Listed, columns: int) -> list[tuple[paddle.Tensor, paddle.Tensor]]:
    """Columns and whether they are there, ``[B, k]`` each: so many that ``[B, k, M]`` is no more than a block."""
    if not paddle.in_dynamic_mode():  # whose shapes may be open
        return [(positives.columns, positives.there)]
    step = blocks.rows_per_block(positives.count.shape[0] * columns, positives.count.place.is_cpu_place())
    parts = [slice(start, start + step) for start in range(0, positives.columns.shape[1], step)]
    return [(positives.columns[:, part], positives.there[:, part]) for part in parts]


def carried(values: paddle.Tensor, slopes: paddle.Tensor, distances: paddle.Tensor) -> paddle.Tensor:
    """``values`` ``[B]`` with ``slopes`` ``[B, M]`` by the distances: a difference that is 0 in value carries them."""
    along = row_sums(slopes * distances)
    return values + (along - detached(along))


def triplets(
    distances: paddle.Tensor, positive: paddle.Tensor, negative: paddle.Tensor, margin: float
) -> tuple[paddle.Tensor, paddle.Tensor, paddle.Tensor]:
    r"""Sum of the hinges, number, and number of active ones of each anchor's triplets: to three ``[B]``.

    With :math:`a_p = d_p + m`, the hinge :math:`\max(0, a_p - d_n)` is linear on either side of its kink.
    So an anchor's sum is :math:`\sum_p c_p a_p - \sum_n c_n d_n`, where :math:`c_p` counts the negatives
    below :math:`a_p` and :math:`c_n` the positives whose :math:`a_p` is above :math:`d_n`. A few positives are compared
    with all negatives one after another; many are sorted and searched. As :math:`\sum_p c_p = \sum_n c_n`,
    any number may be taken off all values; the mean of the positives keeps the sums small.
    """
    dtype = distances.dtype
    with paddle.no_grad():
        near = listed(positive)
        limits = distances.take_along_axis(near.columns, axis=1) + margin
        shift = where(near.there, limits, 0.0).sum(axis=1, keepdim=True) / near.count.clip(min=1)[:, None].astype(dtype)
        apart = where(negative, distances, paddle.inf)
        few = paddle.in_dynamic_mode() and limits.shape[1] <= FEW
        below, above = (compared if few else searched)(limits, near, apart)
        sums = (below * (limits - shift)).sum(axis=1) - row_sums(above * (distances - shift.expand_as(distances)))
        slopes = (-above).put_along_axis(near.columns, below, axis=1, reduce="add")
        count = near.count.astype(dtype) * row_sums(negative).astype(dtype)
    return carried(sums, slopes, distances), count, below.sum(axis=1)


def compared(limits: paddle.Tensor, near: Listed, apart: paddle.Tensor) -> tuple[paddle.Tensor, paddle.Tensor]:
    """How many of ``apart`` ``[B, M]`` are below each limit ``[B, K]``, and how many limits are above each of them."""
    limits = where(near.there, limits, -paddle.inf)
    below, above = [limits[:, :0]], paddle.zeros_like(apart)
    for i in range(limits.shape[1]):
        under = (limits[:, i : i + 1].expand_as(apart) > apart).astype(apart.dtype)
        below.append(row_sums(under)[:, None])
        above += under
    return paddle.concat(below, axis=1), above


def searched(limits: paddle.Tensor, near: Listed, apart: paddle.Tensor) -> tuple[paddle.Tensor, paddle.Tensor]:
    """As :func:`compared`, in log K steps instead of K.

    One search tells where each of ``apart`` lies among the sorted limits. As many as lie before the next one, summed
    up, are below it: so both counts agree to the last triplet.
    """
    bounds = where(near.there, limits, paddle.inf)
    order = bounds.argsort(axis=1)
    passed = paddle.searchsorted(bounds.take_along_axis(order, axis=1), apart, right=True)
    landed = paddle.zeros_like(paddle.concat([passed[:, :1], order], axis=1))
    landed = landed.put_along_axis(passed, paddle.ones_like(passed), axis=1, reduce="add")
    below = landed[:, :-1].cumsum(axis=1).astype(limits.dtype)
    below = paddle.zeros_like(limits).put_along_axis(order, below, axis=1)
    above = (near.count[:, None] - passed).clip(min=0)  # what is infinite has passed all, and what fills them up
    return where(near.there, below, 0.0), above.astype(limits.dtype)


def soft_triplets(
    distances: paddle.Tensor, positive: paddle.Tensor, negative: paddle.Tensor
) -> tuple[paddle.Tensor, paddle.Tensor, paddle.Tensor]:
    r"""As :func:`triplets`, of :math:`\log(1 + e^{d_p - d_n})`, a few positives at a time.

    The slope by :math:`d_p` is :math:`\sum_n \sigma(d_p - d_n)`, and that by :math:`d_n` the same over p, with a minus.
    """
    with paddle.no_grad():
        near = listed(positive)
        apart = where(negative, distances, paddle.inf)
        values, slopes = paddle.zeros_like(distances[:, 0]), paddle.zeros_like(distances)
        for columns, there in by_a_few(near, distances.shape[1]):
            gap = where(there, distances.take_along_axis(columns, axis=1), -paddle.inf)
            gap = gap[:, :, None] - apart[:, None, :]
            values = values + F.softplus(gap).sum(axis=(1, 2))
            slope = paddle.sigmoid(gap)
            slopes = slopes - slope.sum(axis=1)
            slopes = slopes.put_along_axis(columns, slope.sum(axis=2), axis=1, reduce="add")
        count = near.count.astype(distances.dtype) * row_sums(negative).astype(distances.dtype)
    return carried(values, slopes, distances), count, count


def soft_precision(
    distances: paddle.Tensor, positive: paddle.Tensor, negative: paddle.Tensor, depth: int, cut: float, softness: float
) -> paddle.Tensor:
    r"""Precision at ``depth`` of each row by soft ranks, a few positives at a time: to ``[B]``.

    Of the positives j of a row, :math:`\frac{1}{\min(k, |P|)} \sum_j \sigma((k - r_j) / \tau_1)` with
    :math:`r_j = 1 + \sum_l \sigma((d_j - d_l) / \tau_2)` over all others l. With :math:`g_j` its derivative by
    :math:`r_j` and :math:`s_{jl}` that of the inner sigmoid by its argument, over :math:`\tau_2`, each j adds
    :math:`g_j \sum_l s_{jl}` to the slope by :math:`d_j` and takes :math:`g_j s_{jl}` off that by each :math:`d_l`.
    """
    with paddle.no_grad():
        near = listed(positive)
        best = near.count.clip(min=1, max=depth)[:, None].astype(distances.dtype)
        values, slopes = paddle.zeros_like(distances[:, 0]), paddle.zeros_like(distances)
        seen = where(positive | negative, distances, paddle.inf)
        for columns, there in by_a_few(near, distances.shape[1]):
            ahead = distances.take_along_axis(columns, axis=1)[:, :, None] - seen[:, None, :]
            ahead = paddle.sigmoid(ahead / softness)
            inside = paddle.sigmoid((depth - 0.5 - ahead.sum(axis=2)) / cut)  # j is half ahead of itself
            values = values + where(there, inside / best, 0.0).sum(axis=1)
            by_rank = where(there, -inside * (1 - inside) / (cut * best), 0.0)
            slope = by_rank[:, :, None] * ahead * (1 - ahead) / softness
            slopes = slopes - slope.sum(axis=1)
            slopes = slopes.put_along_axis(columns, slope.sum(axis=2), axis=1, reduce="add")
    return carried(values, slopes, distances)
