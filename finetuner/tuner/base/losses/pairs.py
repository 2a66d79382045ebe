"""Losses of explicit pairs: with a label or a score, or the two sides of a two-tower model."""

from typing import Any, ClassVar

import numpy as np

from .... import checks
from .loss import DISTANCES, MEAN_REDUCTIONS, Loss, Tensor, WeightedLoss

__all__ = ["CLIPLoss", "ClipLoss", "ContrastiveLoss", "CosineSimilarityLoss"]


class PairLoss(Loss):
    """Interface of losses of pairs with a label or a score: ``loss(first, second, label)``.

    The arguments are ``[N, D]``, ``[N, D]`` and ``[N]``, floats or integers.

    Args:
        need_logs: Whether to keep ``last_logs``, see :class:`Loss`.
    """

    target_type: ClassVar[str] = "scores"
    sampler: ClassVar[str] = "random"
    reduction: str

    def compute(self, first: Tensor, second: Tensor, label: Tensor) -> Tensor:
        """The loss of ``[N, D]`` and ``[N, D]`` with labels ``[N]``, all in float32 at least."""
        raise NotImplementedError

    def check(self, first: Tensor, second: Tensor, label: Tensor) -> None:
        """Raise ``ValueError`` if the shapes do not fit."""
        self.check_shapes(
            {"first": first, "second": second, "label": label},
            {"first": [["N", "D"]], "second": [["N", "D"]], "label": [["N"]]},
        )
        check_same_dimension(first, second)

    def on_batch(self, embeddings: Tensor, *targets: Tensor) -> Tensor:
        """The loss of rows ``[2 N, D]`` in the order first, second, first, ..., and the score of each row's pair."""
        (label,) = targets
        return self(embeddings[0::2], embeddings[1::2], label[0::2])  # type: ignore[operator]


class ContrastiveLoss(PairLoss):
    r"""Contrastive loss of labelled pairs: small distances for similar pairs, at least a margin for others; squared.

    .. math:: \frac{1}{N} \sum_i s_i\, d_i^2 + (1 - s_i) \max(0,\; m - d_i)^2

    d is the distance of a pair and s its similarity, from 0 to 1. The loss is called as ``loss(first, second, label)``
    with ``[N, D]``, ``[N, D]`` and ``[N]``. A label between 0 and 1 weights the two terms.

    Args:
        margin: m, at least 0, in units of the distance.
        distance: d, one of ``"cosine"`` (1 - cos), ``"euclidean"`` and ``"sqeuclidean"``.
        similar_label: The label of a similar pair, 0 or 1.
        reduction: ``"mean"`` over the pairs, their ``"sum"``, or ``"none"``: ``[N]``.
        need_logs: Whether to keep ``last_logs``, see :class:`Loss`.

    Raises:
        ValueError: If an argument is out of its range, or a shape does not fit.

    Example:
        >>> first, second = tensor([[1.0, 0.0], [1.0, 0.0]]), tensor([[0.8, 0.6], [0.0, 1.0]])
        >>> loss = ContrastiveLoss(margin=1.0, distance="cosine", similar_label=1)
        >>> round(float(loss(first, second, tensor([1, 0]))), 4)
        0.02

    References:
        Hadsell et al., "Dimensionality reduction by learning an invariant mapping", CVPR 2006, without the factor 1/2.
    """

    def __init__(
        self,
        margin: float = 1.0,
        distance: str = "euclidean",
        similar_label: int = 0,
        reduction: str = "mean",
        need_logs: bool = False,
    ):
        super().__init__(need_logs)
        self.margin = checks.at_least("margin", margin, 0)
        self.distance = checks.one_of("distance", distance, DISTANCES)
        self.similar_label = checks.one_of("similar_label", similar_label, (0, 1))
        self.reduction = checks.one_of("reduction", reduction, MEAN_REDUCTIONS)

    def check_targets(self, label: np.ndarray) -> None:
        """Raise ``ValueError`` for labels outside 0..1."""
        check_range("scores", label, 0, 1)


