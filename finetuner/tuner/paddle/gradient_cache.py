"""Gradient caching for PaddlePaddle; see :mod:`finetuner.tuner.base.training.micro_batches`."""

from collections.abc import Callable, Sequence
from typing import Any

import paddle
from paddle import nn

from ..base.training.micro_batches import MicroBatch, Parts

__all__ = ["STATEFUL_LAYERS", "embed_twice", "mutable_buffers"]

# Layers with running statistics among their parameters, where other layers have buffers. Other parameters without a
# gradient are not copied, since a frozen model may be large.
STATEFUL_LAYERS = (nn.BatchNorm, nn.BatchNorm1D, nn.BatchNorm2D, nn.BatchNorm3D, nn.SyncBatchNorm, nn.SpectralNorm)


def embed_twice(
    forward: Callable[[MicroBatch, bool], paddle.Tensor], parts: Parts, update: bool, model: nn.Layer, device: str
) -> tuple[paddle.Tensor, Callable[[paddle.Tensor | None], None]]:
    """Embed all micro-batches without a graph.

    Both passes begin with the same buffers and draw the same random numbers, so the second computes what the first did.
    The buffers of the second pass are kept. If an update follows, several processes exchange gradients with the last
    micro-batch of the second pass.

    Returns:
        The embeddings, and a function that propagates their gradient to the weights, by a second pass.
    """
    before = [value.detach().clone() for value in mutable_buffers(model)]
    states, embeddings = [], []
    for part in parts.micro_batches:
        states.append(random_state(device))
        # Not under no_grad, where a model may compute differently: with a faster kernel, or another compiled graph.
        # A copy, since a compiled model may write its next output to the same memory.
        embeddings.append(forward(part, False).detach().clone())
    restore_buffers(model, before)
    whole = paddle.concat(embeddings)
    order = None if parts.order is None else paddle.to_tensor(parts.order, place=whole.place)

    def backward(gradient: paddle.Tensor | None) -> None:
        if gradient is None:  # the loss does not depend on the embeddings
            return
        after = random_state(device)
        gradient = gradient.astype(whole.dtype)
        if order is not None:
            gradient = paddle.scatter(paddle.zeros_like(gradient), order, gradient)
        gradients = paddle.split(gradient, [part.rows for part in parts.micro_batches])
        for part, state, share in zip(parts.micro_batches, states, gradients, strict=True):
            set_random_state(state, device)
            forward(part, update and part is parts.micro_batches[-1]).backward(share)
        set_random_state(after, device)

    return whole if order is None else whole.index_select(order), backward


def mutable_buffers(model: nn.Layer, running: bool = False) -> list[paddle.Tensor]:
    """What a forward pass in training mode changes, such as the statistics of batch norm.

    Args:
        model: The model.
        running: Whether to return the statistics of norms only, which are known to change.
    """
    norms = [layer for layer in model.sublayers(include_self=True) if isinstance(layer, STATEFUL_LAYERS)]
    own = [p for layer in norms for p in layer.parameters(include_sublayers=False) if p.stop_gradient]
    return own if running else [*model.buffers(), *own]


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
