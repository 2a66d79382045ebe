"""The poolers of :mod:`finetuner.tuner.base.poolers`, for Keras."""

from keras import KerasTensor, backend, layers, ops

from .. import base

__all__ = ["GeM", "Pooler"]


class Pooler(base.Pooler, layers.Layer):
    def call(self, x: KerasTensor, mask: KerasTensor | None = None) -> KerasTensor:
        self.check(x.shape, None if mask is None else mask.shape)
        if len(x.shape) > 3:
            last = backend.image_data_format() == "channels_last"
            shape = ops.shape(x)
            items = ops.reshape(x, (shape[0], -1, shape[-1])) if last else ops.reshape(x, (shape[0], shape[1], -1))
            items = items if last else ops.transpose(items, (0, 2, 1))
        else:
            items = x
        counts = ops.ones_like(items[:, :, 0]) if mask is None else mask
        full = items if items.dtype == "float64" else ops.cast(items, "float32")
        return ops.cast(self.compute(full, ops.cast(counts, "bool")[:, :, None]), x.dtype)


class GeM(base.GeM, Pooler):
    def compute(self, x: KerasTensor, mask: KerasTensor) -> KerasTensor:
        x = ops.where(x > self.eps, x, self.eps)
        # Powers of shares of the largest value neither overflow nor vanish, whatever p.
        largest = ops.stop_gradient(ops.max(ops.where(mask, x, 0.0), axis=1, keepdims=True))
        largest = ops.where(largest > 0, largest, 1.0)
        powers = ops.where(mask, (ops.where(mask, x, largest) / largest) ** self.p, 0.0)
        count = ops.sum(ops.cast(mask, x.dtype), axis=1)
        mean = ops.sum(powers, axis=1) / ops.maximum(count, 1)
        root = ops.where(count > 0, mean, 1.0) ** (1 / self.p)
        return ops.where(count > 0, largest[:, 0] * root, 0.0)
