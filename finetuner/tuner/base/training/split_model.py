"""A model in two parts: layers at its input that are never trained, and the rest."""

from collections.abc import Sequence
from typing import Any, NamedTuple

__all__ = ["SplitModel", "is_random_layer", "leading", "no_prefix", "not_separable"]


class SplitModel(NamedTuple):
    """A model in two parts, which share its layers."""

    prefix: Any  # the part that is never trained, for Framework.run_prefix
    rest: Any  # the part from the outputs of the prefix to embeddings
    layers: tuple[str, ...]  # the names of the layers of the prefix
    states: str | None = None  # the argument of `rest` for the outputs, beside a mask; None if they are its only input


def leading(layers: Sequence[tuple[str, str | None]]) -> int:
    """The number of layers at the input that can be in a prefix.

    Args:
        layers: The name of each layer, and why it cannot be in a prefix; None if it can.

    Raises:
        ValueError: If the first layer cannot. The message says why.
    """
    count = next((number for number, (_, reason) in enumerate(layers) if reason), len(layers))
    if not count:
        raise no_prefix(f"{layers[0][0]} {layers[0][1]}" if layers else "the model has no layers")
    return count


def no_prefix(reason: str) -> ValueError:
    """The error for a model whose first layer cannot be computed once."""
    return ValueError(
        f"cache_frozen must be used with layers at the input that are frozen for the whole training, and {reason}"
    )


def not_separable(kinds: str, model: Any) -> ValueError:
    """The error for a model whose first layers cannot be run by themselves."""
    return ValueError(
        f"cache_frozen must be used with {kinds}, whose first layers can be run by themselves, got "
        f"{type(model).__name__}"
    )


def is_random_layer(layer: Any) -> bool:
    """Whether the class of a layer is known to draw random numbers in training, with a rate above 0.

    These are dropout, stochastic depth and noise, of the framework or of other libraries.
    """
    kinds = ("dropout", "droppath", "stochasticdepth", "rrelu", "fractionalmaxpool", "noise", "random")
    if not any(kind in cls.__name__.lower() for cls in type(layer).__mro__ for kind in kinds):
        return False
    rates = [getattr(layer, name, None) for name in ("p", "rate", "drop_prob", "stddev")]
    known = [rate for rate in rates if isinstance(rate, int | float)]
    return not known or any(known)
