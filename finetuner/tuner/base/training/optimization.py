"""Optimization: schedule, parameter groups, clipping, accumulation, averaged weights. Numbers only, in plain Python."""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from .... import checks
from ..registry import describe
from .parameter_groups import Group, Weight, frozen_weights, parameter_groups, rate_by_pattern
from .precision import LossScale
from .schedules import Schedule, check_schedule, check_warmup

__all__ = ["Optimization", "default_decay", "with_option_rate"]


@dataclass
class Optimization:
    """How the weights are updated, the same for all frameworks.

    Args:
        learning_rate: Of all weights, or of those whose names match a pattern.
        schedule: A name of :data:`~.schedules.SCHEDULES`, a function from step to factor, or the framework's own
            scheduler of an optimizer instance.
        schedule_options: Arguments of a schedule given by name.
        warmup: The number of warm-up steps, or as a float below 1 their share of all steps.
        weight_decay: Decoupled, as in AdamW, of weights with at least two axes; None for the optimizer's own.
        layer_decay: The factor of the learning rate from one layer to the layer before it, at most 1.
        clip_norm: The largest norm of the gradient of all weights; None or infinity for no limit.
        freeze: Patterns of the weights that are not trained, or a mapping from patterns to the number of epochs.
        ema_decay: Of the exponential moving average of the weights, which evaluation and the trained model use.
        scale: The loss scale of float16.

    Raises:
        ValueError: For an unknown schedule, or a number out of its range.
    """

    learning_rate: float | Mapping[str, float] = 1e-3
    schedule: Any = "constant"
    schedule_options: Mapping[str, Any] | None = None
    warmup: float = 0
    weight_decay: float | None = None
    layer_decay: float | None = None
    clip_norm: float | None = None
    freeze: Iterable[str] | Mapping[str, float] | None = None
    ema_decay: float | None = None
    scale: LossScale | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        rates = self.learning_rate
        for rate in rates.values() if isinstance(rates, Mapping) else [rates]:
            checks.above("learning_rate", rate, 0)
        if isinstance(rates, Mapping):
            if not rates:
                raise ValueError("learning_rate must have at least one pattern, got an empty mapping")
            self.learning_rate = {pattern: float(rate) for pattern, rate in rates.items()}
        else:
            self.learning_rate = float(rates)
        if not self.has_native_schedule:
            check_schedule(self.schedule, self.schedule_options or {})
        check_warmup(self.warmup)
        if self.weight_decay is not None:
            self.weight_decay = float(checks.at_least("weight_decay", self.weight_decay, 0))
        for name, upper in (("layer_decay", 1), ("ema_decay", 1)):
            value = getattr(self, name)
            if value is not None and checks.above(name, value, 0) > upper:
                raise ValueError(f"{name} must be above 0 and at most 1, got {value}")
        if self.clip_norm == math.inf:
            self.clip_norm = None
        if self.clip_norm is not None:
            self.clip_norm = float(checks.above("clip_norm", self.clip_norm, 0))
        freeze = self.freeze or {}
        if isinstance(freeze, str):
            freeze = [freeze]
        if not isinstance(freeze, Mapping):
            freeze = dict.fromkeys(freeze, float("inf"))
        self.freeze = {
            pattern: checks.at_least("freeze", epochs, 1) if epochs != float("inf") else epochs
            for pattern, epochs in freeze.items()
        }

    @property
    def has_native_schedule(self) -> bool:
        """Whether the schedule is the framework's own scheduler, which has a method ``step``."""
        return not isinstance(self.schedule, str) and hasattr(self.schedule, "step")

    @property
    def sets_rates(self) -> bool:
        """Whether the learning rates are set at each step. Otherwise the optimizer's own are left as they are."""
        return not self.has_native_schedule and (self.schedule != "constant" or self.warmup > 0)

    def plan(self, steps: int) -> Callable[[int], float]:
        """The factor of the learning rates at each of ``steps`` steps."""
        if self.has_native_schedule:
            return lambda step: 1.0
        return Schedule(self.schedule, steps, self.warmup, self.schedule_options)

    def frozen(self, names: list[str], epoch: float) -> set[str]:
        """The names of the weights that are frozen in ``epoch``, from 1; for infinity, those that are never trained."""
        assert isinstance(self.freeze, Mapping)
        return frozen_weights(self.freeze, names, epoch)

    def groups(self, weights: Sequence[Weight], weight_decay: float) -> list[Group]:
        """The parameter groups of a model. ``weight_decay`` counts if none is set."""
        assert isinstance(self.freeze, Mapping)
        decay = weight_decay if self.weight_decay is None else self.weight_decay
        return parameter_groups(weights, self.learning_rate, decay, self.layer_decay, self.freeze)

    def loss_groups(self, weights: Sequence[Weight], weight_decay: float) -> list[Group]:
        """The parameter groups of a loss, whose weights are known to patterns as ``loss.weight``."""
        decay = weight_decay if self.weight_decay is None else self.weight_decay
        rates = self.learning_rate
        if isinstance(rates, Mapping):
            rates = {name: rate_by_pattern(f"loss.{name}", rates) for name, _ in weights}
        return parameter_groups(weights, rates, decay)

    def describe(self) -> dict[str, Any]:
        """The settings, as JSON can hold them."""
        freeze = self.freeze if isinstance(self.freeze, Mapping) else {}
        return {
            "learning_rate": describe(self.learning_rate),
            "schedule": describe(self.schedule),
            "schedule_options": describe(dict(self.schedule_options or {})),
            "warmup": self.warmup,
            "weight_decay": self.weight_decay,
            "layer_decay": self.layer_decay,
            "clip_norm": self.clip_norm,
            "freeze": {pattern: None if epochs == float("inf") else epochs for pattern, epochs in freeze.items()},
            "ema_decay": self.ema_decay,
        }


def default_decay(name: str, options: Mapping[str, Any], optimization: Optimization) -> float:
    """The weight decay of an optimizer if none is set: 0.01 for AdamW, and none for others.

    Raises:
        ValueError: If a weight decay is given twice.
    """
    if "weight_decay" in options:
        if optimization.weight_decay is not None:
            raise ValueError(
                "weight_decay must be given once, got it as an argument, which leaves out biases and norms, and in "
                "optimizer_options, which does not"
            )
        return 0.0
    return 0.01 if name == "AdamW" else 0.0


def with_option_rate(groups: list[Group], rate: Any) -> list[Group]:
    """The groups with the learning rate of ``optimizer_options``; unchanged if that is None.

    Raises:
        ValueError: If the groups have different rates.
    """
    if rate is None:
        return groups
    rate = checks.above("learning_rate", rate.item() if hasattr(rate, "item") else rate, 0)
    if len({group.learning_rate for group in groups}) > 1:
        raise ValueError("learning_rate must be given once, got patterns or layer_decay, and optimizer_options")
    return [group._replace(learning_rate=float(rate)) for group in groups]
