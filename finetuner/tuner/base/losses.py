"""Every loss before it meets a tensor: its formula, its hyper-parameters, their checks and its docs.

A backend adds ``compute``, which turns a batch into a scalar. Losses know embeddings and relations (who
belongs to whom, see :mod:`finetuner.tuner.base.relations`), and never what kind of label said so.
"""

from typing import Any, ClassVar

from . import checks
from .miner import Miner
from .relations import LABEL_FORMS

__all__ = [
    "Loss",
    "MultiSimilarityLoss",
    "NTXentLoss",
    "SiameseLoss",
    "SupConLoss",
    "TripletLoss",
    "TripletMarginLoss",
]

Tensor = Any  # whatever the framework at hand calls a tensor
DISTANCES = ("cosine", "euclidean", "sqeuclidean")
REDUCTIONS = ("mean", "nonzero_mean", "sum", "none")


class Loss:
    """Interface of all losses of a whole batch.

    ``loss(embeddings, labels)`` sees the batch against itself: each row is a query, all other rows are
    its references. ``loss(embeddings, labels, references, reference_labels)`` sees it against other
    rows, such as a memory bank. Embeddings are ``[N, D]`` and ``[M, D]`` floats, computed on in float32
    at least; labels are ``[N]`` integers (classes, instances) or ``[N, 2]`` integers (session, role).
    The result is a scalar, ``[]``; a batch without any tuple to learn from gives 0 with gradients of 0.
    """

    tuples: ClassVar[str] = "pairs"  # what the loss is a mean over: "pairs", "triplets" or "positives"

    def __init__(self) -> None:
        super().__init__()  # of the framework's layer, so that attributes can be set from here on

    def compute(self, queries: Tensor, references: Tensor, relations: Any) -> Tensor:
        """The loss of queries ``[N, D]`` against references ``[M, D]``, both at least float32."""
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


