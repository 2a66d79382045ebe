"""Learning to rank: losses of scores that order the answers of a query."""

from typing import ClassVar

from .... import checks
from .loss import Loss, Tensor

__all__ = ["LambdaRankLoss", "ListNetLoss", "RankNetLoss"]

GAINS = ("exponential", "linear")  # of a relevance r: 2^r - 1, or r


class RankingLoss(Loss):
    """Interface of the ranking losses: ``loss(scores, relevance, groups)``.

    Scores are ``[N]`` or ``[N, 1]`` floats, relevance is ``[N]`` numbers, and groups are ``[N]`` integers, the query of
    each item. Without groups all items answer one query. Items of different queries are never compared.

    Args:
        need_logs: Whether to keep ``last_logs``, see :class:`Loss`.
    """

    target_type: ClassVar[str] = "relevance"
    takes_embeddings: ClassVar[bool] = False

    def compute(self, scores: Tensor, relevance: Tensor, groups: Tensor | None) -> Tensor:
        """The loss of scores and relevance ``[N]`` in float32 at least."""
        raise NotImplementedError

    def check(self, scores: Tensor, relevance: Tensor, groups: Tensor | None = None) -> None:
        """Raise ``ValueError`` if the shapes do not fit."""
        tensors = {"scores": scores, "relevance": relevance} | ({} if groups is None else {"groups": groups})
        self.check_shapes(tensors, {"scores": [["N"], ["N", "1"]], "relevance": [["N"]], "groups": [["N"]]})
        if len(scores.shape) == 2 and scores.shape[1] != 1:
            raise ValueError(f"scores must have shape [N] or [N, 1], got {list(scores.shape)}")


class RankNetLoss(RankingLoss):
    r"""RankNet: pairwise logistic loss. For each pair of a query, the more relevant item should get the higher score.

    .. math:: \frac{1}{|P|} \sum_{(i, j) \in P} \log(1 + e^{-\sigma (s_i - s_j)})

    P contains the ordered pairs of one query with i more relevant than j.

    Args:
        sigma: The steepness, above 0.
        need_logs: Whether to keep ``last_logs``, see :class:`Loss`.

    Raises:
        ValueError: If an argument is out of its range, or a shape does not fit.

    Example:
        >>> scores, relevance = tensor([2.0, 0.5, 1.0]), tensor([2.0, 1.0, 0.0])
        >>> loss = RankNetLoss()
        >>> round(float(loss(scores, relevance)), 4)
        0.4963

    References:
        Burges et al., "Learning to rank using gradient descent", ICML 2005.
    """

    def __init__(self, sigma: float = 1.0, need_logs: bool = False):
        super().__init__(need_logs)
        self.sigma = checks.above("sigma", sigma, 0)


class ListNetLoss(RankingLoss):
    r"""ListNet: cross-entropy between the softmax of the relevance and the softmax of the scores of each query.

    .. math:: -\frac{1}{|G|} \sum_{g \in G} \sum_{i \in g}
        \frac{e^{r_i / \tau}}{\sum_{j \in g} e^{r_j / \tau}} \log \frac{e^{s_i}}{\sum_{j \in g} e^{s_j}}

    r is the relevance, s the score, and G the queries.

    Args:
        temperature: tau, above 0, in units of the relevance.
        need_logs: Whether to keep ``last_logs``, see :class:`Loss`.

    Raises:
        ValueError: If an argument is out of its range, or a shape does not fit.

    Example:
        >>> scores, relevance = tensor([2.0, 0.5, 1.0]), tensor([2.0, 1.0, 0.0])
        >>> loss = ListNetLoss()
        >>> round(float(loss(scores, relevance)), 4)
        0.9215

    References:
        Cao et al., "Learning to rank: from pairwise approach to listwise approach", ICML 2007.
    """

    def __init__(self, temperature: float = 1.0, need_logs: bool = False):
        super().__init__(need_logs)
        self.temperature = checks.temperature(temperature)


class LambdaRankLoss(RankingLoss):
    r"""LambdaRank: RankNet with each pair weighted by how much swapping its two items would change nDCG.

    .. math:: \frac{1}{|G|} \sum_{g \in G} \sum_{(i, j) \in P_g}
        \frac{|g(r_i) - g(r_j)|}{D^*_g} \Big|\frac{1}{D(\pi_i)} - \frac{1}{D(\pi_j)}\Big|
        \log(1 + e^{-\sigma (s_i - s_j)})

    :math:`P_g` contains the pairs of a query with i more relevant than j, and G the queries with such a pair.
    :math:`\pi` is the rank by score (of equal scores, the first item ranks first), :math:`D(\pi) = \log_2(1 + \pi)`,
    and :math:`D^*_g` is the ideal DCG of the query. Ranks have no gradient.

    Args:
        sigma: The steepness, above 0.
        k: The cutoff of nDCG, at least 1; None for all ranks.
        gain: g, the gain of a relevance r: ``"exponential"``, 2^r - 1, or ``"linear"``, r.
        need_logs: Whether to keep ``last_logs``, see :class:`Loss`.

    Raises:
        ValueError: If an argument is out of its range, or a shape does not fit.

    Example:
        >>> scores, relevance = tensor([2.0, 0.5, 1.0]), tensor([2.0, 1.0, 0.0])
        >>> loss = LambdaRankLoss()
        >>> round(float(loss(scores, relevance)), 4)
        0.1861

    References:
        Burges et al., "Learning to rank with nonsmooth cost functions", NIPS 2006. As a loss: Wang et al., "The
        LambdaLoss framework for ranking metric optimization", CIKM 2018.
    """

    def __init__(self, sigma: float = 1.0, k: int | None = None, gain: str = "exponential", need_logs: bool = False):
        super().__init__(need_logs)
        self.sigma = checks.above("sigma", sigma, 0)
        self.k = None if k is None else checks.integer("k", k, 1)
        self.gain = checks.one_of("gain", gain, GAINS)
