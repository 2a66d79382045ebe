"""Losses of a head's output: scores that rank, logits that classify, and what the framework has itself."""

from collections.abc import Sequence
from typing import Any, ClassVar

from .. import checks
from .interface import MEANS, Loss, Tensor, check_rows

__all__ = ["FocalLoss", "HeadLoss", "LambdaRankLoss", "ListNetLoss", "NativeLoss", "RankNetLoss"]


class HeadLoss(Loss):
    """Interface of the ranking losses: ``loss(scores, relevance, groups)``.

    Scores are ``[N]`` or ``[N, 1]`` floats, relevance ``[N]`` numbers, and groups ``[N]`` integers, which say what
    query an item is of; without them all are of one. Items of different groups are never compared.

    Args:
        need_logs: whether to keep ``last_logs``, see :class:`Loss`.
    """

    takes: ClassVar[str] = "relevance"

    def compute(self, scores: Tensor, relevance: Tensor, groups: Tensor | None) -> Tensor:
        """The loss of scores and relevance ``[N]``, floats of float32 at least."""
        raise NotImplementedError

    def check(self, scores: Tensor, relevance: Tensor, groups: Tensor | None = None) -> None:
        """Raise ``ValueError`` if the shapes do not fit."""
        forms = {"scores": scores, "relevance": relevance} | ({} if groups is None else {"groups": groups})
        check_rows(forms, {"scores": [["N"], ["N", "1"]], "relevance": [["N"]], "groups": [["N"]]})
        if len(scores.shape) == 2 and scores.shape[1] != 1:
            raise ValueError(f"scores must have shape [N] or [N, 1], got {list(scores.shape)}")


class RankNetLoss(HeadLoss):
    r"""Asks of each pair of a group that the more relevant item has the higher score.

    .. math:: \frac{1}{|P|} \sum_{(i, j) \in P} \log(1 + e^{-\sigma (s_i - s_j)})

    where P holds the ordered pairs of one group with i more relevant than j.

    Args:
        sigma: how steep a score counts, above 0.
        need_logs: whether to keep ``last_logs``, see :class:`Loss`.

    Raises:
        ValueError: if an argument is out of its range, or a shape does not fit.

    Source: Burges et al., "Learning to rank using gradient descent", ICML 2005.
    """

    def __init__(self, sigma: float = 1.0, need_logs: bool = False):
        super().__init__(need_logs)
        self.sigma = checks.above("sigma", sigma, 0)


class ListNetLoss(HeadLoss):
    r"""Brings the chances of each item to be the first of its group to those that relevance gives it.

    .. math:: -\frac{1}{|G|} \sum_{g \in G} \sum_{i \in g}
        \frac{e^{r_i / \tau}}{\sum_{j \in g} e^{r_j / \tau}} \log \frac{e^{s_i}}{\sum_{j \in g} e^{s_j}}

    where r is the relevance, s the score, and G the groups.

    Args:
        temperature: tau, above 0, in units of the relevance.
        need_logs: whether to keep ``last_logs``, see :class:`Loss`.

    Raises:
        ValueError: if an argument is out of its range, or a shape does not fit.

    Source: Cao et al., "Learning to rank: from pairwise approach to listwise approach", ICML 2007.
    """

    def __init__(self, temperature: float = 1.0, need_logs: bool = False):
        super().__init__(need_logs)
        self.temperature = checks.normal_temperature(temperature)


class LambdaRankLoss(HeadLoss):
    r"""RankNet, each pair weighed by what its exchange would do to the group's nDCG.

    .. math:: \frac{1}{|G|} \sum_{g \in G} \sum_{(i, j) \in P_g}
        \frac{|2^{r_i} - 2^{r_j}|}{D^*_g} \Big|\frac{1}{D(\pi_i)} - \frac{1}{D(\pi_j)}\Big|
        \log(1 + e^{-\sigma (s_i - s_j)})

    where :math:`P_g` holds the pairs of a group with i more relevant than j, G the groups that have one,
    :math:`\pi` is the rank by score (of equals the first comes first), :math:`D(\pi) = \log_2(1 + \pi)`, and
    :math:`D^*_g` the group's best DCG. Ranks have no gradient.

    Args:
        sigma: how steep a score counts, above 0.
        k: the depth of the nDCG, at least 1: deeper ranks count nothing; None for all.
        need_logs: whether to keep ``last_logs``, see :class:`Loss`.

    Raises:
        ValueError: if an argument is out of its range, or a shape does not fit.

    Source: Burges et al., "Learning to rank with nonsmooth cost functions", NIPS 2006; as a loss in Wang et al., "The
    LambdaLoss framework for ranking metric optimization", CIKM 2018.
    """

    def __init__(self, sigma: float = 1.0, k: int | None = None, need_logs: bool = False):
        super().__init__(need_logs)
        self.sigma = checks.above("sigma", sigma, 0)
        self.k = None if k is None else checks.whole("k", k, 1)


