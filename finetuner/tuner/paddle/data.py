"""Batches on their way to the model, for PaddlePaddle."""

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import paddle

from ..base.loader import Batch, Batches

__all__ = ["load_batches", "to_device"]


def load_batches(batches: Batches, num_workers: int) -> Iterable[Batch]:
    """The batches one after another; a ``DataLoader`` prepares them where there are workers."""
    if num_workers == 0:
        return (batches[number] for number in range(len(batches)))
    loader = paddle.io.DataLoader(batches, batch_size=None, shuffle=False, num_workers=num_workers, collate_fn=as_it_is)
    return (sealed.batch for _, sealed in loader)


class Sealed:
    """A batch that the loader does not look into; it would make tensors of the arrays in a tuple."""

    def __init__(self, batch: Batch):
        self.batch = batch


def as_it_is(batch: Batch) -> tuple[np.ndarray, Sealed]:
    """``batch`` itself, in place of the loader's own conversion, beside the array that it waits for."""
    return np.zeros(1, np.float32), Sealed(batch)


def to_device(x: Any, device: str) -> Any:
    """Arrays and tensors, or what is made of them, as tensors on ``device``; float64 arrays become float32."""
    if isinstance(x, Mapping):
        return {key: to_device(value, device) for key, value in x.items()}
    if isinstance(x, list | tuple):
        return type(x)(to_device(value, device) for value in x)
    if isinstance(x, paddle.Tensor):
        return x.to(device)
    if isinstance(x, np.ndarray) and x.dtype.kind in "biuf":
        x = x.astype(np.float32) if x.dtype == np.float64 else x
        return paddle.to_tensor(np.ascontiguousarray(x), place=device)
    return x