class CosineSimilarityLoss(PairLoss):
    r"""Mean squared error between the cosine of each pair and its score.

    .. math:: \frac{1}{N} \sum_i \Big(\cos(a_i, b_i) - \frac{y_i - l}{h - l}\Big)^2

    The loss is called as ``loss(first, second, score)`` with ``[N, D]``, ``[N, D]`` and ``[N]``.

    Args:
        low: l, the score that corresponds to a cosine of 0.
        high: h, the score that corresponds to a cosine of 1; not equal to ``low``.
        reduction: ``"mean"`` over the pairs, their ``"sum"``, or ``"none"``: ``[N]``.
        need_logs: Whether to keep ``last_logs``, see :class:`Loss`.

    Raises:
        ValueError: If ``low`` equals ``high``, or a shape does not fit.

    Example:
        >>> first, second = tensor([[1.0, 0.0], [1.0, 0.0]]), tensor([[0.8, 0.6], [0.0, 1.0]])
        >>> loss = CosineSimilarityLoss(low=0, high=5)
        >>> round(float(loss(first, second, tensor([5.0, 0.0]))), 4)
        0.02

    References:
        Reimers and Gurevych, "Sentence-BERT: Sentence embeddings using Siamese BERT-networks", EMNLP 2019.
    """

    distance = "cosine"

    def __init__(self, low: float = 0.0, high: float = 1.0, reduction: str = "mean", need_logs: bool = False):
        super().__init__(need_logs)
        self.low, self.high = checks.number("low", low), checks.number("high", high)
        if low == high:
            raise ValueError(f"high must differ from low, got {high} for both")
        self.reduction = checks.one_of("reduction", reduction, MEAN_REDUCTIONS)

    def check_targets(self, label: np.ndarray) -> None:
        """Raise ``ValueError`` for scores that correspond to a cosine outside -1..1."""
        low, high = sorted((2 * self.low - self.high, self.high))
        check_range("scores", label, low, high, "; low and high of CosineSimilarityLoss set their range")


class CLIPLoss(WeightedLoss):
    r"""CLIP loss: finds the partner of each item among all items of the other side, in both directions.

    .. math:: -\frac{1}{2N} \sum_i \log \frac{e^{s_{ii} / \tau}}{\sum_j e^{s_{ij} / \tau}} +
        \log \frac{e^{s_{ii} / \tau}}{\sum_j e^{s_{ji} / \tau}}

    :math:`s_{ij}` is the cosine similarity of item i of the first side and item j of the second. The loss is called as
    ``loss(first, second)`` with ``[N, D]`` and ``[N, D]``. Sentence-transformers calls it
    MultipleNegativesSymmetricRankingLoss.

    Args:
        temperature: tau, at least 1e-26, so that gradients are finite in float32.
        learnable: Whether tau is trained. The weight ``loss.log_scale`` is log(1 / tau), clipped at log(100).
        need_logs: Whether to keep ``last_logs``, see :class:`Loss`.

    Raises:
        ValueError: If the temperature is out of its range, or a shape does not fit.

    Example:
        >>> images, texts = tensor([[1.0, 0.0], [0.0, 1.0]]), tensor([[0.8, 0.6], [-0.6, 0.8]])
        >>> loss = CLIPLoss(temperature=0.5)
        >>> round(float(loss(images, texts)), 4)
        0.286

    References:
        Radford et al., "Learning transferable visual models from natural language supervision", ICML 2021.
    """

    target_type: ClassVar[str] = "pairs"
    distance = "cosine"
    log_scale: Any

    def __init__(self, temperature: float = 0.07, learnable: bool = False, need_logs: bool = False):
        super().__init__(need_logs)
        self.temperature = checks.temperature(temperature)
        self.learnable = bool(learnable)
        self.log_scale = None
        if learnable:
            if temperature < 0.01:
                raise ValueError(f"temperature must be at least 0.01 where it is learnable, got {temperature}")
            self.make_weights({"log_scale": np.array(-np.log(temperature), np.float32)})

    def compute(self, first: Tensor, second: Tensor) -> Tensor:
        """The loss of two ``[N, D]`` in float32 at least."""
        raise NotImplementedError

    def check(self, first: Tensor, second: Tensor) -> None:
        """Raise ``ValueError`` if the shapes do not fit."""
        self.check_shapes({"first": first, "second": second}, {"first": [["N", "D"]], "second": [["N", "D"]]})
        check_same_dimension(first, second)

    def on_batch(self, embeddings: Tensor, *targets: Tensor) -> Tensor:
        """The loss of rows ``[2 N, D]`` in the order first, second, first, ..."""
        return self(embeddings[0::2], embeddings[1::2])  # type: ignore[operator]

    def create_weights(self, in_features: int, num_classes: int, seed: int = 0, names: Any = None) -> None:
        """Nothing to do: the shape of the temperature is always known."""

    @property
    def built_shape(self) -> tuple[int, int] | None:
        """Always (0, 0), since no weight depends on them."""
        return (0, 0)


ClipLoss = CLIPLoss


def check_same_dimension(first: Tensor, second: Tensor) -> None:
    """Raise ``ValueError`` unless two ``[N, D]`` have the same D."""
    if first.shape[1] != second.shape[1]:
        raise ValueError(f"first and second must have the same dimension, got {[first.shape[1], second.shape[1]]}")


def check_range(name: str, values: np.ndarray, low: float, high: float, hint: str = "") -> None:
    """Raise ``ValueError`` for values outside ``low..high``."""
    wrong = np.unique(values[(values < low) | (values > high)])
    if len(wrong):
        raise ValueError(f"{name} must lie in {low:g}..{high:g}, got {checks.preview(wrong)}{hint}")
