"""Positive and negative masks, for Keras; see :mod:`finetuner.tuner.base.data.relations`."""

from typing import NamedTuple

from keras import ops

from .ops import Tensor, row_slice

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
        return Masks(self.positive | ops.transpose(self.positive), self.negative | ops.transpose(self.negative))


class Relations:
    """Positives and negatives of queries ``[N]`` among references ``[M]``.

    See :mod:`finetuner.tuner.base.data.relations`.
    """

    def __init__(self, labels: Tensor, reference_labels: Tensor | None = None, symmetrized: bool = False):
        self.self_comparison = reference_labels is None  # the batch is compared with itself
        self.labels = labels
        self.reference_labels = labels if reference_labels is None else reference_labels
        self.symmetrized = symmetrized and len(labels.shape) == 2  # only sessions differ by direction

    def rows(self, start: int = 0, size: int | None = None) -> tuple[Tensor, Tensor]:
        """Positives and negatives of ``size`` queries from ``start`` on, or of all: two boolean ``[B, M]``."""
        queries, references = row_slice(self.labels, start, size), self.reference_labels
        positive, negative = related(queries, references)
        if self.symmetrized:
            reverse = related(references, queries)
            positive, negative = positive | ops.transpose(reverse[0]), negative | ops.transpose(reverse[1])
        if self.self_comparison:
            rows = start + ops.arange(ops.shape(queries)[0], dtype="int32")
            other = ops.not_equal(rows[:, None], ops.arange(ops.shape(references)[0], dtype="int32"))
            positive, negative = positive & other, negative & other
        return positive, negative

    def symmetric(self) -> "Relations":
        """Relations that hold in either direction, for a batch compared with itself."""
        return Relations(self.labels, symmetrized=True)


def related(queries: Tensor, references: Tensor) -> tuple[Tensor, Tensor]:
    """Positives and negatives by the labels of both sides, ``[B]`` or ``[B, 2]`` each: two boolean ``[B, M]``."""
    if len(queries.shape) == 1:
        positive = ops.equal(queries[:, None], references[None, :])
        return positive, ops.logical_not(positive)
    same_session = ops.equal(queries[:, None, 0], references[None, :, 0])
    query_role, role = queries[:, None, 1], references[None, :, 1]
    is_match, is_non_match = ops.equal(query_role, 0) | ops.equal(query_role, 1), ops.equal(query_role, -1)
    positive = same_session & is_match & (role >= 0)
    negative = same_session & (is_match & (role < 0) | is_non_match & (ops.equal(role, 0) | ops.equal(role, 1)))
    return positive, negative
