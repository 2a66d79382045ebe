"""A loss with what it needs to know of the data: its targets, its classes, and the shape of its weights."""

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np

from ....evaluation.sizes import check_dimension
from ..data.datasets import Dataset
from ..data.joined import JoinedDataset
from ..data.targets import TargetDataset
from ..losses.combined import CombinedLoss
from ..losses.loss import WeightedLoss
from ..losses.matryoshka import MatryoshkaLoss
from ..target_types import TARGET_TYPES
from .encoder import Encoder

__all__ = ["LossSetup"]


class LossSetup:
    """Fits data and loss together before a training.

    Args:
        loss: The loss.
        encoder: The model that it trains.

    Attributes:
        classes: The names of the loss's classes, in the order of its centres.
    """

    def __init__(self, loss: Any, encoder: Encoder):
        self.loss, self.encoder = loss, encoder
        self.classes: list[Any] = []

    @property
    def target_type(self) -> str:
        """What the loss needs to know about each item, a key of ``TARGET_TYPES``."""
        return getattr(self.loss, "target_type", "relations")

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
        loss = without_sizes(self.loss)
        if not isinstance(loss, CombinedLoss):
            return self.dataset_for_part(loss, dataset, training)
        kinds, parts = loss.part_types, [without_sizes(part) for part in loss.parts]
        sources = [
            (kind, self.dataset_for_part(part, dataset, training)) for kind, part in zip(kinds, parts, strict=True)
        ]
        own = next((source for _, source in sources if type(source) is type(dataset)), dataset)
        if not all(kind in source.target_types for kind, source in sources):
            return own  # there is no validation loss
        return JoinedDataset(own, sources)

    def dataset_for_part(self, loss: Any, dataset: Dataset, training: bool) -> Dataset:
        """The data with the targets that one loss needs."""
        kind = getattr(loss, "target_type", "relations")
        if kind == "vectors" and "vectors" not in dataset.target_types and training:
            dataset = self.with_teacher_embeddings(dataset)
        if training and kind not in dataset.target_types:
            raise ValueError(f"{type(loss).__name__} needs {TARGET_TYPES[kind]}, got {dataset!r}")
        if training and dataset.weights is not None and kind != "values":
            raise ValueError(
                "weights must be used with one of the framework's own losses, a sum over single items, got "
                f"{dataset!r} with weights and {type(loss).__name__}"
            )
        if training and hasattr(loss, "check_targets"):
            loss.check_targets(dataset.labels)
        if kind in ("classes", "values") and kind in dataset.target_types and dataset.has_class_numbers:
            dataset = dataset.relabel(self.classes if training else list(self.classes))
        return dataset

    def with_teacher_embeddings(self, dataset: Dataset) -> Dataset:
        """The items with the embeddings of the loss's teacher, which gets the items without augmentation."""
        teacher = getattr(self.loss, "teacher", None)
        if teacher is None:
            raise ValueError(
                f"{type(without_sizes(self.loss)).__name__} needs a teacher's embeddings, "
                f"TargetDataset(x, embeddings), or a teacher model, got {dataset!r} and none"
            )
        if not isinstance(teacher, Encoder):
            student = self.encoder
            teacher = Encoder(
                teacher, student.framework, preprocess_fn=student.preprocess_fn, collate_fn=student.collate_fn
            )
        embeddings = teacher.embed_rows(dataset, np.arange(len(dataset)))
        return TargetDataset(dataset.x, embeddings, augment=dataset.augment)

    def create_weights(self, dataset: Dataset, seed: int, on_change: Callable[[], None]) -> None:
        """Create the loss's weights with the shape that model and data need.

        Args:
            dataset: The training data.
            seed: Seed of the weights.
            on_change: Called if weights were created or replaced.

        Raises:
            ValueError: If the model returns fewer numbers than there are classes and the loss has no weights, or than
                the largest of ``dims``.
        """
        whole = without_sizes(self.loss)
        parts = whole.parts if isinstance(whole, CombinedLoss) else [whole]
        sizes = [one.dims for one in (self.loss, *parts) if isinstance(one, MatryoshkaLoss)]
        losses = [without_sizes(loss) for loss in parts if getattr(loss, "target_type", "relations") == "classes"]
        if not losses and not sizes:
            return
        width = self.encoder.embed_rows(dataset, np.arange(min(2, dataset.num_rows))).shape[1]
        for dims in sizes:
            check_dims_of_model(dims, width)
        for loss in losses:
            if not isinstance(loss, WeightedLoss):
                if width < self.num_classes:
                    raise ValueError(
                        f"the model must return a logit for each of {self.num_classes} classes, got {width}"
                    )
                continue
            before = loss.built_shape
            loss.create_weights(width, max(self.num_classes, loss.num_classes or 0), seed, self.classes)
            if loss.built_shape != before:
                on_change()


def without_sizes(loss: Any) -> Any:
    """The loss inside a loss of nested sizes; any other loss itself."""
    return loss.loss if isinstance(loss, MatryoshkaLoss) else loss


def check_dims_of_model(dims: list[int], width: int) -> None:
    """Raise ``ValueError`` for sizes above that of the embeddings, and warn if none is that of the embeddings."""
    check_dimension("dims", dims[0], width)
    if dims[0] < width:
        warnings.warn(
            f"the loss trains the first {dims[0]} components of the embeddings, which have {width}: add {width} to "
            "dims unless the others are not used",
            stacklevel=4,
        )
