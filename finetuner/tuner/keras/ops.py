"""Elementary operations, for Keras. All backends have the same, so losses and miners are one text."""

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, TypeAlias

import numpy as np
from keras import KerasTensor, backend, ops

from ...containers import from_container

__all__ = [
    "Tensor",
    "add_column",
    "as_tensor",
    "at_least",
    "cast",
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
    "ones_like",
    "reduce_any",
    "reduce_max",
    "reduce_mean",
    "reduce_sum",
    "relu",
    "row_numbers",
    "row_slice",
    "row_sums",
    "softplus",
    "to_numpy",
    "where",
    "zero_loss",
]

Tensor: TypeAlias = KerasTensor


def where(mask: Tensor, x: Tensor | float, y: Tensor | float) -> Tensor:
    """``x`` where ``mask`` holds, else ``y``. Numbers take the type of the tensor beside them."""
    return ops.where(mask, x, y)


def detached(x: Tensor) -> Tensor:
    """``x`` without its gradient."""
    return ops.stop_gradient(x)


def cast(x: Tensor, dtype: Any) -> Tensor:
    """``x`` in another type."""
    return ops.cast(x, dtype)


def as_tensor(x: Tensor) -> Tensor:
    """A weight of a layer as a tensor."""
    return ops.convert_to_tensor(x)


def constant(values: Sequence[float], like: Tensor) -> Tensor:
    """Numbers as a tensor of the type of ``like``, on its device."""
    return ops.convert_to_tensor([*values], like.dtype)


def from_numpy(array: np.ndarray, like: Tensor) -> Tensor:
    """An array as a tensor on the device of ``like``."""
    return ops.convert_to_tensor(array)


def to_numpy(x: Tensor) -> np.ndarray:
    """A tensor as an array."""
    return ops.convert_to_numpy(x)


def row_numbers(x: Tensor) -> Tensor:
    """The number of each row of ``x``: ``[N]`` integers."""
    return ops.arange(ops.shape(x)[0], dtype="int32")


def ones_like(x: Tensor) -> Tensor:
    """Ones in the shape and type of ``x``."""
    return ops.ones_like(x)


def add_column(x: Tensor, value: float) -> Tensor:
    """``x`` with a column of a value before its own columns: ``[N, M]`` to ``[N, 1 + M]``."""
    return ops.concatenate([ops.full_like(x[:, :1], value), x], axis=1)


def flatten(x: Tensor) -> Tensor:
    """``x`` with a single axis."""
    return ops.reshape(x, (-1,))


def exp(x: Tensor) -> Tensor:
    """The exponential."""
    return ops.exp(x)


def log2(x: Tensor) -> Tensor:
    """The logarithm to base 2."""
    return ops.log2(x)


def relu(x: Tensor) -> Tensor:
    """``max(0, x)``."""
    return ops.relu(x)


def softplus(x: Tensor) -> Tensor:
    """``log(1 + exp(x))``."""
    return ops.softplus(x)


def linear(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """``x @ weight.T + bias``, with a weight ``[out, in]``."""
    return ops.matmul(x, ops.transpose(weight)) + bias


def at_least(x: Tensor, bound: float) -> Tensor:
    """``x``, with values below ``bound`` replaced by it."""
    return ops.maximum(x, bound)


def reduce_sum(x: Tensor, axis: int | None = None, keepdims: bool = False) -> Tensor:
    """The sum along an axis, or of all values. Of a mask, the number of true values."""
    return ops.sum(counted(x), axis=axis, keepdims=keepdims)


def reduce_mean(x: Tensor) -> Tensor:
    """The mean of all values."""
    return ops.mean(x)


def reduce_any(mask: Tensor, axis: int | None = None, keepdims: bool = False) -> Tensor:
    """Whether any value along an axis, or at all, is true."""
    return ops.any(mask, axis=axis, keepdims=keepdims)


def reduce_max(x: Tensor, axis: int) -> Tensor:
    """The largest value along an axis."""
    return ops.max(x, axis=axis)


def row_sums(x: Tensor) -> Tensor:
    """The sum of each row, in the way that is fastest: ``[N, M]`` to ``[N]``. Of a mask, the number of true values."""
    return ops.sum(counted(x), axis=1)


def counted(x: Tensor) -> Tensor:
    """A mask as floats, which all engines can sum; any other tensor unchanged."""
    return ops.cast(x, "float32") if backend.standardize_dtype(x.dtype) == "bool" else x


def no_autocast(x: Tensor) -> AbstractContextManager[Any]:
    """A context in which the framework does not compute in a lower precision."""
    return nullcontext()  # a Keras layer has a precision of its own, see LossLayer


def has_no_rows(*tensors: Tensor) -> bool:
    """Whether one of the tensors is known to have no rows. A compiler may leave the number of rows open."""
    return any(x.shape[0] == 0 for x in tensors)


def zero_loss(reduction: str, x: Tensor, *others: Tensor) -> Tensor:
    """The loss of rows ``[N, D]`` without any tuple: 0, with gradients of 0, in the shape of the reduction."""
    zeros = [reduce_sum(where(one == one, one, 0.0) * 0, axis=1) for one in (x, *others)]
    rest = sum(map(reduce_sum, zeros[1:]))
    return zeros[0] + rest if reduction == "none" else reduce_sum(zeros[0]) + rest


def labels_on_host(labels: Tensor) -> np.ndarray | None:
    """Labels as an array, or None if that would wait for a device or stop a compiler."""
    engine = backend.backend()
    if engine == "jax":
        import jax

        available = not isinstance(labels, jax.core.Tracer) and {one.platform for one in labels.devices()} == {"cpu"}
    elif engine == "torch":
        import torch

        available = labels.device.type == "cpu" and not torch.compiler.is_compiling()
    else:
        available = hasattr(labels, "numpy") and "CPU" in labels.device
    return np.asarray(from_container("labels", labels)) if available else None


def row_slice(x: Tensor, start: int, size: int | None) -> Tensor:
    """``size`` rows from ``start`` on, which a compiler need not know, or all."""
    if size is None:
        return x
    return ops.slice(x, (start, *[0] * (len(x.shape) - 1)), (size, *x.shape[1:]))
