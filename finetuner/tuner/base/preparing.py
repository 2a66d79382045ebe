"""What a tuner makes ready before it trains: what the loss is told, its weights and their optimizer."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from .dataset import ClassDataset, Dataset
from .embedding import Embedding
from .losses.interface import TAKES, WeightedLoss
from .targets import TargetDataset

__all__ = ["Preparing"]


class Preparing(Embedding):
    """The part of a tuner that has data, loss and model meet."""

    optimizer: Any
    loss_optimizer: Any
    loss_optimizer_asked: tuple[Any, dict[str, Any]]
    classes: list[Any]
    config: dict[str, Any]
    device: Any
    seed: int
    epoch: int

    @property
    def num_classes(self) -> int:
        """How many classes the loss knows."""
        return len(self.classes)

    def told_of(self, dataset: Dataset, training: bool = True) -> Dataset:
        """The data as the loss is told of it: with a teacher's embeddings, and classes numbered as the loss knows them.

        Raises:
            ValueError: if it does not tell what the loss takes.
        """
        if self.form == "vectors" and "vectors" not in dataset.gives and training:
            dataset = self.taught(dataset)
        if training and self.form not in dataset.gives:
            raise ValueError(f"{type(self.loss).__name__} must be told {TAKES[self.form]}, got {dataset!r}")
        if training and dataset.weights is not None and self.form != "values":
            raise ValueError(
                f"weights must go with a loss of the framework's own, a sum over single items, got {dataset!r} with "
                f"weights and {type(self.loss).__name__}"
            )
        if training and hasattr(self.loss, "check_targets"):
            self.loss.check_targets(dataset.labels)
        if self.form in ("classes", "values") and isinstance(dataset, ClassDataset):
            dataset = dataset.renumbered(self.classes if training else list(self.classes))
        return dataset

    def taught(self, dataset: Dataset) -> Dataset:
        """The items with the embeddings of the loss's teacher, which sees them as the student does, not augmented."""
        teacher = getattr(self.loss, "teacher", None)
        if teacher is None:
            raise ValueError(
                f"{type(self.loss).__name__} must have a teacher's embeddings, TargetDataset(x, embeddings), or a "
                f"teacher model, got {dataset!r} and none"
            )
        asked = type(self)(teacher, callbacks=[], device=str(self.device))  # type: ignore[call-arg]
        asked.preprocess_fn, asked.collate_fn = self.preprocess_fn, self.collate_fn
        embeddings = asked.embeddings_of(dataset, np.arange(len(dataset)))
        return TargetDataset(dataset.x, embeddings, augment=dataset.augment)

    def prepare_loss(self, dataset: Dataset) -> None:
        """Give the loss weights of the size that model and data ask for, and an optimizer for them."""
        if self.form == "classes":
            width = self.embeddings_of(dataset, np.arange(min(2, dataset.num_rows))).shape[1]
            if not isinstance(self.loss, WeightedLoss) and width < self.num_classes:
                raise ValueError(f"the model must return a logit for each of {self.num_classes} classes, got {width}")
        if isinstance(self.loss, WeightedLoss) and self.form == "classes":
            before = self.loss.sizes
            self.loss.size(width, max(self.num_classes, self.loss.num_classes or 0), self.seed, self.classes)
            if self.loss.sizes != before:
                self.loss_optimizer = None  # which held the weights that these take the place of
        self.find_loss_optimizer_once()

    def find_loss_optimizer_once(self) -> None:
        """Make the optimizer of the loss's weights, where there are some and it is not there yet.

        Raises:
            ValueError: if one was asked for, and there are no weights for it.
        """
        if self.loss_optimizer is None:
            self.loss_optimizer = self.find_loss_optimizer(*self.loss_optimizer_asked)
        if self.loss_optimizer is None and self.config["loss_optimizer"] is not None:
            asked = self.config["loss_optimizer"]
            raise ValueError(
                f"loss_optimizer must go with a loss that has weights of its own, got {asked!r} and "
                f"{type(self.loss).__name__}"
            )

    def asked_of_loss(
        self, optimizer: Any, options: Mapping[str, Any] | None, own: Any, own_options: Mapping[str, Any] | None
    ) -> tuple[Any, dict[str, Any]]:
        """The optimizer of the loss, and its options: as told, or of the model's kind and settings."""
        if own is not None:
            return own, dict(own_options or {})
        if not isinstance(optimizer, str | type):
            optimizer, options = self.kind_and_options(optimizer)
        return optimizer, {**(options or {}), **(own_options or {})}
