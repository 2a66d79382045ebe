"""Batches on their way to the model, for Keras."""

from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

from ..base.loader import Batch, Batches

__all__ = ["load_batches", "to_arrays"]


def load_batches(batches: Batches, num_workers: int) -> Iterable[Batch]:
    """The batches one after another; threads prepare them where there are workers, as Keras' own do.

    Threads and not processes, since a fork of a process in which an engine runs may hang.
    """
    if num_workers == 0:
        return (batches[number] for number in range(len(batches)))
    return ahead(batches, num_workers)


def ahead(batches: Batches, num_workers: int) -> Iterator[Batch]:
    """The batches in their order, of which ``2 * num_workers`` at the most are prepared ahead."""
    with ThreadPoolExecutor(num_workers) as pool:
        coming = [pool.submit(batches.__getitem__, number) for number in range(min(2 * num_workers, len(batches)))]
        for number in range(len(batches)):
            yield coming.pop(0).result()
            if number + 2 * num_workers < len(batches):
                coming.append(pool.submit(batches.__getitem__, number + 2 * num_workers))


def to_arrays(x: Any) -> Any:
    """Arrays, or what is made of them, as Keras takes them: float64 becomes float32."""
    if isinstance(x, Mapping):
        return {key: to_arrays(value) for key, value in x.items()}
    if isinstance(x, list | tuple):
        return type(x)(map(to_arrays, x))
    return x.astype(np.float32) if isinstance(x, np.ndarray) and x.dtype == np.float64 else x
