"""What is not in a reduction, tile by tile, for PyTorch."""

import torch

from ..base.losses.reductions import NEGATIVE
from .listed import Listed
from .ops import Tensor
from .relations import Relations

__all__ = ["Exclusions"]


class Exclusions:
    """The items of each row that a reduction is not over.

    For class labels, the negatives of a row are all items but its positives and itself. These are few, and they are
    sorted by tiles once. For other labels, the masks of each tile are computed.

    Args:
        relations: Of queries and references.
        listed: The positives of each row.
        sizes: The rows and columns of a tile.
    """

    def __init__(self, relations: Relations, listed: Listed, sizes: tuple[int, int]):
        self.relations, self.sizes = relations, sizes
        self.sorted = relations.labels.ndim == 1 and not relations.without_own
        if self.sorted:
            rows, slots = listed.valid.nonzero(as_tuple=True)
            columns = listed.columns[rows, slots]
            height, width = sizes
            self.tiles_in_row = -(-len(relations.reference_labels) // width)
            count = -(-len(relations.labels) // height) * self.tiles_in_row
            number, order = torch.sort(rows // height * self.tiles_in_row + columns // width)
            self.rows, self.columns = rows[order] % height, columns[order] % width
            self.ends = torch.searchsorted(number, torch.arange(count + 1, device=number.device)).tolist()

    def fill(self, rows: slice, columns: slice, x: Tensor, over: str, side: int, value: float) -> Tensor:
        """Set what is not in a reduction to ``value``, in place, and return ``x``.

        Args:
            rows: The queries of the tile.
            columns: Its references.
            x: ``[R, C]``.
            over: What the reduction is over.
            side: 0 for the relations as the rows see them, 1 as the columns do.
            value: What is written.
        """
        if not self.sorted:
            positive, negative = self.relations.block(*((rows, columns) if side == 0 else (columns, rows)))
            mask = negative if over == NEGATIVE else positive | negative
            return x.masked_fill_(~(mask if side == 0 else mask.T), value)
        own = self.relations.own_items(rows, columns)
        if own is not None:
            x.masked_fill_(own, value)
        if over == NEGATIVE:
            tile = rows.start // self.sizes[0] * self.tiles_in_row + columns.start // self.sizes[1]
            part = slice(self.ends[tile], self.ends[tile + 1])
            x[self.rows[part], self.columns[part]] = value
        return x
