"""Losses with class centres: cross-entropy of the scaled cosines between embeddings and centres."""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np

from .... import checks
from .loss import MEAN_REDUCTIONS, Tensor, WeightedLoss, xavier_uniform

__all__: list[str] = []


class MarginLoss(WeightedLoss):
    r"""Interface of losses with class centres and a margin: ArcFace, CosFace, SphereFace.

    .. math:: -\frac{1}{N} \sum_i \sum_c q_{ic} \log \frac{e^{z_{ic}}}{\sum_k e^{z_{ik}}}, \qquad
        z_{ic} = s \cdot \begin{cases} \psi(\theta_{ic}) & c = y_i \\ \cos \theta_{ic} & c \ne y_i \end{cases}

    :math:`\theta` is the angle between an embedding and a centre. :math:`\psi` is the target logit of the loss; it
    falls monotonically from 0 to pi. q are the smoothed labels. The loss is called with embeddings ``[N, D]`` and
    labels ``[N]``, integers in ``0 .. num_classes - 1``. The centres are ``loss.weight``,
    ``[num_classes, in_features]``, or a third argument. An embedding that points exactly at a centre, or exactly away
    from it, has a gradient of 0 with respect to this centre.

    Args:
        in_features, num_classes, scale, smoothing_epsilon, label2category, sample, reduction, need_logs: See
            :class:`ArcFaceLoss`.
    """

    target_type: ClassVar[str] = "classes"
    sampler: ClassVar[str] = "random"
    distance = "cosine"
    weight: Any

    def __init__(
        self,
        in_features: int | None = None,
        num_classes: int | None = None,
        scale: float = 64.0,
        smoothing_epsilon: float = 0.0,
        label2category: Mapping[Any, Any] | Sequence[Any] | None = None,
        sample: float = 1.0,
        reduction: str = "mean",
        need_logs: bool = False,
    ):
        super().__init__(need_logs)
        self.weight = None  # until its shape is known
        self.in_features = None if in_features is None else checks.integer("in_features", in_features, 1)
        self.num_classes = None if num_classes is None else checks.integer("num_classes", num_classes, 1)
        self.scale = checks.above("scale", scale, 0)
        self.smoothing_epsilon = checks.at_least("smoothing_epsilon", smoothing_epsilon, 0)
        if smoothing_epsilon >= 1:
            raise ValueError(f"smoothing_epsilon must be below 1, got {smoothing_epsilon}")
        if label2category is not None and not smoothing_epsilon:
            raise ValueError("label2category must be used with a smoothing_epsilon above 0, got 0")
        self.label2category = label2category
        self.categories: np.ndarray | None = None  # [num_classes] int32
        self.sample = checks.above("sample", sample, 0)
        if sample > 1:
            raise ValueError(f"sample must be at most 1, got {sample}")
        if sample < 1 and smoothing_epsilon:
            raise ValueError(f"smoothing_epsilon must be 0 with a sample below 1, got {smoothing_epsilon}")
        if sample < 1:
            self.create_generator()
        self.reduction = checks.one_of("reduction", reduction, MEAN_REDUCTIONS)
        self.create_weights_if_sized()

    def create_weights_if_sized(self) -> None:
        """Create the weights if both sizes are known."""
        if self.in_features is not None and self.num_classes is not None:
            self.create_weights(self.in_features, self.num_classes)

    def compute(self, queries: Tensor, labels: Tensor, centres: Tensor) -> Tensor:
        """The loss of ``[N, D]`` with labels ``[N]`` and centres ``[C, D]``, in float32 at least."""
        raise NotImplementedError

    def sampled_classes(self, classes: Tensor, in_batch: Tensor) -> Tensor:
        """The classes of a training step, each once: those of the batch, and random others.

        Args:
            classes: ``[N]``, the class of each item.
            in_batch: Boolean, ``[C]``, which classes are among them.

        Returns:
            ``[S]`` integers. S is ``min(C, N + K)``, where K is ``round(sample * C)``, but at least 1.
        """
        raise NotImplementedError

    def target_logit(self, distances: Tensor) -> Tensor:
        r""":math:`\psi(\theta)` of cosine distances :math:`1 - \cos \theta` to the own centres: ``[N]`` to ``[N]``."""
        raise NotImplementedError

    def check(self, embeddings: Tensor, labels: Tensor, weight: Tensor | None = None) -> None:
        """Raise ``ValueError`` if shapes do not fit, or the weights are not created yet."""
        self.check_shapes({"embeddings": embeddings, "labels": labels}, {"embeddings": [["N", "D"]], "labels": [["N"]]})
        if self.label2category is not None and self.categories is None:
            raise ValueError("label2category must know each class by its number where no tuner tells their names")
        if weight is None and self.built_shape is None:
            raise ValueError(
                "in_features and num_classes must be given before the loss is called, or create_weights(); "
                f"got in_features={self.in_features} and num_classes={self.num_classes}"
            )
        if not self.fits(width := embeddings.shape[1], weight):
            features = self.built_shape[0] if self.built_shape else weight.shape[1]  # type: ignore[union-attr]
            raise ValueError(f"embeddings must have {features} features, as the loss has, got {width}")

    def fits(self, width: int, weight: Tensor | None) -> bool:
        """Whether embeddings with ``width`` features fit the centres that the loss is called with, or its own."""
        return width == (self.built_shape[0] if weight is None else weight.shape[1])  # type: ignore[index]

    def on_first(self, dim: int, embeddings: Tensor, *targets: Tensor) -> Tensor:
        """As ``on_batch``, of the first ``dim`` components of embeddings and centres."""
        centres = None if self.weight is None else self.weight[:, :dim]
        return self(embeddings[:, :dim], *targets, centres)  # type: ignore[operator]

    def create_weights(
        self, in_features: int, num_classes: int, seed: int = 0, names: Sequence[Any] | None = None
    ) -> None:
        """Create the weights, or add centres for new classes to existing ones.

        Args:
            in_features: D, of the embeddings ``[N, D]``.
            num_classes: The number of classes.
            seed: Seed of the initial weights, drawn by numpy, the same in every framework.
            names: The user's names of the classes, which may be the keys of ``label2category``; else its keys are
                numbers.

        Raises:
            ValueError: If weights exist for more classes or another D, or a class has no category.
        """
        built = self.built_shape
        if built is not None and (in_features != built[0] or num_classes < built[1]):
            raise ValueError(
                f"a loss of {built[1]} classes and {built[0]} features must keep both or take more classes, got "
                f"{num_classes} classes and {in_features} features"
            )
        if self.label2category is not None:
            self.categories = encode_categories(self.label2category, num_classes, names)
        if built is None:
            self.make_weights(self.initial_weights(in_features, num_classes, np.random.default_rng(seed)))
        elif num_classes > built[1]:
            old = self.weights_on_host()
            new = xavier_uniform((num_classes, old["weight"].shape[1]), np.random.default_rng([seed, num_classes]))
            new[: built[1]] = old["weight"]
            self.make_weights({**old, "weight": new})
        self.in_features, self.num_classes = in_features, num_classes

    def initial_weights(self, in_features: int, num_classes: int, rng: np.random.Generator) -> dict[str, np.ndarray]:
        """The initial weights, by name."""
        return {"weight": xavier_uniform((num_classes, in_features), rng)}

    def serialized_arguments(self) -> dict[str, Any]:
        """The constructor's arguments; categories by the numbers of the classes, once these are known."""
        arguments = super().serialized_arguments()
        return arguments if self.categories is None else {**arguments, "label2category": self.categories.tolist()}

    @property
    def built_shape(self) -> tuple[int, int] | None:
        """``in_features`` and ``num_classes`` of the weights; None before they are created."""
        return None if self.weight is None else (self.in_features, self.num_classes)  # type: ignore[return-value]


def encode_categories(
    label2category: Mapping[Any, Any] | Sequence[Any], num_classes: int, names: Sequence[Any] | None
) -> np.ndarray | None:
    """The category of each class as a number, ``[C]`` int32; None if only unknown class names could tell."""
    known = label2category if isinstance(label2category, Mapping) else dict(enumerate(label2category))
    for keys in ([] if names is None else names, range(num_classes)):
        if keys and all(key in known for key in keys):
            categories = [str(known[key]) for key in keys]
            categories += [f"class {number} without a name" for number in range(len(categories), num_classes)]
            return np.unique(categories, return_inverse=True)[1].astype(np.int32)
    if names is None:
        return None
    missing = checks.preview(name for name in names if name not in known)
    raise ValueError(f"label2category must have a category for each class, and has none for {missing}")
