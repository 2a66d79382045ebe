"""What losses share that have a centre for each class."""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np

from .. import checks
from .interface import MEANS, Tensor, WeightedLoss, check_rows, xavier_uniform

__all__ = ["MarginLoss"]


class MarginLoss(WeightedLoss):
    r"""Interface of the SphereFace family: cross-entropy of scaled cosines to the classes' centres.

    .. math:: -\frac{1}{N} \sum_i \sum_c q_{ic} \log \frac{e^{z_{ic}}}{\sum_k e^{z_{ik}}}, \qquad
        z_{ic} = s \cdot \begin{cases} \psi(\theta_{ic}) & c = y_i \\ \cos \theta_{ic} & c \ne y_i \end{cases}

    where :math:`\theta` is the angle between an embedding and a centre, :math:`\psi` the member's own, which falls
    from 0 to pi, and q the smoothed labels. Called with embeddings ``[N, D]`` and labels ``[N]``, integers in
    ``0 .. num_classes - 1``; the centres are ``loss.weight``, ``[num_classes, in_features]``, or given as a third
    argument. On its centre and opposite to it an embedding has, of this centre, a gradient of 0.

    Args:
        in_features, num_classes, scale, smoothing_epsilon, label2category, reduction, need_logs: as said below.
    """

    takes: ClassVar[str] = "classes"
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
        reduction: str = "mean",
        need_logs: bool = False,
    ):
        super().__init__(need_logs)
        self.weight = None  # until its size is known
        self.in_features = None if in_features is None else checks.whole("in_features", in_features, 1)
        self.num_classes = None if num_classes is None else checks.whole("num_classes", num_classes, 1)
        self.scale = checks.above("scale", scale, 0)
        self.smoothing_epsilon = checks.at_least("smoothing_epsilon", smoothing_epsilon, 0)
        if smoothing_epsilon >= 1:
            raise ValueError(f"smoothing_epsilon must be below 1, got {smoothing_epsilon}")
        if label2category is not None and not smoothing_epsilon:
            raise ValueError("label2category must go with a smoothing_epsilon above 0, got 0")
        self.label2category = label2category
        self.categories: np.ndarray | None = None  # [num_classes], as numbers
        self.reduction = checks.one_of("reduction", reduction, MEANS)
        self.size_as_told()

    def size_as_told(self) -> None:
        """Make the weights, if both sizes were given."""
        if self.in_features is not None and self.num_classes is not None:
            self.size(self.in_features, self.num_classes)

    def compute(self, queries: Tensor, labels: Tensor, centres: Tensor) -> Tensor:
        """The loss of ``[N, D]`` with labels ``[N]``, by centres ``[C, D]``, floats of float32 at least."""
        raise NotImplementedError

    def with_margin(self, distances: Tensor) -> Tensor:
        r""":math:`\psi(\theta)` of cosine distances, :math:`1 - \cos \theta`: ``[N, C]`` to ``[N, C]``."""
        raise NotImplementedError

    def check(self, embeddings: Tensor, labels: Tensor, weight: Tensor | None = None) -> None:
        """Raise ``ValueError`` if shapes do not fit, or the weights are not made yet."""
        check_rows({"embeddings": embeddings, "labels": labels}, {"embeddings": [["N", "D"]], "labels": [["N"]]})
        if self.label2category is not None and self.categories is None:
            raise ValueError("label2category must know each class by its number where no tuner tells their names")
        if weight is None and self.sizes is None:
            raise ValueError(
                "in_features and num_classes must be given before a loss is called, or its size() be: got "
                f"in_features={self.in_features} and num_classes={self.num_classes}"
            )
        width = self.sizes[0] if self.sizes else weight.shape[1]  # type: ignore[union-attr]
        if embeddings.shape[1] != width:
            raise ValueError(f"embeddings must have {width} features, as the loss has, got {embeddings.shape[1]}")

    def size(self, in_features: int, num_classes: int, seed: int = 0, names: Sequence[Any] | None = None) -> None:
        """Make the weights, or let those that are there grow to more classes, whose centres are new ones.

        Args:
            in_features: D, of the embeddings ``[N, D]``.
            num_classes: how many classes there are.
            seed: of the first weights, drawn by numpy, the same in every framework.
            names: what the data calls the classes, by which ``label2category`` may know them; else by their numbers.

        Raises:
            ValueError: if the weights are there already and are for more classes or another D, or a class has no
                category.
        """
        have = self.sizes
        if have is not None and (in_features != have[0] or num_classes < have[1]):
            raise ValueError(
                f"a loss of {have[1]} classes and {have[0]} features must keep both or take more classes, got "
                f"{num_classes} classes and {in_features} features"
            )
        if self.label2category is not None:
            self.categories = categories_of(self.label2category, num_classes, names)
        if have is None:
            self.make_weights(self.first_weights(in_features, num_classes, np.random.default_rng(seed)))
        elif num_classes > have[1]:
            old = self.weights_on_host()
            new = xavier_uniform((num_classes, old["weight"].shape[1]), np.random.default_rng([seed, num_classes]))
            new[: have[1]] = old["weight"]
            self.make_weights({**old, "weight": new})
        self.in_features, self.num_classes = in_features, num_classes

    def first_weights(self, in_features: int, num_classes: int, rng: np.random.Generator) -> dict[str, np.ndarray]:
        """The weights that a training begins with, by name."""
        return {"weight": xavier_uniform((num_classes, in_features), rng)}

    @property
    def sizes(self) -> tuple[int, int] | None:
        """``in_features`` and ``num_classes`` of the weights; None before they are made."""
        return None if self.weight is None else (self.in_features, self.num_classes)  # type: ignore[return-value]


def categories_of(
    label2category: Mapping[Any, Any] | Sequence[Any], num_classes: int, names: Sequence[Any] | None
) -> np.ndarray | None:
    """The category of each class as a number, ``[C]`` int32; None if only the names that are not told could say."""
    known = label2category if isinstance(label2category, Mapping) else dict(enumerate(label2category))
    for keys in ([] if names is None else names, range(num_classes)):
        if keys and all(key in known for key in keys):
            found = [str(known[key]) for key in keys]
            found += [f"class {number} without a name" for number in range(len(found), num_classes)]
            return np.unique(found, return_inverse=True)[1].astype(np.int32)
    if names is None:
        return None
    missing = checks.some_of(name for name in names if name not in known)
    raise ValueError(f"label2category must have a category for each class, and has none for {missing}")
