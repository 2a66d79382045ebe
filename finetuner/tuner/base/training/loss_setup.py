"""The part of a tuner that fits data, loss and model together before training."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from ..data.datasets import Dataset
from ..data.targets import TargetDataset
from ..losses.loss import WeightedLoss
from ..target_types import TARGET_TYPES
from .embedding import Embedding

__all__ = ["LossSetup"]


class LossSetup(Embedding):
    """The part of a tuner that checks the data, and creates the loss's weights and their optimizer."""

    loss_optimizer_spec: tuple[Any, dict[str, Any]]

    @property
    def num_classes(self) -> int:
        """The number of classes that the loss knows."""
        return len(self.classes)

    def dataset_for_loss(self, dataset: Dataset, training: bool = True) -> Dataset:
        """The data with the targets that the loss needs: a teacher's embeddings, or the loss's class numbers.

        Args:
            dataset: The data.
            training: Whether it is the training data. It must have the loss's targets, and new classes are added to
                the loss. Evaluation data may lack them.

        Raises:
            ValueError: If the training data does not have the targets that the loss needs.
        """
        if self.target_type == "vectors" and "vectors" not in dataset.target_types and training:
            dataset = self.with_teacher_embeddings(dataset)
        if training and self.target_type not in dataset.target_types:
            raise ValueError(f"{type(self.loss).__name__} needs {TARGET_TYPES[self.target_type]}, got {dataset!r}")
        if training and dataset.weights is not None and self.target_type != "values":
            raise ValueError(
                "weights must be used with one of the framework's own losses, a sum over single items, got "
                f"{dataset!r} with weights and {type(self.loss).__name__}"
            )
        if training and hasattr(self.loss, "check_targets"):
            self.loss.check_targets(dataset.labels)
        by_class = self.target_type in ("classes", "values") and self.target_type in dataset.target_types
        if by_class and dataset.has_class_numbers:
            dataset = dataset.relabel(self.classes if training else list(self.classes))
        return dataset

    def with_teacher_embeddings(self, dataset: Dataset) -> Dataset:
        """The items with the embeddings of the loss's teacher, which gets the items without augmentation."""
        teacher = getattr(self.loss, "teacher", None)
        if teacher is None:
            raise ValueError(
                f"{type(self.loss).__name__} needs a teacher's embeddings, TargetDataset(x, embeddings), or a "
                f"teacher model, got {dataset!r} and none"
            )
        teacher_tuner = type(self)(teacher, callbacks=[], device=str(self.device))  # type: ignore[call-arg]
        teacher_tuner.preprocess_fn, teacher_tuner.collate_fn = self.preprocess_fn, self.collate_fn
        embeddings = teacher_tuner.embed_rows(dataset, np.arange(len(dataset)))
        return TargetDataset(dataset.x, embeddings, augment=dataset.augment)

    def setup_loss(self, dataset: Dataset) -> None:
        """Create the loss's weights with the shape that model and data need, and their optimizer."""
        if self.target_type == "classes":
            width = self.embed_rows(dataset, np.arange(min(2, dataset.num_rows))).shape[1]
            if not isinstance(self.loss, WeightedLoss) and width < self.num_classes:
                raise ValueError(f"the model must return a logit for each of {self.num_classes} classes, got {width}")
        if isinstance(self.loss, WeightedLoss) and self.target_type == "classes":
            before = self.loss.built_shape
            self.loss.create_weights(width, max(self.num_classes, self.loss.num_classes or 0), self.seed, self.classes)
            if self.loss.built_shape != before:
                self.loss_optimizer = None  # it had the weights that were replaced
        self.ensure_loss_optimizer()

    def ensure_loss_optimizer(self) -> None:
        """Create the optimizer of the loss's weights if there are weights and it does not exist yet.

        Raises:
            ValueError: If the user asked for one, and there are no weights.
        """
        if self.loss_optimizer is None:
            self.loss_optimizer = self.make_loss_optimizer(*self.loss_optimizer_spec)
        if self.loss_optimizer is None and self.config["loss_optimizer"] is not None:
            raise ValueError(
                "loss_optimizer must be used with a loss that has weights of its own, got "
                f"{self.config['loss_optimizer']!r} and {type(self.loss).__name__}"
            )

    def resolve_loss_optimizer(
        self,
        optimizer: Any,
        options: Mapping[str, Any] | None,
        loss_optimizer: Any,
        loss_options: Mapping[str, Any] | None,
    ) -> tuple[Any, dict[str, Any]]:
        """The loss's optimizer and its options: as given, or the class and settings of the model's optimizer."""
        if loss_optimizer is not None:
            return loss_optimizer, dict(loss_options or {})
        if not isinstance(optimizer, str | type):
            optimizer, options = self.clone_config(optimizer)
        return optimizer, {**(options or {}), **(loss_options or {})}
