"""Validation: the loss and the metrics of held-out data during a training."""

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from ....evaluation.retrieval import DEFAULT_METRICS, check_metrics
from ..data.conversion import as_dataset
from ..data.datasets import Dataset
from ..processes import ALONE, Processes
from .engine import Engine
from .loss_setup import LossSetup

__all__ = ["SearchValidation", "Validation", "Validations", "create_validation"]


class Validation:
    """Validation loss and metrics of held-out data, from one pass of the model over it.

    The loss is the mean over batches that are drawn once, so epochs can be compared. There is no validation loss if the
    loss cannot use the data, such as ArcFace on unseen classes. The dataset provides the metrics, see
    :meth:`~finetuner.tuner.base.data.datasets.Dataset.evaluator`.

    Args:
        setup: The loss, and the encoder that is trained.
        engine: Computes the loss.
        dataset: The held-out data.
        seed: Of the views of items.
        batch_size: The maximal number of items in a batch of the validation loss.
        metrics: Names of retrieval metrics.

    Raises:
        ValueError: If no items of the data belong together, or retrieval metrics do not apply to it.
    """

    def __init__(
        self,
        setup: LossSetup,
        engine: Engine,
        dataset: Dataset,
        seed: int,
        batch_size: int,
        metrics: Iterable[str] | None,
    ):
        self.setup, self.engine, self.dataset, self.seed = setup, engine, dataset, seed
        self.evaluator = dataset.evaluator(metrics)
        self.plan: list[np.ndarray] = []
        if setup.target_type in dataset.target_types:
            try:
                self.plan = dataset.validation_batches(setup.target_type, batch_size, setup.num_classes)
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
        dataset, encoder = self.dataset, self.setup.encoder
        rows = dataset.evaluation_rows
        seed = (self.seed,) if dataset.views > 1 else None  # views are made by augmentation
        embeddings = encoder.embed_rows(dataset, rows, seed=seed, processes=self.engine.processes)
        numbers: dict[str, float] = {}
        if self.plan:
            losses = [
                self.engine.evaluate_loss(embeddings[batch], dataset.targets(rows[batch], self.setup.target_type))
                for batch in self.plan
            ]
            numbers["val_loss"] = float(np.mean(losses))
        return numbers if self.evaluator is None else numbers | self.evaluator(embeddings, encoder.distance)


class SearchValidation:
    """Retrieval metrics of queries in a gallery.

    Args:
        setup: The encoder that is trained.
        queries: The queries.
        gallery: The items that are searched.
        metrics: Names of retrieval metrics.
        processes: The processes that share the embedding.

    Raises:
        ValueError: For an unknown metric.
    """

    def __init__(
        self,
        setup: LossSetup,
        queries: Dataset,
        gallery: Dataset,
        metrics: Iterable[str] | None,
        processes: Processes = ALONE,
    ):
        self.encoder, self.queries, self.gallery, self.processes = setup.encoder, queries, gallery, processes
        self.names = self.metrics = tuple(DEFAULT_METRICS if metrics is None else metrics)
        check_metrics(self.names)

    def __call__(self) -> dict[str, float]:
        """The metrics of the current model."""
        return self.encoder.search_metrics(self.queries, self.gallery, self.names, processes=self.processes)


class Validations:
    """Several evaluation sets. The names of their numbers begin with the name of the set: ``bank/hit@1``.

    Args:
        parts: The validation of each set, by its name.
    """

    def __init__(self, parts: Mapping[str, Validation | SearchValidation]):
        self.parts = parts

    @property
    def metrics(self) -> tuple[str, ...]:
        """The names of the metrics."""
        return tuple(f"{name}/{metric}" for name, part in self.parts.items() for metric in part.metrics)

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the numbers that a call returns."""
        return tuple(f"{name}/{number}" for name, part in self.parts.items() for number in part.names)

    def __call__(self) -> dict[str, float]:
        """The numbers of all sets for the current model."""
        return {f"{name}/{key}": value for name, part in self.parts.items() for key, value in part().items()}


def create_validation(
    eval_data: Any,
    setup: LossSetup,
    engine: Engine,
    seed: int,
    batch_size: int,
    metrics: Iterable[str] | None,
) -> tuple[Validation | SearchValidation | Validations, Any]:
    """The validation on ``eval_data``: a dataset, a pair of queries and gallery, or a mapping of these.

    Returns:
        The validation, and a description of the data.

    Raises:
        TypeError: If the data is of an unknown kind.
        ValueError: If it cannot be evaluated.
    """
    metrics = None if metrics is None else tuple(metrics)

    def dataset_of(data: Any, name: str) -> Dataset:
        return as_dataset(engine.framework.convert_dataset(data), name)

    def one(data: Any, name: str) -> tuple[Validation | SearchValidation, Any]:
        if isinstance(data, tuple) and len(data) == 2 and any(is_dataset(side) for side in data):
            queries, gallery = (dataset_of(side, name) for side in data)
            return SearchValidation(setup, queries, gallery, metrics, engine.processes), [repr(queries), repr(gallery)]
        dataset = setup.dataset_for_loss(dataset_of(data, name), training=False)
        return Validation(setup, engine, dataset, seed, batch_size, metrics), repr(dataset)

    if not isinstance(eval_data, Mapping):
        return one(eval_data, "eval_data")
    if not eval_data:
        raise ValueError("eval_data must have at least one evaluation set, got an empty mapping")
    found = {str(name): one(data, f"eval_data[{name!r}]") for name, data in eval_data.items()}
    return Validations({name: part for name, (part, _) in found.items()}), {
        name: text for name, (_, text) in found.items()
    }


def is_dataset(data: Any) -> bool:
    """Whether one side of a pair is a dataset or a pair ``(x, y)`` itself, and not items or labels."""
    return isinstance(data, Dataset) or (isinstance(data, tuple) and len(data) == 2)
