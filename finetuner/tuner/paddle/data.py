"""Batches on their way to the model, for PaddlePaddle."""

import contextlib
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np
import paddle

from ..base.data.batches import Batch, Batches, PairInputs

__all__ = ["convert_dataset", "load_batches", "to_device"]


def convert_dataset(data: Any) -> Any:
    """Return ``data`` unchanged: a map-style dataset is read item by item. An iterable dataset is refused."""
    if isinstance(data, paddle.io.IterableDataset):
        raise TypeError(
            "IterableDataset is not supported: finetuner needs len() and indexing; use a map-style dataset, "
            f"got {type(data).__name__}"
        )
    return data


def load_batches(batches: Batches, num_workers: int) -> Iterable[Batch]:
    """The batches in order; with workers, a ``DataLoader`` prepares them, with new workers in each epoch."""
    batches.seeded = seeded
    batches.check_sendable(num_workers)
    if num_workers == 0:
        return (batches[number] for number in range(len(batches)))
    # Persistent workers would take half a second to begin an epoch, and keep batches of one that was broken off.
    loader = paddle.io.DataLoader(
        OpaqueBatches(batches), batch_size=None, shuffle=False, num_workers=num_workers, collate_fn=identity
    )
    return (batch.open() for _, batch in loader)


class OpaqueBatch:
    """A batch that a worker has prepared, or the error that it met.

    Paddle's loader does not look into the object. It would convert arrays to tensors, and crash on an error.
    """

    def __init__(self, content: Batch | Exception):
        self.content = content

    def open(self) -> Batch:
        """Return the batch, or raise the error."""
        if isinstance(self.content, Exception):
            raise self.content
        return self.content


class OpaqueBatches(paddle.io.Dataset):
    """Batches as :class:`OpaqueBatch`, each with an array: without an array the loader waits forever."""

    def __init__(self, batches: Batches):
        self.batches = batches

    def __len__(self) -> int:
        return len(self.batches)

    def __getitem__(self, number: int) -> tuple[np.ndarray, OpaqueBatch]:
        return np.zeros(1, np.float32), OpaqueBatch(self.batches.batch_or_error(number))


@contextlib.contextmanager
def seeded(seed: int) -> Iterator[None]:
    """A context in which the random numbers of the host are seeded."""
    state = paddle.get_rng_state("cpu")
    paddle.seed(seed)
    try:
        yield
    finally:
        paddle.set_rng_state(state, "cpu")


def identity(batch: Any) -> Any:
    """Return ``batch``, in place of the loader's own conversion."""
    return batch


def to_device(x: Any, device: str) -> Any:
    """Arrays and tensors, also nested ones, as tensors on ``device``. Float64 arrays become float32."""
    if isinstance(x, Mapping):
        return {key: to_device(value, device) for key, value in x.items()}
    if isinstance(x, PairInputs):
        return PairInputs(*(to_device(side, device) for side in x))
    if isinstance(x, list | tuple):
        return type(x)(to_device(value, device) for value in x)
    if isinstance(x, paddle.Tensor):
        return x.to(device)
    if isinstance(x, np.ndarray) and x.dtype.kind in "biuf":
        x = x.astype(np.float32) if x.dtype == np.float64 else x
        return paddle.to_tensor(np.ascontiguousarray(x), place=device)
    return x
