"""Sums over triples of items, of which no tensor of N x N x N is ever made, for PyTorch."""

from typing import NamedTuple

import torch
from torch.nn import functional as F

from ..base import blocks

__all__ = ["soft_precision", "soft_triplets", "triplets"]

FEW = 128  # positives of a row, up to which comparing with each takes no longer than a search among them


class Listed(NamedTuple):
    """The columns of each row that a mask holds, as many as the fullest row has, the others filled up."""

    columns: torch.Tensor  # [B, K] int64
    there: torch.Tensor  # [B, K] boolean, False for what fills up
    count: torch.Tensor  # [B] int64


def listed(mask: torch.Tensor) -> Listed:
    """List the columns of a mask ``[B, M]``; all of them while a compiler is at work, which cannot count them."""
    if torch.compiler.is_compiling():
        columns = torch.arange(mask.shape[1], device=mask.device).expand(mask.shape)
        return Listed(columns, mask, mask.sum(dim=1))
    row, column = mask.nonzero(as_tuple=True)
    count = torch.bincount(row, minlength=len(mask))
    place = torch.arange(len(row), device=mask.device) - (count.cumsum(0) - count)[row]
    there = torch.arange(int(count.max()), device=mask.device) < count[:, None]
    columns = torch.zeros_like(there, dtype=torch.int64)
    columns[row, place] = column
    return Listed(columns, there, count)


def by_a_few(positives: Listed, columns: int) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """Columns and whether they are there, ``[B, k]`` each: so many that ``[B, k, M]`` is no more than a block."""
    step = blocks.rows_per_block(len(positives.count) * columns, positives.count.device.type == "cpu")
    parts = [slice(start, start + step) for start in range(0, positives.columns.shape[1], step)]
    return [(positives.columns[:, part], positives.there[:, part]) for part in parts]


def carried(values: torch.Tensor, slopes: torch.Tensor, distances: torch.Tensor) -> torch.Tensor:
    """``values`` ``[B]`` with ``slopes`` ``[B, M]`` by the distances: a difference that is 0 in value carries them."""
    along = (slopes * distances).sum(dim=1)
    return values + (along - along.detach())


