"""Batches on their way to the model, for Keras."""

from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import keras
import numpy as np

from ..base.data.batches import Batch, Batches, LengthGroups, PairInputs
from ..base.data.datasets import ClassDataset

__all__ = ["ORDER", "SIDES", "convert_dataset", "load_batches", "to_device"]

ORDER = "the order of the rows"  # the key that inputs in groups of similar length have
SIDES = ("the first side", "the second side")  # keys of the two inputs in Keras' own training step


def convert_dataset(data: Any) -> Any:
    """A ``keras.utils.PyDataset`` or ``tf.data.Dataset`` as arrays; anything else unchanged.

    The dataset is read once and kept in memory. A ``tf.data.Dataset`` may yield batches, or items with scalar labels.
    """
    if isinstance(data, keras.utils.PyDataset):
        if data.num_batches is None:
            raise TypeError(f"a dataset must have a length, got a {type(data).__name__} without one")
        parts, items = [data[number] for number in range(data.num_batches)], False
    elif hasattr(data, "as_numpy_iterator"):
        if data.cardinality() == -1:  # TensorFlow's number for infinite
            raise TypeError(f"a dataset must have an end, got an infinite {type(data).__name__}")
        parts = list(data.as_numpy_iterator())
        items = bool(parts) and isinstance(parts[0], tuple) and np.ndim(parts[0][-1]) == 0
    else:
        return data
    if not parts:
        raise ValueError("a dataset must hold at least one item, got none")
    if isinstance(parts[0], tuple | list) and len(parts[0]) != 2:
        raise TypeError(f"a dataset must yield pairs of inputs and classes, got {len(parts[0])} elements")
    join: Any = np.stack if items else np.concatenate
    joined = keras.tree.map_structure(lambda *arrays: join([np.asarray(array) for array in arrays]), *parts)
    return ClassDataset(*joined) if isinstance(joined, tuple | list) else joined


def load_batches(batches: Batches, num_workers: int) -> Iterable[Batch]:
    """The batches in order; with workers, threads prepare them, as in Keras' own training.

    Processes are not used: forking a process in which an engine runs may deadlock.
    """
    if num_workers == 0:
        return (batches[number] for number in range(len(batches)))
    return prefetch(batches, num_workers)


def prefetch(batches: Batches, num_workers: int) -> Iterator[Batch]:
    """The batches in order, with at most ``2 * num_workers`` of them prepared in advance."""
    with ThreadPoolExecutor(num_workers) as pool:
        futures = [pool.submit(batches.__getitem__, number) for number in range(min(2 * num_workers, len(batches)))]
        for number in range(len(batches)):
            yield futures.pop(0).result()
            if number + 2 * num_workers < len(batches):
                futures.append(pool.submit(batches.__getitem__, number + 2 * num_workers))


def to_device(x: Any) -> Any:
    """Arrays, also nested ones, as Keras takes them. Float64 becomes float32, and two inputs become a mapping."""
    if isinstance(x, LengthGroups):
        order = np.argsort(np.concatenate(x.positions), kind="stable").astype("int32")
        groups = {f"group {number:04d}": to_device(part) for number, part in enumerate(x.inputs)}
        return {**groups, ORDER: order}
    if isinstance(x, PairInputs):
        return dict(zip(SIDES, map(to_device, x), strict=True))
    if isinstance(x, Mapping):
        return {key: to_device(value) for key, value in x.items()}
    if isinstance(x, list | tuple):
        return type(x)(map(to_device, x))
    return x.astype(np.float32) if isinstance(x, np.ndarray) and x.dtype == np.float64 else x
