"""Positive and negative masks, for PaddlePaddle; see :mod:`finetuner.tuner.base.data.relations`."""

from typing import NamedTuple

import paddle

from ...labels import OVERLAP_ROUNDING
from ..base.losses import blocks
from ..base.losses.reductions import NEGATIVE
from .ops import Tensor, broadcast_pairs, comparable, row_slice

__all__ = ["Masks", "Relations"]


class Masks(NamedTuple):
    """Relations as two boolean masks ``[N, M]``."""

    positive: Tensor
    negative: Tensor

    def rows(self, start: int = 0, size: int | None = None) -> tuple[Tensor, Tensor]:
        """Positives and negatives of ``size`` queries from ``start`` on, or of all: two boolean ``[B, M]``."""
        return row_slice(self.positive, start, size), row_slice(self.negative, start, size)

    def symmetric(self) -> "Masks":
        """Relations that hold in either direction, for a batch compared with itself."""
        return Masks(self.positive | self.positive.T, self.negative | self.negative.T)

    def split(self, start: int, size: int) -> tuple["Masks", "Masks"]:
        """The relations to ``size`` references from ``start`` on, which are the batch, and those to all others."""
        stop = start + size
        own = Masks(self.positive[:, start:stop], self.negative[:, start:stop])
        return own, Masks(*(without_columns(mask, start, stop) for mask in self))


class Relations:
    """Positives and negatives of queries ``[N]`` among references ``[M]``.

    See :mod:`finetuner.tuner.base.data.relations`.
    """

    def __init__(
        self,
        labels: Tensor,
        reference_labels: Tensor | None = None,
        symmetrized: bool = False,
        self_offset: int | None = None,
        without_own: bool = False,
    ):
        self.self_comparison = reference_labels is None  # the batch is compared with itself
        self.self_offset = 0 if reference_labels is None else self_offset  # where the batch is among the references
        labels = comparable(labels)
        references = labels if reference_labels is None else comparable(reference_labels)
        if labels.dtype != references.dtype:  # Paddle compares equal types alone
            common = "float64" if labels.is_floating_point() or references.is_floating_point() else "int64"
            labels, references = labels.astype(common), references.astype(common)
        self.labels, self.reference_labels = labels, references
        # Only sessions differ by direction.
        self.symmetrized = symmetrized and labels.ndim == 2 and not is_label_sets(labels)
        self.without_own = without_own  # whether the batch among the references is left out, not the diagonal alone

    def rows(self, start: int = 0, size: int | None = None) -> tuple[Tensor, Tensor]:
        """Positives and negatives of ``size`` queries from ``start`` on, or of all: two boolean ``[B, M]``."""
        queries, references = row_slice(self.labels, start, size), self.reference_labels
        positive, negative = related(queries, references)
        if self.symmetrized:
            reverse = related(references, queries)
            positive, negative = positive | reverse[0].T, negative | reverse[1].T
        if self.self_offset is None:
            return positive, negative
        if self.without_own:
            stop = self.self_offset + self.labels.shape[0]
            return without_columns(positive, self.self_offset, stop), without_columns(negative, self.self_offset, stop)
        rows = paddle.arange(start, start + queries.shape[0]) + self.self_offset
        row, column = broadcast_pairs(rows, paddle.arange(references.shape[0]))
        other = row != column
        return positive & other, negative & other

    @property
    def by_class(self) -> bool:
        """Whether the negatives of a row are all items but its positives and itself."""
        return self.labels.ndim == 1 and not self.without_own

    @property
    def is_symmetric(self) -> bool:
        """Whether each relation holds in both directions, for a batch compared with itself."""
        return self.labels.ndim == 1 or self.symmetrized

    def block(self, rows: slice, columns: slice) -> tuple[Tensor, Tensor]:
        """Positives and negatives of some queries among some references: two boolean ``[R, C]``."""
        queries, references = self.labels[rows], self.reference_labels[columns]
        positive, negative = related(queries, references)
        if self.symmetrized:
            reverse = related(references, queries)
            positive, negative = positive | reverse[0].T, negative | reverse[1].T
        own = self.own_items(rows, columns)
        return (positive, negative) if own is None else (positive & ~own, negative & ~own)

    def count(self, over: str, positives: Tensor) -> Tensor:
        """How many negatives, or items of either kind, each query has, ``[N]``.

        Args:
            over: ``NEGATIVE`` or ``ANY``.
            positives: How many positives each query has.
        """
        if self.by_class:
            others = self.reference_labels.shape[0] - (self.self_offset is not None)
            return others - positives if over == NEGATIVE else paddle.full_like(positives, others)
        found = []
        for start, size in blocks.row_blocks(self.labels.shape[0], self.reference_labels.shape[0]):
            positive, negative = self.rows(start, size)
            found.append((negative if over == NEGATIVE else positive | negative).sum(axis=1))
        return paddle.concat(found)

    def own_items(self, rows: slice, columns: slice) -> Tensor | None:
        """Which references of a block are left out ``[R, C]``; None for none of them."""
        if self.self_offset is None:
            return None
        first, last = columns.start - self.self_offset, columns.stop - self.self_offset
        start, stop = (0, self.labels.shape[0]) if self.without_own else (rows.start, rows.stop)
        if first >= stop or last <= start:
            return None
        items = paddle.arange(first, last)
        if self.without_own:
            return ((items >= start) & (items < stop)).expand([rows.stop - rows.start, -1])
        row, item = broadcast_pairs(paddle.arange(rows.start, rows.stop), items)
        return row == item

    def symmetric(self) -> "Relations":
        """Relations that hold in either direction, for a batch compared with itself."""
        return Relations(self.labels, symmetrized=True)

    def split(self, start: int, size: int) -> tuple["Relations", "Relations"]:
        """The relations of the batch to itself, and those to all references but ``size`` of them from ``start`` on."""
        others = Relations(self.labels, self.reference_labels, self_offset=start, without_own=True)
        return Relations(self.labels), others


