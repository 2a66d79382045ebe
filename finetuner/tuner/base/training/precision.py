"""Precision of the model's computations: names, and the loss scale that float16 needs."""

from dataclasses import dataclass
from typing import Any

from .... import checks

__all__ = ["PRECISIONS", "LossScale", "check_precision"]

PRECISIONS = ("fp32", "bf16", "fp16", "auto")


def check_precision(precision: str) -> str:
    """Return ``precision`` if it is a known name, else raise ``ValueError``."""
    return checks.one_of("precision", precision, PRECISIONS)


@dataclass
class LossScale:
    """The factor of the loss in float16, whose gradients would otherwise vanish.

    A step whose gradient is not finite is left out, and the scale is halved. After ``interval`` steps in a row the
    scale is doubled.

    Attributes:
        value: The scale.
        interval: The number of steps between two doublings.
        good_steps: The number of steps since the scale has changed.

    Example:
        >>> scale = LossScale(value=1024.0, interval=2)
        >>> [scale.update(finite) or scale.value for finite in (True, True, False)]
        [1024.0, 2048.0, 1024.0]
    """

    value: float = 2.0**15
    interval: int = 2000
    good_steps: int = 0

    def update(self, finite: bool) -> None:
        """Adapt the scale to a step.

        Raises:
            ValueError: If the gradient is still not finite at the smallest scale, so the scale is not the cause.
        """
        if not finite:
            if self.value <= 2.0**-14:
                raise ValueError("the gradient must be finite, and is not, whatever the loss scale of float16 is")
            self.value, self.good_steps = self.value / 2, 0
            return
        self.good_steps += 1
        if self.good_steps == self.interval:
            self.value, self.good_steps = self.value * 2, 0

    def state_dict(self) -> dict[str, Any]:
        """The state, as JSON can hold it."""
        return {"value": self.value, "good_steps": self.good_steps}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Set the state that :meth:`state_dict` returned."""
        self.value, self.good_steps = float(state["value"]), int(state["good_steps"])
