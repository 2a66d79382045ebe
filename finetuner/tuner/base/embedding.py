"""What a tuner does with a model as it is: embed items, and measure how well they are found."""

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from . import checks
from .dataset import Dataset, as_dataset, as_items, labels_in_common
from .loader import Batches, finite
from .sampler import RandomSampler
from .training import NotFiniteError, bad_items

if TYPE_CHECKING:
    from .framework import Framework as Base
else:
    Base = object

__all__ = ["Embedding"]

Items = Callable[[Any], Any]


class Embedding(Base):
    """The part of a tuner that embeds."""

    model: Any
    embed_model: Any
    loss: Any
    distance: str
    preprocess_fn: Any
    collate_fn: Any

    @property
    def form(self) -> str:
        """What the loss is told of each item, a key of ``losses.TAKES``."""
        return getattr(self.loss, "takes", "relations")

    def two_sides(self, dataset: Dataset) -> bool:
        """Whether the model takes the two sides of each pair of the data as two inputs."""
        return dataset.size == 2 and self.takes_two_inputs(self.embed_model)

    def embed(
        self,
        x: Any,
        preprocess_fn: Items | None = None,
        collate_fn: Callable[[list[Any]], Any] | None = None,
        *,
        batch_size: int = 256,
        num_workers: int = 0,
    ) -> np.ndarray:
        """Embeddings of ``x``, ``[N, D]`` float32, by the model in evaluation mode.

        Args:
            x: items (an array, a sequence, a mapping of arrays) or a dataset.
            preprocess_fn: as in :meth:`fit`, and by default what was given there.
            collate_fn: as in :meth:`fit`, and by default what was given there.
            batch_size: items a batch.
            num_workers: as in :meth:`fit`.

        Raises:
            ValueError: if there are no items, or inputs or embeddings are not finite.
            TypeError: if the model returns no ``[N, D]``.
        """
        self.preprocess_fn = preprocess_fn or self.preprocess_fn
        self.collate_fn = collate_fn or self.collate_fn
        dataset = as_items(self.own_data(x))
        if isinstance(self.model, tuple | list) and dataset.size != 2:
            raise ValueError("a pair of models must be given a PairDataset, or each embed its own items by itself")
        return self.embeddings_of(dataset, np.arange(dataset.num_rows), batch_size, num_workers)

    def evaluate(
        self,
        data: Any,
        index_data: Any = None,
        preprocess_fn: Items | None = None,
        collate_fn: Callable[[list[Any]], Any] | None = None,
        *,
        metrics: Iterable[str] | None = None,
        batch_size: int = 256,
        num_workers: int = 0,
    ) -> dict[str, float]:
        """Retrieval metrics of the model: ``data`` against itself, or against ``index_data``.

        Args:
            data: what to query with: a dataset of ours, ``(x, y)``, or the framework's own of such pairs.
            index_data: what to retrieve from; by default ``data`` itself, each item without itself.
            preprocess_fn: as in :meth:`fit`, and by default what was given there.
            collate_fn: as in :meth:`fit`, and by default what was given there.
            metrics: their names, see :mod:`finetuner.evaluation`.
            batch_size: items a batch.
            num_workers: as in :meth:`fit`.

        Raises:
            ValueError: for an unknown metric, or data in which nothing can be retrieved.
        """
        from ... import evaluation

        metrics = tuple(evaluation.DEFAULT_METRICS if metrics is None else metrics)
        evaluation.check_metrics(metrics)
        sides = [as_dataset(self.own_data(data))]
        if index_data is not None:
            sides.append(as_dataset(self.own_data(index_data), "index_data"))
        embeddings_and_labels: list[np.ndarray] = []
        for side, labels in zip(sides, labels_in_common(sides), strict=True):
            embeddings = self.embed(side, preprocess_fn, collate_fn, batch_size=batch_size, num_workers=num_workers)
            embeddings_and_labels += [embeddings, labels]
        return evaluation.retrieval_metrics(*embeddings_and_labels, metrics=metrics, distance=self.distance)

    def embeddings_of(
        self,
        dataset: Dataset,
        indices: np.ndarray,
        batch_size: int = 256,
        num_workers: int = 0,
        seed: Sequence[int] | None = None,
    ) -> np.ndarray:
        """Embeddings of the items at ``indices``, ``[N, D]`` float32; augmented, if there is a ``seed``."""
        plan = RandomSampler(len(indices), batch_size * dataset.size, shuffle=False).batches()
        functions = self.preprocess_fn, self.collate_fn
        two_sides = self.two_sides(dataset)
        batches = Batches(dataset, [indices[p] for p in plan], *functions, seed, self.form, two_sides)
        embeddings, done = np.empty((0, 0), np.float32), 0
        for batch in self.load_batches(batches, num_workers):
            if not finite(batch.inputs):
                raise NotFiniteError(f"inputs must be finite, and {bad_items(batch)} are not")
            part = self.embed_step(batch.inputs, len(batch.indices))
            bad = np.flatnonzero(~np.isfinite(part).all(axis=1))
            if len(bad):
                items = checks.some_of(np.unique(batch.indices[bad] // batch.size))
                raise NotFiniteError(f"embeddings must be finite, and are not for items {items} of the data")
            if not done:  # its width is known now, and all are written to their place once
                embeddings = np.empty((len(indices), part.shape[1]), np.float32)
            embeddings[done : done + len(part)] = part
            done += len(part)
        return embeddings
