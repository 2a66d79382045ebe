"""A loss of nested embeddings (Matryoshka): the sum of a loss over several sizes of the embeddings."""

from collections.abc import Mapping, Sequence
from typing import Any

from .... import checks
from ....evaluation.sizes import check_dimension, check_sizes
from .loss import Loss, Tensor, on_first

__all__ = ["MatryoshkaLoss"]


class MatryoshkaLoss(Loss):
    r"""Matryoshka loss: the weighted sum of another loss over the first d components of the embeddings, for several d.

    .. math:: \sum_k w_k\, L(x_{:, 1..d_k};\; y)

    x are the embeddings ``[N, D]``, L is the other loss and y are its targets. After the training, the first
    :math:`d_k` components are good embeddings by themselves: ``encoder.embed(items, dim=128)`` returns them.

    Tuners make it from the arguments ``dims`` and ``dim_weights``. It is called as a tuner calls a loss: with the rows
    of all items, and the targets of each row. The two sides of a pair are both cut to d components. The embeddings of a
    teacher are not cut.

    Class centres are cut to d components, too, so all sizes have the same centres. The reference calls this MRL-E. The
    first layer of :class:`ArcFaceLossWithMLP` is cut in the same way. A temperature that is trained is one for all
    sizes.

    Components are not normalized after the cut. This makes no difference to a cosine. The loss of the same name in
    sentence-transformers normalizes them, which changes euclidean distances.

    Args:
        loss: The other loss. It must compare embeddings: a loss of logits or scores has no nested sizes.
        dims: The sizes: different integers from 1 to D. They are sorted, the largest first.
        weights: The weight w of each size, above 0. The default is 1 for each.

    Raises:
        ValueError: If a size or a weight is out of its range, sizes repeat, the embeddings have fewer components than
            the largest size, or the loss does not compare embeddings.

    Example:
        >>> embeddings = tensor([[1.0, 0.0, 0.5], [0.8, 0.6, 0.0], [0.0, 1.0, 0.0], [-0.6, 0.8, 0.2]])
        >>> labels = tensor([0, 0, 1, 1])
        >>> loss = TripletLoss(margin=0.5)
        >>> nested = MatryoshkaLoss(loss, dims=(3, 2), weights=(1.0, 0.5))
        >>> by_hand = loss(embeddings, labels) + 0.5 * loss(embeddings[:, :2], labels)
        >>> bool(abs(nested(embeddings, labels) - by_hand) < 1e-6)
        True

    References:
        Kusupati et al., "Matryoshka representation learning", NeurIPS 2022.
    """

    part_names = ("loss",)

    def __init__(self, loss: Any, dims: Sequence[int], weights: Sequence[float] | None = None):
        super().__init__(bool(getattr(loss, "need_logs", False)))
        check_compares_embeddings(loss)
        sizes = check_sizes("dims", dims)
        factors = [1.0] * len(sizes) if weights is None else list(weights)
        if len(factors) != len(sizes):
            raise ValueError(f"weights must have a number for each of {len(sizes)} dims, got {len(factors)}")
        factors = [float(checks.above("the weight of a size", weight, 0)) for weight in factors]
        ordered = sorted(zip(sizes, factors, strict=True), reverse=True)
        self.loss = loss  # as a sublayer
        self.dims, self.weights_of_dims = [size for size, _ in ordered], [weight for _, weight in ordered]
        self.target_type = getattr(loss, "target_type", "relations")  # type: ignore[misc]
        self.sampler = getattr(loss, "sampler", "class")  # type: ignore[misc]

    @property
    def parts(self) -> list[Any]:
        """The loss, as a list."""
        return [self.loss]

    @property
    def distance(self) -> Any:
        """The distance of the loss."""
        return self.loss.distance

    @property
    def tuples(self) -> Any:
        """What the loss needs in a batch."""
        return self.loss.tuples

    @property
    def teacher(self) -> Any:
        """The teacher of the loss."""
        return self.loss.teacher

    def add_up(self, embeddings: Tensor, targets: Sequence[Tensor]) -> Tensor:
        """The weighted sum over all sizes, of embeddings and the targets of the loss."""
        check_dimension("dims", self.dims[0], embeddings.shape[1])
        total = None
        for dim, weight in zip(self.dims, self.weights_of_dims, strict=True):
            value = weight * on_first(self.loss, dim, embeddings, targets)
            if self.need_logs and total is None:
                self.logs = dict(self.loss.logs)  # of the largest size
            total = value if total is None else total + value
        return total

    # What a tuner asks a loss with weights of its own.

    @property
    def built_shape(self) -> tuple[int, int] | None:
        """``in_features`` and ``num_classes`` of the loss's weights; None if there are none."""
        return getattr(self.loss, "built_shape", None)

    def create_weights(self, in_features: int, num_classes: int, seed: int = 0, names: Any = None) -> None:
        """Create the weights of the loss, if it has any."""
        if hasattr(self.loss, "create_weights"):
            self.loss.create_weights(in_features, num_classes, seed)

    def remove_weights(self) -> None:
        """Remove the weights of the loss, if it has any."""
        if hasattr(self.loss, "remove_weights"):
            self.loss.remove_weights()

    def arguments(self) -> Mapping[str, Any]:
        """The constructor's arguments."""
        return {"loss": self.loss, "dims": self.dims, "weights": self.weights_of_dims}


def check_compares_embeddings(loss: Any) -> None:
    """Raise ``ValueError`` for a loss without nested sizes, and for one that has them already."""
    if isinstance(loss, MatryoshkaLoss):
        raise ValueError("dims must be given once, got them for a loss that has them already")
    if not getattr(loss, "takes_embeddings", True):
        inner = getattr(loss, "loss", loss)  # one of the framework's own is wrapped
        raise ValueError(
            "dims must be used with a loss that compares embeddings, got "
            f"{type(inner).__name__}, a loss of logits, scores or other outputs"
        )
    for part in getattr(loss, "parts", ()):
        check_compares_embeddings(part)
