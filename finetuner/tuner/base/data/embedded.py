"""A dataset whose items are replaced by their embeddings, which are computed once."""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from ....evaluation.evaluators import Evaluator
from .datasets import Dataset
from .samplers import Sampler

__all__ = ["EmbeddedDataset"]


class EmbeddedDataset(Dataset):
    """The embeddings of the rows of a dataset, with all that the dataset knows about them.

    Args:
        dataset: Provides targets, sampler and evaluator.
        embeddings: ``[num_rows, D]``, one row for each row of the dataset; or another sequence of rows.

    Raises:
        ValueError: If there is not one embedding for each row.

    Example:
        >>> texts = PairDataset(["a plane", "a dog"], ["an aircraft", "a cat"])
        >>> EmbeddedDataset(texts, np.zeros((4, 8), np.float32)).batch(np.array([0, 3])).shape
        (2, 8)
    """

    def __init__(self, dataset: Dataset, embeddings: Any):
        super().__init__(embeddings)
        if len(embeddings) != dataset.num_rows:
            raise ValueError(f"embeddings must be one for each of {dataset.num_rows} rows, got {len(embeddings)}")
        self.rows_per_item, self.views = dataset.rows_per_item, dataset.views
        self.target_types = dataset.target_types
        self.dataset = dataset
        self.labels, self.classes, self.weights = dataset.labels, dataset.classes, dataset.weights
        if hasattr(dataset, "label_names"):
            self.label_names = dataset.label_names

    def __repr__(self) -> str:
        return repr(self.dataset)

    def __len__(self) -> int:
        return len(self.x) // self.rows_per_item

    def batch(self, indices: np.ndarray, seed: Sequence[int] | None = None) -> Any:
        """The embeddings of the rows at ``indices``."""
        return self.x[indices]

    @property
    def evaluation_rows(self) -> np.ndarray:
        """Those of the dataset."""
        return self.dataset.evaluation_rows

    def targets(self, indices: np.ndarray, target_type: str) -> tuple[np.ndarray, ...]:
        """The targets of the dataset."""
        return self.dataset.targets(indices, target_type)

    def default_sampler(self, batch_size: int, num_items_per_class: int | None = None, seed: int = 0) -> Sampler:
        """The sampler of the dataset."""
        return self.dataset.default_sampler(batch_size, num_items_per_class, seed)

    def validation_batches(self, target_type: str, batch_size: int, num_classes: int) -> list[np.ndarray]:
        """The batches of the dataset for its validation loss."""
        return self.dataset.validation_batches(target_type, batch_size, num_classes)

    def evaluator(self, metrics: Iterable[str] | None = None) -> Evaluator | None:
        """The evaluator of the dataset."""
        return self.dataset.evaluator(metrics)

    def relabel(self, names: list[Any]) -> "EmbeddedDataset":
        """The same embeddings with classes numbered as in ``names``."""
        return EmbeddedDataset(self.dataset.relabel(names), self.x)
