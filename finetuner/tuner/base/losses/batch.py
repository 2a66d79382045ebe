"""Losses over all items of a batch: they see embeddings and relations, never the kind of label."""

from typing import Any, ClassVar

from .... import checks
from ..data.relations import check_labels, check_self_offset
from .loss import DISTANCES, MEAN_REDUCTIONS, Loss, Tensor

__all__ = ["LiftedStructureLoss", "MultiSimilarityLoss", "NTXentLoss", "SupConLoss", "SurrogatePrecision"]


class BatchLoss(Loss):
    """Interface of all losses over the items of a batch.

    ``loss(embeddings, labels)`` compares the batch with itself: each row is a query, and all other rows are its
    references. ``loss(embeddings, labels, references, reference_labels)`` compares it with other rows, such as a
    memory bank. Embeddings are ``[N, D]`` and ``[M, D]`` floats. Labels are ``[N]`` integers (classes or instances),
    ``[N, 2]`` integers (session and role), or ``[N, C]`` booleans or floats (label sets, see
    :mod:`finetuner.tuner.base.data.relations`). If the batch itself is among the references, from row ``self_offset``
    on, no row is its own reference. Large batches are computed in tiles or in blocks of rows
    (:mod:`finetuner.tuner.base.losses.blocks`), so memory grows with N and not with N x M.

    Args:
        need_logs: Whether to keep ``last_logs``, see :class:`Loss`.
    """

    tuples: ClassVar[str] = "pairs"  # what the loss averages over: "pairs", "triplets" or "positives"
    distance = "cosine"
    reduction = "mean"

    def compute(self, queries: Tensor, references: Tensor, relations: Any) -> Tensor:
        """The loss of queries ``[N, D]`` against references ``[M, D]``, both in float32 at least."""
        raise NotImplementedError

    def terms(self, rows: Any) -> tuple[Tensor, Tensor, Tensor]:
        """For each row of a comparison: the sum, the number of tuples, and how many of them are above 0.

        Each of the three is ``[B]``. The terms of a row must depend on that row only. ``rows`` is a ``Comparison`` of
        the backend: the formula is over ``rows.positives()`` and ``rows.reduce(...)``, see :mod:`.reductions`.
        """
        raise NotImplementedError

    @property
    def tiled(self) -> bool:
        """Whether :meth:`terms` needs no array of all distances."""
        return True

    def reduce_terms(self, sums: Tensor, count: Tensor, active: Tensor) -> Tensor:
        """Reduce the :meth:`terms` of all rows, ``[N]`` or already summed to ``[]``, to the loss."""
        raise NotImplementedError

    def check(
        self,
        embeddings: Tensor,
        labels: Tensor,
        references: Tensor | None = None,
        reference_labels: Tensor | None = None,
        self_offset: int | None = None,
    ) -> None:
        """Raise an error if the arguments do not fit. It looks at no value, so it also runs while tracing.

        Raises:
            TypeError: If an argument is not a tensor of the framework.
            ValueError: If a shape does not fit, or labels are of another kind.
        """
        if (references is None) != (reference_labels is None):
            raise ValueError("references and reference_labels must be given together, got one of them")
        sides = [("embeddings", embeddings, "labels", labels)]
        if references is not None:
            sides.append(("references", references, "reference_labels", reference_labels))
        for x_name, x, y_name, y in sides:
            self.check_tensors(**{x_name: x, y_name: y})
            checks.shape(x_name, x.shape, ["N", "D"])
            check_labels(y_name, y, str(y.dtype))
            if x.shape[0] != y.shape[0]:
                raise ValueError(f"{x_name} and {y_name} must have the same length, got {x.shape[0]} and {y.shape[0]}")
        dimensions = [x.shape[1] for _, x, _, _ in sides]
        if len(set(dimensions)) > 1:
            raise ValueError(f"embeddings and references must have the same dimension, got {dimensions}")
        if references is not None and len(labels.shape) != len(reference_labels.shape):  # type: ignore[union-attr]
            raise ValueError(
                "labels and reference_labels must be of one kind, got "
                f"{list(labels.shape)} and {list(reference_labels.shape)}"  # type: ignore[union-attr]
            )
        check_self_offset(self_offset, embeddings, references)


