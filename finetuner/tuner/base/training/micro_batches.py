"""Gradient caching: batches as large as the loss needs, in the memory of a few rows.

A step embeds the batch one micro-batch at a time without keeping a graph, computes the loss of all embeddings and its
gradient by each of them, and then runs each micro-batch through the model again, with the same random numbers, to
propagate the gradient of its rows to the weights.

References:
    Gao et al., "Scaling deep contrastive learning batch size under memory limited setup", 2021.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from ....arrays import is_array
from ..data.batches import LengthGroups, PairInputs

__all__ = ["MicroBatch", "Parts", "slice_rows", "split_batch"]


class MicroBatch(NamedTuple):
    """A part of a batch."""

    inputs: Any  # for the model
    rows: int  # of embeddings that the model returns for it


class Parts(NamedTuple):
    """A batch in parts."""

    micro_batches: list[MicroBatch]
    order: np.ndarray | None  # [N], where each row of the batch is in the rows of all parts; None if in order
    two_passes: bool  # whether the parts are embedded without a graph, and a second time for the gradient


def split_batch(inputs: Any, num_rows: int, size: int | None) -> Parts:
    """Split a batch into micro-batches of ``size`` rows. The last one may be smaller.

    Groups of similar length stay apart, so each is split by itself.

    Args:
        inputs: The model's input, or groups of similar length of it.
        num_rows: The rows of embeddings that the model returns for it.
        size: Rows of a micro-batch; None for no limit.

    Raises:
        ValueError: If something in the inputs does not have one entry per row.
    """
    if not isinstance(inputs, LengthGroups):
        micro_batches = split_inputs(inputs, num_rows, size)
        return Parts(micro_batches, None, len(micro_batches) > 1)
    micro_batches = []
    for part, positions in zip(inputs.inputs, inputs.positions, strict=True):
        micro_batches += split_inputs(part, len(positions), size)
    order = np.argsort(np.concatenate(inputs.positions), kind="stable")
    return Parts(micro_batches, order, size is not None and len(micro_batches) > 1)


def split_inputs(inputs: Any, num_rows: int, size: int | None) -> list[MicroBatch]:
    """Split inputs into micro-batches of ``size`` rows.

    Arrays are split along the first axis, and so are the arrays in mappings, tuples and lists. For a model with two
    inputs a row is a pair and gives two rows of embeddings.
    """
    embeddings_per_row = 2 if isinstance(inputs, PairInputs) else 1
    rows = num_rows // embeddings_per_row
    if size is None or size >= rows:
        return [MicroBatch(inputs, num_rows)]
    ends = [*range(size, rows, size), rows]
    starts = [0, *ends[:-1]]
    return [
        MicroBatch(slice_rows(inputs, start, end, rows), embeddings_per_row * (end - start))
        for start, end in zip(starts, ends, strict=True)
    ]


def slice_rows(x: Any, start: int, end: int, rows: int) -> Any:
    """The rows of ``x`` from ``start`` to ``end``. What contains no array is returned unchanged."""
    if isinstance(x, Mapping):
        return {key: slice_rows(value, start, end, rows) for key, value in x.items()}
    if isinstance(x, PairInputs):
        return PairInputs(*(slice_rows(side, start, end, rows) for side in x))
    if isinstance(x, tuple | list) and any(is_array(part) or isinstance(part, Mapping | tuple | list) for part in x):
        return type(x)(slice_rows(part, start, end, rows) for part in x)
    if not (is_array(x) or isinstance(x, tuple | list)):
        return x
    length = (x.shape[0] if x.shape else None) if is_array(x) else len(x)
    if length != rows:
        given = "one without axes" if length is None else f"one of {length}"
        raise ValueError(f"micro_batch_size must be used with inputs of one entry per row, here {rows}, got {given}")
    return x[start:end]
