"""Gradients and compilation, which ``keras.ops`` does not have, by the functions of each engine."""

import functools
from collections.abc import Callable
from typing import Any

import keras
from keras import ops

from ..base.losses.blocks import SECOND_DERIVATIVES

__all__ = [
    "add_rows",
    "aux_and_gradients",
    "compile_xla",
    "dense",
    "global_norm",
    "grad_wrt_squared_distance",
    "is_eager_torch",
    "known_gradient",
    "lerp",
    "set_rows",
]


def aux_and_gradients(function: Callable[[list[Any]], Any], inputs: list[Any]) -> tuple[Any, list[Any]]:
    """Differentiate a function that returns a scalar and auxiliary values.

    Returns:
        The auxiliary values, and the gradient of the scalar by each of the inputs.
    """
    engine = keras.backend.backend()
    if engine == "jax":
        import jax

        gradients, aux = jax.grad(function, has_aux=True)(inputs)
    elif engine == "tensorflow":
        import tensorflow

        with tensorflow.GradientTape() as tape:
            tape.watch(inputs)
            scalar, aux = function(inputs)
        found = tape.gradient(scalar, inputs, unconnected_gradients=tensorflow.UnconnectedGradients.ZERO)
        gradients = [tensorflow.convert_to_tensor(one) for one in found]  # those of an embedding table are sparse
    else:
        import torch

        inputs = [one if one.requires_grad else one.detach().requires_grad_() for one in inputs]
        with torch.enable_grad():
            scalar, aux = function(inputs)
        gradients = list(torch.autograd.grad(scalar, inputs, materialize_grads=True))
    return keras.tree.map_structure(ops.stop_gradient, aux), gradients


def known_gradient(value: Any, gradient: Any, x: Any) -> Any:
    """A value with a known gradient by ``x``. Another derivative of this gradient raises ``NotImplementedError``.

    Args:
        value: A scalar, or numbers of rows ``[B, 1]``.
        gradient: Of the scalar, or of the number of each row, in the shape of ``x``.
        x: ``[B, M]``.
    """
    value, gradient = ops.stop_gradient(value), ops.stop_gradient(gradient)
    engine = keras.backend.backend()
    if engine == "torch" and not is_eager_torch():  # what is compiled has no second derivatives
        product = ops.sum(gradient * x, axis=1, keepdims=True) if len(value.shape) else ops.sum(gradient * x)
        return value + (product - ops.stop_gradient(product))
    return _known_gradient(engine)(value, gradient, x)


@functools.cache
def _known_gradient(engine: str) -> Callable[..., Any]:
    """The function of :func:`known_gradient` for one engine."""
    if engine == "jax":
        return _known_gradient_jax()
    if engine == "tensorflow":
        return _known_gradient_tensorflow()
    import torch

    class Gradient(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, gradient: Any, x: Any) -> Any:
            return gradient.clone()

        @staticmethod
        def backward(ctx: Any, upstream: Any) -> Any:
            raise NotImplementedError(SECOND_DERIVATIVES)

    class Value(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, value: Any, gradient: Any, x: Any) -> Any:
            ctx.save_for_backward(gradient, x)
            return value.clone()

        @staticmethod
        def backward(ctx: Any, upstream: Any) -> Any:
            gradient, x = ctx.saved_tensors
            if torch.is_grad_enabled():
                gradient = Gradient.apply(gradient, x)  # type: ignore[no-untyped-call]
            return None, None, upstream * gradient

    return Value.apply


def _known_gradient_jax() -> Callable[..., Any]:
    import jax
    import jax.numpy as jnp

    @jax.custom_jvp  # type: ignore[untyped-decorator]
    def once(gradient: Any, x: Any) -> Any:
        return gradient

    @once.defjvp  # type: ignore[untyped-decorator]
    def differentiate(primals: Any, tangents: Any) -> Any:
        raise NotImplementedError(SECOND_DERIVATIVES)

    @jax.custom_vjp  # type: ignore[untyped-decorator]
    def known(value: Any, gradient: Any, x: Any) -> Any:
        return value

    def backward(saved: Any, upstream: Any) -> Any:
        gradient, x = saved
        return jnp.zeros_like(upstream), jnp.zeros_like(gradient), upstream * once(gradient, x)

    known.defvjp(lambda value, gradient, x: (value, (gradient, x)), backward)
    return known


