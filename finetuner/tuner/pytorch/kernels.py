"""Sums over triplets of items without a tensor of size N x N x N, for PyTorch."""

from collections.abc import Callable
from typing import Any, NamedTuple

import torch

from ..base.losses import blocks
from .ops import Tensor, softplus

__all__ = ["soft_precision", "soft_triplets", "triplets"]

MAX_COMPARISONS = 128  # positives of a row; for more, sorting and searching is faster than comparing with each


class PaddedIndices(NamedTuple):
    """The columns of each row that a mask selects. All rows are padded to the length of the longest."""

    columns: Tensor  # [B, K] int64
    valid: Tensor  # [B, K] boolean, False for padding
    counts: Tensor  # [B] int64


def pad_mask_indices(mask: Tensor) -> PaddedIndices:
    """The selected columns of a mask ``[B, M]``. Compiled, all columns: a compiler cannot count the selected ones."""
    if torch.compiler.is_compiling():
        columns = torch.arange(mask.shape[1], device=mask.device).expand(mask.shape)
        return PaddedIndices(columns, mask, mask.sum(dim=1))
    row, column = mask.nonzero(as_tuple=True)
    count = torch.bincount(row, minlength=len(mask))
    slot = torch.arange(len(row), device=mask.device) - (count.cumsum(0) - count)[row]
    valid = torch.arange(int(count.max()), device=mask.device) < count[:, None]
    columns = torch.zeros_like(valid, dtype=torch.int64)
    columns[row, slot] = column
    return PaddedIndices(columns, valid, count)


def positive_chunks(positives: PaddedIndices, columns: int) -> list[tuple[Tensor, Tensor]]:
    """Chunks ``[B, k]`` of the columns and their validity, so small that ``[B, k, M]`` is not larger than a block."""
    step = blocks.rows_per_block(len(positives.counts) * columns, positives.counts.device.type == "cpu")
    chunks = [slice(start, start + step) for start in range(0, positives.columns.shape[1], step)]
    return [(positives.columns[:, chunk], positives.valid[:, chunk]) for chunk in chunks]


def attach_gradient(values: Tensor, gradient: Tensor, distances: Tensor) -> Tensor:
    """Attach a known gradient by the distances, ``[B, M]``, to ``values`` ``[B]``.

    Adds ``(g * d) - stop_gradient(g * d)``, which is zero in value.
    """
    product = (gradient * distances).sum(dim=1)
    return values + (product - product.detach())


class KnownGradient(torch.autograd.Function):
    """Values ``[B]`` of ``formula(distances)`` with a gradient ``[B, M]`` that was computed with them.

    If the gradient itself is differentiated, it is computed again from the formula, in the memory of all comparisons.
    """

    @staticmethod
    def forward(formula: Callable[[Tensor], Tensor], values: Tensor, gradient: Tensor, distances: Tensor) -> Tensor:
        return values.clone()

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        ctx.formula, _, gradient, distances = inputs
        ctx.save_for_backward(gradient, distances)

    @staticmethod
    def backward(ctx: Any, upstream: Tensor) -> tuple[None, None, None, Tensor]:
        gradient, distances = ctx.saved_tensors
        if torch.is_grad_enabled():
            gradient = torch.autograd.grad(ctx.formula(distances).sum(), distances, create_graph=True)[0]
        return None, None, None, upstream[:, None] * gradient


def triplets(distances: Tensor, positive: Tensor, negative: Tensor, margin: float) -> tuple[Tensor, Tensor, Tensor]:
    r"""Sum of the hinges, number of triplets, and number of active triplets of each anchor: three ``[B]``.

    With :math:`a_p = d_p + m`, the hinge :math:`\max(0, a_p - d_n)` is linear on either side of its kink. The sum of an
    anchor is therefore :math:`\sum_p c_p a_p - \sum_n c_n d_n`, where :math:`c_p` counts the negatives below
    :math:`a_p`, and :math:`c_n` the positives with :math:`a_p` above :math:`d_n`. Few positives are compared with all
    negatives one after the other; many are sorted and searched. As :math:`\sum_p c_p = \sum_n c_n`, the same number can
    be subtracted from all values; the mean of the positives keeps the sums small.
    """
    with torch.no_grad():
        positives = pad_mask_indices(positive)
        limits = distances.gather(1, positives.columns) + margin
        shift = torch.where(positives.valid, limits, 0.0).sum(dim=1, keepdim=True)
        shift = shift / positives.counts.clamp(min=1)[:, None]
        negative_distances = torch.where(negative, distances, torch.inf)
        few = limits.shape[1] <= MAX_COMPARISONS and not torch.compiler.is_compiling()
        below, above = (count_by_comparison if few else count_by_search)(limits, positives, negative_distances)
        sums = (below * (limits - shift)).sum(dim=1) - (above * (distances - shift)).sum(dim=1)
        gradient = above.neg_().scatter_add_(1, positives.columns, below)
        count = (positives.counts * negative.sum(dim=1)).to(distances.dtype)
    return attach_gradient(sums, gradient, distances), count, below.sum(dim=1)


