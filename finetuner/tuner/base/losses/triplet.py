"""Losses with a margin over the triplets or the pairs of a batch, which a miner may select."""

from .... import checks
from ..miner import Miner, TripletEasyHardMiner
from .batch import BatchLoss
from .loss import DISTANCES, Tensor

__all__ = ["SiameseLoss", "TripletLoss", "TripletMarginLoss"]

REDUCTIONS = ("mean", "nonzero_mean", "sum", "none")


class TripletLoss(BatchLoss):
    r"""Triplet loss: each positive should be closer to the anchor than each negative, by a margin.

    .. math:: \frac{1}{|T|} \sum_{(a, p, n) \in T} \max(0,\; d_{ap} - d_{an} + m)

    T contains every anchor with each of its positives and each of its negatives, or the triplets that the miner
    selects. With ``margin=None`` the hinge is replaced by :math:`\log(1 + e^{d_{ap} - d_{an}})`. The sum is exact over
    all triplets, and memory stays that of a block of rows.

    The loss can also be called with explicit triplets: ``loss(anchor, positive, negative)``, three ``[T, D]``, or
    ``loss(rows)``, one ``[3 T, D]`` in the order anchor, positive, negative, anchor, ... Then ``"none"`` gives
    ``[T]``.

    Args:
        distance: d, one of ``"cosine"`` (1 - cos), ``"euclidean"`` and ``"sqeuclidean"``.
        margin: m, at least 0, in units of the distance; None for the soft margin.
        miner: Selects the triplets. The default is all triplets of the batch.
        reduction: ``"mean"`` over the triplets, ``"nonzero_mean"`` over the triplets with a loss above 0, their
            ``"sum"``, or ``"none"``: ``[N]``, the sum of each anchor.
        need_logs: Whether to keep ``last_logs``, see :class:`Loss`.

    Raises:
        ValueError: If an argument is out of its range.

    Example:
        >>> embeddings = tensor([[1.0, 0.0], [0.8, 0.6], [0.0, 1.0], [-0.6, 0.8]])
        >>> labels = tensor([0, 0, 1, 1])
        >>> loss = TripletLoss(distance="cosine", margin=0.5)
        >>> round(float(loss(embeddings, labels)), 4)
        0.075

    References:
        Schroff et al., "FaceNet: A unified embedding for face recognition and clustering", CVPR 2015. The soft margin
        is from Hermans et al., "In defense of the triplet loss for person re-identification", 2017.
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
        self.miner = check_miner(miner, self.tuples)
        self.reduction = checks.one_of("reduction", reduction, REDUCTIONS)

    @property
    def tiled(self) -> bool:
        """Whether :meth:`terms` needs no array of all distances: a miner of another kind sees whole rows."""
        return self.miner is None or (isinstance(self.miner, TripletEasyHardMiner) and self.miner.by_strategy)

    def explicit_triplets(
        self, embeddings: Tensor, labels: Tensor | None, references: Tensor | None, reference_labels: Tensor | None
    ) -> tuple[Tensor, Tensor, Tensor] | None:
        """Anchors, positives and negatives ``[T, D]`` if the loss was called with triplets; None if with labels.

        Raises:
            ValueError: If the shapes do not fit.
        """
        if labels is None:
            checks.shape("rows", embeddings.shape, ["3 T", "D"])
            count = max(0, embeddings.shape[0] or 0)  # None or -1 if a compiler leaves it open
            if references is not None or count % 3:
                raise ValueError(f"rows without labels must be triplets, [3 T, D] alone, got {list(embeddings.shape)}")
            return embeddings[0::3], embeddings[1::3], embeddings[2::3]
        if references is None or reference_labels is not None or len(labels.shape) != 2:
            return None
        shapes = [list(x.shape) for x in (embeddings, labels, references)]
        if len(shapes[0]) != 2 or shapes.count(shapes[0]) < 3:
            raise ValueError(f"anchor, positive and negative must have the same shape [T, D], got {shapes}")
        return embeddings, labels, references


class SiameseLoss(BatchLoss):
    r"""Siamese (contrastive) loss: small distances for positive pairs, and at least a margin for negative pairs.

    .. math:: \frac{1}{|P|} \sum_{\{i, j\} \in P} s_{ij}\, d_{ij} + (1 - s_{ij}) \max(0,\; m - d_{ij})

    s is 1 for a positive pair and 0 for a negative pair. P contains each unordered pair once.

    Args:
        distance: d, one of ``"cosine"`` (1 - cos), ``"euclidean"`` and ``"sqeuclidean"``.
        margin: m, at least 0, in units of the distance.
        miner: Selects the pairs. The default is all pairs of the batch. A pair counts if either item selects it.
        reduction: ``"mean"`` over the pairs, ``"nonzero_mean"`` over the pairs with a loss above 0, their ``"sum"``,
            or ``"none"``: ``[N]``, half of each pair of an item.
        need_logs: Whether to keep ``last_logs``, see :class:`Loss`.

    Raises:
        ValueError: If an argument is out of its range.

    Example:
        >>> embeddings = tensor([[1.0, 0.0], [0.8, 0.6], [0.0, 1.0], [-0.6, 0.8]])
        >>> labels = tensor([0, 0, 1, 1])
        >>> loss = SiameseLoss(distance="cosine", margin=0.5)
        >>> round(float(loss(embeddings, labels)), 4)
        0.0833

    References:
        Hadsell et al., "Dimensionality reduction by learning an invariant mapping", CVPR 2006, with distances in place
        of squared distances.
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
        self.miner = check_miner(miner, self.tuples)
        self.reduction = checks.one_of("reduction", reduction, REDUCTIONS)


def check_miner(miner: Miner | None, tuples: str) -> Miner | None:
    """Return ``miner`` if it selects ``tuples``, else raise ``TypeError``."""
    if miner is not None and getattr(miner, "tuples", None) != tuples:
        given = f"{type(miner).__name__} of {miner.tuples}" if isinstance(miner, Miner) else repr(miner)
        raise TypeError(f"miner must be a miner of {tuples}, got {given}")
    return miner


TripletMarginLoss = TripletLoss
