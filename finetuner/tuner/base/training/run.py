"""The result of a training."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .framework import Framework

__all__ = ["Run"]


@dataclass
class Run:
    """The result of a training.

    Attributes:
        model: The trained model itself, not a copy.
        history: One mapping per epoch: ``epoch``, ``loss``, ``seconds``, ``items_per_second``, and with evaluation data
            ``val_loss`` and the metrics. Epoch 0 is the model before training.
        metrics: ``{"before": {...}, "after": {...}}``; empty without evaluation data.
        config: The settings, as JSON can hold them.
        interrupted: Whether Ctrl-C ended the training.
        best_epoch: The epoch whose weights the model has, if that is not the last.
        tuner: The tuner.

    Example:
        >>> run = train_a_model(epochs=2)
        >>> [row["epoch"] for row in run.history]
        [1, 2]
        >>> sorted(path.name for path in run.save("run").iterdir())[:2]
        ['config.json', 'history.json']
    """

    model: Any
    history: list[dict[str, Any]]
    metrics: dict[str, dict[str, float]]
    config: dict[str, Any]
    interrupted: bool = False
    best_epoch: int | None = None
    tuner: Framework | None = field(default=None, repr=False)

    def save(self, path: str | Path) -> Path:
        """Write weights, history, metrics and configuration into the new folder ``path``.

        Raises:
            FileExistsError: If ``path`` exists and is not empty.
        """
        if self.tuner is None:
            raise ValueError("a run must know its tuner to be saved")
        return self.tuner.save(path)

    def plot(self, path: str | Path) -> Path:
        """Plot the history into the file ``path`` (``.png``, ``.svg``, ``.pdf``)."""
        from ....plotting import plot_history

        return plot_history(self.history, path)
