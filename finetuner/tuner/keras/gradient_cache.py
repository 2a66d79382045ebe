"""Gradient caching for Keras; see :mod:`finetuner.tuner.base.training.micro_batches`."""

import contextlib
import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from ..base.processes import ALONE, Processes
from ..base.training.framework import check_embeddings
from ..base.training.micro_batches import Parts
from .data import ORDER, to_device
from .devices import ONE_DEVICE, OneDevice
from .gradients import aux_and_gradients
from .models import TrainingModel

__all__ = ["GradientCache", "seed_engine", "seed_torch", "seed_variables"]

Tensors = list[Any]


class GradientCache:
    """The gradients of a :class:`TrainingModel`, of a batch or of micro-batches.

    Its functions are functions of weights and state (running statistics, random generators), like ``stateless_call``
    on every engine, and each is compiled separately. Both passes begin with the same state, so the second computes what
    the first did. The state of the second pass is kept.

    Losses that layers add are treated as means over rows, as Keras' own activity regularizers are: the loss of the
    batch is the mean over the micro-batches, weighted by their rows.

    Args:
        training_model: The model with its loss.
        devices: Those that share a batch. Its micro-batches are then what :meth:`Devices.put` returns.
        processes: Those that share a batch, if each of them computes by itself. Their gradients are added up.
    """

    def __init__(self, training_model: TrainingModel, devices: OneDevice = ONE_DEVICE, processes: Processes = ALONE):
        self.training_model, self.devices, self.processes = training_model, devices, processes
        if not training_model.optimizer.built:
            training_model.optimizer.build(training_model.trainable_variables)
        self.embed, self.differentiate_loss, self.accumulate, self.differentiate_batch, self.apply = (
            compiled(function, training_model.jit_compile)
            for function in (
                self.embed_part,
                self.loss_and_gradients,
                self.accumulate_gradients,
                self.batch_loss_and_gradients,
                training_model.optimizer.stateless_apply,
            )
        )

    def gradients(
        self, parts: Parts, targets: Sequence[Any], slices: Sequence[slice] = (), loss_seed: int = 0
    ) -> tuple[float, Tensors]:
        """The loss of a batch and its gradients by the weights. If the loss is not finite, nothing is changed.

        Args:
            parts: The batch; of several processes, the slice of this one.
            targets: The targets of all rows.
            slices: The rows of each process, if each computes by itself.
            loss_seed: Of what the loss draws, then.
        """
        inputs = [to_device(part.inputs) for part in parts.micro_batches]
        if slices or parts.two_passes:
            return self.of_parts(inputs, parts, targets, slices, loss_seed)
        return self.of_batch(inputs, parts, targets)

    def of_batch(self, inputs: Tensors, parts: Parts, targets: Sequence[Any]) -> tuple[float, Tensors]:
        """The loss and its gradients, in one pass."""
        model = self.training_model
        weights, before = ([variable.value for variable in group] for group in self.variables())
        x = inputs[0]
        if parts.order is not None:
            groups = {f"group {number:04d}": part for number, part in enumerate(inputs)}
            x = {**groups, ORDER: parts.order.astype("int32")}
        scale = model.optimizer.scale_loss(ops.ones((), "float32"))
        state, loss, logs, gradients = self.differentiate_batch(weights, before, x, targets, scale)
        value = float(loss)
        if math.isfinite(value):
            self.keep(state, before, logs)
        return value, gradients

    def of_parts(
        self, inputs: Tensors, parts: Parts, targets: Sequence[Any], slices: Sequence[slice], loss_seed: int
    ) -> tuple[float, Tensors]:
        """The loss and its gradients, by two passes over the micro-batches."""
        model, rows, all_rows = self.training_model, [part.rows for part in parts.micro_batches], len(targets[0])
        weights, before = ([variable.value for variable in group] for group in self.variables())
        one = ops.ones((), "float32")
        scale = model.optimizer.scale_loss(one)  # for float16, whose gradients would vanish
        state, states, embeddings, added_loss = before, [], [], 0.0
        for x, count in zip(inputs, rows, strict=True):
            states.append(random_state(one))
            made, state, extra = self.embed(weights, state, x)
            embeddings.append(check_embeddings(made, ops.is_tensor(made), count))
            # Reading the number waits; JAX would otherwise compute the next micro-batch at the same time.
            added_loss += float(extra) * count / all_rows
        whole = ops.concatenate(embeddings)
        if parts.order is not None:
            whole = ops.take(whole, parts.order.astype("int32"), axis=0)
        if slices:
            whole = self.processes.gather(whole, slices)
            added_loss = float(self.processes.add(one * added_loss))
            seed_engine(loss_seed)  # what the loss draws is the same in all processes
        state, loss, logs, (*total, gradient) = self.differentiate_loss(weights, before, whole, targets, scale)
        value = float(loss) + added_loss
        if not math.isfinite(value):
            return value, total
        if slices:
            gradient = gradient[slices[self.processes.rank]]
            total = [one * float(self.processes.is_first) for one in total]  # the same in all processes
        if parts.order is not None:
            gradient = ops.take(gradient, np.argsort(parts.order).astype("int32"), axis=0)
        after, start = random_state(one), 0
        for x, count, generators in zip(inputs, rows, states, strict=True):
            set_random_state(generators, one)
            share = scale * (count / all_rows)
            total, state = self.accumulate(weights, state, x, gradient[start : start + count], share, total)
            start += count
        set_random_state(after, one)
        if slices:
            total = [self.processes.add(one) for one in total]
            state = [new if new is old else self.mean(new) for new, old in zip(state, before, strict=True)]
        self.keep(state, before, logs)
        return value, total

    def mean(self, state: Any) -> Any:
        """The mean of a statistic over the processes; what is not a float is that of this process."""
        is_float = "float" in keras.backend.standardize_dtype(state.dtype)
        return self.processes.add(state) / self.processes.count if is_float else state

    def keep(self, state: Tensors, before: Tensors, logs: dict[str, Any]) -> None:
        """Take over the state after a batch, and its logs."""
        for variable, old, new in zip(self.variables()[1], before, state, strict=True):
            if new is not old:
                variable.assign(new)
        for name, log in logs.items():
            self.training_model.log_metrics[name].update_state(log)

    def update(self, gradients: Tensors) -> None:
        """Apply the gradients with the optimizer."""
        optimizer, weights = self.training_model.optimizer, self.training_model.trainable_variables
        if keras.backend.backend() != "jax":
            with without_graph():
                optimizer.apply(gradients, weights)
            return
        # JAX cannot assign a variable under a condition, as the loss-scaling optimizer does.
        slots = optimizer.variables
        new = self.apply([slot.value for slot in slots], gradients, [weight.value for weight in weights])
        for variable, value in zip([*weights, *slots], [*new[0], *new[1]], strict=True):
            variable.assign(value)

    def variables(self) -> tuple[Tensors, Tensors]:
        """The trained variables, and the state, of the model and of the loss."""
        return self.training_model.trainable_variables, self.training_model.non_trainable_variables

    def embed_part(self, weights: Tensors, state: Tensors, x: Any) -> tuple[Any, Tensors, Any]:
        """The embeddings of a micro-batch, the state after it, and the losses that its layers add."""
        call = self.training_model.stateless_call
        made, state, losses = call(weights, state, self.devices.cut(x), training=True, return_losses=True)
        found = keras.tree.map_structure(ops.stop_gradient, (made, state, total_loss(losses)))
        return self.devices.copy(found)

    def loss_and_gradients(
        self, weights: Tensors, state: Tensors, embeddings: Any, targets: Sequence[Any], scale: Any
    ) -> tuple[Tensors, Any, dict[str, Any], Tensors]:
        """For all embeddings: the state after it, the loss, its logs, and its gradients by weights and embeddings."""

        def scaled_loss(inputs: Tensors) -> Any:
            trained, kept = self.variables()
            mapping = zip([*trained, *kept], [*inputs[:-1], *state], strict=True)
            with keras.StatelessScope(mapping) as scope:
                loss = self.training_model.batch_loss(targets, self.devices.share(inputs[-1]))
            new = [scope.get_current_value(variable) for variable in kept]
            return loss * scale, (new, loss, self.training_model.current_logs())

        (state, loss, logs), gradients = aux_and_gradients(scaled_loss, [*weights, embeddings])
        return self.devices.copy((state, loss, logs, gradients))

    def batch_loss_and_gradients(
        self, weights: Tensors, state: Tensors, x: Any, targets: Sequence[Any], scale: Any
    ) -> tuple[Tensors, Any, dict[str, Any], Tensors]:
        """For a batch: the state after it, the loss with those of layers, its logs, and its gradients by weights."""

        def scaled_loss(inputs: Tensors) -> Any:
            call = self.training_model.stateless_call
            made, new, losses = call(inputs, state, self.devices.cut(x), training=True, return_losses=True)
            trained, kept = self.variables()
            with keras.StatelessScope(zip([*trained, *kept], [*inputs, *new], strict=True)) as scope:
                loss = self.training_model.batch_loss(targets, made) + total_loss(losses)
            after = [scope.get_current_value(variable) for variable in kept]
            return loss * scale, (after, loss, self.training_model.current_logs())

        (state, loss, logs), gradients = aux_and_gradients(scaled_loss, weights)
        return self.devices.copy((state, loss, logs, gradients))

    def accumulate_gradients(
        self, weights: Tensors, state: Tensors, x: Any, gradient: Any, share: Any, total: Tensors
    ) -> tuple[Tensors, Tensors]:
        """For a micro-batch: its gradients by the weights added to ``total``, and the state after it."""

        def product(inputs: Tensors) -> Any:
            call = self.training_model.stateless_call
            made, new, losses = call(inputs, state, self.devices.cut(x), training=True, return_losses=True)
            by_embeddings = ops.sum(ops.cast(made, "float32") * ops.cast(gradient, "float32"))
            return by_embeddings + share * total_loss(losses), new

        state, gradients = aux_and_gradients(product, weights)
        added = [old + new for old, new in zip(total, gradients, strict=True)]
        return self.devices.copy((added, state))


