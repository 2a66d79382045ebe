"""Validation: the loss and the metrics of held-out data after each epoch."""

from collections.abc import Iterable

import numpy as np

from ..data.datasets import Dataset
from .loss_setup import LossSetup

__all__ = ["Validation"]


class Validation:
    """Validation loss and metrics of held-out data, from one pass of the model over it.

    The loss is the mean over batches that are drawn once, so epochs can be compared. There is no validation loss if the
    loss cannot use the data, such as ArcFace on unseen classes. The dataset provides the metrics, see
    :meth:`~finetuner.tuner.base.data.datasets.Dataset.evaluator`.

    Args:
        tuner: The tuner.
        dataset: The held-out data.
        batch_size: The maximal number of items in a batch of the validation loss.
        metrics: Names of retrieval metrics.

    Raises:
        ValueError: If no items of the data belong together, or retrieval metrics do not apply to it.
    """

    def __init__(self, tuner: LossSetup, dataset: Dataset, batch_size: int, metrics: Iterable[str] | None):
        self.tuner, self.dataset = tuner, dataset
        self.evaluator = dataset.evaluator(metrics)
        self.plan: list[np.ndarray] = []
        if tuner.target_type in dataset.target_types:
            try:
                self.plan = dataset.validation_batches(tuner.target_type, batch_size, tuner.num_classes)
            except ValueError as error:
                raise ValueError(f"eval_data: {error}") from None

    @property
    def metrics(self) -> tuple[str, ...]:
        """The names of the metrics."""
        return () if self.evaluator is None else self.evaluator.names

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the numbers that a call returns."""
        return ("val_loss", *self.metrics) if self.plan else self.metrics

    def __call__(self) -> dict[str, float]:
        """``val_loss`` and the metrics of the current model."""
        dataset, tuner = self.dataset, self.tuner
        rows = dataset.evaluation_rows
        seed = (tuner.seed,) if dataset.views > 1 else None  # views are made by augmentation
        embeddings = tuner.embed_rows(dataset, rows, seed=seed)
        numbers: dict[str, float] = {}
        if self.plan:
            losses = [
                tuner.evaluate_loss(embeddings[batch], dataset.targets(rows[batch], tuner.target_type))
                for batch in self.plan
            ]
            numbers["val_loss"] = float(np.mean(losses))
        return numbers if self.evaluator is None else numbers | self.evaluator(embeddings, tuner.distance)
