"""Steps that failed: the error, which items are not finite, and a file from which the step can be repeated."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ....arrays import is_array
from ....checks import preview
from ..data.batches import Batch, PairInputs, non_finite_rows

__all__ = ["NotFiniteError", "describe_bad_items", "save_batch"]


class NotFiniteError(ValueError):
    """A step met NaN or infinity and was not taken. The model has the weights from before it."""


def describe_bad_items(batch: Batch) -> str:
    """The items of a batch that contain NaN or infinity, for an error message."""
    bad = non_finite_rows(batch.inputs)
    pair_per_row = batch.rows_per_item > 1 and isinstance(batch.inputs, PairInputs)
    items = batch.own_indices // batch.rows_per_item
    items = items[:: batch.rows_per_item] if pair_per_row else items
    return f"items {preview(np.unique(items[bad]))} of the data"


def save_batch(batch: Batch, folder: str | Path, step: int) -> Path:
    """Write a batch to a new file ``.npz``: ``indices``, ``targets.0``, ... and ``inputs``, with nested names.

    Of several processes, each writes its slice of the inputs to a file of its own.
    """
    arrays = {"indices": batch.indices}
    arrays |= {f"targets.{number}": target for number, target in enumerate(batch.targets)}
    arrays |= dict(named_arrays("inputs", batch.inputs))
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    number = 1
    part = f"-rows-{batch.own.start}-to-{batch.own.stop}" if len(batch.own_indices) < len(batch.indices) else ""
    while (path := folder / f"batch-of-step-{step}{part}{'' if number == 1 else f'-{number}'}.npz").exists():
        number += 1
    np.savez(path, **arrays)  # type: ignore[arg-type]
    return path


def named_arrays(name: str, x: Any) -> Iterator[tuple[str, np.ndarray]]:
    """The arrays in nested inputs, by name. What is no array is left out."""
    if isinstance(x, Mapping):
        for key, value in x.items():
            yield from named_arrays(f"{name}.{key}", value)
    elif isinstance(x, list | tuple):
        for key, value in enumerate(x):
            yield from named_arrays(f"{name}.{key}", value)
    elif is_array(x):
        yield name, np.asarray(x.detach().cpu() if hasattr(x, "detach") else x)
