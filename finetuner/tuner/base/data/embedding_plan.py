"""The batches in which items are embedded, and how they are divided into parts.

A part is a run of rows that consists of whole batches, so the batches of all parts are those of one process. The same
batches give the same bits.
"""

import numpy as np

from ....arrays import item_lengths
from ....parts import Part, part_bounds
from .datasets import Dataset
from .sampler import RandomSampler

__all__ = ["WINDOW", "embedding_batches", "part_rows", "row_lengths"]

WINDOW = 64  # batches within which items are sorted by length


def row_lengths(dataset: Dataset) -> np.ndarray | None:
    """The length of each row if the items differ in length and are sorted by it; else None."""
    return item_lengths(dataset.x) if dataset.rows_per_item == 1 else None


def part_rows(count: int, batch_rows: int, is_sorted: bool, part: Part | None) -> slice:
    """The rows of a part. They are empty if there are fewer batches, or fewer windows of a sort, than parts.

    Args:
        count: The number of rows.
        batch_rows: Rows in a batch.
        is_sorted: Whether rows are sorted by length within windows of batches. A window is then never divided.
        part: The part; None for all rows.
    """
    if part is None:
        return slice(0, count)
    step = batch_rows * (WINDOW if is_sorted else 1)
    start, stop = part_bounds(-(-count // step), part)
    return slice(min(start * step, count), min(stop * step, count))


def embedding_batches(lengths: np.ndarray | None, rows: slice, batch_rows: int) -> list[np.ndarray]:
    """The positions of the rows of each batch, in the order in which the batches are embedded.

    Rows of different lengths are sorted within windows, so that little of a batch is padding, and a part of the rows
    can be embedded in the same batches without the others. The batch with the longest row is the first: if memory is
    short, it is at once.

    Args:
        lengths: ``[N]``, the lengths of all rows; None if they have one length.
        rows: The rows of a part, see :func:`part_rows`.
        batch_rows: Rows in a batch.
    """
    order = np.arange(rows.start, rows.stop)
    if lengths is not None:
        order = order[np.lexsort((-lengths[rows], order // (WINDOW * batch_rows)))]
    plan = RandomSampler(len(order), batch_rows, shuffle=False).batches()
    batches = [order[positions] for positions in plan]
    return batches if lengths is None else sorted(batches, key=lambda batch: -int(lengths[batch[0]]))
