"""The static embeddings of :mod:`finetuner.tuner.base.static`, for PaddlePaddle."""

import numpy as np
import paddle
from paddle import nn
from paddle.nn import functional as F

from ..base import static as base
from .functional import at_least_float32, l2_normalize
from .ops import where

__all__ = ["StaticEmbedding"]


class StaticEmbedding(base.StaticEmbedding, nn.Layer):
    def forward(self, input_ids: paddle.Tensor, attention_mask: paddle.Tensor | None = None) -> paddle.Tensor:
        return self.compute(self.table, input_ids, attention_mask)

    def compute(
        self, table: paddle.Tensor, input_ids: paddle.Tensor, attention_mask: paddle.Tensor | None
    ) -> paddle.Tensor:
        if paddle.in_dynamic_mode():  # in a compiled graph, the sizes of a dynamic shape are tensors
            self.check(input_ids.shape, input_ids.dtype, None if attention_mask is None else attention_mask.shape)
        mask = paddle.ones_like(input_ids).astype("bool") if attention_mask is None else attention_mask.astype("bool")
        rows = at_least_float32(F.embedding(where(mask, input_ids, 0), table))
        count = mask.sum(axis=1, keepdim=True).astype(rows.dtype)
        mean = where(mask[:, :, None], rows, 0.0).sum(axis=1) / count.clip(min=1)
        return l2_normalize(mean) if self.normalize else mean

    def new_table(self, values: np.ndarray) -> paddle.Tensor:
        return self.create_parameter(
            list(values.shape), dtype="float32", default_initializer=nn.initializer.Assign(values)
        )
