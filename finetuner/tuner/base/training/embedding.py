"""The part of a tuner that uses a model as it is: embed items, and evaluate the embeddings."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

from ....checks import preview
from ....evaluation.retrieval import DEFAULT_METRICS, check_metrics, retrieval_metrics
from ..data.batches import Batches, ItemFunction, Prepare, all_finite
from ..data.conversion import align_labels, as_dataset, as_unlabelled
from ..data.datasets import Dataset
from ..data.samplers import RandomSampler
from .bad_items import describe_bad_items
from .framework import Framework
from .state import NotFiniteError

__all__ = ["Embedding"]


class Embedding(Framework):
    """The part of a tuner that embeds and evaluates."""

    preprocess_fn: Prepare
    collate_fn: Prepare

    @property
    def target_type(self) -> str:
        """What the loss needs to know about each item, a key of ``TARGET_TYPES``."""
        return getattr(self.loss, "target_type", "relations")

    def uses_pair_inputs(self, dataset: Dataset) -> bool:
        """Whether the model gets the two sides of each pair as two inputs."""
        return dataset.rows_per_item == 2 and self.has_two_inputs(self.embed_model)

    def embed(
        self,
        x: Any,
        preprocess_fn: ItemFunction | None = None,
        collate_fn: Callable[[list[Any]], Any] | None = None,
        *,
        batch_size: int = 256,
        num_workers: int = 0,
    ) -> np.ndarray:
        """Embed items with the model in evaluation mode.

        Args:
            x: Items (an array, a sequence, a mapping of arrays) or a dataset.
            preprocess_fn: See :meth:`fit`. The default is the function given there.
            collate_fn: See :meth:`fit`. The default is the function given there.
            batch_size: Items in a batch.
            num_workers: See :meth:`fit`.

        Returns:
            ``[N, D]`` float32.

        Raises:
            ValueError: If there are no items, or inputs or embeddings are not finite.
            TypeError: If the model does not return ``[N, D]``.
        """
        self.preprocess_fn = preprocess_fn or self.preprocess_fn
        self.collate_fn = collate_fn or self.collate_fn
        dataset = as_unlabelled(self.convert_dataset(x))
        if isinstance(self.model, tuple | list) and dataset.rows_per_item != 2:
            raise ValueError("a pair of models must be given a PairDataset, or each embed its own items by itself")
        return self.embed_rows(dataset, np.arange(dataset.num_rows), batch_size, num_workers)

    def evaluate(
        self,
        data: Any,
        index_data: Any = None,
        preprocess_fn: ItemFunction | None = None,
        collate_fn: Callable[[list[Any]], Any] | None = None,
        *,
        metrics: Iterable[str] | None = None,
        batch_size: int = 256,
        num_workers: int = 0,
    ) -> dict[str, float]:
        """Retrieval metrics of the model: ``data`` against itself, or against ``index_data``.

        Args:
            data: The queries: a dataset, ``(x, y)``, or the framework's own dataset of such pairs.
            index_data: What is searched. The default is ``data``, each item without itself.
            preprocess_fn: See :meth:`fit`. The default is the function given there.
            collate_fn: See :meth:`fit`. The default is the function given there.
            metrics: Names of metrics, see :func:`~finetuner.evaluation.retrieval_metrics`.
            batch_size: Items in a batch.
            num_workers: See :meth:`fit`.

        Returns:
            The metrics, by name.

        Raises:
            ValueError: For an unknown metric, or data in which nothing can be retrieved.
        """
        names = tuple(DEFAULT_METRICS if metrics is None else metrics)
        check_metrics(names)
        sides = [as_dataset(self.convert_dataset(data))]
        if index_data is not None:
            sides.append(as_dataset(self.convert_dataset(index_data), "index_data"))
        embeddings_and_labels: list[np.ndarray] = []
        for side, labels in zip(sides, align_labels(sides), strict=True):
            embeddings = self.embed(side, preprocess_fn, collate_fn, batch_size=batch_size, num_workers=num_workers)
            embeddings_and_labels += [embeddings, labels]
        return retrieval_metrics(*embeddings_and_labels, metrics=names, distance=self.distance)

    def embed_rows(
        self,
        dataset: Dataset,
        rows: np.ndarray,
        batch_size: int = 256,
        num_workers: int = 0,
        seed: Sequence[int] | None = None,
    ) -> np.ndarray:
        """Embed the given rows of a dataset, ``[N, D]`` float32; with a ``seed``, augmented."""
        plan = RandomSampler(len(rows), batch_size * dataset.rows_per_item, shuffle=False).batches()
        batches = Batches(
            dataset,
            [rows[positions] for positions in plan],
            self.preprocess_fn,
            self.collate_fn,
            seed,
            self.target_type,
            self.uses_pair_inputs(dataset),
        )
        embeddings, done = np.empty((0, 0), np.float32), 0
        for batch in self.load_batches(batches, num_workers):
            if not all_finite(batch.inputs):
                raise NotFiniteError(f"inputs must be finite, and {describe_bad_items(batch)} are not")
            part = self.embed_step(batch.inputs, len(batch.indices))
            bad = np.flatnonzero(~np.isfinite(part).all(axis=1))
            if len(bad):
                items = preview(np.unique(batch.indices[bad] // batch.rows_per_item))
                raise NotFiniteError(f"embeddings must be finite, and are not for items {items} of the data")
            if not done:  # D is known now, and each batch is written to its final place
                embeddings = np.empty((len(rows), part.shape[1]), np.float32)
            embeddings[done : done + len(part)] = part
            done += len(part)
        return embeddings