class FocalLoss(Loss):
    r"""Cross-entropy that turns to the items which are not yet classified well.

    .. math:: -\frac{1}{\sum_i w_{y_i}} \sum_i w_{y_i} (1 - p_i)^\gamma \log p_i

    where :math:`p_i` is the softmax of item i's logits at its class :math:`y_i`. Called as ``loss(logits, labels)``
    with ``[N, C]`` and ``[N]`` integers. With :math:`\gamma = 0` it is the cross-entropy with class weights.

    Args:
        gamma: how much less what is classified well counts, at least 0.
        weight: w, a number of at least 0 for each class, ``[C]``; by default 1. It weighs a term and does not enter p.
        reduction: ``"mean"`` as above, the ``"sum"`` of the weighed terms, or ``"none"``: ``[N]``, them alone.
        need_logs: whether to keep ``last_logs``, see :class:`Loss`.

    Raises:
        ValueError: if an argument is out of its range, or a shape does not fit.

    Source: Lin et al., "Focal loss for dense object detection", ICCV 2017.
    """

    takes: ClassVar[str] = "classes"
    sampler: ClassVar[str] = "random"

    def __init__(
        self,
        gamma: float = 2.0,
        weight: Sequence[float] | None = None,
        reduction: str = "mean",
        need_logs: bool = False,
    ):
        super().__init__(need_logs)
        self.gamma = checks.at_least("gamma", gamma, 0)
        self.weight = None if weight is None else [float(checks.at_least("weight", float(w), 0)) for w in weight]
        self.reduction = checks.one_of("reduction", reduction, MEANS)

    def compute(self, logits: Tensor, labels: Tensor) -> Tensor:
        """The loss of logits ``[N, C]``, floats of float32 at least."""
        raise NotImplementedError

    def check(self, logits: Tensor, labels: Tensor) -> None:
        """Raise ``ValueError`` if the shapes do not fit."""
        check_rows({"logits": logits, "labels": labels}, {"logits": [["N", "C"]], "labels": [["N"]]})
        if self.weight is not None and len(self.weight) != logits.shape[1]:
            raise ValueError(f"weight must hold a number for each of {logits.shape[1]} classes, got {len(self.weight)}")


class NativeLoss(Loss):
    """A loss of the framework's own as a tuner takes it: ``loss(outputs, targets, weights)``.

    Tuners make it of an instance, or of a name among :attr:`names`, for a head that classifies, regresses or gives
    each item a score. Targets are ``[N]`` or ``[N, C]``; an output ``[N, 1]`` meets targets ``[N]`` as ``[N]``. With
    weights ``[N]`` the mean is the weighed one, over the sum of the weights; without, the loss is as it comes.

    Args:
        loss: an instance of the framework's own.
        need_logs: nothing is kept; for all losses to be alike.

    Raises:
        TypeError: if ``loss`` is not of the framework's own.
    """

    takes: ClassVar[str] = "values"
    sampler: ClassVar[str] = "random"

    def __init__(self, loss: Any, need_logs: bool = False):
        super().__init__(need_logs)
        self.loss = loss

    def check(self, outputs: Tensor, targets: Tensor, weights: Tensor | None = None) -> None:
        """Raise ``ValueError`` if the shapes do not fit."""
        forms = {"outputs": outputs, "targets": targets} | ({} if weights is None else {"weights": weights})
        check_rows(forms, {"outputs": [["N"], ["N", "C"]], "targets": [["N"], ["N", "C"]], "weights": [["N"]]})
