"""Elementary operations, for PaddlePaddle. All backends have the same, so losses and miners are one text."""

from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Any, TypeAlias

import numpy as np
import paddle
from paddle.nn import functional as F

from ...containers import from_container
from ..base.losses.blocks import SECOND_DERIVATIVES

__all__ = [
    "Tensor",
    "add_column",
    "as_tensor",
    "at_least",
    "cast",
    "comparable",
    "constant",
    "detached",
    "exp",
    "flatten",
    "from_numpy",
    "has_no_rows",
    "labels_on_host",
    "linear",
    "log2",
    "no_autocast",
    "on_cpu",
    "ones_like",
    "reduce_any",
    "reduce_max",
    "reduce_mean",
    "reduce_sum",
    "refuse_second_derivatives",
    "relu",
    "row_numbers",
    "row_slice",
    "row_sums",
    "softplus",
    "to_numpy",
    "where",
    "zero_loss",
]

Tensor: TypeAlias = paddle.Tensor
HAS_ACCELERATOR = (
    paddle.is_compiled_with_cuda() or paddle.is_compiled_with_xpu() or bool(paddle.device.get_all_custom_device_type())
)


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


def add_column(x: Tensor, value: float) -> Tensor:
    """``x`` with a column of a value before its own columns: ``[N, M]`` to ``[N, 1 + M]``."""
    return paddle.concat([paddle.full_like(x[:, :1], value), x], axis=1)


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


def reduce_max(x: Tensor, axis: int) -> Tensor:
    """The largest value along an axis."""
    return x.max(axis=axis)


def row_sums(x: Tensor) -> Tensor:
    """The sum of each row, in the way that is fastest: ``[N, M]`` to ``[N]``. Of a mask, the number of true values."""
    x = x.astype("float32") if x.dtype == paddle.bool else x
    fast = paddle.in_dynamic_mode() and on_cpu(x)
    return x @ paddle.ones_like(x[0]) if fast else x.sum(axis=1)  # the product is five times as fast as sum()


def on_cpu(x: Tensor) -> bool:
    """Whether a tensor is on the host. Paddle's compiler cannot follow a question for the place."""
    return not HAS_ACCELERATOR or x.place.is_cpu_place()


def no_autocast(x: Tensor) -> AbstractContextManager[Any]:
    """A context in which the framework does not compute in a lower precision."""
    return paddle.amp.auto_cast(enable=False)


def has_no_rows(*tensors: Tensor) -> bool:
    """Whether one of the tensors is known to have no rows. A compiler may leave the number of rows open."""
    return paddle.in_dynamic_mode() and any(x.shape[0] == 0 for x in tensors)


def zero_loss(reduction: str, x: Tensor, *others: Tensor) -> Tensor:
    """The loss of rows ``[N, D]`` without any tuple: 0, with gradients of 0, in the shape of the reduction."""
    zeros = [reduce_sum(where(one == one, one, 0.0) * 0, axis=1) for one in (x, *others)]
    rest = sum(map(reduce_sum, zeros[1:]))
    return zeros[0] + rest if reduction == "none" else reduce_sum(zeros[0]) + rest


def labels_on_host(labels: Tensor) -> np.ndarray | None:
    """Labels as an array, or None if that would wait for a device or stop a compiler."""
    if not paddle.in_dynamic_mode() or not on_cpu(labels):
        return None
    return np.asarray(from_container("labels", labels))


def comparable(labels: Tensor) -> Tensor:
    """Labels in a type that Paddle can compare: it has no kernels for small integers."""
    is_small = labels.dtype in (paddle.uint8, paddle.int8, paddle.int16)
    return labels.astype("int64") if is_small else labels


def broadcast_pairs(rows: Tensor, columns: Tensor) -> tuple[Tensor, Tensor]:
    """``[B]`` and ``[M]`` as two ``[B, M]``, faster than by implicit broadcasting.

    The gradient of ``paddle.broadcast_tensors`` ends the process if one of the two has none.
    """
    if not paddle.in_dynamic_mode():  # sizes may be open
        return tuple(paddle.broadcast_tensors([rows[:, None], columns[None, :]]))
    sizes = [rows.shape[0], columns.shape[0]]
    return rows[:, None].expand(sizes), columns[None, :].expand(sizes)


def refuse_second_derivatives() -> None:
    """Raise ``NotImplementedError`` in a backward pass that is to be differentiated itself."""
    if paddle.is_grad_enabled():
        raise NotImplementedError(SECOND_DERIVATIVES)


def row_slice(x: Tensor, start: int, size: int | None) -> Tensor:
    """``size`` rows from ``start`` on, or all."""
    return x if size is None else x[start : start + size]
