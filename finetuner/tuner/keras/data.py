"""Batches on their way to the model, for Keras."""

from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import keras
import numpy as np

from ..base.dataset import ClassDataset, as_dataset
from ..base.loader import Batch, Batches, TwoSides
from ..base.sampling import sampler_for

__all__ = ["SIDES", "Sampled", "as_pairs", "load_batches", "to_arrays"]

SIDES = ("the first side", "the second side")  # of pairs, as Keras' own step hands them on


def as_pairs(data: Any) -> Any:
    """A ``keras.utils.PyDataset`` or ``tf.data.Dataset`` as arrays, to draw from; anything else as it is.

    It is read once, and held in memory. A ``tf.data.Dataset`` may yield batches, or items whose labels are scalars.
    """
    if isinstance(data, keras.utils.PyDataset):
        if data.num_batches is None:
            raise TypeError(f"a dataset must have a length, got a {type(data).__name__} without one")
        parts, items = [data[number] for number in range(data.num_batches)], False
    elif hasattr(data, "as_numpy_iterator"):
        if data.cardinality() == -1:  # as TensorFlow says infinite
            raise TypeError(f"a dataset must have an end, got an infinite {type(data).__name__}")
        parts = list(data.as_numpy_iterator())
        items = bool(parts) and isinstance(parts[0], tuple) and np.ndim(parts[0][-1]) == 0
    else:
        return data
    if not parts:
        raise ValueError("a dataset must hold at least one item, got none")
    if isinstance(parts[0], tuple | list) and len(parts[0]) != 2:
        raise TypeError(f"a dataset must yield pairs of inputs and classes, got {len(parts[0])} things")
    join: Any = np.stack if items else np.concatenate
    joined = keras.tree.map_structure(lambda *arrays: join([np.asarray(array) for array in arrays]), *parts)
    return ClassDataset(*joined) if isinstance(joined, tuple | list) else joined


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
    """Arrays, or what is made of them, as Keras takes them: float64 becomes float32, two sides a mapping of both."""
    if isinstance(x, TwoSides):
        return dict(zip(SIDES, map(to_arrays, x), strict=True))
    if isinstance(x, Mapping):
        return {key: to_arrays(value) for key, value in x.items()}
    if isinstance(x, list | tuple):
        return type(x)(map(to_arrays, x))
    return x.astype(np.float32) if isinstance(x, np.ndarray) and x.dtype == np.float64 else x


class Sampled(keras.utils.PyDataset):
    """A dataset of ours for Keras' own ``fit``, in batches that hold what belongs together.

    ``model.fit(Sampled(ClassDataset(x, y), batch_size=128), epochs=10)`` sees the batches that a tuner would, with
    labels as int32 that every engine can hold, and other ones in each epoch.

    Args:
        dataset: a dataset of ours, ``(x, y)``, or a dataset of such pairs.
        batch_size: items a batch at the most.
        num_items_per_class: how many items of a class a batch holds, see
            :class:`~finetuner.tuner.base.sampler.ClassSampler`.
        seed: of the batches, and of views.
        **options: ``workers`` and the rest of ``keras.utils.PyDataset``.

    Raises:
        ValueError: if nothing in the data belongs together, or an argument is out of its range.
        TypeError: if the data is of no known kind.
    """

    def __init__(
        self, dataset: Any, batch_size: int = 256, num_items_per_class: int | None = None, seed: int = 0, **options: Any
    ):
        super().__init__(**options)
        self.dataset, self.seed, self.epoch = as_dataset(as_pairs(dataset)), seed, 0
        self.sampler = sampler_for(self.dataset, batch_size, num_items_per_class, seed)
        self.batches, self.asked = self.planned(), 0

    def planned(self) -> Batches:
        """The batches of the epoch."""
        self.sampler.set_epoch(self.epoch)
        return Batches(self.dataset, self.sampler.batches(), seed=(self.seed, self.epoch))

    def __len__(self) -> int:
        return len(self.batches)

    def __getitem__(self, number: int) -> tuple[Any, np.ndarray]:
        self.asked += 1
        batch = self.batches[number]
        return to_arrays(batch.inputs), batch.labels

    def on_epoch_end(self) -> None:
        """Go on to the next epoch's batches, unless Keras has only looked at the first, to see their shape."""
        if self.asked >= len(self):
            self.epoch += 1
            self.batches = self.planned()
        self.asked = 0
