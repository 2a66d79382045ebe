"""Losses of logits."""

from collections.abc import Sequence
from typing import ClassVar

from .... import checks
from .loss import MEAN_REDUCTIONS, Loss, Tensor

__all__ = ["FocalLoss"]


class FocalLoss(Loss):
    r"""Focal loss: cross-entropy with a lower weight for items that are already classified well.

    .. math:: -\frac{1}{\sum_i w_{y_i}} \sum_i w_{y_i} (1 - p_i)^\gamma \log p_i

    :math:`p_i` is the softmax of item i's logits at its class :math:`y_i`. The loss is called as
    ``loss(logits, labels)`` with ``[N, C]`` and ``[N]`` integers. With :math:`\gamma = 0` it is cross-entropy with
    class weights.

    Args:
        gamma: How much the weight of well-classified items falls, at least 0.
        weight: w, a number per class, ``[C]``, at least 0. The default is 1. It weights a term and does not enter p.
        reduction: ``"mean"`` as above, the ``"sum"`` of the weighted terms, or ``"none"``: ``[N]``, the weighted terms.
        need_logs: Whether to keep ``last_logs``, see :class:`Loss`.

    Raises:
        ValueError: If an argument is out of its range, or a shape does not fit.

    Example:
        >>> logits, labels = tensor([[2.0, 0.0], [0.0, 0.5]]), tensor([0, 1])
        >>> loss = FocalLoss(gamma=2.0)
        >>> round(float(loss(logits, labels)), 4)
        0.0347

    References:
        Lin et al., "Focal loss for dense object detection", ICCV 2017.
    """

    target_type: ClassVar[str] = "classes"
    sampler: ClassVar[str] = "random"
    takes_embeddings: ClassVar[bool] = False

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
        self.reduction = checks.one_of("reduction", reduction, MEAN_REDUCTIONS)

    def compute(self, logits: Tensor, labels: Tensor) -> Tensor:
        """The loss of logits ``[N, C]`` in float32 at least."""
        raise NotImplementedError

    def check(self, logits: Tensor, labels: Tensor) -> None:
        """Raise ``ValueError`` if the shapes do not fit."""
        self.check_shapes({"logits": logits, "labels": labels}, {"logits": [["N", "C"]], "labels": [["N"]]})
        if self.weight is not None and len(self.weight) != logits.shape[1]:
            raise ValueError(f"weight must hold a number for each of {logits.shape[1]} classes, got {len(self.weight)}")
