"""Batches on their way to the model, for PyTorch."""

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import torch

from ..base.loader import Batch, Batches, TwoSides

__all__ = ["as_pairs", "load_batches", "to_device"]


def as_pairs(data: Any) -> Any:
    """``data`` itself: a map-style dataset is read item by item, and one that can only be run through is refused."""
    if isinstance(data, torch.utils.data.IterableDataset):
        raise TypeError(f"a dataset must have a length and places to draw from, got {type(data).__name__}")
    return data


def load_batches(batches: Batches, num_workers: int) -> Iterable[Batch]:
    """The batches one after another; a ``DataLoader`` prepares them where there are workers."""
    if num_workers == 0:
        return (batches[number] for number in range(len(batches)))
    return torch.utils.data.DataLoader(
        batches, batch_size=None, shuffle=False, num_workers=num_workers, collate_fn=as_it_is
    )


def as_it_is(batch: Batch) -> Batch:
    """``batch`` itself, in place of the loader's own conversion."""
    return batch


def to_device(x: Any, device: torch.device) -> Any:
    """Arrays and tensors, or what is made of them, as tensors on ``device``; float64 arrays become float32."""
    if isinstance(x, Mapping):
        return {key: to_device(value, device) for key, value in x.items()}
    if isinstance(x, TwoSides):
        return TwoSides(*(to_device(side, device) for side in x))
    if isinstance(x, list | tuple):
        return type(x)(to_device(value, device) for value in x)
    if isinstance(x, torch.Tensor):
        return x.to(device, non_blocking=True)
    if isinstance(x, np.ndarray) and x.dtype.kind in "biuf":
        x = x.astype(np.float32) if x.dtype == np.float64 else x
        return torch.from_numpy(np.ascontiguousarray(x)).to(device, non_blocking=True)
    return x
