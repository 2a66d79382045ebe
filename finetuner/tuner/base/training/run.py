"""The result of a training."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from .encoder import Encoder

__all__ = ["Run"]


class Trainer(Protocol):
    """What a run uses of its tuner."""

    encoder: Encoder

    def save(self, path: str | Path) -> Path:
        """Save the run."""

    def blend(self, share: float) -> None:
        """Move the model towards what it was before the training."""


@dataclass
class Run:
    """The result of a training.

    Attributes:
        model: The trained model itself, not a copy.
        history: One mapping per epoch or evaluation: ``epoch``, ``step``, ``loss``, ``seconds``, ``items_per_second``,
            and with evaluation data ``val_loss`` and the metrics. Epoch 0 is the model before training.
        metrics: ``{"before": {...}, "after": {...}}``; empty without evaluation data.
        config: The settings, as JSON can hold them.
        interrupted: Whether Ctrl-C, SIGTERM or SIGHUP ended the training.
        best_epoch: The epoch whose weights the model has, if that is not the last.
        log: One mapping per ``log_every`` steps: ``step``, ``epoch``, ``loss`` (mean since the last row),
            ``learning_rate``, ``gradient_norm`` (before clipping), ``items_per_second``, and ``memory`` (the peak in
            bytes) on an accelerator.
        signal: The number of the signal that ended the training; None if there was none.
        tuner: The tuner.

    Example:
        >>> run = train_a_model(epochs=2)
        >>> [row["epoch"] for row in run.history]
        [1, 2]
        >>> sorted(run.log[-1])
        ['epoch', 'gradient_norm', 'items_per_second', 'learning_rate', 'loss', 'step']
        >>> sorted(path.name for path in run.save("run").iterdir())[:2]
        ['config.json', 'history.json']
    """

    model: Any
    history: list[dict[str, Any]]
    metrics: dict[str, dict[str, float]]
    config: dict[str, Any]
    interrupted: bool = False
    best_epoch: int | None = None
    log: list[dict[str, Any]] = field(default_factory=list)
    signal: int | None = None
    tuner: Trainer | None = field(default=None, repr=False)

    @property
    def encoder(self) -> Encoder:
        """The trained model with all that it needs to embed items."""
        return self.trainer("used").encoder

    def save(self, path: str | Path) -> Path:
        """Write weights, history, metrics and configuration into the new folder ``path``.

        Raises:
            FileExistsError: If ``path`` exists and is not empty.
        """
        return self.trainer("saved").save(path)

    def export(self, path: str | Path, format: str | None = None, items: Any = None) -> float:
        """Write the trained model in the format of another tool, see :meth:`Encoder.export`.

        The model card of ``"sentence-transformers"`` has the settings and the metrics of the run.

        Returns:
            The largest difference between the embeddings of the export and those of the encoder.

        Raises:
            ValueError: If the model cannot be written in this format, or an embedding differs by more than 1e-4.
            FileExistsError: If there is something at ``path``.
            ImportError: If a library is missing.
        """
        encoder = self.trainer("exported").encoder
        encoder.record = {"config": self.config, "metrics": self.metrics}
        return encoder.export(path, format, items)

    def blend(self, share: float = 0.5) -> "Run":
        """Move the model towards what it was before the training, see :meth:`Encoder.blend`.

        Each call starts from the trained weights, so ``blend(1)`` gives them back.

        Args:
            share: From 0 (the model as it came) to 1 (the trained model).

        Returns:
            This run. Its metrics are those of before the blend.

        Raises:
            ValueError: If the share is out of its range.
        """
        self.trainer("blended").blend(share)
        return self

    def plot(self, path: str | Path) -> Path:
        """Plot the history into the file ``path`` (``.png``, ``.svg``, ``.pdf``)."""
        from ....plotting import plot_history

        return plot_history(self.history, path, log=self.log)

    def trainer(self, what: str) -> Trainer:
        """The tuner; raise ``ValueError`` without one."""
        if self.tuner is None:
            raise ValueError(f"a run must know its tuner to be {what}")
        return self.tuner
