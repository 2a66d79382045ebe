"""Names the items of the data that are not finite."""

import numpy as np

from ....checks import preview
from ..data.batches import Batch, PairInputs, non_finite_rows

__all__ = ["describe_bad_items"]


def describe_bad_items(batch: Batch) -> str:
    """The items of a batch that contain NaN or infinity, for an error message."""
    bad = non_finite_rows(batch.inputs)
    pair_per_row = batch.rows_per_item > 1 and isinstance(batch.inputs, PairInputs)
    items = batch.items if pair_per_row else batch.indices // batch.rows_per_item
    return f"items {preview(np.unique(items[bad]))} of the data"
