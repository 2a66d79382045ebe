"""Learning rate schedules: plain functions from a step to a factor, so all engines follow them to the bit."""

import inspect
import math
from collections.abc import Callable, Mapping
from typing import Any

from .... import checks

__all__ = ["SCHEDULES", "Schedule"]


def constant(progress: float) -> float:
    """1 after the warm-up."""
    return 1.0


def linear(progress: float) -> float:
    """From 1 to 0 in a straight line."""
    return 1.0 - progress


def cosine(progress: float) -> float:
    """From 1 to 0 along half a cosine."""
    return 0.5 * (1.0 + math.cos(math.pi * progress))


def cosine_with_restarts(progress: float, cycles: int = 2) -> float:
    """``cycles`` times from 1 to 0 along half a cosine."""
    cycles = checks.integer("cycles", cycles, 1)
    return cosine(cycles * progress % 1.0) if progress < 1 else 0.0


def polynomial(progress: float, power: float = 2.0) -> float:
    """From 1 to 0 as a power of what is left."""
    return float((1.0 - progress) ** checks.above("power", power, 0))


def warmup_stable_decay(progress: float, decay: float = 0.2) -> float:
    """1 until the last ``decay`` of the training, then to 0 in a straight line."""
    if not 0 < checks.number("decay", decay) <= 1:
        raise ValueError(f"decay must be a share of the training, above 0 and at most 1, got {decay}")
    return min(1.0, (1.0 - progress) / decay)


SCHEDULES: dict[str, Callable[..., float]] = {
    function.__name__: function
    for function in (constant, linear, cosine, cosine_with_restarts, polynomial, warmup_stable_decay)
}


class Schedule:
    r"""The factor of the learning rate at each step.

    .. math:: f(s) = \frac{s + 1}{w + 1} \text{ for } s < w, \qquad
        f(s) = g\left(\frac{s - w}{n - w}\right) \text{ for } s \ge w

    s is the step from 0, n the number of steps of the training, w the number of warm-up steps, and g a function from 1
    to 0: ``"constant"`` (always 1), ``"linear"``, ``"cosine"``, ``"cosine_with_restarts"`` (option ``cycles``),
    ``"polynomial"`` (option ``power``) or ``"warmup_stable_decay"`` (option ``decay``, the share of the training in
    which the rate decreases). Steps after the last one have the factor of the last one.

    Args:
        name: The name of g, or a function from a step to a factor, which is used as it is.
        steps: n, at least 1.
        warmup: The number of warm-up steps, or as a float below 1 their share of all steps.
        options: Arguments of g.

    Raises:
        ValueError: For an unknown name, or a warm-up that is not shorter than the training.
        TypeError: For an unknown option.

    Example:
        >>> schedule = Schedule("linear", steps=8, warmup=3)
        >>> [round(schedule(step), 2) for step in range(8)]
        [0.25, 0.5, 0.75, 1.0, 0.8, 0.6, 0.4, 0.2]
    """

    def __init__(
        self,
        name: str | Callable[[int], float] = "constant",
        steps: int = 1,
        warmup: float = 0,
        options: Mapping[str, Any] | None = None,
    ):
        self.name, self.options = name, dict(options or {})
        self.steps = checks.integer("steps", steps, 1)
        self.warmup = warmup_steps(warmup, self.steps)
        check_schedule(name, self.options)
        if callable(name) and self.warmup:
            raise ValueError("warmup must be 0 with a schedule of your own, which has its own warm-up")

    def __call__(self, step: int) -> float:
        """The factor at ``step``, from 0."""
        step = min(step, self.steps - 1)
        if callable(self.name):
            return float(self.name(step))
        if step < self.warmup:
            return (step + 1) / (self.warmup + 1)
        return SCHEDULES[self.name]((step - self.warmup) / (self.steps - self.warmup), **self.options)


def check_schedule(name: Any, options: Mapping[str, Any]) -> None:
    """Raise an error unless ``name`` is a known schedule with these ``options``, or a function without options."""
    if callable(name):
        if options:
            raise ValueError(f"schedule_options must be used with a schedule by name, got {dict(options)}")
        return
    if not isinstance(name, str):
        raise TypeError(f"schedule must be a name or a function of the step, got {type(name).__name__}")
    checks.one_of("schedule", name, tuple(SCHEDULES))
    known = list(inspect.signature(SCHEDULES[name]).parameters)[1:]
    for option in options:
        if option not in known:
            raise TypeError(f"the schedule {name!r} has no option {option!r}; {checks.closest_match(option, known)}")
    SCHEDULES[name](0.5, **options)  # checks the values


def check_warmup(warmup: float) -> None:
    """Raise an error unless ``warmup`` is a number of steps, or a float below 1."""
    if checks.at_least("warmup", warmup, 0) >= 1 and not float(warmup).is_integer():
        raise ValueError(f"warmup must be a whole number of steps, or a share below 1 of all steps, got {warmup}")


def warmup_steps(warmup: float, steps: int) -> int:
    """The number of warm-up steps in a training of ``steps`` steps.

    Raises:
        ValueError: If the warm-up is not shorter than the training.
    """
    check_warmup(warmup)
    count = round(warmup * steps) if 0 < warmup < 1 else int(warmup)
    if warmup > 0 and count >= steps:
        raise ValueError(f"warmup must be shorter than the training of {steps} steps, got {warmup} steps")
    return count
