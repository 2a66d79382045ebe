"""Elementary operations, for PaddlePaddle. All backends have the same, so losses and miners are one text."""

from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Any, TypeAlias

import numpy as np
import paddle
from paddle.nn import functional as F

__all__ = [
    "Tensor",
    "as_tensor",
    "at_least",
    "cast",
    "constant",
    "detached",
    "exp",
    "flatten",
    "from_numpy",
    "labels_on_host",
    "linear",
    "log2",
    "no_autocast",
    "ones_like",
    "reduce_any",
    "reduce_mean",
    "reduce_sum",
    "relu",
    "row_numbers",
    "row_slice",
    "row_sums",
    "softplus",
    "to_numpy",
    "where",
]

Tensor: TypeAlias = paddle.Tensor


def where(mask: Tensor, x: Tensor | float, y: Tensor | float) -> Tensor:
    """``x`` where ``mask`` holds, else ``y``. Numbers take the type of the tensor beside them."""
    x = paddle.full_like(y, x) if isinstance(x, int | float) else x  # paddle.where makes float32 of numbers
    y = paddle.full_like(x, y) if isinstance(y, int | float) else y
    return paddle.where(mask, x, y)


def detached(x: Tensor) -> Tensor:
    """``x`` without its gradient."""
    # Compiled, detach() shares memory that an operation run in parallel may overwrite.
    return x.detach() if paddle.in_dynamic_mode() else x.clone().detach()


def cast(x: Tensor, dtype: paddle.dtype) -> Tensor:
    """``x`` in another type."""
    return x.astype(dtype)


def as_tensor(x: Tensor) -> Tensor:
    """A weight of a layer as a tensor."""
    return x


def constant(values: Sequence[float], like: Tensor) -> Tensor:
    """Numbers as a tensor of the type of ``like``, on its device."""
    return paddle.to_tensor(values, dtype=like.dtype)


def from_numpy(array: np.ndarray, like: Tensor) -> Tensor:
    """An array as a tensor on the device of ``like``."""
    return paddle.to_tensor(array, place=like.place)


def to_numpy(x: Tensor) -> np.ndarray:
    """A tensor as an array."""
    return x.numpy()


def row_numbers(x: Tensor) -> Tensor:
    """The number of each row of ``x``: ``[N]`` integers."""
    return paddle.arange(x.shape[0])


def ones_like(x: Tensor) -> Tensor:
    """Ones in the shape and type of ``x``."""
    return paddle.ones_like(x)


def flatten(x: Tensor) -> Tensor:
    """``x`` with a single axis."""
    return x.reshape([-1])


def exp(x: Tensor) -> Tensor:
    """The exponential."""
    return paddle.exp(x)


def log2(x: Tensor) -> Tensor:
    """The logarithm to base 2."""
    return paddle.log2(x)


def relu(x: Tensor) -> Tensor:
    """``max(0, x)``."""
    return F.relu(x)


def softplus(x: Tensor) -> Tensor:
    """``log(1 + exp(x))``."""
    return F.softplus(x)


def linear(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """``x @ weight.T + bias``, with a weight ``[out, in]``."""
    return F.linear(x, weight.T, bias)


def at_least(x: Tensor, bound: float) -> Tensor:
    """``x``, with values below ``bound`` replaced by it."""
    return x.clip(min=bound)


def reduce_sum(x: Tensor, axis: int | None = None, keepdims: bool = False) -> Tensor:
    """The sum along an axis, or of all values. Of a mask, the number of true values."""
    return x.sum(axis=axis, keepdim=keepdims)


def reduce_mean(x: Tensor) -> Tensor:
    """The mean of all values."""
    return x.mean()


def reduce_any(mask: Tensor, axis: int | None = None, keepdims: bool = False) -> Tensor:
    """Whether any value along an axis, or at all, is true."""
    return mask.any(axis=axis, keepdim=keepdims)


def row_sums(x: Tensor) -> Tensor:
    """The sum of each row, in the way that is fastest: ``[N, M]`` to ``[N]``. Of a mask, the number of true values."""
    x = x.astype("float32") if x.dtype == paddle.bool else x
    on_cpu = paddle.in_dynamic_mode() and x.place.is_cpu_place()
    return x @ paddle.ones_like(x[0]) if on_cpu else x.sum(axis=1)  # the product is five times as fast as sum()


def no_autocast(x: Tensor) -> AbstractContextManager[Any]:
    """A context in which the framework does not compute in a lower precision."""
    return paddle.amp.auto_cast(enable=False)


def labels_on_host(labels: Tensor) -> np.ndarray | None:
    """Labels as an array, or None if that would wait for a device or stop a compiler."""
    if not paddle.in_dynamic_mode() or not labels.place.is_cpu_place():
        return None
    return labels.numpy()


def broadcast_pairs(rows: Tensor, columns: Tensor) -> tuple[Tensor, Tensor]:
    """``[B]`` and ``[M]`` as two ``[B, M]``. Implicit broadcasting takes Paddle twenty times as long."""
    return tuple(paddle.broadcast_tensors([rows[:, None], columns[None, :]]))


def row_slice(x: Tensor, start: int, size: int | None) -> Tensor:
    """``size`` rows from ``start`` on, or all."""
    return x if size is None else x[start : start + size]
