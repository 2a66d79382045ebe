"""Parameter groups: which weight has which learning rate, which one decays, and which one is frozen.

Weights are known by their names: ``encoder.layer.0.weight`` in PyTorch and Paddle, ``dense/kernel`` in Keras. A pattern
is a regular expression that is searched in the name.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from .... import checks

__all__ = ["Group", "Weight", "check_patterns", "frozen_weights", "parameter_groups"]


LOSS_WEIGHT = "loss.weight"  # a pattern may be for the weights of the loss, which exist later


class Weight(NamedTuple):
    """A weight of a model."""

    name: str
    axes: int  # the rank of the array


class Group(NamedTuple):
    """Weights that are trained alike."""

    names: tuple[str, ...]
    learning_rate: float
    weight_decay: float
    frozen_epochs: float = 0  # the number of epochs before they are trained


def parameter_groups(
    weights: Sequence[Weight],
    learning_rate: float | Mapping[str, float],
    weight_decay: float = 0.0,
    layer_decay: float | None = None,
    freeze: Mapping[str, float] | None = None,
) -> list[Group]:
    """Group weights by learning rate, weight decay and freezing, in the order of their first weights.

    Args:
        weights: The weights to train, from the input of the model to its output.
        learning_rate: For all weights; or for those whose name matches a pattern, where the first match counts.
        weight_decay: Of weights with at least two axes. Biases, norms and other vectors do not decay.
        layer_decay: Multiplies the learning rate once per layer from the output to the input; None for no decay.
        freeze: Patterns with the number of epochs in which the weights are frozen. Weights that are never trained are
            in no group.

    Raises:
        ValueError: If a pattern matches no weight, or a weight matches no pattern.

    Example:
        >>> weights = [Weight("body.weight", 2), Weight("body.bias", 1), Weight("head.weight", 2)]
        >>> for group in parameter_groups(weights, {"head": 1e-3, "": 1e-5}, weight_decay=0.01):
        ...     print(group.names, group.learning_rate, group.weight_decay)
        ('body.weight',) 1e-05 0.01
        ('body.bias',) 1e-05 0.0
        ('head.weight',) 0.001 0.01
    """
    names = [weight.name for weight in weights]
    if isinstance(learning_rate, Mapping):
        check_patterns("learning_rate", learning_rate, [*names, LOSS_WEIGHT])
        rates = [rate_by_pattern(name, learning_rate) for name in names]
    else:
        rates = [learning_rate] * len(names)
    if layer_decay is not None:
        depths = layer_depths(names)
        rates = [rate * layer_decay ** (max(depths) - depth) for rate, depth in zip(rates, depths, strict=True)]
    if freeze:
        check_patterns("freeze", freeze, names)
    members: dict[tuple[float, float, float], list[str]] = {}
    for weight, rate in zip(weights, rates, strict=True):
        frozen = max(
            (epochs for pattern, epochs in (freeze or {}).items() if re.search(pattern, weight.name)), default=0
        )
        if frozen < float("inf"):
            members.setdefault((rate, weight_decay if weight.axes > 1 else 0.0, frozen), []).append(weight.name)
    return [Group(tuple(group), *key) for key, group in members.items()]


def rate_by_pattern(name: str, rates: Mapping[str, float]) -> float:
    """The rate of the first pattern that matches a weight's name."""
    for pattern, rate in rates.items():
        if re.search(pattern, name):
            return rate
    raise ValueError(
        f"learning_rate must have a pattern for each weight, and none of {', '.join(map(repr, rates))} matches {name}; "
        "the pattern '' as the last one matches all others"
    )


def check_patterns(argument: str, patterns: Iterable[str], names: Sequence[str]) -> None:
    """Raise ``ValueError`` if a pattern is not a regular expression, or matches none of ``names``."""
    for pattern in patterns:
        try:
            expression = re.compile(pattern)
        except (re.error, TypeError) as error:
            raise ValueError(f"{argument} must have regular expressions, got {pattern!r}: {error}") from None
        if not any(map(expression.search, names)):
            raise ValueError(
                f"{argument} must have patterns that match a weight, got {pattern!r}; the weights are "
                f"{checks.preview(names)}"
            )


def frozen_weights(freeze: Mapping[str, float], names: Sequence[str], epoch: float) -> set[str]:
    """The names that are frozen in ``epoch``, from 1: a pattern maps to the number of epochs of its weights."""
    return {
        name for name in names for pattern, epochs in freeze.items() if epoch <= epochs and re.search(pattern, name)
    }


def layer_depths(names: Sequence[str]) -> list[int]:
    """The depth of the layer of each weight, 0 for the input.

    A transformer has numbered layers: ``encoder.layer.3.``. What comes before them has depth 0, and what comes after
    them is the last layer. In other models each layer has its own depth, in the order of the weights.
    """
    numbered = [re.match(r"(.*?)(?:^|[./])(\d+)(?=[./])", name) for name in names]
    counts: dict[str, set[int]] = {}
    for match in numbered:
        if match:
            counts.setdefault(match[1], set()).add(int(match[2]))
    stack = max(counts, key=lambda prefix: len(counts[prefix]), default=None)
    if stack is None or len(counts[stack]) < 2:
        layers: dict[str, int] = {}
        return [layers.setdefault(re.split(r"[./][^./]*$", name)[0], len(layers)) for name in names]
    order = {number: depth for depth, number in enumerate(sorted(counts[stack]), start=1)}
    depths, started = [], False
    for match in numbered:
        inside = match is not None and match[1] == stack
        started = started or inside
        depths.append(order[int(match[2])] if match and inside else (len(order) + 1) * started)
    return depths
