"""Gradient caching, as in :mod:`finetuner.tuner.base.caching`, for PyTorch."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import nn

from ..base.caching import Part

__all__ = ["embed_in_parts"]


def embed_in_parts(
    forward: Callable[[Part], torch.Tensor], parts: Sequence[Part], model: nn.Module, device: torch.device
) -> tuple[torch.Tensor, Callable[[], None]]:
    """Embeddings of all ``parts``, without a graph, and what hands the gradient that they have by then on.

    Both passes begin with the same running values and take the same random numbers, so that the second makes what the
    first did. It is the second's running values that stay.
    """
    before = [value.detach().clone() for value in running(model)]
    states, embeddings = [], []
    for part in parts:
        states.append(random_state(device))
        # Not under no_grad, where a model may go another way: a faster kernel, another compiled graph.
        embeddings.append(forward(part).detach().clone())  # a compiled model may write the next one there
    put_back(model, before)
    whole = torch.cat(embeddings).requires_grad_()

    def replay() -> None:
        if whole.grad is None:  # a loss that holds to no embedding
            return
        after = random_state(device)
        gradients = whole.grad.split([part.rows for part in parts])
        for part, state, gradient in zip(parts, states, gradients, strict=True):
            set_random_state(state, device)
            forward(part).backward(gradient)
        set_random_state(after, device)

    return whole, replay


def running(model: nn.Module) -> list[torch.Tensor]:
    """What a model changes by itself when it is called in training, such as the statistics of batch norm."""
    return list(model.buffers())


@torch.no_grad()
def put_back(model: nn.Module, values: Sequence[torch.Tensor]) -> None:
    """Give the :func:`running` values of a model these ``values``."""
    for one, value in zip(running(model), values, strict=True):
        one.copy_(value)


def random_state(device: torch.device) -> list[Any]:
    """Where the generators stand that a model on ``device`` draws from: the host's, and its own."""
    if device.type == "cpu":
        return [torch.get_rng_state()]
    own = torch.get_device_module(device)
    return [torch.get_rng_state(), own.get_rng_state() if device.type == "mps" else own.get_rng_state(device)]


def set_random_state(state: list[Any], device: torch.device) -> None:
    """Have the generators go on from what :func:`random_state` gave."""
    torch.set_rng_state(state[0])
    if device.type != "cpu":
        own = torch.get_device_module(device)
        own.set_rng_state(state[1]) if device.type == "mps" else own.set_rng_state(state[1], device)
