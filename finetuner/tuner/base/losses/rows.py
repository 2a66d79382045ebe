"""Losses of rows that come together: pairs with or without a score, two towers, a student and its teacher."""

from typing import Any, ClassVar

import numpy as np

from .. import checks
from .interface import DISTANCES, MEANS, Loss, Tensor, WeightedLoss, check_rows

__all__ = ["CLIPLoss", "ClipLoss", "ContrastiveLoss", "CosineSimilarityLoss", "DistillationLoss", "RowLoss"]


class RowLoss(Loss):
    """Interface of the losses of pairs that carry a label or a score: ``loss(first, second, label)``.

    ``[N, D]``, ``[N, D]`` and ``[N]`` floats or integers.

    Args:
        need_logs: whether to keep ``last_logs``, see :class:`Loss`.
    """

    takes: ClassVar[str] = "scores"
    sampler: ClassVar[str] = "random"

    def compute(self, first: Tensor, second: Tensor, label: Tensor) -> Tensor:
        """The loss of ``[N, D]`` and ``[N, D]``, floats of float32 at least, with labels ``[N]`` of their type."""
        raise NotImplementedError

    def check(self, first: Tensor, second: Tensor, label: Tensor) -> None:
        """Raise ``ValueError`` if the shapes do not fit."""
        check_rows(
            {"first": first, "second": second, "label": label},
            {"first": [["N", "D"]], "second": [["N", "D"]], "label": [["N"]]},
        )
        check_dimensions(first, second)

    def of_batch(self, embeddings: Tensor, *targets: Tensor) -> Tensor:
        """The loss of rows ``[2 N, D]`` in the order first, second, first, ..., and the score of each row's pair."""
        (label,) = targets
        return self(embeddings[0::2], embeddings[1::2], label[0::2])  # type: ignore[operator]


def check_dimensions(first: Tensor, second: Tensor) -> None:
    """Raise ``ValueError`` unless two ``[N, D]`` are of one D."""
    if first.shape[1] != second.shape[1]:
        raise ValueError(f"first and second must be of one dimension, got {[first.shape[1], second.shape[1]]}")