def triplets(
    distances: torch.Tensor, positive: torch.Tensor, negative: torch.Tensor, margin: float
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    r"""Sum of the hinges, number, and number of active ones of each anchor's triplets: to three ``[B]``.

    With :math:`a_p = d_p + m`, the hinge :math:`\max(0, a_p - d_n)` is linear on either side of its kink.
    So an anchor's sum is :math:`\sum_p c_p a_p - \sum_n c_n d_n`, where :math:`c_p` counts the negatives
    below :math:`a_p` and :math:`c_n` the positives whose :math:`a_p` is above :math:`d_n`. A few positives are compared
    with all negatives one after another; many are sorted and searched. As :math:`\sum_p c_p = \sum_n c_n`,
    any number may be taken off all values; the mean of the positives keeps the sums small.
    """
    with torch.no_grad():
        near = listed(positive)
        limits = distances.gather(1, near.columns) + margin
        shift = torch.where(near.there, limits, 0.0).sum(dim=1, keepdim=True) / near.count.clamp(min=1)[:, None]
        apart = torch.where(negative, distances, torch.inf)
        few = limits.shape[1] <= FEW and not torch.compiler.is_compiling()
        below, above = (compared if few else searched)(limits, near, apart)
        sums = (below * (limits - shift)).sum(dim=1) - (above * (distances - shift)).sum(dim=1)
        slopes = above.neg_().scatter_add_(1, near.columns, below)
        count = (near.count * negative.sum(dim=1)).to(distances.dtype)
    return carried(sums, slopes, distances), count, below.sum(dim=1)


def compared(limits: torch.Tensor, near: Listed, apart: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """How many of ``apart`` ``[B, M]`` are below each limit ``[B, K]``, and how many limits are above each of them."""
    limits = torch.where(near.there, limits, -torch.inf)
    below, above, under = torch.empty_like(limits), torch.zeros_like(apart), torch.empty_like(apart)
    for i in range(limits.shape[1]):
        torch.gt(limits[:, i : i + 1], apart, out=under)  # 1 or 0: numbers are faster than what is true or false
        below[:, i] = under.sum(dim=1)
        above += under
    return below, above


def searched(limits: torch.Tensor, near: Listed, apart: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """As :func:`compared`, in log K steps instead of K.

    One search tells where each of ``apart`` lies among the sorted limits. As many as lie before the next one, summed
    up, are below it: so both counts agree to the last triplet.
    """
    ordered, order = torch.where(near.there, limits, torch.inf).sort(dim=1)
    passed = torch.searchsorted(ordered, apart, right=True)
    most = limits.shape[1]
    landed = passed.new_zeros((len(passed), most + 1)).scatter_add_(1, passed, torch.ones_like(passed))
    below = torch.zeros_like(limits).scatter_(1, order, landed[:, :most].cumsum(dim=1).to(limits.dtype))
    above = (near.count[:, None] - passed).clamp(min=0)  # what is infinite has passed all, and what fills them up
    return torch.where(near.there, below, 0.0), above.to(limits.dtype)


def soft_triplets(
    distances: torch.Tensor, positive: torch.Tensor, negative: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    r"""As :func:`triplets`, of :math:`\log(1 + e^{d_p - d_n})`, a few positives at a time.

    The slope by :math:`d_p` is :math:`\sum_n \sigma(d_p - d_n)`, and that by :math:`d_n` the same over p, with a minus.
    """
    with torch.no_grad():
        near = listed(positive)
        apart = torch.where(negative, distances, torch.inf)
        values, slopes = torch.zeros_like(distances[:, 0]), torch.zeros_like(distances)
        for columns, there in by_a_few(near, distances.shape[1]):
            gap = torch.where(there, distances.gather(1, columns), -torch.inf)[:, :, None] - apart[:, None, :]
            values += F.softplus(gap).sum(dim=(1, 2))
            slope = torch.sigmoid(gap)
            slopes -= slope.sum(dim=1)
            slopes.scatter_add_(1, columns, slope.sum(dim=2))
        count = (near.count * negative.sum(dim=1)).to(distances.dtype)
    return carried(values, slopes, distances), count, count


def soft_precision(
    distances: torch.Tensor, positive: torch.Tensor, negative: torch.Tensor, depth: int, cut: float, softness: float
) -> torch.Tensor:
    r"""Precision at ``depth`` of each row by soft ranks, a few positives at a time: to ``[B]``.

    Of the positives j of a row, :math:`\frac{1}{\min(k, |P|)} \sum_j \sigma((k - r_j) / \tau_1)` with
    :math:`r_j = 1 + \sum_l \sigma((d_j - d_l) / \tau_2)` over all others l. With :math:`g_j` its derivative by
    :math:`r_j` and :math:`s_{jl}` that of the inner sigmoid by its argument, over :math:`\tau_2`, each j adds
    :math:`g_j \sum_l s_{jl}` to the slope by :math:`d_j` and takes :math:`g_j s_{jl}` off that by each :math:`d_l`.
    """
    with torch.no_grad():
        near = listed(positive)
        best = near.count.clamp(min=1, max=depth)[:, None]
        values, slopes = torch.zeros_like(distances[:, 0]), torch.zeros_like(distances)
        seen = torch.where(positive | negative, distances, torch.inf)
        for columns, there in by_a_few(near, distances.shape[1]):
            ahead = torch.sigmoid((distances.gather(1, columns)[:, :, None] - seen[:, None, :]) / softness)
            inside = torch.sigmoid((depth - 0.5 - ahead.sum(dim=2)) / cut)  # j is half ahead of itself
            values += torch.where(there, inside / best, 0.0).sum(dim=1)
            by_rank = torch.where(there, -inside * (1 - inside) / (cut * best), 0.0)
            slope = by_rank[:, :, None] * ahead * (1 - ahead) / softness
            slopes -= slope.sum(dim=1)
            slopes.scatter_add_(1, columns, slope.sum(dim=2))
    return carried(values, slopes, distances)