class TripletLoss(Loss):
    r"""Brings positives closer to their anchor than negatives, by a margin.

    .. math:: \frac{1}{|T|} \sum_{(a, p, n) \in T} \max(0,\; d_{ap} - d_{an} + m)

    where T holds every anchor with each of its positives and each of its negatives, or those that the
    miner selects. Without a margin the hinge is softened to :math:`\log(1 + e^{d_{ap} - d_{an}})`.
    The sum is exact over all triplets and takes the memory of the distances alone.

    Args:
        distance: d, one of ``"cosine"`` (1 - cos), ``"euclidean"`` and ``"sqeuclidean"``.
        margin: m, at least 0, in units of the distance; None for the soft form.
        miner: selects the triplets; all of the batch by default.
        reduction: ``"mean"`` over the triplets, ``"nonzero_mean"`` over those whose loss is above 0,
            their ``"sum"``, or ``"none"``: ``[N]``, the sum of each anchor.

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
    ):
        super().__init__()
        self.distance = checks.one_of("distance", distance, DISTANCES)
        self.margin = None if margin is None else checks.at_least("margin", margin, 0)
        self.miner = fitting_miner(miner, self.tuples)
        self.reduction = checks.one_of("reduction", reduction, REDUCTIONS)


class SiameseLoss(Loss):
    r"""Brings positives together, and drives negatives apart up to a margin.

    .. math:: \frac{1}{|P|} \sum_{\{i, j\} \in P} s_{ij}\, d_{ij} + (1 - s_{ij}) \max(0,\; m - d_{ij})

    where s is 1 for a positive pair and 0 for a negative one, and P holds each unordered pair once.

    Args:
        distance: d, one of ``"cosine"`` (1 - cos), ``"euclidean"`` and ``"sqeuclidean"``.
        margin: m, at least 0, in units of the distance.
        miner: selects the pairs; all of the batch by default. A pair counts if either end selects it.
        reduction: ``"mean"`` over the pairs, ``"nonzero_mean"`` over those whose loss is above 0, their
            ``"sum"``, or ``"none"``: ``[N]``, each row's share, half of each of its pairs.

    Raises:
        ValueError: if an argument is out of its range.

    Source: Hadsell et al., "Dimensionality reduction by learning an invariant mapping", CVPR 2006, with
    distances in place of their squares.
    """

    def __init__(
        self, distance: str = "cosine", margin: float = 1.0, miner: Miner | None = None, reduction: str = "mean"
    ):
        super().__init__()
        self.distance = checks.one_of("distance", distance, DISTANCES)
        self.margin = checks.at_least("margin", margin, 0)
        self.miner = fitting_miner(miner, self.tuples)
        self.reduction = checks.one_of("reduction", reduction, REDUCTIONS)


class NTXentLoss(Loss):
    r"""Tells the other view of an instance, or a member of its class, from all that is negative.

    .. math:: -\frac{1}{|P|} \sum_{(i, j) \in P} \log
        \frac{e^{s_{ij} / \tau}}{e^{s_{ij} / \tau} + \sum_{k \in N_i} e^{s_{ik} / \tau}}

    where s is the cosine similarity, P holds the ordered positive pairs and :math:`N_i` the negatives of
    i. With two views of each instance this is SimCLR's loss; with more, each positive stands alone
    against the negatives.

    Args:
        temperature: tau, above 0 and no less than float32's smallest normal number.

    Raises:
        ValueError: if the temperature is out of its range.

    Source: Chen et al., "A simple framework for contrastive learning of visual representations", ICML
    2020; Sohn, "Improved deep metric learning with multi-class N-pair loss objective", NeurIPS 2016.
    """

    tuples = "positives"

    def __init__(self, temperature: float = 0.1):
        super().__init__()
        self.temperature = normal_temperature(temperature)


class SupConLoss(Loss):
    r"""Tells all members of a class from all that is negative: NT-Xent's softmax, with every positive in it.

    .. math:: -\frac{1}{|A|} \sum_{i \in A} \frac{1}{|P_i|} \sum_{j \in P_i} \log
        \frac{e^{s_{ij} / \tau}}{\sum_{k \in P_i \cup N_i} e^{s_{ik} / \tau}}

    where s is the cosine similarity, :math:`P_i` and :math:`N_i` hold the positives and negatives of i, and A
    the anchors that have a positive. With two items a class this is NT-Xent.

    Args:
        temperature: tau, above 0 and no less than float32's smallest normal number.

    Raises:
        ValueError: if the temperature is out of its range.

    Source: Khosla et al., "Supervised contrastive learning", NeurIPS 2020, the loss with the sum outside.
    """

    tuples = "positives"

    def __init__(self, temperature: float = 0.1):
        super().__init__()
        self.temperature = normal_temperature(temperature)


class MultiSimilarityLoss(Loss):
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

    Raises:
        ValueError: if an argument is out of its range.

    Source: Wang et al., "Multi-similarity loss with general pair weighting for deep metric learning", CVPR
    2019, without its mining.
    """

    def __init__(self, alpha: float = 2.0, beta: float = 50.0, base: float = 0.5):
        super().__init__()
        self.alpha = checks.above("alpha", alpha, 0)
        self.beta = checks.above("beta", beta, 0)
        self.base = checks.number("base", base)


TripletMarginLoss = TripletLoss


def normal_temperature(temperature: float) -> float:
    """Return ``temperature`` if it is above 0 and float32 has it as a normal number, else raise ``ValueError``."""
    return checks.at_least("temperature", checks.above("temperature", temperature, 0), 1.2e-38)


def fitting_miner(miner: Miner | None, tuples: str) -> Miner | None:
    """Return ``miner`` if it selects ``tuples``, else raise ``TypeError``."""
    if miner is not None and getattr(miner, "tuples", None) != tuples:
        given = f"{type(miner).__name__} of {miner.tuples}" if isinstance(miner, Miner) else repr(miner)
        raise TypeError(f"miner must be a miner of {tuples}, got {given}")
    return miner
