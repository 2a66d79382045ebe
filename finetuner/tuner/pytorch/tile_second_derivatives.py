"""The gradients of reductions in tiles, as functions that can be differentiated, for PyTorch."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch

from ..base.losses.reductions import LogSumExp
from .comparison import Comparison
from .exclusions import TilePairs
from .ops import Tensor
from .tile_reductions import parameters_of

__all__ = ["second_derivative"]


def second_derivative(
    comparison: Any, reductions: tuple[Any, ...], upstream: tuple[Tensor, ...]
) -> tuple[Tensor | None, ...]:
    """The gradient of the reductions as a function that can be differentiated."""
    # Aliases of the inputs: limits are functions of the rows, and that path is not a part of this gradient.
    rows = aliases(comparison.operands[:2])
    parameters = aliases([parameter for one in reductions for parameter in parameters_of(one)])
    whole = comparison.whole(*rows)
    sides = [whole]
    if comparison.reverse is not None:
        sides.append(Comparison(whole.distances.T, whole.positive.T, whole.negative.T))
    left = iter(parameters)
    own = [with_parameter(one, next(left)) if parameters_of(one) else one for one in reductions]
    pairs = [one for one in own if isinstance(one, TilePairs)]
    found = [value for side in sides for value in side.reduce(*own[: len(own) - len(pairs)])]
    values = [value[0] if isinstance(value, tuple) else value for value in found]
    values += [whole.distances.gather(1, comparison.listed.columns) * comparison.listed.valid for _ in pairs]
    gradients = torch.autograd.grad(values, [*rows, *parameters], upstream, create_graph=True, allow_unused=True)
    if rows[0] is rows[1]:  # autograd gives the sum of both sides for each
        return None, None, gradients[0], None, *gradients[2:]
    return None, None, *gradients


def aliases(tensors: Sequence[Tensor]) -> list[Tensor]:
    """The same tensors by themselves: a gradient by an alias leaves out how its tensor was computed."""
    made = [x.view_as(x) for x in tensors]
    return made if len(made) != 2 or tensors[0] is not tensors[1] else [made[0], made[0]]


def with_parameter(reduction: Any, parameter: Tensor) -> Any:
    """A reduction with another tensor in place of its own."""
    return replace(reduction, **{"scale" if isinstance(reduction, LogSumExp) else "limits": parameter})