def without_columns(mask: Tensor, start: int, stop: int) -> Tensor:
    """A mask ``[B, M]`` that is False in the columns from ``start`` to before ``stop``."""
    columns = paddle.arange(mask.shape[1])
    return mask & ((columns < start) | (columns >= stop))


def is_label_sets(labels: Tensor) -> bool:
    """Whether labels are label sets, ``[N, C]`` booleans or floats."""
    return labels.ndim == 2 and (labels.dtype == paddle.bool or labels.is_floating_point())


def match_label_sets(queries: Tensor, references: Tensor) -> Tensor:
    """Which label sets belong together, as :func:`finetuner.labels.sets_match`: ``[B, C]``, ``[M, C]``: ``[B, M]``."""
    queries, references = queries.astype("float32"), references.astype("float32")
    own, other = (queries != 0).astype("float32"), (references != 0).astype("float32")
    common = paddle.matmul(own, other, transpose_y=True)
    total = own.sum(axis=1)[:, None] + other.sum(axis=1)[None, :] - common
    least = (queries.sum(axis=1) / own.sum(axis=1).clip(min=1))[:, None]  # all numbers of a row are the same
    return (common > 0) & ((least >= 1) | (common >= (least - OVERLAP_ROUNDING) * total))


def related(queries: Tensor, references: Tensor) -> tuple[Tensor, Tensor]:
    """Positives and negatives by the labels of both sides, of any kind: two boolean ``[B, M]``."""
    if is_label_sets(queries):
        positive = match_label_sets(queries, references)
        return positive, ~positive
    if queries.ndim == 1:
        own, other = broadcast_pairs(queries, references)
        return own == other, own != other
    own, other = broadcast_pairs(queries[:, 0], references[:, 0])
    same_session = own == other
    query_role, role = queries[:, None, 1], references[None, :, 1]
    is_match, is_non_match = (query_role == 0) | (query_role == 1), query_role == -1
    positive = same_session & is_match & (role >= 0)
    negative = same_session & (is_match & (role < 0) | is_non_match & ((role == 0) | (role == 1)))
    return positive, negative
