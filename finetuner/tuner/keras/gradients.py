"""Gradients and compilation, which ``keras.ops`` does not have, by the functions of each engine."""

import functools
from collections.abc import Callable
from typing import Any

import keras
from keras import ops

__all__ = ["aux_and_gradients", "compile_xla", "dense", "global_norm", "is_eager_torch", "lerp"]


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


def dense(gradients: list[Any]) -> list[Any]:
    """The gradients as tensors: TensorFlow's gradient of an embedding table is a list of rows."""
    return list(map(ops.convert_to_tensor, gradients)) if keras.backend.backend() == "tensorflow" else gradients


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