def _known_gradient_tensorflow() -> Callable[..., Any]:
    import tensorflow

    @tensorflow.custom_gradient  # type: ignore[untyped-decorator]
    def once(gradient: Any, x: Any) -> Any:
        def differentiate(upstream: Any) -> Any:
            raise NotImplementedError(SECOND_DERIVATIVES)

        return tensorflow.identity(gradient), differentiate

    @tensorflow.custom_gradient  # type: ignore[untyped-decorator]
    def known(value: Any, gradient: Any, x: Any) -> Any:
        def backward(upstream: Any) -> Any:
            return None, None, upstream * once(gradient, x)

        return tensorflow.identity(value), backward

    return known


def compile_xla(function: Callable[..., Any], *first: Any) -> Callable[..., Any]:
    """``function`` with its ``first`` arguments set, compiled by XLA inside a TensorFlow graph that is not.

    TensorFlow would otherwise write each operation of a block to memory. Outside a graph it would compile at each call.
    """
    function = functools.partial(function, *first)
    if keras.backend.backend() == "tensorflow":
        import tensorflow

        if not tensorflow.executing_eagerly():
            return tensorflow.function(function, jit_compile=True, autograph=False)
    return function


def grad_wrt_squared_distance(distances: Any, gradient: Any, distance: str) -> Any:
    """From the gradient by distances, the gradient by squared distances; for the cosine distance, by half of them.

    It is 0 where the distance is 0.
    """
    if distance == "euclidean":
        return ops.where(distances > 0, gradient / ops.where(distances > 0, 2 * distances, 1.0), 0.0)
    return gradient * ops.sign(distances)


def add_rows(x: Any, start: Any, rows: Any) -> Any:
    """``x`` with ``rows`` added to its rows from ``start`` on. PyTorch overwrites ``x``, which has no gradient."""
    if is_eager_torch():
        x[start : start + rows.shape[0]] += rows
        return x
    place = (start, *[0] * (len(x.shape) - 1))
    return ops.slice_update(x, place, ops.slice(x, place, rows.shape) + rows)


def set_rows(x: Any, start: Any, rows: Any) -> Any:
    """``x`` with ``rows`` in place of its rows from ``start`` on. PyTorch overwrites ``x``, which has no gradient."""
    if is_eager_torch():
        x[start : start + rows.shape[0]] = rows
        return x
    return ops.slice_update(x, (start, *[0] * (len(x.shape) - 1)), rows)


def dense(gradients: list[Any]) -> list[Any]:
    """The gradients as tensors: TensorFlow's gradient of an embedding table is a list of rows."""
    if keras.backend.backend() != "tensorflow":
        return gradients
    import tensorflow

    return [tensorflow.convert_to_tensor(one) for one in gradients]  # Keras' own function leaves rows as they are


def global_norm(gradients: list[Any]) -> Any:
    """The Euclidean norm of all gradients, in float32."""
    if keras.backend.backend() == "torch" and gradients:
        import torch

        norms = torch._foreach_norm([gradient.float() for gradient in gradients])
        return torch.linalg.vector_norm(torch.stack(norms))
    squares = [ops.sum(ops.square(ops.cast(gradient, "float32"))) for gradient in gradients]
    return ops.sqrt(sum(squares, start=ops.zeros((), "float32")))


def is_eager_torch() -> bool:
    """Whether the engine is PyTorch without a compiler, so that sizes may depend on the values of tensors."""
    if keras.backend.backend() != "torch":
        return False
    import torch

    return not torch.compiler.is_compiling()


@functools.cache
def compiled_lerp() -> Callable[..., Any]:
    """The function of :func:`lerp`, compiled."""

    def move(first: list[Any], second: list[Any], share: Any) -> list[Any]:
        return [a + share * (b - a) for a, b in zip(first, second, strict=True)]

    engine = keras.backend.backend()
    if engine == "jax":
        import jax

        return jax.jit(move)
    if engine == "tensorflow":
        import tensorflow

        return tensorflow.function(move, autograph=False, reduce_retracing=True)
    import torch

    return torch._foreach_lerp


def lerp(first: list[Any], second: list[Any], share: float) -> list[Any]:
    """``first + share * (second - first)`` of lists of tensors, without gradients."""
    second = [ops.stop_gradient(ops.convert_to_tensor(one)) for one in second]
    if not first or keras.backend.backend() == "torch":
        return list(compiled_lerp()(first, second, share)) if first else []
    return compiled_lerp()(first, second, ops.convert_to_tensor(share, "float32"))
