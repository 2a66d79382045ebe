"""Batches on their way to the model, for PyTorch."""

from collections.abc import Iterable, Mapping
from typing import Any, cast

import numpy as np
import torch

from ..base.data.batches import Batch, Batches, PairInputs

__all__ = ["convert_dataset", "load_batches", "to_device"]


def convert_dataset(data: Any) -> Any:
    """Return ``data`` unchanged: a map-style dataset is read item by item. An iterable dataset is refused."""
    if isinstance(data, torch.utils.data.IterableDataset):
        raise TypeError(
            "IterableDataset is not supported: finetuner needs len() and indexing; use a map-style dataset, "
            f"got {type(data).__name__}"
        )
    return data


def load_batches(batches: Batches, num_workers: int) -> Iterable[Batch]:
    """The batches in order; with workers, a ``DataLoader`` prepares them."""
    if num_workers == 0:
        return (batches[number] for number in range(len(batches)))
    dataset = cast("torch.utils.data.Dataset[Batch]", batches)
    return torch.utils.data.DataLoader(
        dataset, batch_size=None, shuffle=False, num_workers=num_workers, collate_fn=identity
    )


def identity(batch: Any) -> Any:
    """Return ``batch``, in place of the loader's own conversion."""
    return batch


def to_device(x: Any, device: torch.device) -> Any:
    """Arrays and tensors, also nested ones, as tensors on ``device``. Float64 arrays become float32."""
    if isinstance(x, Mapping):
        return {key: to_device(value, device) for key, value in x.items()}
    if isinstance(x, PairInputs):
        return PairInputs(*(to_device(side, device) for side in x))
    if isinstance(x, list | tuple):
        return type(x)(to_device(value, device) for value in x)
    if isinstance(x, torch.Tensor):
        return x.to(device, non_blocking=True)
    if isinstance(x, np.ndarray) and x.dtype.kind in "biuf":
        x = x.astype(np.float32) if x.dtype == np.float64 else x
        return torch.from_numpy(np.ascontiguousarray(x)).to(device, non_blocking=True)
    return x
