"""Gradient caching, as in :mod:`finetuner.tuner.base.caching`, for Keras."""

import contextlib
import math
from collections.abc import Callable, Sequence
from typing import Any

import keras
from keras import ops

from ..base.caching import Part
from ..base.framework import checked_embeddings
from .data import to_arrays
from .gradients import noted_and_gradients
from .models import Trained

__all__ = ["Cached"]

Tensors = list[Any]


class Cached:
    """The step of a :class:`Trained` model on micro-batches, of functions that are compiled each by itself.

    They are functions of weights and state (running values, generators of random numbers), as ``stateless_call`` is
    on every engine. Both passes begin with the same state, so that the second makes what the first did, and it is the
    second's that stays.

    What layers add to the loss is taken as a mean over rows, as Keras' own regularisers of activities are: the
    batch's is the mean of the micro-batches', weighted by their rows.
    """

    def __init__(self, trained: Trained):
        self.trained = trained
        if not trained.optimizer.built:
            trained.optimizer.build(trained.trainable_variables)
        functions = self.embedded, self.judged, self.replayed, trained.optimizer.stateless_apply
        self.embed, self.judge, self.replay, self.apply = (compiled(one, trained.jit_compile) for one in functions)

    def step(self, parts: Sequence[Part], targets: Sequence[Any]) -> float:
        """Take one step and return the loss; nothing is changed where it is not finite."""
        trained = self.trained
        inputs, rows = [to_arrays(part.inputs) for part in parts], [part.rows for part in parts]
        weights, before = ([one.value for one in group] for group in self.variables())
        one = ops.ones((), "float32")
        scale = trained.optimizer.scale_loss(one)  # of narrow types, or their gradients would vanish
        state, states, embeddings, added = before, [], [], 0.0
        for x, count in zip(inputs, rows, strict=True):
            states.append(random_state(one))
            made, state, extra = self.embed(weights, state, x)
            embeddings.append(checked_embeddings(made, ops.is_tensor(made), count))
            added += float(extra) * count / sum(rows)  # which waits, or JAX would go on to the next beside it
        whole = ops.concatenate(embeddings)
        state, loss, noted, (*total, gradient) = self.judge(weights, before, whole, targets, scale)
        value = float(loss) + added
        if not math.isfinite(value):
            return value
        after, start = random_state(one), 0
        for x, count, generators in zip(inputs, rows, states, strict=True):
            set_random_state(generators, one)
            share = scale * (count / sum(rows))
            total, state = self.replay(weights, state, x, gradient[start : start + count], share, total)
            start += count
        set_random_state(after, one)
        for variable, old, new in zip(self.variables()[1], before, state, strict=True):
            if new is not old:
                variable.assign(new)
        for name, note in noted.items():
            trained.notes[name].update_state(note)
        self.update(total)
        return value

    def update(self, gradients: Tensors) -> None:
        """Have the optimizer take its step."""
        optimizer, weights = self.trained.optimizer, self.trained.trainable_variables
        if keras.backend.backend() != "jax":
            with without_graph():
                optimizer.apply(gradients, weights)
            return
        # JAX cannot change a variable under a condition, as optimizers of narrow types do.
        slots = optimizer.variables
        new = self.apply([one.value for one in slots], gradients, [one.value for one in weights])
        for variable, value in zip([*weights, *slots], [*new[0], *new[1]], strict=True):
            variable.assign(value)

    def variables(self) -> tuple[Tensors, Tensors]:
        """What is trained, and the state: of the model and of the loss."""
        return self.trained.trainable_variables, self.trained.non_trainable_variables

    def embedded(self, weights: Tensors, state: Tensors, x: Any) -> tuple[Any, Tensors, Any]:
        """Of a micro-batch: embeddings, the state after it, and what its layers add to the loss."""
        made, state, losses = self.trained.stateless_call(weights, state, x, training=True, return_losses=True)
        return keras.tree.map_structure(ops.stop_gradient, (made, state, total_of(losses)))

    def judged(
        self, weights: Tensors, state: Tensors, embeddings: Any, targets: Sequence[Any], scale: Any
    ) -> tuple[Tensors, Any, dict[str, Any], Tensors]:
        """Of all embeddings: the state after it, the loss, what it notes, and gradients by weights and embeddings."""

        def scaled(moving: Tensors) -> Any:
            weighed, kept = self.variables()
            mapping = zip([*weighed, *kept], [*moving[:-1], *state], strict=True)
            with keras.StatelessScope(mapping) as scope:
                loss = self.trained.loss_of(targets, moving[-1])
            new = [scope.get_current_value(one) for one in kept]
            return loss * scale, (new, loss, self.trained.told())

        (state, loss, noted), gradients = noted_and_gradients(scaled, [*weights, embeddings])
        return state, loss, noted, gradients

    def replayed(
        self, weights: Tensors, state: Tensors, x: Any, gradient: Any, share: Any, total: Tensors
    ) -> tuple[Tensors, Tensors]:
        """Of a micro-batch: gradients by the weights on top of the ``total``, and the state after it."""

        def product(moving: Tensors) -> Any:
            made, new, losses = self.trained.stateless_call(moving, state, x, training=True, return_losses=True)
            along = ops.sum(ops.cast(made, "float32") * ops.cast(gradient, "float32"))
            return along + share * total_of(losses), new

        state, gradients = noted_and_gradients(product, weights)
        return [old + new for old, new in zip(total, gradients, strict=True)], state


def total_of(losses: Sequence[Any]) -> Any:
    """The sum of what layers add to the loss."""
    return sum((ops.cast(ops.sum(loss), "float32") for loss in losses), start=ops.zeros((), "float32"))


# What keras.ops has no word for.


def compiled(function: Callable[..., Any], with_xla: bool) -> Callable[..., Any]:
    """``function`` as Keras' own step would be compiled on the engine."""
    engine = keras.backend.backend()
    if engine == "jax" and with_xla:
        import jax

        return jax.jit(function)
    if engine == "tensorflow":
        import tensorflow

        return tensorflow.function(function, jit_compile=with_xla, reduce_retracing=True, autograph=False)
    return function


def without_graph() -> Any:
    """A context in which PyTorch, as an engine, keeps no graph."""
    if keras.backend.backend() != "torch":
        return contextlib.nullcontext()
    import torch

    return torch.no_grad()


def random_state(beside: Any) -> list[Any]:
    """Where generators stand that are in no state of layers: PyTorch's, as an engine, by the device of a tensor."""
    if keras.backend.backend() != "torch":
        return []
    import torch

    kind = beside.device.type
    return [torch.get_rng_state(), *([] if kind == "cpu" else [torch.get_device_module(kind).get_rng_state()])]


def set_random_state(state: list[Any], beside: Any) -> None:
    """Have the generators go on from what :func:`random_state` gave."""
    if state:
        import torch

        torch.set_rng_state(state[0])
    if len(state) > 1:
        torch.get_device_module(beside.device.type).set_rng_state(state[1])
