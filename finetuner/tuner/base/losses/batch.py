"""The losses of a whole batch, which know embeddings and relations: who belongs to whom.

See :mod:`finetuner.tuner.base.relations`; they never know what kind of label said so.
"""

from typing import Any, ClassVar

from .. import checks
from ..miner import Miner
from ..relations import LABEL_FORMS
from .interface import DISTANCES, MEANS, Loss, Tensor

__all__ = [
    "BatchLoss",
    "LiftedStructureLoss",
    "MultiSimilarityLoss",
    "NTXentLoss",
    "SiameseLoss",
    "SupConLoss",
    "SurrogatePrecision",
    "TripletLoss",
    "TripletMarginLoss",
]

REDUCTIONS = ("mean", "nonzero_mean", "sum", "none")


class BatchLoss(Loss):
    """Interface of all losses of a whole batch.

    ``loss(embeddings, labels)`` sees the batch against itself: each row is a query, all other rows are
    its references. ``loss(embeddings, labels, references, reference_labels)`` sees it against other
    rows, such as a memory bank. Embeddings are ``[N, D]`` and ``[M, D]`` floats, computed on in float32
    at least; labels are ``[N]`` integers (classes, instances) or ``[N, 2]`` integers (session, role).
    The result is a scalar, ``[]``; a batch without any tuple to learn from gives 0 with gradients of 0. Larger batches
    are taken in blocks of rows (:mod:`finetuner.tuner.base.blocks`), in memory that grows with N alone.

    Args:
        need_logs: whether to keep ``last_logs``, see :class:`Loss`.
    """

    tuples: ClassVar[str] = "pairs"  # what the loss is a mean over: "pairs", "triplets" or "positives"
    distance = "cosine"
    reduction = "mean"

    def compute(self, queries: Tensor, references: Tensor, relations: Any) -> Tensor:
        """The loss of queries ``[N, D]`` against references ``[M, D]``, both at least float32: :meth:`terms`, reduced.

        Takes queries in blocks, and the memory of a block: see :mod:`finetuner.tuner.base.blocks`.
        """
        raise NotImplementedError

    def terms(self, distances: Tensor, positive: Tensor, negative: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Sum, number of tuples, and number of those above 0, of each row of a block: three ``[B, M]`` to ``[B]``.

        A row's depend on that row alone.
        """
        raise NotImplementedError

    def reduced(self, sums: Tensor, count: Tensor, active: Tensor) -> Tensor:
        """What :meth:`terms` gives of all rows, ``[N]`` or summed ``[]``, brought to the loss."""
        raise NotImplementedError

    def check(
        self,
        embeddings: Tensor,
        labels: Tensor,
        references: Tensor | None = None,
        reference_labels: Tensor | None = None,
    ) -> None:
        """Raise ``ValueError`` if the shapes do not fit. Looks at no value, so it also runs while tracing."""
        if (references is None) != (reference_labels is None):
            raise ValueError("references and reference_labels must be given together, got one of them")
        sides = [("embeddings", embeddings, "labels", labels)]
        if references is not None:
            sides.append(("references", references, "reference_labels", reference_labels))
        for x_name, x, y_name, y in sides:
            checks.expected_shape(x_name, x.shape, ["N", "D"])
            checks.expected_shape(y_name, y.shape, *LABEL_FORMS)
            if x.shape[0] != y.shape[0]:
                raise ValueError(f"{x_name} and {y_name} must be of one length, got {x.shape[0]} and {y.shape[0]}")
        dimensions = [x.shape[1] for _, x, _, _ in sides]
        if len(set(dimensions)) > 1:
            raise ValueError(f"embeddings and references must be of one dimension, got {dimensions}")


class TripletLoss(BatchLoss):
    r"""Brings positives closer to their anchor than negatives, by a margin.

    .. math:: \frac{1}{|T|} \sum_{(a, p, n) \in T} \max(0,\; d_{ap} - d_{an} + m)

    where T holds every anchor with each of its positives and each of its negatives, or those that the
    miner selects. Without a margin the hinge is softened to :math:`\log(1 + e^{d_{ap} - d_{an}})`.
    The sum is exact over all triplets, in the memory of a block of rows.

    Triplets may also be given row by row: ``loss(anchor, positive, negative)``, three ``[T, D]``, or
    ``loss(rows)``, one ``[3 T, D]`` in the order anchor, positive, negative, anchor, ...; ``"none"`` then gives
    ``[T]``.

    Args:
        distance: d, one of ``"cosine"`` (1 - cos), ``"euclidean"`` and ``"sqeuclidean"``.
        margin: m, at least 0, in units of the distance; None for the soft form.
        miner: selects the triplets; all of the batch by default.
        reduction: ``"mean"`` over the triplets, ``"nonzero_mean"`` over those whose loss is above 0,
            their ``"sum"``, or ``"none"``: ``[N]``, the sum of each anchor.
        need_logs: whether to keep ``last_logs``, see :class:`Loss`.

    Raises:
        ValueError: if an argument is out of its range.

    Source: Schroff et al., "FaceNet", CVPR 2015; the soft form is of Hermans et al., "In defense of the
    triplet loss for person re-identification", 2017.
    """

    tuples = "triplets"

    def __init__(
        self,
        distance: str = "cosine",
        margin: float | None = 1.0,
        miner: Miner | None = None,
        reduction: str = "mean",
        need_logs: bool = False,
    ):
        super().__init__(need_logs)
        self.distance = checks.one_of("distance", distance, DISTANCES)
        self.margin = None if margin is None else checks.at_least("margin", margin, 0)
        self.miner = fitting_miner(miner, self.tuples)
        self.reduction = checks.one_of("reduction", reduction, REDUCTIONS)

    def explicit(
        self, embeddings: Tensor, labels: Tensor | None, references: Tensor | None, reference_labels: Tensor | None
    ) -> tuple[Tensor, Tensor, Tensor] | None:
        """Anchors, positives and negatives ``[T, D]``, if triplets were given row by row; None if labels were.

        Raises:
            ValueError: if the shapes do not fit.
        """
        if labels is None:
            checks.expected_shape("rows", embeddings.shape, ["3 T", "D"])
            count = max(0, embeddings.shape[0] or 0)  # a compiler that leaves it open says None or -1
            if references is not None or count % 3:
                raise ValueError(f"rows without labels must be triplets, [3 T, D] alone, got {list(embeddings.shape)}")
            return embeddings[0::3], embeddings[1::3], embeddings[2::3]
        if references is None or reference_labels is not None or len(labels.shape) != 2:
            return None
        shapes = [list(x.shape) for x in (embeddings, labels, references)]
        if len(shapes[0]) != 2 or shapes.count(shapes[0]) < 3:
            raise ValueError(f"anchor, positive and negative must be of one shape [T, D], got {shapes}")
        return embeddings, labels, references


class SiameseLoss(BatchLoss):
    r"""Brings positives together, and drives negatives apart up to a margin.

    .. math:: \frac{1}{|P|} \sum_{\{i, j\} \in P} s_{ij}\, d_{ij} + (1 - s_{ij}) \max(0,\; m - d_{ij})

    where s is 1 for a positive pair and 0 for a negative one, and P holds each unordered pair once.

    Args:
        distance: d, one of ``"cosine"`` (1 - cos), ``"euclidean"`` and ``"sqeuclidean"``.
        margin: m, at least 0, in units of the distance.
        miner: selects the pairs; all of the batch by default. A pair counts if either end selects it.
        reduction: ``"mean"`` over the pairs, ``"nonzero_mean"`` over those whose loss is above 0, their
            ``"sum"``, or ``"none"``: ``[N]``, each row's share, half of each of its pairs.
        need_logs: whether to keep ``last_logs``, see :class:`Loss`.

    Raises:
        ValueError: if an argument is out of its range.

    Source: Hadsell et al., "Dimensionality reduction by learning an invariant mapping", CVPR 2006, with
    distances in place of their squares.
    """

    def __init__(
        self,
        distance: str = "cosine",
        margin: float = 1.0,
        miner: Miner | None = None,
        reduction: str = "mean",
        need_logs: bool = False,
    ):
        super().__init__(need_logs)
        self.distance = checks.one_of("distance", distance, DISTANCES)
        self.margin = checks.at_least("margin", margin, 0)
        self.miner = fitting_miner(miner, self.tuples)
        self.reduction = checks.one_of("reduction", reduction, REDUCTIONS)


class NTXentLoss(BatchLoss):
    r"""Tells the other view of an instance, or a member of its class, from all that is negative.

    .. math:: -\frac{1}{|P|} \sum_{(i, j) \in P} \log
        \frac{e^{s_{ij} / \tau}}{e^{s_{ij} / \tau} + \sum_{k \in N_i} e^{s_{ik} / \tau}}

    where s is the cosine similarity, P holds the ordered positive pairs and :math:`N_i` the negatives of
    i. With two views of each instance this is SimCLR's loss; with more, each positive stands alone
    against the negatives.

    Args:
        temperature: tau, above 0 and no less than float32's smallest normal number.
        need_logs: whether to keep ``last_logs``, see :class:`Loss`.

    Raises:
        ValueError: if the temperature is out of its range.

    Source: Chen et al., "A simple framework for contrastive learning of visual representations", ICML
    2020; Sohn, "Improved deep metric learning with multi-class N-pair loss objective", NeurIPS 2016.
    """

    tuples = "positives"

    def __init__(self, temperature: float = 0.1, need_logs: bool = False):
        super().__init__(need_logs)
        self.temperature = checks.normal_temperature(temperature)


class SupConLoss(BatchLoss):
    r"""Tells all members of a class from all that is negative: NT-Xent's softmax, with every positive in it.

    .. math:: -\frac{1}{|A|} \sum_{i \in A} \frac{1}{|P_i|} \sum_{j \in P_i} \log
        \frac{e^{s_{ij} / \tau}}{\sum_{k \in P_i \cup N_i} e^{s_{ik} / \tau}}

    where s is the cosine similarity, :math:`P_i` and :math:`N_i` hold the positives and negatives of i, and A
    the anchors that have a positive. With two items a class this is NT-Xent.

    Args:
        temperature: tau, above 0 and no less than float32's smallest normal number.
        need_logs: whether to keep ``last_logs``, see :class:`Loss`.

    Raises:
        ValueError: if the temperature is out of its range.

    Source: Khosla et al., "Supervised contrastive learning", NeurIPS 2020, the loss with the sum outside.
    """

    tuples = "positives"

    def __init__(self, temperature: float = 0.1, need_logs: bool = False):
        super().__init__(need_logs)
        self.temperature = checks.normal_temperature(temperature)


class MultiSimilarityLoss(BatchLoss):
    r"""Weighs each pair by how it compares with the others of its anchor.

    .. math:: \frac{1}{|A|} \sum_{i \in A}
        \frac{1}{\alpha} \log\Big(1 + \sum_{j \in P_i} e^{-\alpha (s_{ij} - \lambda)}\Big) +
        \frac{1}{\beta} \log\Big(1 + \sum_{k \in N_i} e^{\beta (s_{ik} - \lambda)}\Big)

    where s is the cosine similarity, :math:`P_i` and :math:`N_i` hold the positives and negatives of i, and A
    the anchors that have either.

    Args:
        alpha: how sharply positives are weighed, above 0.
        beta: how sharply negatives are weighed, above 0.
        base: lambda, the similarity about which pairs count.
        need_logs: whether to keep ``last_logs``, see :class:`Loss`.

    Raises:
        ValueError: if an argument is out of its range.

    Source: Wang et al., "Multi-similarity loss with general pair weighting for deep metric learning", CVPR
    2019, without its mining.
    """

    def __init__(self, alpha: float = 2.0, beta: float = 50.0, base: float = 0.5, need_logs: bool = False):
        super().__init__(need_logs)
        self.alpha = checks.above("alpha", alpha, 0)
        self.beta = checks.above("beta", beta, 0)
        self.base = checks.number("base", base)


class LiftedStructureLoss(BatchLoss):
    r"""Holds all positives of an anchor against all of its negatives at once, by smooth maxima.

    .. math:: \frac{1}{|A|} \sum_{i \in A} \max\Big(0,\;
        \log \sum_{j \in P_i} e^{d_{ij}} + \log \sum_{k \in N_i} e^{m - d_{ik}}\Big)

    where :math:`P_i` and :math:`N_i` hold the positives and negatives of i, and A the anchors that have both.

    Args:
        distance: d, one of ``"cosine"`` (1 - cos), ``"euclidean"`` and ``"sqeuclidean"``.
        margin: m, at least 0, in units of the distance.
        need_logs: whether to keep ``last_logs``, see :class:`Loss`.

    Raises:
        ValueError: if an argument is out of its range.

    Source: Hermans et al., "In defense of the triplet loss for person re-identification", 2017, the generalised form
    of Song et al., "Deep metric learning via lifted structured feature embedding", CVPR 2016.
    """

    tuples = "triplets"

    def __init__(self, distance: str = "cosine", margin: float = 1.0, need_logs: bool = False):
        super().__init__(need_logs)
        self.distance = checks.one_of("distance", distance, DISTANCES)
        self.margin = checks.at_least("margin", margin, 0)


class SurrogatePrecision(BatchLoss):
    r"""Precision at k, smoothed until it has a gradient: ranks are sums of sigmoids, and so is the cut at k.

    .. math:: 1 - \frac{1}{|A|} \sum_{i \in A} \frac{1}{\min(k, |P_i|)} \sum_{j \in P_i}
        \sigma\Big(\frac{k - r_{ij}}{\tau_1}\Big), \qquad
        r_{ij} = 1 + \sum_{l \in P_i \cup N_i \setminus j} \sigma\Big(\frac{d_{ij} - d_{il}}{\tau_2}\Big)

    where d is the cosine distance, :math:`P_i` and :math:`N_i` hold the positives and negatives of i, and A the
    anchors that have a positive. It goes below 0 where more than k positives share the first ranks. It takes N x N x K
    steps, K positives an anchor, and memory that grows with N.

    Args:
        k: the depth, at least 1.
        temperature1: of the cut at k, above 0, in ranks.
        temperature2: of the ranks, above 0, in units of the distance.
        reduction: ``"mean"`` over the anchors, their ``"sum"``, or ``"none"``: ``[N]``, 0 of rows that are none.
        need_logs: whether to keep ``last_logs``, see :class:`Loss`.

    Raises:
        ValueError: if an argument is out of its range.

    Source: Patel et al., "Recall@k surrogate loss with large batches and similarity mixup", CVPR 2022.
    """

    tuples = "positives"

    def __init__(
        self,
        k: int = 5,
        temperature1: float = 1.0,
        temperature2: float = 0.01,
        reduction: str = "mean",
        need_logs: bool = False,
    ):
        super().__init__(need_logs)
        self.k = checks.whole("k", k, 1)
        self.temperature1 = checks.above("temperature1", temperature1, 0)
        self.temperature2 = checks.above("temperature2", temperature2, 0)
        self.reduction = checks.one_of("reduction", reduction, MEANS)


TripletMarginLoss = TripletLoss


def fitting_miner(miner: Miner | None, tuples: str) -> Miner | None:
    """Return ``miner`` if it selects ``tuples``, else raise ``TypeError``."""
    if miner is not None and getattr(miner, "tuples", None) != tuples:
        given = f"{type(miner).__name__} of {miner.tuples}" if isinstance(miner, Miner) else repr(miner)
        raise TypeError(f"miner must be a miner of {tuples}, got {given}")
    return miner
