"""A dataset of this library for Keras' own ``model.fit``."""

from typing import Any

import keras
import numpy as np

from ..base.data.batches import Batches
from ..base.data.conversion import as_dataset
from .data import convert_dataset, to_device

__all__ = ["Sampled"]


class Sampled(keras.utils.PyDataset):
    """A dataset for Keras' own ``fit``, in batches that contain items which belong together.

    ``model.fit(Sampled(ClassDataset(x, y), batch_size=128), epochs=10)`` trains on the batches that a tuner would use.
    Labels are int32, which every engine can represent. Each epoch has new batches.

    Args:
        dataset: A dataset, ``(x, y)``, or a dataset of such pairs.
        batch_size: The maximal number of items in a batch.
        num_items_per_class: How many items of a class a batch contains, see
            :class:`~finetuner.tuner.base.data.samplers.ClassSampler`.
        seed: Seed of the batches and the views.
        **options: ``workers`` and the other arguments of ``keras.utils.PyDataset``.

    Raises:
        ValueError: If no items of the data belong together, or an argument is out of its range.
        TypeError: If the data is of an unknown kind.

    Example:
        >>> batches = Sampled((np.zeros((8, 4)), [0, 0, 0, 0, 1, 1, 1, 1]), batch_size=4, num_items_per_class=2)
        >>> x, y = batches[0]
        >>> x.shape, sorted(y.tolist())
        ((4, 4), [0, 0, 1, 1])
    """

    def __init__(
        self, dataset: Any, batch_size: int = 256, num_items_per_class: int | None = None, seed: int = 0, **options: Any
    ):
        super().__init__(**options)
        self.dataset, self.seed, self.epoch = as_dataset(convert_dataset(dataset)), seed, 0
        self.sampler = self.dataset.default_sampler(batch_size, num_items_per_class, seed)
        self.batches, self.num_read = self.plan(), 0

    def plan(self) -> Batches:
        """The batches of the epoch."""
        self.sampler.set_epoch(self.epoch)
        return Batches(self.dataset, self.sampler.batches(), seed=(self.seed, self.epoch))

    def __len__(self) -> int:
        return len(self.batches)

    def __getitem__(self, number: int) -> tuple[Any, np.ndarray]:
        self.num_read += 1
        batch = self.batches[number]
        return to_device(batch.inputs), batch.labels

    def on_epoch_end(self) -> None:
        """Continue with the batches of the next epoch, unless Keras has only read the first batch for its shape."""
        if self.num_read >= len(self):
            self.epoch += 1
            self.batches = self.plan()
        self.num_read = 0
