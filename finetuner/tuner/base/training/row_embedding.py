"""Embedding of rows of a dataset: all of them, or those of one of several parts."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from .... import checks
from ....parts import Part, check_part
from ..data.batches import Batches, Prepare
from ..data.conversion import as_unlabelled
from ..data.datasets import Dataset
from ..data.embedding_plan import embedding_batches, part_rows, row_lengths
from ..processes import ALONE, Processes
from .embedding import embed_batches, embed_together
from .framework import Framework

__all__ = ["EmbedsRows"]


class EmbedsRows:
    """A model and the functions that prepare its input."""

    framework: Framework
    embed_model: Any
    preprocess_fn: Prepare
    collate_fn: Prepare

    def rows_of_part(self, x: Any, part: Part, batch_size: int = 256) -> slice:
        """The rows that ``embed(x, part=part, batch_size=batch_size)`` returns, as a slice of all rows.

        A part is a run of whole batches. If items differ in length, it is a run of windows of 64 batches.

        Args:
            x: All items.
            part: The number of the part, from 1, and the number of parts.
            batch_size: Items in a batch.

        Raises:
            TypeError, ValueError: If ``part`` is not a part, see :meth:`Encoder.embed`.

        Example:
            >>> encoder, x = train_a_model().encoder, np.zeros((10, 8), np.float32)
            >>> [encoder.rows_of_part(x, (number, 2), batch_size=4) for number in (1, 2)]
            [slice(0, 4, None), slice(4, 10, None)]
        """
        dataset, part = as_unlabelled(self.framework.convert_dataset(x)), check_part(part)
        batch_rows = checks.integer("batch_size", batch_size, 1) * dataset.rows_per_item
        return part_rows(dataset.num_rows, batch_rows, row_lengths(dataset) is not None, part)

    def uses_pair_inputs(self, dataset: Dataset) -> bool:
        """Whether the model gets the two sides of each pair as two inputs."""
        return dataset.rows_per_item == 2 and self.framework.has_two_inputs(self.embed_model)

    def embed_rows(
        self,
        dataset: Dataset,
        rows: np.ndarray,
        batch_size: int = 256,
        num_workers: int = 0,
        seed: Sequence[int] | None = None,
        side: int = 0,
        part: Part | None = None,
        processes: Processes = ALONE,
    ) -> np.ndarray:
        """Embed the given rows of a dataset, ``[N, D]`` float32; with a ``seed``, augmented; or only a part of them.

        Several processes embed a share of the batches each, and get all embeddings.
        """
        batch_rows = checks.integer("batch_size", batch_size, 1) * dataset.rows_per_item
        lengths = row_lengths(dataset) if seed is None else None
        lengths = None if lengths is None else lengths[rows]
        chosen = part_rows(len(rows), batch_rows, lengths is not None, part)
        if part is not None and chosen.start == chosen.stop:  # an item says how many components there are
            return self.embed_rows(dataset, rows[: dataset.rows_per_item], side=side)[:0]
        plan = embedding_batches(lengths, chosen, batch_rows)
        batches = Batches(
            dataset,
            [rows[positions] for positions in plan],
            self.preprocess_fn,
            self.collate_fn,
            seed,
            dataset.target_types[0],
            self.uses_pair_inputs(dataset),
            side=side,
        )
        order = np.concatenate(plan) - chosen.start
        if processes.count == 1:
            return embed_batches(self.framework, self.embed_model, batches, order, num_workers)
        return embed_together(self.framework, self.embed_model, batches, order, processes)