class NTXentLoss(BatchLoss):
    r"""NT-Xent (InfoNCE): classifies each positive among the negatives of its anchor, by a softmax over cosines.

    .. math:: -\frac{1}{|P|} \sum_{(i, j) \in P} \log
        \frac{e^{s_{ij} / \tau}}{e^{s_{ij} / \tau} + \sum_{k \in N_i} e^{s_{ik} / \tau}}

    s is the cosine similarity, P contains the ordered positive pairs, and :math:`N_i` the negatives of i. With two
    views of each instance this is the loss of SimCLR. With more positives, each is classified separately.

    Args:
        temperature: tau, at least 1e-26, so that gradients are finite in float32.
        need_logs: Whether to keep ``last_logs``, see :class:`Loss`.

    Raises:
        ValueError: If the temperature is out of its range.

    Example:
        >>> embeddings = tensor([[1.0, 0.0], [0.8, 0.6], [0.0, 1.0], [-0.6, 0.8]])
        >>> labels = tensor([0, 0, 1, 1])
        >>> loss = NTXentLoss(temperature=0.5)
        >>> round(float(loss(embeddings, labels)), 4)
        0.4302

    References:
        Chen et al., "A simple framework for contrastive learning of visual representations", ICML 2020. Sohn, "Improved
        deep metric learning with multi-class N-pair loss objective", NeurIPS 2016.
    """

    tuples = "positives"

    def __init__(self, temperature: float = 0.1, need_logs: bool = False):
        super().__init__(need_logs)
        self.temperature = checks.temperature(temperature)


class SupConLoss(BatchLoss):
    r"""Supervised contrastive loss: a softmax over all positives and negatives of an anchor.

    .. math:: -\frac{1}{|A|} \sum_{i \in A} \frac{1}{|P_i|} \sum_{j \in P_i} \log
        \frac{e^{s_{ij} / \tau}}{\sum_{k \in P_i \cup N_i} e^{s_{ik} / \tau}}

    s is the cosine similarity, :math:`P_i` and :math:`N_i` are the positives and negatives of i, and A contains the
    anchors with a positive. With two items per class this is NT-Xent.

    Args:
        temperature: tau, at least 1e-26, so that gradients are finite in float32.
        need_logs: Whether to keep ``last_logs``, see :class:`Loss`.

    Raises:
        ValueError: If the temperature is out of its range.

    Example:
        >>> embeddings = tensor([[1.0, 0.0], [0.8, 0.6], [0.0, 1.0], [-0.6, 0.8]])
        >>> labels = tensor([0, 0, 1, 1])
        >>> loss = SupConLoss(temperature=0.5)
        >>> round(float(loss(embeddings, labels)), 4)
        0.4302

    References:
        Khosla et al., "Supervised contrastive learning", NeurIPS 2020, the variant with the sum outside the logarithm.
    """

    tuples = "positives"

    def __init__(self, temperature: float = 0.1, need_logs: bool = False):
        super().__init__(need_logs)
        self.temperature = checks.temperature(temperature)


class MultiSimilarityLoss(BatchLoss):
    r"""Multi-similarity loss: weights each pair by its similarity relative to the other pairs of its anchor.

    .. math:: \frac{1}{|A|} \sum_{i \in A}
        \frac{1}{\alpha} \log\Big(1 + \sum_{j \in P_i} e^{-\alpha (s_{ij} - \lambda)}\Big) +
        \frac{1}{\beta} \log\Big(1 + \sum_{k \in N_i} e^{\beta (s_{ik} - \lambda)}\Big)

    s is the cosine similarity, :math:`P_i` and :math:`N_i` are the positives and negatives of i, and A contains the
    anchors with a positive or a negative.

    Args:
        alpha: How strongly the hardest positives are weighted, above 0.
        beta: How strongly the hardest negatives are weighted, above 0.
        base: lambda, the similarity that separates easy from hard pairs.
        need_logs: Whether to keep ``last_logs``, see :class:`Loss`.

    Raises:
        ValueError: If an argument is out of its range.

    Example:
        >>> embeddings = tensor([[1.0, 0.0], [0.8, 0.6], [0.0, 1.0], [-0.6, 0.8]])
        >>> labels = tensor([0, 0, 1, 1])
        >>> loss = MultiSimilarityLoss(alpha=2.0, beta=50.0, base=0.5)
        >>> round(float(loss(embeddings, labels)), 4)
        0.2688

    References:
        Wang et al., "Multi-similarity loss with general pair weighting for deep metric learning", CVPR 2019, without
        its pair mining.
    """

    def __init__(self, alpha: float = 2.0, beta: float = 50.0, base: float = 0.5, need_logs: bool = False):
        super().__init__(need_logs)
        self.alpha = checks.above("alpha", alpha, 0)
        self.beta = checks.above("beta", beta, 0)
        self.base = checks.number("base", base)


