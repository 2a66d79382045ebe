"""Sums over triples of items, of which no tensor of N x N x N is ever made, for Keras."""

from keras import KerasTensor, ops

__all__ = ["soft_precision", "soft_triplets", "triplets"]


def triplets(
    distances: KerasTensor, positive: KerasTensor, negative: KerasTensor, margin: float
) -> tuple[KerasTensor, KerasTensor, KerasTensor]:
    r"""Sum of the hinges, number, and number of active ones of each anchor's triplets: to three ``[N]``.

    With :math:`a_p = d_p + m`, the hinge :math:`\max(0, a_p - d_n)` is linear on either side of its kink.
    So an anchor's sum is :math:`\sum_p c_p a_p - \sum_n c_n d_n`, where :math:`c_p` counts the negatives
    below :math:`a_p` and :math:`c_n` the positives whose :math:`a_p` is above :math:`d_n`. Both counts come
    from searching sorted rows, and from the same comparisons, so that they agree to the last triplet.
    As :math:`\sum_p c_p = \sum_n c_n`, any number may be taken off all values; the mean of the positives
    keeps the sums small.
    """
    dtype = distances.dtype
    count = ops.sum(ops.cast(positive, dtype), axis=1)
    limits = distances + margin
    fixed, bounds = ops.stop_gradient(distances), ops.stop_gradient(limits)
    below = ops.sort(ops.where(negative, fixed, float("inf")), axis=1)
    above = ops.sort(ops.where(positive, bounds, float("inf")), axis=1)
    active_negatives = ops.cast(searched(below, bounds, "left"), dtype)
    inactive_positives = ops.cast(searched(above, fixed, "right"), dtype)
    weights = ops.where(negative, inactive_positives - count[:, None], 0.0)
    weights = ops.where(positive, active_negatives, weights)
    shift = ops.sum(ops.where(positive, bounds, 0.0), axis=1, keepdims=True) / ops.maximum(count, 1)[:, None]
    active = ops.sum(ops.where(positive, weights, 0.0), axis=1)
    sums = ops.sum(weights * (ops.where(positive, limits, distances) - shift), axis=1)
    return sums, count * ops.sum(ops.cast(negative, dtype), axis=1), active


def searched(rows: KerasTensor, values: KerasTensor, side: str) -> KerasTensor:
    """Where the values of each row belong in its sorted row: two ``[N, M]`` to ``[N, M]``."""
    return ops.vectorized_map(lambda row: ops.searchsorted(row[0], row[1], side=side), (rows, values))


def soft_triplets(
    distances: KerasTensor, positive: KerasTensor, negative: KerasTensor
) -> tuple[KerasTensor, KerasTensor, KerasTensor]:
    r"""As :func:`triplets`, of :math:`\log(1 + e^{d_p - d_n})`, in blocks of anchors.

    The value and its derivative by each distance are summed a block at a time without keeping the
    block; a product that is 0 in value then carries the derivative to the distances.
    """
    fixed = ops.stop_gradient(distances)

    def anchor(row: tuple[KerasTensor, ...]) -> KerasTensor:
        distance, positive, negative = row
        pairs = positive[:, None] & negative[None, :]
        gap = distance[:, None] - distance[None, :]
        slope = ops.where(pairs, ops.sigmoid(gap), 0.0)
        value = ops.sum(ops.where(pairs, ops.softplus(gap), 0.0))
        return ops.concatenate([value[None], ops.sum(slope, axis=1) - ops.sum(slope, axis=0)])

    found = ops.map(anchor, (fixed, positive, negative))
    count = ops.sum(ops.cast(positive, fixed.dtype), axis=1) * ops.sum(ops.cast(negative, fixed.dtype), axis=1)
    values, weights = ops.stop_gradient(found[:, 0]), ops.stop_gradient(found[:, 1:])
    return values + ops.sum(weights * (distances - fixed), axis=1), count, count


def soft_precision(
    distances: KerasTensor, positive: KerasTensor, negative: KerasTensor, depth: int, cut: float, softness: float
) -> KerasTensor:
    r"""Precision at ``depth`` of each row by soft ranks, in blocks of rows: to ``[N]``.

    Of the positives j of a row, :math:`\frac{1}{\min(k, |P|)} \sum_j \sigma((k - r_j) / \tau_1)` with
    :math:`r_j = 1 + \sum_l \sigma((d_j - d_l) / \tau_2)` over all others l. With :math:`g_j` its derivative by
    :math:`r_j` and :math:`s_{jl} = s_{lj}` that of the sigmoid, the derivative by :math:`d_j` is
    :math:`g_j \sum_l s_{jl} - \sum_l g_l s_{lj}`. As in :func:`soft_triplets` a product that is 0 in value carries it.
    """
    fixed = ops.stop_gradient(distances)
    place = ops.arange(ops.shape(distances)[1])
    other = ops.not_equal(place[:, None], place[None, :])

    def anchor(row: tuple[KerasTensor, ...]) -> KerasTensor:
        distance, positive, negative = row
        counted = (positive | negative)[None, :] & other
        gap = (distance[:, None] - distance[None, :]) / softness
        near = ops.where(counted, ops.sigmoid(gap), 0.0)
        inside = ops.sigmoid((depth - 1 - ops.sum(near, axis=1)) / cut)
        best = ops.clip(ops.sum(ops.cast(positive, distance.dtype)), 1, depth)
        value = ops.sum(ops.where(positive, inside / best, 0.0))
        by_rank = ops.where(positive, -inside * (1 - inside) / (cut * best), 0.0)
        slope = near * (1 - near) / softness
        weights = by_rank * ops.sum(slope, axis=1) - ops.sum(by_rank[:, None] * slope, axis=0)
        return ops.concatenate([value[None], weights])

    found = ops.map(anchor, (fixed, positive, negative))
    values, weights = ops.stop_gradient(found[:, 0]), ops.stop_gradient(found[:, 1:])
    return values + ops.sum(weights * (distances - fixed), axis=1)
