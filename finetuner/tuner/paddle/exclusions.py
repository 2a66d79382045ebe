"""What is not in a reduction, tile by tile, for PaddlePaddle."""

import paddle

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
        self.sorted = relations.by_class
        if self.sorted:
            selected = listed.valid.nonzero()
            rows, columns = selected[:, 0], listed.columns.masked_select(listed.valid)
            height, width = sizes
            self.tiles_in_row = -(-relations.reference_labels.shape[0] // width)
            count = -(-relations.labels.shape[0] // height) * self.tiles_in_row
            number = rows // height * self.tiles_in_row + columns // width
            order = number.argsort(stable=True)
            self.rows, self.columns = rows[order] % height, columns[order] % width
            self.items = paddle.arange(max(sizes))
            self.ends = paddle.searchsorted(number[order], paddle.arange(count + 1)).tolist()

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
        if self.relations.self_offset is not None:
            # The column of the tile in which its first row is itself.
            first = rows.start + self.relations.self_offset - columns.start
            start, stop = max(0, -first), min(x.shape[0], x.shape[1] - first)
            if start < stop:  # Paddle cannot write to no place
                x[self.items[start:stop], self.items[start + first : stop + first]] = value
        if over == NEGATIVE:
            tile = rows.start // self.sizes[0] * self.tiles_in_row + columns.start // self.sizes[1]
            part = slice(self.ends[tile], self.ends[tile + 1])
            if part.start < part.stop:
                x[self.rows[part], self.columns[part]] = value
        return x
