"""The loss of :mod:`finetuner.tuner.base.losses.distillation`, for PaddlePaddle."""

import math

from ...base.losses import distillation as base
from ..blocks import reduce_rows
from ..comparison import Comparison
from ..functional import block_distances, common_float, prepare_rows, reduce, row_logsumexp, spread
from ..layers import Loss
from ..ops import (
    Tensor,
    cast,
    detached,
    exp,
    has_no_rows,
    no_autocast,
    ones_like,
    reduce_sum,
    row_numbers,
    where,
    zero_loss,
)
from ..relations import Relations

__all__ = ["DistillationLoss"]


class DistillationLoss(base.DistillationLoss, Loss):
    def forward(self, embeddings: Tensor, teacher_embeddings: Tensor) -> Tensor:
        self.check(embeddings, teacher_embeddings)
        with no_autocast(embeddings):
            queries, teacher = common_float(embeddings, detached(teacher_embeddings))
            return zero_loss("mean", queries) if has_no_rows(queries) else self.compute(queries, teacher)

    def compute(self, queries: Tensor, teacher: Tensor) -> Tensor:
        relations = TeacherRelations(teacher, Relations(row_numbers(teacher)))
        sums, count, _ = reduce_rows(self.terms, queries, queries, relations, "cosine", tiled=False)
        if self.need_logs:
            self.logs["active"] = cast(reduce_sum(detached(count)) > 1, sums.dtype)
            self.logs["spread"] = spread(detached(queries))
        return reduce(sums, count, count, "mean")

    def terms(self, rows: Comparison) -> tuple[Tensor, Tensor, Tensor]:
        distances, teacher, other = rows.distances, rows.positive, rows.negative  # see TeacherRelations
        student_logits, teacher_logits = (-x / self.temperature for x in (distances, teacher))
        student_logits, teacher_logits = (x - row_logsumexp(x, other) for x in (student_logits, teacher_logits))
        share = exp(where(other, teacher_logits, -math.inf))
        terms = reduce_sum(where(other, share * (teacher_logits - student_logits), 0.0), axis=1)
        ones = ones_like(terms)
        return terms, ones, ones


class TeacherRelations:
    """A teacher's distances, in place of relations."""

    def __init__(self, teacher: Tensor, relations: Relations):
        self.operands, self.relations = prepare_rows(teacher, teacher, "cosine"), relations

    def rows(self, start: int = 0, size: int | None = None) -> tuple[Tensor, Tensor]:
        """The teacher's distances of a block, and the mask of all other rows: two ``[B, N]``."""
        _, other = self.relations.rows(start, size)
        return block_distances(self.operands, "cosine", start, size), other
