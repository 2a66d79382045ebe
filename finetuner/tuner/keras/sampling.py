"""Random draws of classes, for Keras."""

from keras import ops

from .ops import Tensor

__all__ = ["class_mask", "draw_classes", "take_rows"]


def class_mask(classes: Tensor, centres: Tensor) -> Tensor:
    """Which of the classes with centres ``[C, D]`` are those of items ``[N]``: a boolean ``[C]``."""
    # A class that does not exist is marked beyond the end.
    size = centres.shape[0]
    known = ops.where((classes >= 0) & (classes < size), classes, size)
    marks = ops.scatter_update(ops.zeros((size + 1,), "int32"), known[:, None], ops.ones_like(known, dtype="int32"))
    return marks[:size] > 0


def draw_classes(classes: Tensor, in_batch: Tensor, random: Tensor, count: int) -> Tensor:
    """The classes of a batch and random others, each once: N + ``count`` numbers, or all.

    Args:
        classes: The class of each item, ``[N]``.
        in_batch: The classes of the batch, boolean ``[C]``.
        random: Random numbers ``[C]``, at least 0; those of the smallest are drawn.
        count: How many others are drawn at least, if there are as many.
    """
    count = ops.shape(classes)[0] + count  # a tensor if TensorFlow has left the number of items open
    size = in_batch.shape[0]
    count = min(size, count) if isinstance(count, int) else ops.minimum(size, count)
    return ops.top_k(ops.where(in_batch, 1.0, -random), count)[1]


def take_rows(x: Tensor, numbers: Tensor) -> Tensor:
    """Some rows of ``x``, each at most once."""
    return ops.take(x, numbers, axis=0)
