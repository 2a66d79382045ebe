"""What is not in a reduction, tile by tile, for PaddlePaddle."""

import paddle

from ..base.losses.reductions import NEGATIVE
from .listed import Listed
from .ops import Tensor
from .relations import Relations

__all__ = ["Exclusions", "TilePairs"]


class TilePairs:
    """The pairs of rows and their listed positives, sorted by the tile in which their distance is computed.

    Args:
        listed: The positives of each row.
        lengths: N and M.
        sizes: The rows and columns of a tile.
        upper: Whether only the tiles on and above the diagonal are computed.

    Attributes:
        listed: The positives of each row.
        anchors: The row of each pair.
        slots: Its place in the list of the row.
        rows: Its row in the tile.
        columns: Its column in the tile.
    """

    def __init__(self, listed: Listed, lengths: tuple[int, int], sizes: tuple[int, int], upper: bool):
        (height, width), self.sizes, self.listed = sizes, sizes, listed
        selected = listed.valid.nonzero()
        anchors, slots = selected[:, 0], selected[:, 1]
        rows, columns = anchors, listed.columns.masked_select(listed.valid)
        if upper:  # the tile of the transposed pair is computed
            below = rows // height > columns // width
            rows, columns = paddle.where(below, columns, rows), paddle.where(below, rows, columns)
        self.tiles_in_row = -(-lengths[1] // width)
        count = -(-lengths[0] // height) * self.tiles_in_row
        number = rows // height * self.tiles_in_row + columns // width
        order = number.argsort(stable=True)
        self.rows, self.columns = rows[order] % height, columns[order] % width
        self.anchors, self.slots = anchors[order], slots[order]
        self.ends = paddle.searchsorted(number[order], paddle.arange(count + 1)).tolist()

    def part(self, rows: slice, columns: slice) -> slice:
        """The pairs of a tile."""
        tile = rows.start // self.sizes[0] * self.tiles_in_row + columns.start // self.sizes[1]
        return slice(self.ends[tile], self.ends[tile + 1])


class Exclusions:
    """The items of each row that a reduction is not over.

    For class labels, the negatives of a row are all items but its positives and itself. These are few, and they are
    sorted by tiles once. For other labels, the masks of each tile are computed.

    Args:
        relations: Of queries and references.
        pairs: Rows and their positives, for class labels; None for other labels.
    """

    def __init__(self, relations: Relations, pairs: TilePairs | None):
        self.relations, self.pairs = relations, pairs

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
        if self.pairs is None:
            positive, negative = self.relations.block(*((rows, columns) if side == 0 else (columns, rows)))
            mask = negative if over == NEGATIVE else positive | negative
            return x.masked_fill_(~(mask if side == 0 else mask.T), value)
        offset = self.relations.self_offset
        if offset is not None:
            # The column of the tile in which its first row is itself.
            first = rows.start + offset - columns.start
            start, stop = max(0, -first), min(x.shape[0], x.shape[1] - first)
            if start < stop:  # Paddle cannot write to no place
                own = paddle.arange(start, stop)
                x[own, own + first] = value
        if over == NEGATIVE:
            part = self.pairs.part(rows, columns)
            if part.start < part.stop:
                x[self.pairs.rows[part], self.pairs.columns[part]] = value
        return x
