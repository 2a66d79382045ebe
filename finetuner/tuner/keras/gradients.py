"""What keras.ops has no word for: gradients, and what is compiled, by functions of each engine's own."""

import functools
from collections.abc import Callable
from typing import Any

import keras
from keras import ops

__all__ = ["fused", "is_eager_torch", "noted_and_gradients"]


def noted_and_gradients(function: Callable[[list[Any]], Any], moving: list[Any]) -> tuple[Any, list[Any]]:
    """Of a function to a scalar and notes: the notes, and the gradient of the scalar by each of ``moving``."""
    engine = keras.backend.backend()
    if engine == "jax":
        import jax

        gradients, noted = jax.grad(function, has_aux=True)(moving)
    elif engine == "tensorflow":
        import tensorflow

        with tensorflow.GradientTape() as tape:
            tape.watch(moving)
            scalar, noted = function(moving)
        found = tape.gradient(scalar, moving, unconnected_gradients=tensorflow.UnconnectedGradients.ZERO)
        gradients = [tensorflow.convert_to_tensor(one) for one in found]  # those of a table are of some rows alone
    else:
        import torch

        moving = [one if one.requires_grad else one.detach().requires_grad_() for one in moving]
        with torch.enable_grad():
            scalar, noted = function(moving)
        gradients = list(torch.autograd.grad(scalar, moving, materialize_grads=True))
    return keras.tree.map_structure(ops.stop_gradient, noted), gradients


def fused(function: Callable[..., Any], *first: Any) -> Callable[..., Any]:
    """``function`` of ``first`` and more, compiled by XLA where TensorFlow is making a graph without it.

    TensorFlow writes each step of a block to memory otherwise. Outside a graph it would be compiled at each call.
    """
    function = functools.partial(function, *first)
    if keras.backend.backend() == "tensorflow":
        import tensorflow

        if not tensorflow.executing_eagerly():
            return tensorflow.function(function, jit_compile=True, autograph=False)
    return function


def is_eager_torch() -> bool:
    """Whether a loop of Python's runs as it is written, with sizes that may depend on what tensors hold."""
    if keras.backend.backend() != "torch":
        return False
    import torch

    return not torch.compiler.is_compiling()
