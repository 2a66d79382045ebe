"""Positive and negative masks, for Keras; see :mod:`finetuner.tuner.base.data.relations`."""

from typing import Any, NamedTuple

from keras import backend, ops

from ...labels import OVERLAP_ROUNDING
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
        self.labels = labels
        self.reference_labels = labels if reference_labels is None else reference_labels
        # Only sessions differ by direction.
        self.symmetrized = symmetrized and len(labels.shape) == 2 and not is_label_sets(labels)
        self.without_own = without_own  # whether the batch among the references is left out, not the diagonal alone

    def rows(self, start: int = 0, size: int | None = None) -> tuple[Tensor, Tensor]:
        """Positives and negatives of ``size`` queries from ``start`` on, or of all: two boolean ``[B, M]``."""
        queries, references = row_slice(self.labels, start, size), self.reference_labels
        positive, negative = related(queries, references)
        if self.symmetrized:
            reverse = related(references, queries)
            positive, negative = positive | ops.transpose(reverse[0]), negative | ops.transpose(reverse[1])
        if self.self_offset is None:
            return positive, negative
        if self.without_own:
            stop = self.self_offset + ops.shape(self.labels)[0]
            return without_columns(positive, self.self_offset, stop), without_columns(negative, self.self_offset, stop)
        rows = start + self.self_offset + ops.arange(ops.shape(queries)[0], dtype="int32")
        other = ops.not_equal(rows[:, None], ops.arange(ops.shape(references)[0], dtype="int32"))
        return positive & other, negative & other

    def symmetric(self) -> "Relations":
        """Relations that hold in either direction, for a batch compared with itself."""
        return Relations(self.labels, symmetrized=True)

    def split(self, start: int, size: int) -> tuple["Relations", "Relations"]:
        """The relations of the batch to itself, and those to all references but ``size`` of them from ``start`` on."""
        others = Relations(self.labels, self.reference_labels, self_offset=start, without_own=True)
        return Relations(self.labels), others


def without_columns(mask: Tensor, start: int, stop: Any) -> Tensor:
    """A mask ``[B, M]`` that is False in the columns from ``start`` to before ``stop``."""
    columns = ops.arange(ops.shape(mask)[1], dtype="int32")
    return mask & ((columns < start) | (columns >= stop))


def is_label_sets(labels: Tensor) -> bool:
    """Whether labels are label sets, ``[N, C]`` booleans or floats."""
    return len(labels.shape) == 2 and "int" not in backend.standardize_dtype(labels.dtype)


def match_label_sets(queries: Tensor, references: Tensor) -> Tensor:
    """Which label sets belong together, as :func:`finetuner.labels.sets_match`: ``[B, C]``, ``[M, C]``: ``[B, M]``."""
    queries, references = ops.cast(queries, "float32"), ops.cast(references, "float32")
    own, other = (ops.cast(ops.not_equal(sets, 0), "float32") for sets in (queries, references))
    common = ops.matmul(own, ops.transpose(other))
    total = ops.sum(own, axis=1)[:, None] + ops.sum(other, axis=1)[None, :] - common
    least = ops.sum(queries, axis=1) / ops.maximum(ops.sum(own, axis=1), 1)  # all numbers of a row are the same
    least = least[:, None]
    return (common > 0) & ((least >= 1) | (common >= (least - OVERLAP_ROUNDING) * total))


def related(queries: Tensor, references: Tensor) -> tuple[Tensor, Tensor]:
    """Positives and negatives by the labels of both sides, of any kind: two boolean ``[B, M]``."""
    if is_label_sets(queries):
        positive = match_label_sets(queries, references)
        return positive, ops.logical_not(positive)
    if len(queries.shape) == 1:
        positive = ops.equal(queries[:, None], references[None, :])
        return positive, ops.logical_not(positive)
    same_session = ops.equal(queries[:, None, 0], references[None, :, 0])
    query_role, role = queries[:, None, 1], references[None, :, 1]
    is_match, is_non_match = ops.equal(query_role, 0) | ops.equal(query_role, 1), ops.equal(query_role, -1)
    positive = same_session & is_match & (role >= 0)
    negative = same_session & (is_match & (role < 0) | is_non_match & (ops.equal(role, 0) | ops.equal(role, 1)))
    return positive, negative
