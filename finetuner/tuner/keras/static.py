"""The static embeddings of :mod:`finetuner.tuner.base.static`, for Keras."""

from typing import Any

import numpy as np
from keras import KerasTensor, Variable, backend, ops

from ..base import static as base
from .functional import at_least_float32, l2_normalize
from .interop import PlainModel

__all__ = ["StaticEmbedding"]


class StaticEmbedding(base.StaticEmbedding, PlainModel):
    def call(self, input_ids: KerasTensor, attention_mask: KerasTensor | None = None) -> KerasTensor:
        return self.compute(self.table, input_ids, attention_mask)

    def compute(self, table: KerasTensor, input_ids: KerasTensor, attention_mask: KerasTensor | None) -> KerasTensor:
        dtype = backend.standardize_dtype(input_ids.dtype)
        self.check(input_ids.shape, dtype, None if attention_mask is None else attention_mask.shape)
        mask = ops.cast(ops.ones_like(input_ids) if attention_mask is None else attention_mask, "bool")
        rows = at_least_float32(ops.take(table, ops.where(mask, input_ids, 0), axis=0))
        count = ops.sum(ops.cast(mask, rows.dtype), axis=1, keepdims=True)
        mean = ops.sum(ops.where(ops.expand_dims(mask, -1), rows, 0.0), axis=1) / ops.maximum(count, 1)
        return l2_normalize(mean) if self.normalize else mean

    def new_table(self, values: np.ndarray) -> Variable:
        table = self.add_weight(shape=values.shape, initializer="zeros", dtype="float32", name="table")
        table.assign(values)
        self.built = True
        return table

    def get_config(self) -> dict[str, Any]:
        """The arguments, and the model's name. The table itself is a weight, which Keras saves beside."""
        return {**self.arguments(), "name": self.name}
