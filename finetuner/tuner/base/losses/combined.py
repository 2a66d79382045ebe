"""A weighted sum of losses, in the form that tuners use."""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from .... import checks
from .loss import Loss, Tensor, on_first

__all__: list[str] = []

# The number of arrays that a loss with this target type gets.
NUM_TARGETS = {"relations": 1, "classes": 1, "pairs": 1, "scores": 1, "vectors": 1, "values": 1, "relevance": 2}


class CombinedLoss(Loss):
    """A weighted sum of losses of the same embeddings. Each gets the targets that it needs.

    Tuners make it from a mapping: ``loss={"NTXentLoss": 1.0, "DistillationLoss": 0.5}``.

    Args:
        losses: The losses.
        weights: The weight of each, above 0.
        need_logs: Without effect. All losses have this argument.

    Raises:
        ValueError: If there is no loss, or a weight is not above 0.
    """

    target_type: ClassVar[str] = "joined"

    def __init__(self, losses: Sequence[Any], weights: Sequence[float], need_logs: bool = False):
        super().__init__(need_logs)
        if not losses:
            raise ValueError("loss must have at least one loss, got an empty mapping")
        self.part_weights = [float(checks.above("the weight of a loss", weight, 0)) for weight in weights]
        self.part_names = [f"part_{number}" for number in range(len(losses))]
        for name, loss in zip(self.part_names, losses, strict=True):
            setattr(self, name, loss)  # as a sublayer
        compares = any(getattr(loss, "sampler", "class") == "class" for loss in losses)
        self.sampler = "class" if compares else "random"  # type: ignore[misc]

    @property
    def parts(self) -> list[Any]:
        """The losses."""
        return [getattr(self, name) for name in self.part_names]

    @property
    def part_types(self) -> list[str]:
        """The target type of each loss."""
        return [getattr(part, "target_type", "relations") for part in self.parts]

    @property
    def distance(self) -> Any:
        """The distance of the first loss that has one."""
        return next((part.distance for part in self.parts if hasattr(part, "distance")), "cosine")

    @property
    def tuples(self) -> Any:
        """What the first loss that compares items needs in a batch."""
        return next((part.tuples for part in self.parts if hasattr(part, "tuples")), None)

    @property
    def teacher(self) -> Any:
        """The teacher of the first loss that has one."""
        return next((part.teacher for part in self.parts if getattr(part, "teacher", None) is not None), None)

    def on_first(self, dim: int, embeddings: Tensor, *targets: Tensor) -> Tensor:
        """The weighted sum, of the first ``dim`` components of the embeddings."""
        return self.combine(embeddings, targets, dim)

    def combine(self, embeddings: Tensor, targets: Sequence[Tensor], dim: int | None = None) -> Tensor:
        """The weighted sum, of embeddings or their first ``dim`` components, and the targets of all losses."""
        total, start = None, 0
        for part, weight, kind in zip(self.parts, self.part_weights, self.part_types, strict=True):
            own = targets[start : start + NUM_TARGETS[kind]]
            start += NUM_TARGETS[kind]
            value = weight * on_first(part, dim, embeddings, own)
            total = value if total is None else total + value
        return total

    @property
    def losses_by_class(self) -> list[Any]:
        """The losses with weights for each class."""
        return [
            part
            for part in self.parts
            if getattr(part, "target_type", None) == "classes" and hasattr(part, "create_weights")
        ]

    @property
    def built_shape(self) -> tuple[int, int] | None:
        """``in_features`` and ``num_classes`` of the losses with weights for each class; None before they exist."""
        return next((part.built_shape for part in self.losses_by_class), None)

    def create_weights(self, in_features: int, num_classes: int, seed: int = 0) -> None:
        """Create the weights of the losses with weights for each class."""
        for part in self.losses_by_class:
            part.create_weights(in_features, num_classes, seed)

    def remove_weights(self) -> None:
        """Remove the weights that :meth:`create_weights` has created."""
        for part in self.losses_by_class:
            part.remove_weights()

    def check_targets(self, labels: Any) -> None:
        """Raise an error for labels that one of the losses cannot use."""
        for part in self.parts:
            if hasattr(part, "check_targets"):
                part.check_targets(labels)

    def arguments(self) -> Mapping[str, Any]:
        """The losses and their weights, for a description."""
        return {"losses": self.parts, "weights": self.part_weights}
