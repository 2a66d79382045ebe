"""Pairs of the same class among rows that are sorted by class, for PyTorch.

Such rows stand next to each other. Pairs with the same number of rows between them are two slices, which is faster than
indexing each pair. Each pair is computed once for both of its orders.
"""

from typing import NamedTuple

import torch

from .ops import Tensor

__all__ = ["Bands", "band_gradients", "band_squares", "sorted_bands"]

CHUNK = 2**16  # components of rows that are in memory at once


class Bands(NamedTuple):
    """Where the listed pairs of a batch are: the rows at places ``p`` and ``p + gap + 1`` of the sorted rows."""

    order: Tensor  # [N] int64, the rows sorted by class
    places: Tensor  # [N, K] int64, p
    gaps: Tensor  # [N, K] int64


def sorted_bands(order: Tensor, others: Tensor, valid: Tensor) -> Bands:
    """The bands of listed pairs.

    Args:
        order: The rows sorted by class, ``[N]``.
        others: The places of the listed rows in this order, ``[N, K]``.
        valid: Boolean, ``[N, K]``, False for padding.
    """
    own = torch.empty_like(order)
    own[order] = torch.arange(len(order), device=order.device)
    others = torch.where(valid, others, own[:, None])
    gaps = ((others - own[:, None]).abs() - 1).clamp(min=0)
    return Bands(order, torch.minimum(others, own[:, None]), gaps)


def slices(count: int, width: int, components: int) -> list[tuple[int, slice, slice]]:
    """A gap, the first rows and the second rows of all pairs in parts."""
    size = max(1, CHUNK // max(1, components))
    found = []
    for start in range(0, count, size):
        for gap in range(min(width, count - start - 1)):
            stop = min(start + size, count - gap - 1)
            found.append((gap, slice(start, stop), slice(start + gap + 1, stop + gap + 1)))
    return found


def band_squares(rows: Tensor, bands: Bands) -> Tensor:
    """The squared distances of listed pairs, ``[N, K]``, of rows ``[N, D]``."""
    ordered, width = rows[bands.order], bands.gaps.shape[1]
    found = rows.new_zeros((width, len(rows)))
    for gap, first, second in slices(len(ordered), width, ordered.shape[1]):
        found[gap, first] = (ordered[first] - ordered[second]).square_().sum(dim=1)
    return found[bands.gaps, bands.places]


def band_gradients(rows: Tensor, bands: Bands, scale: Tensor) -> Tensor:
    """The sum of the differences of listed pairs, each times its scale ``[N, K]``, by the rows ``[N, D]``."""
    ordered, width = rows[bands.order], bands.gaps.shape[1]
    scales = rows.new_zeros((width, len(rows))).index_put_((bands.gaps, bands.places), scale, accumulate=True)
    found, by_rows = torch.zeros_like(ordered), torch.empty_like(ordered)
    for gap, first, second in slices(len(ordered), width, ordered.shape[1]):
        part = (ordered[first] - ordered[second]).mul_(scales[gap, first][:, None])
        found[first] += part
        found[second] -= part
    by_rows[bands.order] = found
    return by_rows
