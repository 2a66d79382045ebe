"""Random draws of classes, for PyTorch."""

import torch

from .ops import Tensor

__all__ = ["class_mask", "draw_classes", "take_rows"]


def class_mask(classes: Tensor, centres: Tensor) -> Tensor:
    """Which of the classes with centres ``[C, D]`` are those of items ``[N]``: a boolean ``[C]``."""
    # A class that does not exist is marked beyond the end.
    size = len(centres)
    known = (classes >= 0) & (classes < size)
    mask = torch.zeros(size + 1, dtype=torch.bool, device=centres.device)
    return mask.index_fill(0, torch.where(known, classes, size), True)[:size]


def draw_classes(classes: Tensor, in_batch: Tensor, random: Tensor, count: int) -> Tensor:
    """The classes of a batch and random others, each once: N + ``count`` numbers, or all.

    Args:
        classes: The class of each item, ``[N]``.
        in_batch: The classes of the batch, boolean ``[C]``.
        random: Random numbers ``[C]``, at least 0; those of the smallest are drawn.
        count: How many others are drawn at least, if there are as many.
    """
    count = min(len(in_batch), len(classes) + count)
    scores = random.masked_fill(in_batch, -1.0)
    return scores.topk(count, largest=False, sorted=False).indices.sort().values


def take_rows(x: Tensor, numbers: Tensor) -> Tensor:
    """Some rows of ``x``, each at most once."""
    return x.index_select(0, numbers)
