"""Gradient caching for PaddlePaddle; see :mod:`finetuner.tuner.base.training.micro_batches`."""

from collections.abc import Callable, Sequence
from typing import Any

import paddle
from paddle import nn

from ..base.training.micro_batches import MicroBatch

__all__ = ["embed_micro_batches"]

# Layers with running statistics among their parameters, where other layers have buffers. Other parameters without a
# gradient are not copied, since a frozen model may be large.
STATEFUL_LAYERS = (nn.BatchNorm, nn.BatchNorm1D, nn.BatchNorm2D, nn.BatchNorm3D, nn.SyncBatchNorm, nn.SpectralNorm)


def embed_micro_batches(
    forward: Callable[[MicroBatch], paddle.Tensor], micro_batches: Sequence[MicroBatch], model: nn.Layer, device: str
) -> tuple[paddle.Tensor, Callable[[], None]]:
    """Embed all micro-batches without a graph.

    Both passes begin with the same buffers and draw the same random numbers, so the second computes what the first did.
    The buffers of the second pass are kept.

    Returns:
        The embeddings, and a function that propagates their gradient to the weights, by a second pass.
    """
    before = [value.detach().clone() for value in mutable_buffers(model)]
    states, embeddings = [], []
    for micro_batch in micro_batches:
        states.append(random_state(device))
        # Not under no_grad, where a model may compute differently: with a faster kernel, or another compiled graph.
        # A copy, since a compiled model may write its next output to the same memory.
        embeddings.append(forward(micro_batch).detach().clone())
    restore_buffers(model, before)
    whole = paddle.concat(embeddings)
    whole.stop_gradient = False

    def backward_micro_batches() -> None:
        if whole.grad is None:  # the loss does not depend on the embeddings
            return
        after = random_state(device)
        gradients = paddle.split(whole.grad, [micro_batch.rows for micro_batch in micro_batches])
        for micro_batch, state, gradient in zip(micro_batches, states, gradients, strict=True):
            set_random_state(state, device)
            forward(micro_batch).backward(gradient)
        set_random_state(after, device)

    return whole, backward_micro_batches


def mutable_buffers(model: nn.Layer) -> list[paddle.Tensor]:
    """What a forward pass in training mode changes, such as the statistics of batch norm."""
    layers = [layer for layer in model.sublayers(include_self=True) if isinstance(layer, STATEFUL_LAYERS)]
    own = [p for layer in layers for p in layer.parameters(include_sublayers=False) if p.stop_gradient]
    return [*model.buffers(), *own]


@paddle.no_grad()
def restore_buffers(model: nn.Layer, values: Sequence[paddle.Tensor]) -> None:
    """Set the :func:`mutable_buffers` of a model."""
    for buffer, value in zip(mutable_buffers(model), values, strict=True):
        buffer.set_value(value)


def random_state(device: str) -> list[Any]:
    """The states of the random generators that a model on ``device`` uses: the host's and the device's."""
    return [paddle.get_rng_state(name) for name in dict.fromkeys(("cpu", device))]


def set_random_state(state: list[Any], device: str) -> None:
    """Set the states that :func:`random_state` returned."""
    for value, name in zip(state, dict.fromkeys(("cpu", device)), strict=True):
        paddle.set_rng_state(value, name)
