"""Which rows a part of an embedding has."""

from typing import Any

from .... import checks
from ....parts import Part, check_part
from ..data.conversion import as_unlabelled
from ..data.embedding_plan import part_rows, row_lengths
from .framework import Framework

__all__ = ["HasParts"]


class HasParts:
    """What embeds items in parts."""

    framework: Framework

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
