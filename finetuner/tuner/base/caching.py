"""Gradient caching: batches as large as the loss likes, in the memory of a few rows.

A step embeds the batch a micro-batch at a time and keeps no graph, takes the loss over all embeddings with its
gradient by each of them, and then sends each micro-batch through the model once more, with the same random numbers,
to hand the gradient of its rows on to the weights.

Source: Gao et al., "Scaling deep contrastive learning batch size under memory limited setup", 2021.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

from .items import is_array
from .loader import TwoSides

__all__ = ["Part", "micro_batches"]


class Part(NamedTuple):
    """A micro-batch."""

    inputs: Any  # for the model
    rows: int  # how many rows of embeddings it makes of them


def micro_batches(inputs: Any, count: int, size: int | None) -> list[Part]:
    """Inputs that ``count`` rows of embeddings are made of, in parts of ``size`` rows; the last may be smaller.

    They are cut along the first axis: arrays, and what mappings, tuples and lists hold of such. Of a model with two
    inputs a row is a pair, and makes two rows of embeddings. All is one part where ``size`` is None or not below the
    rows that there are.

    Raises:
        ValueError: if something in the inputs is not of one entry a row.
    """
    made = 2 if isinstance(inputs, TwoSides) else 1
    rows = count // made
    if size is None or size >= rows:
        return [Part(inputs, count)]
    ends = [*range(size, rows, size), rows]
    starts = [0, *ends[:-1]]
    return [Part(cut(inputs, start, end, rows), made * (end - start)) for start, end in zip(starts, ends, strict=True)]


def cut(x: Any, start: int, end: int, rows: int) -> Any:
    """The rows of ``x`` from ``start`` to ``end``; what is neither an array nor made of such goes with every part."""
    if isinstance(x, Mapping):
        return {key: cut(value, start, end, rows) for key, value in x.items()}
    if isinstance(x, TwoSides):
        return TwoSides(*(cut(side, start, end, rows) for side in x))
    if isinstance(x, tuple | list) and any(is_array(one) or isinstance(one, Mapping | tuple | list) for one in x):
        return type(x)(cut(one, start, end, rows) for one in x)
    if not (is_array(x) or isinstance(x, tuple | list)):
        return x
    length = (x.shape[0] if x.shape else None) if is_array(x) else len(x)
    if length != rows:
        given = "one without axes" if length is None else f"one of {length}"
        raise ValueError(f"micro_batch_size must go with inputs of one entry a row, here {rows}, got {given}")
    return x[start:end]
