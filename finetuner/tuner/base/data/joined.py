"""The targets of several losses of the same items."""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from ....evaluation.evaluators import Evaluator
from .datasets import Dataset
from .samplers import Sampler

__all__: list[str] = []


class JoinedDataset(Dataset):
    """A dataset with the targets of several others, under the target type ``"joined"``.

    Args:
        dataset: Provides the items, the sampler and the evaluator.
        sources: Target types, each with a dataset of the same items that has it.
    """

    def __init__(self, dataset: Dataset, sources: Sequence[tuple[str, Dataset]]):
        super().__init__(dataset.x, dataset.augment)
        self.dataset, self.sources = dataset, tuple(sources)
        self.labels, self.classes, self.weights = dataset.labels, dataset.classes, dataset.weights
        self.rows_per_item, self.views = dataset.rows_per_item, dataset.views
        self.target_types = (*dataset.target_types, "joined")

    def __repr__(self) -> str:
        return repr(self.dataset)

    def __len__(self) -> int:
        return len(self.dataset)

    def batch(self, indices: np.ndarray, seed: Sequence[int] | None = None) -> Any:
        """The rows at ``indices``, as the dataset returns them."""
        return self.dataset.batch(indices, seed)

    def targets(self, indices: np.ndarray, target_type: str) -> tuple[np.ndarray, ...]:
        """The targets of all losses, one after the other."""
        if target_type != "joined":
            return self.dataset.targets(indices, target_type)
        return tuple(target for kind, source in self.sources for target in source.targets(indices, kind))

    def default_sampler(self, batch_size: int, num_items_per_class: int | None = None, seed: int = 0) -> Sampler:
        """The sampler of the dataset."""
        return self.dataset.default_sampler(batch_size, num_items_per_class, seed)

    def validation_batches(self, target_type: str, batch_size: int, num_classes: int) -> list[np.ndarray]:
        """The batches that the validation loss is averaged over: of items whose classes a loss of classes knows."""
        by_class = [pair for pair in self.sources if pair[0] == "classes"]
        kind, source = (by_class or self.sources)[0]
        return source.validation_batches(kind, batch_size, num_classes)

    def evaluator(self, metrics: Iterable[str] | None = None) -> Evaluator | None:
        """The evaluator of the dataset."""
        return self.dataset.evaluator(metrics)
