"""Batches on their way to the model, for PyTorch."""

import contextlib
from collections.abc import Iterable, Iterator, Mapping
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
    """The batches in order; with workers, a ``DataLoader`` prepares them, with the same workers in all epochs."""
    batches.seeded = seeded
    batches.check_sendable(num_workers)
    if num_workers == 0:
        return (batches[number] for number in range(len(batches)))
    if batches.loader is None:
        batches.loader = torch.utils.data.DataLoader(
            cast("torch.utils.data.Dataset[Batch]", BatchesOrErrors(batches)),
            batch_size=None,
            sampler=Keys(batches),
            num_workers=num_workers,
            collate_fn=identity,
            persistent_workers=True,
            generator=torch.Generator().manual_seed(0),  # else the loader would draw its seed from the model's numbers
        )
    return map(opened, batches.loader)


class BatchesOrErrors:
    """Batches as worker processes make them. The loader would hide the message of an error in a long text."""

    def __init__(self, batches: Batches):
        self.batches = batches

    def __len__(self) -> int:
        return len(self.batches)

    def __getitem__(self, key: Any) -> Batch | Exception:
        return self.batches.batch_or_error(key)


def opened(batch: Batch | Exception) -> Batch:
    """Return the batch, or raise the error that a worker has met."""
    if isinstance(batch, Exception):
        raise batch
    return batch


class Keys:
    """The keys of the batches of the present epoch, from which a worker makes them."""

    def __init__(self, batches: Batches):
        self.batches = batches

    def __iter__(self) -> Iterator[Any]:
        return (self.batches.key(number) for number in range(len(self.batches)))

    def __len__(self) -> int:
        return len(self.batches)


@contextlib.contextmanager
def seeded(seed: int) -> Iterator[None]:
    """A context in which the random numbers of the host are seeded."""
    state = torch.default_generator.get_state()
    torch.default_generator.manual_seed(seed)
    try:
        yield
    finally:
        torch.default_generator.set_state(state)


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