class LiftedStructureLoss(BatchLoss):
    r"""Lifted structure loss: the log-sum-exp of all positives against that of all negatives of an anchor.

    .. math:: \frac{1}{|A|} \sum_{i \in A} \max\Big(0,\;
        \log \sum_{j \in P_i} e^{d_{ij}} + \log \sum_{k \in N_i} e^{m - d_{ik}}\Big)

    :math:`P_i` and :math:`N_i` are the positives and negatives of i, and A contains the anchors with both.

    Args:
        distance: d, one of ``"cosine"`` (1 - cos), ``"euclidean"`` and ``"sqeuclidean"``.
        margin: m, at least 0, in units of the distance.
        need_logs: Whether to keep ``last_logs``, see :class:`Loss`.

    Raises:
        ValueError: If an argument is out of its range.

    Example:
        >>> embeddings = tensor([[1.0, 0.0], [0.8, 0.6], [0.0, 1.0], [-0.6, 0.8]])
        >>> labels = tensor([0, 0, 1, 1])
        >>> loss = LiftedStructureLoss(distance="cosine", margin=1.0)
        >>> round(float(loss(embeddings, labels)), 4)
        0.9375

    References:
        Hermans et al., "In defense of the triplet loss for person re-identification", 2017, the generalised form of
        Song et al., "Deep metric learning via lifted structured feature embedding", CVPR 2016.
    """

    tuples = "triplets"

    def __init__(self, distance: str = "cosine", margin: float = 1.0, need_logs: bool = False):
        super().__init__(need_logs)
        self.distance = checks.one_of("distance", distance, DISTANCES)
        self.margin = checks.at_least("margin", margin, 0)


class SurrogatePrecision(BatchLoss):
    r"""A differentiable surrogate of 1 - precision@k: sigmoids replace the ranks and the cutoff at k.

    .. math:: 1 - \frac{1}{|A|} \sum_{i \in A} \frac{1}{\min(k, |P_i|)} \sum_{j \in P_i}
        \sigma\Big(\frac{k - r_{ij}}{\tau_1}\Big), \qquad
        r_{ij} = 1 + \sum_{l \in P_i \cup N_i \setminus j} \sigma\Big(\frac{d_{ij} - d_{il}}{\tau_2}\Big)

    :math:`P_i` and :math:`N_i` are the positives and negatives of i, and A contains the anchors with a positive. The
    loss is negative if more than k positives share the first ranks. It takes N x N x K operations with K positives per
    anchor, and memory grows with N.

    With ``include_self=True``, each item is also its own first match, at distance 0, and the cutoff is k + 1. The rank
    of j then begins at 1/2, which is the sigmoid of j itself:

    .. math:: 1 - \frac{1}{N} \sum_i \frac{1}{\min(k, |P_i|) + 1} \sum_{j \in P_i \cup i}
        \sigma\Big(\frac{k + 1 - r_{ij}}{\tau_1}\Big), \qquad
        r_{ij} = \sum_{l \in P_i \cup N_i \cup i} \sigma\Big(\frac{d_{ij} - d_{il}}{\tau_2}\Big)

    Args:
        k: The cutoff, at least 1.
        temperature1: Of the cutoff, above 0, in ranks.
        temperature2: Of the ranks, above 0, in units of the distance.
        distance: d, one of ``"cosine"`` (1 - cos), ``"euclidean"`` and ``"sqeuclidean"``.
        include_self: Whether each item is its own first match. All items are anchors then, those without another
            positive, too. With ``distance="euclidean"`` this is the loss of OpenMetricLearning 4.0.
        reduction: ``"mean"`` over the anchors, their ``"sum"``, or ``"none"``: ``[N]``, 0 for rows without a positive.
        need_logs: Whether to keep ``last_logs``, see :class:`Loss`.

    Raises:
        ValueError: If an argument is out of its range.

    Example:
        >>> embeddings = tensor([[1.0, 0.0], [0.8, 0.6], [0.0, 1.0], [-0.6, 0.8]])
        >>> labels = tensor([0, 0, 1, 1])
        >>> loss = SurrogatePrecision(k=1, temperature1=0.1, temperature2=0.01)
        >>> round(float(loss(embeddings, labels)), 4)
        0.5

    References:
        Patel et al., "Recall@k surrogate loss with large batches and similarity mixup", CVPR 2022.
    """

    tuples = "positives"

    def __init__(
        self,
        k: int = 5,
        temperature1: float = 1.0,
        temperature2: float = 0.01,
        distance: str = "cosine",
        include_self: bool = False,
        reduction: str = "mean",
        need_logs: bool = False,
    ):
        super().__init__(need_logs)
        self.k = checks.integer("k", k, 1)
        self.temperature1 = checks.above("temperature1", temperature1, 0)
        self.temperature2 = checks.above("temperature2", temperature2, 0)
        self.distance = checks.one_of("distance", distance, DISTANCES)
        self.include_self = checks.boolean("include_self", include_self)
        self.reduction = checks.one_of("reduction", reduction, MEAN_REDUCTIONS)

    @property
    def tiled(self) -> bool:
        """Always False: the ranks of the positives need all distances of a row."""
        return False
