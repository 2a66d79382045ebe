"""When something happens during a training: every few steps, or every few epochs."""

import re
from dataclasses import dataclass
from typing import Any

from .... import checks

__all__ = ["Every"]


@dataclass(frozen=True)
class Every:
    """A trigger: every ``steps`` steps, or at the end of every ``epochs`` epochs.

    Wherever a trigger is expected, a whole number stands for steps, and a text such as ``"500 steps"`` or ``"1 epoch"``
    for the trigger that it names.

    Args:
        steps: The number of steps, at least 1.
        epochs: The number of epochs, at least 1.

    Raises:
        ValueError: Unless exactly one of the two is given.

    Example:
        >>> Every(steps=500), Every.of("2 epochs"), Every.of(100)
        (Every(steps=500), Every(epochs=2), Every(steps=100))
        >>> Every(steps=500).fires(step=1000, epoch=3, epoch_ended=False)
        True
    """

    steps: int | None = None
    epochs: int | None = None

    def __post_init__(self) -> None:
        if (self.steps is None) == (self.epochs is None):
            raise ValueError(f"Every must be given steps or epochs, got steps={self.steps} and epochs={self.epochs}")
        checks.integer("steps" if self.epochs is None else "epochs", self.steps or self.epochs or 0, 1)

    def __repr__(self) -> str:
        return f"Every(steps={self.steps})" if self.epochs is None else f"Every(epochs={self.epochs})"

    def __str__(self) -> str:
        return f"{self.steps} steps" if self.epochs is None else f"{self.epochs} epochs"

    @classmethod
    def of(cls, given: Any, name: str = "every") -> "Every":
        """The trigger that ``given`` stands for: an :class:`Every`, a number of steps, or a text.

        Raises:
            ValueError: If it is none of these. ``name`` is what the message calls it.
        """
        if isinstance(given, cls):
            return given
        if isinstance(given, str):
            match = re.fullmatch(r"(\d+)(?: *(steps?|epochs?))?", given.strip())
            if not match:
                raise ValueError(f"{name} must be like '500 steps' or '1 epoch', got {given!r}")
            count, unit = int(match[1]), match[2] or "steps"
            checks.integer(name, count, 1)
            return cls(epochs=count) if unit.startswith("epoch") else cls(steps=count)
        return cls(steps=checks.integer(name, given, 1))

    def fires(self, step: int, epoch: int, epoch_ended: bool) -> bool:
        """Whether it fires after ``step`` steps, in or at the end of epoch ``epoch``, both counted from 1."""
        if self.steps is not None:
            return step > 0 and step % self.steps == 0
        return epoch_ended and self.epochs is not None and epoch % self.epochs == 0
