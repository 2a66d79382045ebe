"""The poolers of :mod:`finetuner.tuner.base.poolers`, for PaddlePaddle."""

import paddle
from paddle import nn

from .. import base
from ..base.poolers import MIN_P
from .ops import detached, where

__all__ = ["AveragePooling", "CLSPooling", "GeM", "MaxPooling", "Pooler"]


class Pooler(base.Pooler, nn.Layer):
    def forward(self, x: paddle.Tensor, mask: paddle.Tensor | None = None) -> paddle.Tensor:
        self.check(x.shape, None if mask is None else mask.shape)
        items = x if x.ndim == 3 else x.flatten(2).transpose([0, 2, 1])
        if paddle.in_dynamic_mode() and 0 in items.shape:
            return items.sum(axis=1)
        counts = paddle.ones_like(items[:, :, 0]) if mask is None else mask
        with paddle.amp.auto_cast(enable=False):
            full = items if items.dtype == paddle.float64 else items.astype("float32")
            return self.compute(full, counts.astype("bool")[:, :, None]).astype(x.dtype)

    def new_weight(self, name: str, value: float) -> paddle.Tensor:
        return self.create_parameter([], dtype="float32", default_initializer=nn.initializer.Constant(value))

    def value_of(self, weight: paddle.Tensor) -> float:
        return float(weight.item())


class GeM(base.GeM, Pooler):
    def compute(self, x: paddle.Tensor, mask: paddle.Tensor) -> paddle.Tensor:
        p = self.exponent(x.dtype)
        x = where(x > self.eps, x, self.eps)
        # Relative to the largest value, powers neither overflow nor vanish for any p.
        largest = detached(where(mask, x, 0.0).amax(axis=1, keepdim=True))
        largest = where(largest > 0, largest, 1.0)
        powers = where(mask, (where(mask, x, largest) / largest) ** p, 0.0)
        count = mask.sum(axis=1).astype(x.dtype)
        mean = powers.sum(axis=1) / count.clip(min=1)
        root = where(count > 0, mean, 1.0) ** (1 / p)
        return where(count > 0, largest[:, 0] * root, 0.0)

    def exponent(self, dtype: paddle.dtype) -> paddle.Tensor | float:
        """The exponent. A trained p below the minimum is replaced by it, and keeps its gradient."""
        if isinstance(self.p, float):
            return self.p
        p = self.p.astype(dtype)
        return where(p > MIN_P, p, MIN_P + (p - p.detach()))


class AveragePooling(base.AveragePooling, Pooler):
    def compute(self, x: paddle.Tensor, mask: paddle.Tensor) -> paddle.Tensor:
        count = mask.sum(axis=1).astype(x.dtype)
        return where(mask, x, 0.0).sum(axis=1) / count.clip(min=1)


class MaxPooling(base.MaxPooling, Pooler):
    def compute(self, x: paddle.Tensor, mask: paddle.Tensor) -> paddle.Tensor:
        return where(mask.any(axis=1), where(mask, x, -paddle.inf).amax(axis=1), 0.0)


class CLSPooling(base.CLSPooling, Pooler):
    def compute(self, x: paddle.Tensor, mask: paddle.Tensor) -> paddle.Tensor:
        return where(mask.any(axis=1), x[:, 0], 0.0)
