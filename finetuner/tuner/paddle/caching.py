"""Gradient caching, as in :mod:`finetuner.tuner.base.caching`, for PaddlePaddle."""

from collections.abc import Callable, Sequence
from typing import Any

import paddle
from paddle import nn

from ..base.caching import Part

__all__ = ["embed_in_parts"]

# Layers that keep running values among their parameters, where others have buffers; not all that is not trained is
# copied, since a frozen model may be large.
RUNNING = (nn.BatchNorm, nn.BatchNorm1D, nn.BatchNorm2D, nn.BatchNorm3D, nn.SyncBatchNorm, nn.SpectralNorm)


def embed_in_parts(
    forward: Callable[[Part], paddle.Tensor], parts: Sequence[Part], model: nn.Layer, device: str
) -> tuple[paddle.Tensor, Callable[[], None]]:
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
    whole = paddle.concat(embeddings)
    whole.stop_gradient = False

    def replay() -> None:
        if whole.grad is None:  # a loss that holds to no embedding
            return
        after = random_state(device)
        gradients = paddle.split(whole.grad, [part.rows for part in parts])
        for part, state, gradient in zip(parts, states, gradients, strict=True):
            set_random_state(state, device)
            forward(part).backward(gradient)
        set_random_state(after, device)

    return whole, replay


def running(model: nn.Layer) -> list[paddle.Tensor]:
    """What a model changes by itself when it is called in training, such as the statistics of batch norm."""
    kept = [layer for layer in model.sublayers(include_self=True) if isinstance(layer, RUNNING)]
    own = [one for layer in kept for one in layer.parameters(include_sublayers=False) if one.stop_gradient]
    return [*model.buffers(), *own]


@paddle.no_grad()
def put_back(model: nn.Layer, values: Sequence[paddle.Tensor]) -> None:
    """Give the :func:`running` values of a model these ``values``."""
    for one, value in zip(running(model), values, strict=True):
        one.set_value(value)


def random_state(device: str) -> list[Any]:
    """Where the generators stand that a model on ``device`` draws from: the host's, and its own."""
    return [paddle.get_rng_state(where) for where in dict.fromkeys(("cpu", device))]


def set_random_state(state: list[Any], device: str) -> None:
    """Have the generators go on from what :func:`random_state` gave."""
    for one, where in zip(state, dict.fromkeys(("cpu", device)), strict=True):
        paddle.set_rng_state(one, where)
