"""Gradient caching for PyTorch; see :mod:`finetuner.tuner.base.training.micro_batches`."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import nn

from ..base.training.micro_batches import MicroBatch, Parts

__all__ = ["embed_twice", "mutable_buffers"]


def embed_twice(
    forward: Callable[[MicroBatch, bool], torch.Tensor],
    parts: Parts,
    update: bool,
    model: nn.Module,
    device: torch.device,
) -> tuple[torch.Tensor, Callable[[torch.Tensor | None], None]]:
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
    whole = torch.cat(embeddings)
    order = None if parts.order is None else torch.from_numpy(parts.order).to(whole.device)

    def backward(gradient: torch.Tensor | None) -> None:
        if gradient is None:  # the loss does not depend on the embeddings
            return
        after = random_state(device)
        gradient = gradient.to(whole.dtype)
        if order is not None:
            gradient = torch.empty_like(gradient).index_copy_(0, order, gradient)
        gradients = torch.split(gradient, [part.rows for part in parts.micro_batches])
        for part, state, share in zip(parts.micro_batches, states, gradients, strict=True):
            set_random_state(state, device)
            output = forward(part, update and part is parts.micro_batches[-1])
            if output.requires_grad:  # not if all weights are frozen in this epoch
                torch.autograd.backward(output, share)
        set_random_state(after, device)

    return whole if order is None else whole[order], backward


def mutable_buffers(model: nn.Module, running: bool = False) -> list[torch.Tensor]:
    """What a forward pass in training mode changes, such as the statistics of batch norm.

    Args:
        model: The model.
        running: Whether to return the statistics of norms only, which are known to change.
    """
    if not running:
        return list(model.buffers())
    norms = (layer for layer in model.modules() if isinstance(layer, nn.modules.batchnorm._NormBase))
    return [buffer for layer in norms for buffer in layer.buffers(recurse=False)]


@torch.no_grad()
def restore_buffers(model: nn.Module, values: Sequence[torch.Tensor]) -> None:
    """Set the :func:`mutable_buffers` of a model."""
    for buffer, value in zip(mutable_buffers(model), values, strict=True):
        buffer.copy_(value)


def random_state(device: torch.device) -> list[Any]:
    """The states of the random generators that a model on ``device`` uses: the host's and the device's."""
    if device.type == "cpu":
        return [torch.get_rng_state()]
    module = torch.get_device_module(device)
    return [torch.get_rng_state(), module.get_rng_state() if device.type == "mps" else module.get_rng_state(device)]


def set_random_state(state: list[Any], device: torch.device) -> None:
    """Set the states that :func:`random_state` returned."""
    torch.set_rng_state(state[0])
    if device.type != "cpu":
        module = torch.get_device_module(device)
        module.set_rng_state(state[1]) if device.type == "mps" else module.set_rng_state(state[1], device)