class ContrastiveLoss(RowLoss):
    r"""Brings similar pairs together, and drives the others apart up to a margin; both squared.

    .. math:: \frac{1}{N} \sum_i s_i\, d_i^2 + (1 - s_i) \max(0,\; m - d_i)^2

    where d is the distance of a pair and s how similar it is, from 0 to 1. Called as ``loss(first, second, label)``
    with ``[N, D]``, ``[N, D]`` and ``[N]``; a label between 0 and 1 weighs the two terms.

    Args:
        margin: m, at least 0, in units of the distance.
        distance: d, one of ``"cosine"`` (1 - cos), ``"euclidean"`` and ``"sqeuclidean"``.
        similar_label: what a label says of a similar pair, 0 or 1.
        reduction: ``"mean"`` over the pairs, their ``"sum"``, or ``"none"``: ``[N]``.
        need_logs: whether to keep ``last_logs``, see :class:`Loss`.

    Raises:
        ValueError: if an argument is out of its range, or a shape does not fit.

    Source: Hadsell et al., "Dimensionality reduction by learning an invariant mapping", CVPR 2006, without its factor
    of one half.
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
        self.reduction = checks.one_of("reduction", reduction, MEANS)

    def check_targets(self, label: np.ndarray) -> None:
        """Raise ``ValueError`` for labels, on the host, that are not between 0 and 1."""
        check_range("scores", label, 0, 1)


class CosineSimilarityLoss(RowLoss):
    r"""Brings the cosine of each pair to its score.

    .. math:: \frac{1}{N} \sum_i \Big(\cos(a_i, b_i) - \frac{y_i - l}{h - l}\Big)^2

    Called as ``loss(first, second, score)`` with ``[N, D]``, ``[N, D]`` and ``[N]``.

    Args:
        low: l, the score of a pair that is to have a cosine of 0.
        high: h, the score of a pair that is to have a cosine of 1; other than ``low``.
        reduction: ``"mean"`` over the pairs, their ``"sum"``, or ``"none"``: ``[N]``.
        need_logs: whether to keep ``last_logs``, see :class:`Loss`.

    Raises:
        ValueError: if ``low`` and ``high`` are one, or a shape does not fit.

    Source: Reimers and Gurevych, "Sentence-BERT", EMNLP 2019.
    """

    distance = "cosine"

    def __init__(self, low: float = 0.0, high: float = 1.0, reduction: str = "mean", need_logs: bool = False):
        super().__init__(need_logs)
        self.low, self.high = checks.number("low", low), checks.number("high", high)
        if low == high:
            raise ValueError(f"high must differ from low, got {high} for both")
        self.reduction = checks.one_of("reduction", reduction, MEANS)

    def check_targets(self, label: np.ndarray) -> None:
        """Raise ``ValueError`` for scores, on the host, that ask for a cosine beyond -1..1."""
        low, high = sorted((2 * self.low - self.high, self.high))
        check_range("scores", label, low, high, "; low and high of CosineSimilarityLoss tell their range")


def check_range(name: str, values: np.ndarray, low: float, high: float, hint: str = "") -> None:
    """Raise ``ValueError`` for values, on the host, that do not lie in ``low..high``."""
    wrong = np.unique(values[(values < low) | (values > high)])
    if len(wrong):
        raise ValueError(f"{name} must lie in {low:g}..{high:g}, got {checks.some_of(wrong)}{hint}")


class CLIPLoss(WeightedLoss):
    r"""Finds the partner of each item of one tower among all of the other's, and the reverse.

    .. math:: -\frac{1}{2N} \sum_i \log \frac{e^{s_{ii} / \tau}}{\sum_j e^{s_{ij} / \tau}} +
        \log \frac{e^{s_{ii} / \tau}}{\sum_j e^{s_{ji} / \tau}}

    where :math:`s_{ij}` is the cosine of the i-th item of the first tower and the j-th of the second. Called as
    ``loss(first, second)`` with ``[N, D]`` and ``[N, D]``.

    Args:
        temperature: tau, above 0 and no less than float32's smallest normal number.
        learnable: whether tau is trained: ``loss.log_scale``, the logarithm of 1 / tau, counts up to log(100).
        need_logs: whether to keep ``last_logs``, see :class:`Loss`.

    Raises:
        ValueError: if the temperature is out of its range, or a shape does not fit.

    Source: Radford et al., "Learning transferable visual models from natural language supervision", ICML 2021.
    """

    takes: ClassVar[str] = "pairs"
    distance = "cosine"
    log_scale: Any

    def __init__(self, temperature: float = 0.07, learnable: bool = False, need_logs: bool = False):
        super().__init__(need_logs)
        self.temperature = checks.normal_temperature(temperature)
        self.learnable = bool(learnable)
        self.log_scale = None
        if learnable:
            if temperature < 0.01:
                raise ValueError(f"temperature must be at least 0.01 where it is learnable, got {temperature}")
            self.make_weights({"log_scale": np.array(-np.log(temperature), np.float32)})

    def compute(self, first: Tensor, second: Tensor) -> Tensor:
        """The loss of two ``[N, D]``, floats of float32 at least."""
        raise NotImplementedError

    def check(self, first: Tensor, second: Tensor) -> None:
        """Raise ``ValueError`` if the shapes do not fit."""
        check_rows({"first": first, "second": second}, {"first": [["N", "D"]], "second": [["N", "D"]]})
        check_dimensions(first, second)

    def of_batch(self, embeddings: Tensor, *targets: Tensor) -> Tensor:
        """The loss of rows ``[2 N, D]`` in the order first, second, first, ..."""
        return self(embeddings[0::2], embeddings[1::2])  # type: ignore[operator]

    def size(self, in_features: int, num_classes: int, seed: int = 0, names: Any = None) -> None:
        """Nothing to do: the temperature has no size."""

    @property
    def sizes(self) -> tuple[int, int] | None:
        """0 and 0: nothing depends on them."""
        return (0, 0)


ClipLoss = CLIPLoss


class DistillationLoss(Loss):
    r"""Has a student find items as similar to each other as a teacher does.

    .. math:: \frac{1}{N} \sum_i \sum_{j \ne i} p_{ij} \log \frac{p_{ij}}{q_{ij}}, \qquad
        q_{ij} = \frac{e^{s_{ij} / \tau}}{\sum_{k \ne i} e^{s_{ik} / \tau}}

    where s are the cosines among the student's embeddings, and p the same of the teacher's. Called as
    ``loss(embeddings, teacher_embeddings)`` with ``[N, D]`` and ``[N, E]``; the teacher has no gradient.

    Args:
        temperature: tau, above 0 and no less than float32's smallest normal number.
        teacher: a model of the same framework, which a tuner asks for the teacher's embeddings, once, before the
            training; None where the data brings them (``TargetDataset(x, teacher_embeddings)``).
        need_logs: whether to keep ``last_logs``, see :class:`Loss`.

    Raises:
        ValueError: if the temperature is out of its range, or a shape does not fit.

    Source: Passalis and Tefas, "Learning deep representations with probabilistic knowledge transfer", ECCV 2018, with
    a softmax of cosines for its kernel.
    """

    takes: ClassVar[str] = "vectors"
    sampler: ClassVar[str] = "random"
    distance = "cosine"

    def __init__(self, temperature: float = 0.1, teacher: Any = None, need_logs: bool = False):
        super().__init__(need_logs)
        self.temperature = checks.normal_temperature(temperature)
        self.__dict__["teacher"] = teacher  # not as a part of the loss: it is not trained, nor saved

    def compute(self, queries: Tensor, taught: Tensor) -> Tensor:
        """The loss of ``[N, D]`` by ``[N, E]``, floats of float32 at least."""
        raise NotImplementedError

    def check(self, embeddings: Tensor, teacher_embeddings: Tensor) -> None:
        """Raise ``ValueError`` if the shapes do not fit."""
        check_rows(
            {"embeddings": embeddings, "teacher_embeddings": teacher_embeddings},
            {"embeddings": [["N", "D"]], "teacher_embeddings": [["N", "E"]]},
        )
