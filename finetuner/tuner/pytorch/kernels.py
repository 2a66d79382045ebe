"""Sums over triples of items, of which no tensor of N x N x N is ever made, for PyTorch."""

import torch
from torch.nn import functional as F

from .functional import itself

__all__ = ["soft_precision", "soft_triplets", "triplets"]

BLOCK = 2**22  # elements of the largest temporary of a computation in blocks


def triplets(
    distances: torch.Tensor, positive: torch.Tensor, negative: torch.Tensor, margin: float
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    r"""Sum of the hinges, number, and number of active ones of each anchor's triplets: to three ``[N]``.

    With :math:`a_p = d_p + m`, the hinge :math:`\max(0, a_p - d_n)` is linear on either side of its kink.
    So an anchor's sum is :math:`\sum_p c_p a_p - \sum_n c_n d_n`, where :math:`c_p` counts the negatives
    below :math:`a_p` and :math:`c_n` the positives whose :math:`a_p` is above :math:`d_n`. Both counts come
    from searching sorted rows, and from the same comparisons, so that they agree to the last triplet.
    As :math:`\sum_p c_p = \sum_n c_n`, any number may be taken off all values; the mean of the positives
    keeps the sums small.
    """
    dtype = distances.dtype
    count = positive.sum(dim=1).to(dtype)
    limits = distances + margin
    with torch.no_grad():
        below = torch.where(negative, distances, torch.inf).sort(dim=1).values
        above = torch.where(positive, limits, torch.inf).sort(dim=1).values
        active_negatives = torch.searchsorted(below, limits.contiguous()).to(dtype)
        inactive_positives = torch.searchsorted(above, distances.contiguous(), right=True).to(dtype)
        weights = torch.where(negative, inactive_positives - count[:, None], 0.0)
        weights = torch.where(positive, active_negatives, weights)
        shift = torch.where(positive, limits, 0.0).sum(dim=1, keepdim=True) / count.clamp(min=1)[:, None]
        active = torch.where(positive, weights, 0.0).sum(dim=1)
    sums = (weights * (torch.where(positive, limits, distances) - shift)).sum(dim=1)
    return sums, count * negative.sum(dim=1).to(dtype), active


def soft_triplets(
    distances: torch.Tensor, positive: torch.Tensor, negative: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    r"""As :func:`triplets`, of :math:`\log(1 + e^{d_p - d_n})`, in blocks of anchors.

    The value and its derivative by each distance are summed a block at a time without keeping the
    block; a product that is 0 in value then carries the derivative to the distances.
    """
    values, weights = [], []
    with torch.no_grad():
        step = max(1, BLOCK // distances.shape[1] ** 2)
        for start in range(0, len(distances), step):
            block = slice(start, start + step)
            pairs = positive[block, :, None] & negative[block, None, :]
            gap = distances[block, :, None] - distances[block, None, :]
            slope = torch.where(pairs, torch.sigmoid(gap), 0.0)
            values.append(torch.where(pairs, F.softplus(gap), 0.0).sum(dim=(1, 2)))
            weights.append(slope.sum(dim=2) - slope.sum(dim=1))
        count = (positive.sum(dim=1) * negative.sum(dim=1)).to(distances.dtype)
    carrier = torch.cat(weights) * (distances - distances.detach())
    return torch.cat(values) + carrier.sum(dim=1), count, count


def soft_precision(
    distances: torch.Tensor, positive: torch.Tensor, negative: torch.Tensor, depth: int, cut: float, softness: float
) -> torch.Tensor:
    r"""Precision at ``depth`` of each row by soft ranks, in blocks of rows: to ``[N]``.

    Of the positives j of a row, :math:`\frac{1}{\min(k, |P|)} \sum_j \sigma((k - r_j) / \tau_1)` with
    :math:`r_j = 1 + \sum_l \sigma((d_j - d_l) / \tau_2)` over all others l. With :math:`g_j` its derivative by
    :math:`r_j` and :math:`s_{jl} = s_{lj}` that of the sigmoid, the derivative by :math:`d_j` is
    :math:`g_j \sum_l s_{jl} - \sum_l g_l s_{lj}`. As in :func:`soft_triplets` a product that is 0 in value carries it.
    """
    values, weights = [], []
    with torch.no_grad():
        step = max(1, BLOCK // distances.shape[1] ** 2)
        same = itself(distances.T)
        for start in range(0, len(distances), step):
            block = slice(start, start + step)
            counted = (positive[block] | negative[block])[:, None, :] & ~same
            gap = (distances[block, :, None] - distances[block, None, :]) / softness
            near = torch.where(counted, torch.sigmoid(gap), 0.0)
            inside = torch.sigmoid((depth - 1 - near.sum(dim=2)) / cut)
            best = positive[block].sum(dim=1, keepdim=True).clamp(min=1, max=depth)
            values.append(torch.where(positive[block], inside / best, 0.0).sum(dim=1))
            by_rank = torch.where(positive[block], -inside * (1 - inside) / (cut * best), 0.0)
            slope = near * (1 - near) / softness
            weights.append(by_rank * slope.sum(dim=2) - (by_rank[:, :, None] * slope).sum(dim=1))
    carrier = torch.cat(weights) * (distances - distances.detach())
    return torch.cat(values) + carrier.sum(dim=1)
