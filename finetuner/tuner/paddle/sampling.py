"""Random draws of classes, for PaddlePaddle."""

import paddle

from .ops import Tensor, where

__all__ = ["class_mask", "draw_classes", "take_rows"]


def class_mask(classes: Tensor, centres: Tensor) -> Tensor:
    """Which of the classes with centres ``[C, D]`` are those of items ``[N]``: a boolean ``[C]``."""
    # A class that does not exist is marked beyond the end.
    size = centres.shape[0]
    known = where((classes >= 0) & (classes < size), classes, size)
    marks = paddle.scatter(paddle.zeros([size + 1]), known, paddle.ones_like(known, dtype="float32"))
    return marks[:size] > 0


def draw_classes(classes: Tensor, in_batch: Tensor, random: Tensor, count: int) -> Tensor:
    """The classes of a batch and random others, each once: N + ``count`` numbers, or all.

    Args:
        classes: The class of each item, ``[N]``.
        in_batch: The classes of the batch, boolean ``[C]``.
        random: Random numbers ``[C]``, at least 0; those of the smallest are drawn.
        count: How many others are drawn at least, if there are as many.
    """
    size = in_batch.shape[0]
    if paddle.in_dynamic_mode():
        count = min(size, classes.shape[0] + count)
    else:  # the number of items may be open
        count = paddle.clip(paddle.shape(classes)[0] + count, max=size)
    return paddle.topk(where(in_batch, -1.0, random), count, largest=False, sorted=False)[1].sort()


def take_rows(x: Tensor, numbers: Tensor) -> Tensor:
    """Some rows of ``x``, each at most once."""
    return paddle.gather(x, numbers)
