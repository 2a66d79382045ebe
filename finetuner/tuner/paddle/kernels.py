"""Sums over triples of items, of which no tensor of N x N x N is ever made, for PaddlePaddle."""

import paddle
from paddle.nn import functional as F

from .functional import detached, itself, where

__all__ = ["soft_precision", "soft_triplets", "triplets"]

BLOCK = 2**22  # elements of the largest temporary of a computation in blocks


def triplets(
    distances: paddle.Tensor, positive: paddle.Tensor, negative: paddle.Tensor, margin: float
) -> tuple[paddle.Tensor, paddle.Tensor, paddle.Tensor]:
    r"""Sum of the hinges, number, and number of active ones of each anchor's triplets: to three ``[N]``.

    With :math:`a_p = d_p + m`, the hinge :math:`\max(0, a_p - d_n)` is linear on either side of its kink.
    So an anchor's sum is :math:`\sum_p c_p a_p - \sum_n c_n d_n`, where :math:`c_p` counts the negatives
    below :math:`a_p` and :math:`c_n` the positives whose :math:`a_p` is above :math:`d_n`. Both counts come
    from searching sorted rows, and from the same comparisons, so that they agree to the last triplet.
    As :math:`\sum_p c_p = \sum_n c_n`, any number may be taken off all values; the mean of the positives
    keeps the sums small.
    """
    dtype = distances.dtype
    count = positive.sum(axis=1).astype(dtype)
    limits = distances + margin
    with paddle.no_grad():
        below = where(negative, distances, paddle.inf).sort(axis=1)
        above = where(positive, limits, paddle.inf).sort(axis=1)
        active_negatives = paddle.searchsorted(below, limits).astype(dtype)
        inactive_positives = paddle.searchsorted(above, distances, right=True).astype(dtype)
        weights = where(negative, inactive_positives - count[:, None], 0.0)
        weights = where(positive, active_negatives, weights)
        shift = where(positive, limits, 0.0).sum(axis=1, keepdim=True) / count.clip(min=1)[:, None]
        active = where(positive, weights, 0.0).sum(axis=1)
    sums = (weights * (where(positive, limits, distances) - shift)).sum(axis=1)
    return sums, count * negative.sum(axis=1).astype(dtype), active


def soft_triplets(
    distances: paddle.Tensor, positive: paddle.Tensor, negative: paddle.Tensor
) -> tuple[paddle.Tensor, paddle.Tensor, paddle.Tensor]:
    r"""As :func:`triplets`, of :math:`\log(1 + e^{d_p - d_n})`, in blocks of anchors.

    The value and its derivative by each distance are summed a block at a time without keeping the
    block; a product that is 0 in value then carries the derivative to the distances.
    """
    values, weights = [], []
    with paddle.no_grad():
        step = max(1, BLOCK // distances.shape[1] ** 2)
        for start in range(0, distances.shape[0], step):
            block = slice(start, start + step)
            pairs = positive[block, :, None] & negative[block, None, :]
            gap = distances[block, :, None] - distances[block, None, :]
            slope = where(pairs, paddle.sigmoid(gap), 0.0)
            values.append(where(pairs, F.softplus(gap), 0.0).sum(axis=(1, 2)))
            weights.append(slope.sum(axis=2) - slope.sum(axis=1))
        count = (positive.sum(axis=1) * negative.sum(axis=1)).astype(distances.dtype)
    carrier = paddle.concat(weights) * (distances - detached(distances))
    return paddle.concat(values) + carrier.sum(axis=1), count, count


def soft_precision(
    distances: paddle.Tensor, positive: paddle.Tensor, negative: paddle.Tensor, depth: int, cut: float, softness: float
) -> paddle.Tensor:
    r"""Precision at ``depth`` of each row by soft ranks, in blocks of rows: to ``[N]``.

    Of the positives j of a row, :math:`\frac{1}{\min(k, |P|)} \sum_j \sigma((k - r_j) / \tau_1)` with
    :math:`r_j = 1 + \sum_l \sigma((d_j - d_l) / \tau_2)` over all others l. With :math:`g_j` its derivative by
    :math:`r_j` and :math:`s_{jl} = s_{lj}` that of the sigmoid, the derivative by :math:`d_j` is
    :math:`g_j \sum_l s_{jl} - \sum_l g_l s_{lj}`. As in :func:`soft_triplets` a product that is 0 in value carries it.
    """
    values, weights = [], []
    with paddle.no_grad():
        step = max(1, BLOCK // distances.shape[1] ** 2)
        same = itself(distances.T)
        for start in range(0, distances.shape[0], step):
            block = slice(start, start + step)
            counted = (positive[block] | negative[block])[:, None, :] & ~same
            gap = (distances[block, :, None] - distances[block, None, :]) / softness
            near = where(counted, paddle.sigmoid(gap), 0.0)
            inside = paddle.sigmoid((depth - 1 - near.sum(axis=2)) / cut)
            best = positive[block].sum(axis=1, keepdim=True).clip(min=1, max=depth).astype(distances.dtype)
            values.append(where(positive[block], inside / best, 0.0).sum(axis=1))
            by_rank = where(positive[block], -inside * (1 - inside) / (cut * best), 0.0)
            slope = near * (1 - near) / softness
            weights.append(by_rank * slope.sum(axis=2) - (by_rank[:, :, None] * slope).sum(axis=1))
    carrier = paddle.concat(weights) * (distances - detached(distances))
    return paddle.concat(values) + carrier.sum(axis=1)