def count_by_comparison(limits: Tensor, positives: PaddedIndices, negative_distances: Tensor) -> tuple[Tensor, Tensor]:
    """How many negatives are below each limit ``[B, K]``, and how many limits are above each negative ``[B, M]``."""
    limits = torch.where(positives.valid, limits, -torch.inf)
    below, above = torch.empty_like(limits), torch.zeros_like(negative_distances)
    is_below = torch.empty_like(negative_distances)
    for i in range(limits.shape[1]):
        torch.gt(limits[:, i : i + 1], negative_distances, out=is_below)  # 1 or 0: faster than booleans
        below[:, i] = is_below.sum(dim=1)
        above += is_below
    return below, above


def count_by_search(limits: Tensor, positives: PaddedIndices, negative_distances: Tensor) -> tuple[Tensor, Tensor]:
    """The same as :func:`count_by_comparison`, in log K steps instead of K.

    One search finds the position of each negative among the sorted limits. The cumulative number of negatives at these
    positions is the number below each limit, so both counts agree to the last triplet.
    """
    ordered, order = torch.where(positives.valid, limits, torch.inf).sort(dim=1)
    passed = torch.searchsorted(ordered, negative_distances, right=True)
    width = limits.shape[1]
    at_position = passed.new_zeros((len(passed), width + 1)).scatter_add_(1, passed, torch.ones_like(passed))
    below = at_position[:, :width].cumsum(dim=1).to(limits.dtype)
    below = torch.zeros_like(limits).scatter_(1, order, below)
    above = (positives.counts[:, None] - passed).clamp(min=0)  # infinite values have passed all limits and the padding
    return torch.where(positives.valid, below, 0.0), above.to(limits.dtype)


def soft_triplets(distances: Tensor, positive: Tensor, negative: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    r"""The same as :func:`triplets` for the terms :math:`\log(1 + e^{d_p - d_n})`, a few positives at a time.

    The derivative by :math:`d_p` is :math:`\sum_n \sigma(d_p - d_n)`. The derivative by :math:`d_n` is the negative sum
    over p.
    """
    with torch.no_grad():
        positives = pad_mask_indices(positive)
        negative_distances = torch.where(negative, distances, torch.inf)
        values, gradient = torch.zeros_like(distances[:, 0]), torch.zeros_like(distances)
        for columns, valid in positive_chunks(positives, distances.shape[1]):
            chunk = torch.where(valid, distances.gather(1, columns), -torch.inf)
            gap = chunk[:, :, None] - negative_distances[:, None, :]
            values += softplus(gap).sum(dim=(1, 2))
            slope = torch.sigmoid(gap)
            gradient -= slope.sum(dim=1)
            gradient.scatter_add_(1, columns, slope.sum(dim=2))
        count = (positives.counts * negative.sum(dim=1)).to(distances.dtype)
    if torch.compiler.is_compiling():  # compiled functions have no second derivatives
        return attach_gradient(values, gradient, distances), count, count

    def formula(distances: Tensor) -> Tensor:
        own = torch.where(positives.valid, distances.gather(1, positives.columns), -torch.inf)
        others = torch.where(negative, distances, torch.inf)
        return softplus(own[:, :, None] - others[:, None, :]).sum(dim=(1, 2))

    return KnownGradient.apply(formula, values, gradient, distances), count, count  # type: ignore[no-untyped-call]


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
    with torch.no_grad():
        positives = pad_mask_indices(positive)
        best = positives.counts.clamp(min=1, max=k)[:, None]
        values, gradient = torch.zeros_like(distances[:, 0]), torch.zeros_like(distances)
        others = torch.where(positive | negative, distances, torch.inf)
        for columns, valid in positive_chunks(positives, distances.shape[1]):
            ahead = torch.sigmoid((distances.gather(1, columns)[:, :, None] - others[:, None, :]) / temperature2)
            inside = torch.sigmoid((cutoff - ahead.sum(dim=2)) / temperature1)
            values += torch.where(valid, inside / best, 0.0).sum(dim=1)
            by_rank = torch.where(valid, -inside * (1 - inside) / (temperature1 * best), 0.0)
            slope = by_rank[:, :, None] * ahead * (1 - ahead) / temperature2
            gradient -= slope.sum(dim=1)
            gradient.scatter_add_(1, columns, slope.sum(dim=2))
    if torch.compiler.is_compiling():
        return attach_gradient(values, gradient, distances)

    def formula(distances: Tensor) -> Tensor:
        others = torch.where(positive | negative, distances, torch.inf)
        gap = distances.gather(1, positives.columns)[:, :, None] - others[:, None, :]
        ranks = torch.sigmoid(gap / temperature2).sum(dim=2)
        inside = torch.sigmoid((cutoff - ranks) / temperature1)
        return torch.where(positives.valid, inside / best, 0.0).sum(dim=1)

    return KnownGradient.apply(formula, values, gradient, distances)  # type: ignore[no-untyped-call]
