"""Sums over triples of items, of which no tensor of N x N x N is ever made, for PaddlePaddle."""

from typing import NamedTuple

import paddle
from paddle.nn import functional as F

from ..base import blocks
from .functional import detached, where

__all__ = ["soft_precision", "soft_triplets", "triplets"]


class Listed(NamedTuple):
    """The columns of each row that a mask holds, as many as the fullest row has, the others filled up."""

    columns: paddle.Tensor  # [B, K] int64
    there: paddle.Tensor  # [B, K] boolean, False for what fills up
    count: paddle.Tensor  # [B] int64


def listed(mask: paddle.Tensor) -> Listed:
    """List the columns of a mask ``[B, M]``; all of them while a compiler is at work, which cannot count them."""
    count = mask.sum(axis=1)
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
    along = (slopes * distances).sum(axis=1)
    return values + (along - detached(along))


def triplets(
    distances: paddle.Tensor, positive: paddle.Tensor, negative: paddle.Tensor, margin: float
) -> tuple[paddle.Tensor, paddle.Tensor, paddle.Tensor]:
    r"""Sum of the hinges, number, and number of active ones of each anchor's triplets: to three ``[B]``.

    With :math:`a_p = d_p + m`, the hinge :math:`\max(0, a_p - d_n)` is linear on either side of its kink.
    So an anchor's sum is :math:`\sum_p c_p a_p - \sum_n c_n d_n`, where :math:`c_p` counts the negatives
    below :math:`a_p` and :math:`c_n` the positives whose :math:`a_p` is above :math:`d_n`. One search tells where
    each :math:`d_n` lies among the sorted :math:`a_p`, and with it :math:`c_n`; as many negatives as lie before
    the next, summed up, make the :math:`c_p`, which so agree to the last triplet. As :math:`\sum_p c_p = \sum_n c_n`,
    any number may be taken off all values; the mean of the positives keeps the sums small.
    """
    dtype = distances.dtype
    with paddle.no_grad():
        near = listed(positive)
        limits = distances.take_along_axis(near.columns, axis=1) + margin
        shift = where(near.there, limits, 0.0).sum(axis=1, keepdim=True) / near.count.clip(min=1)[:, None].astype(dtype)
        bounds = where(near.there, limits, paddle.inf)
        order = bounds.argsort(axis=1)
        above = bounds.take_along_axis(order, axis=1)
        passed = paddle.searchsorted(above, distances, right=True)  # how many positives do not matter
        landed = paddle.zeros_like(paddle.concat([passed[:, :1], order], axis=1))
        landed = landed.put_along_axis(passed, negative.astype(passed.dtype), axis=1, reduce="add")
        active_negatives = landed[:, :-1].cumsum(axis=1).astype(dtype)
        weights = where(negative, passed - near.count[:, None], 0).astype(dtype)
        sums = (weights * (distances - shift)).sum(axis=1)
        found = paddle.zeros_like(limits).put_along_axis(order, active_negatives, axis=1)
        found = where(near.there, found, 0.0)
        sums = sums + where(near.there, found * (limits - shift), 0.0).sum(axis=1)
        weights = weights.put_along_axis(near.columns, found, axis=1, reduce="add")
        count = (near.count * negative.sum(axis=1)).astype(dtype)
    return carried(sums, weights, distances), count, found.sum(axis=1)


def soft_triplets(
    distances: paddle.Tensor, positive: paddle.Tensor, negative: paddle.Tensor
) -> tuple[paddle.Tensor, paddle.Tensor, paddle.Tensor]:
    r"""As :func:`triplets`, of :math:`\log(1 + e^{d_p - d_n})`, a few positives at a time.

    The slope by :math:`d_p` is :math:`\sum_n \sigma(d_p - d_n)`, and that by :math:`d_n` the same over p, with a minus.
    """
    with paddle.no_grad():
        near = listed(positive)
        values, slopes = paddle.zeros_like(distances[:, 0]), paddle.zeros_like(distances)
        for columns, there in by_a_few(near, distances.shape[1]):
            pairs = there[:, :, None] & negative[:, None, :]
            gap = distances.take_along_axis(columns, axis=1)[:, :, None] - distances[:, None, :]
            values = values + where(pairs, F.softplus(gap), 0.0).sum(axis=(1, 2))
            slope = where(pairs, paddle.sigmoid(gap), 0.0)
            slopes = slopes - slope.sum(axis=1)
            slopes = slopes.put_along_axis(columns, slope.sum(axis=2), axis=1, reduce="add")
        count = (near.count * negative.sum(axis=1)).astype(distances.dtype)
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
        place = paddle.arange(distances.shape[1])
        for columns, there in by_a_few(near, distances.shape[1]):
            others = (positive | negative)[:, None, :] & (columns[:, :, None] != place)
            gap = (distances.take_along_axis(columns, axis=1)[:, :, None] - distances[:, None, :]) / softness
            ahead = where(others, paddle.sigmoid(gap), 0.0)
            inside = paddle.sigmoid((depth - 1 - ahead.sum(axis=2)) / cut)
            values = values + where(there, inside / best, 0.0).sum(axis=1)
            by_rank = where(there, -inside * (1 - inside) / (cut * best), 0.0)
            slope = by_rank[:, :, None] * ahead * (1 - ahead) / softness
            slopes = slopes - slope.sum(axis=1)
            slopes = slopes.put_along_axis(columns, slope.sum(axis=2), axis=1, reduce="add")
    return carried(values, slopes, distances)