def total_loss(losses: Sequence[Any]) -> Any:
    """The sum of the losses that layers add."""
    return sum((ops.cast(ops.sum(loss), "float32") for loss in losses), start=ops.zeros((), "float32"))


# What keras.ops does not have.


def compiled(function: Callable[..., Any], with_xla: bool) -> Callable[..., Any]:
    """``function`` compiled as Keras' own step would be on this engine."""
    engine = keras.backend.backend()
    if engine == "jax" and with_xla:
        import jax

        return jax.jit(function)
    if engine == "tensorflow":
        import tensorflow

        return tensorflow.function(function, jit_compile=with_xla, reduce_retracing=True, autograph=False)
    return function


def without_graph() -> Any:
    """A context in which PyTorch, as the engine, records no graph."""
    if keras.backend.backend() != "torch":
        return contextlib.nullcontext()
    import torch

    return torch.no_grad()


def random_state(on_device: Any) -> list[Any]:
    """The states of random generators outside of layers: those of PyTorch as the engine, for a tensor's device."""
    if keras.backend.backend() != "torch":
        return []
    import torch

    kind = on_device.device.type
    return [torch.get_rng_state(), *([] if kind == "cpu" else [torch.get_device_module(kind).get_rng_state()])]


def set_random_state(state: list[Any], on_device: Any) -> None:
    """Set the states that :func:`random_state` returned."""
    if state:
        import torch

        torch.set_rng_state(state[0])
    if len(state) > 1:
        torch.get_device_module(on_device.device.type).set_rng_state(state[1])


def seed_variables(variables: Iterable[Any], seed: int) -> None:
    """Seed the generators among some variables, each differently."""
    for position, variable in enumerate(variables):
        if variable.path.endswith("seed_generator_state"):
            variable.assign(np.array([seed % 2**32, position], dtype="uint32"))


def seed_torch(seed: int, device_type: str) -> None:
    """With PyTorch as the engine, seed the host and one device, which is faster than to seed all devices."""
    if keras.backend.backend() != "torch":
        return
    import torch

    torch.default_generator.manual_seed(seed)
    if device_type != "cpu":
        torch.get_device_module(device_type).manual_seed(seed)


def seed_engine(seed: int) -> None:
    """Seed the engine. Keras' ``set_random_seed`` would import TensorFlow if that is installed.

    With JAX, all random numbers are from the layers' own generators.
    """
    if keras.backend.backend() == "tensorflow":
        keras.utils.set_random_seed(seed)
    elif keras.backend.backend() == "torch":
        import torch

        torch.manual_seed(seed)
