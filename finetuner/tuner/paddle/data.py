"""Batches on their way to the model, for PaddlePaddle."""

import traceback
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import paddle

from ..base.loader import Batch, Batches, TwoSides

__all__ = ["as_pairs", "load_batches", "to_device"]


def as_pairs(data: Any) -> Any:
    """``data`` itself: a map-style dataset is read item by item, and one that can only be run through is refused."""
    if isinstance(data, paddle.io.IterableDataset):
        raise TypeError(f"a dataset must have a length and places to draw from, got {type(data).__name__}")
    return data


def load_batches(batches: Batches, num_workers: int) -> Iterable[Batch]:
    """The batches one after another; a ``DataLoader`` prepares them where there are workers."""
    if num_workers == 0:
        return (batches[number] for number in range(len(batches)))
    loader = paddle.io.DataLoader(
        Sealing(batches), batch_size=None, shuffle=False, num_workers=num_workers, collate_fn=as_it_is
    )
    return (sealed.open() for _, sealed in loader)


class Sealed:
    """What a worker made of a batch, or the error that it met.

    The loader does not look into it: it would make tensors of arrays, and of an error a crash elsewhere.
    """

    def __init__(self, content: Batch | Exception):
        self.content = content

    def open(self) -> Batch:
        """The batch; raises the error."""
        if isinstance(self.content, Exception):
            raise self.content
        return self.content


class Sealing(paddle.io.Dataset):
    """Batches, each sealed, beside an array, without which the loader waits for ever."""

    def __init__(self, batches: Batches):
        self.batches = batches

    def __len__(self) -> int:
        return len(self.batches)

    def __getitem__(self, number: int) -> tuple[np.ndarray, Sealed]:
        return np.zeros(1, np.float32), Sealed(self.batch_or_error(number))

    def batch_or_error(self, number: int) -> Batch | Exception:
        """The batch, or the error in its place; of errors only Python's own are sure to leave their process."""
        try:
            return self.batches[number]
        except Exception as error:
            known = type(error).__module__ == "builtins"
            told = error if known else RuntimeError(f"{type(error).__name__}: {error}")
            told.add_note(f"in a worker process:\n{traceback.format_exc()}")
            return told


def as_it_is(batch: Any) -> Any:
    """``batch`` itself, in place of the loader's own conversion."""
    return batch


def to_device(x: Any, device: str) -> Any:
    """Arrays and tensors, or what is made of them, as tensors on ``device``; float64 arrays become float32."""
    if isinstance(x, Mapping):
        return {key: to_device(value, device) for key, value in x.items()}
    if isinstance(x, TwoSides):
        return TwoSides(*(to_device(side, device) for side in x))
    if isinstance(x, list | tuple):
        return type(x)(to_device(value, device) for value in x)
    if isinstance(x, paddle.Tensor):
        return x.to(device)
    if isinstance(x, np.ndarray) and x.dtype.kind in "biuf":
        x = x.astype(np.float32) if x.dtype == np.float64 else x
        return paddle.to_tensor(np.ascontiguousarray(x), place=device)
    return x
