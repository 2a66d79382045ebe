"""Interface of all losses: name, formula, arguments and checks. A backend adds the computation."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, ClassVar

import numpy as np

from .... import checks
from ..registry import arguments_of

__all__ = ["Loss"]

Tensor = Any  # the tensor type of a framework
DISTANCES = ("cosine", "euclidean", "sqeuclidean")
MEAN_REDUCTIONS = ("mean", "sum", "none")  # of losses that average over rows, all of which count


class Loss:
    """Interface of all losses.

    A loss is called with embeddings and targets; each class documents its targets. It computes in float32 at least and
    returns a scalar ``[]``, or ``[N]`` if its reduction is ``"none"``. A batch without any tuple to learn from gives 0
    with zero gradients.

    Args:
        need_logs: Whether to keep :attr:`last_logs`. This costs another pass over the distances.

    Attributes:
        target_type: What the loss needs to know about each item, a key of
            :data:`~finetuner.tuner.base.target_types.TARGET_TYPES`.
        sampler: ``"class"`` if a batch must contain items that belong together, else ``"random"``.
        takes_embeddings: Whether the loss compares embeddings, of which a part is an embedding, too. Losses of logits
            and scores do not.
        training: Whether the loss is called for a training step, and not to evaluate; only a loss that draws random
            numbers differs. In PyTorch and Paddle, ``eval()`` and ``train()`` set it.
        last_logs: Statistics of the last batch. ``active`` is the share of tuples with a loss above 0.
            ``positive_distance`` and ``negative_distance`` are mean distances. ``spread`` is 1 minus the squared norm
            of the mean unit embedding: 0 if all embeddings are equal, close to 1 if they point in all directions.
    """

    target_type: ClassVar[str] = "relations"
    sampler: ClassVar[str] = "class"
    takes_embeddings: ClassVar[bool] = True
    training: bool = True

    def __init__(self, need_logs: bool = False):
        super().__init__()  # of the framework's layer: attributes can be set from here on
        self.need_logs = need_logs
        self.logs: dict[str, Tensor] = {}

    def on_batch(self, embeddings: Tensor, *targets: Tensor) -> Tensor:
        """The loss as a tuner calls it: with the rows of all items, and with the targets of each row."""
        return self(embeddings, *targets)  # type: ignore[operator]

    def on_first(self, dim: int, embeddings: Tensor, *targets: Tensor) -> Tensor:
        """As :meth:`on_batch`, of the first ``dim`` components of the embeddings."""
        return self.on_batch(embeddings[:, :dim], *targets)

    def check_labels(self, labels: np.ndarray, num_classes: int) -> None:
        """Raise ``ValueError`` for labels that are not integers in ``0 .. num_classes - 1``."""
        valid = (labels >= 0) & (labels < num_classes) & (labels == np.floor(labels))
        if not valid.all():
            wrong = checks.preview(np.unique(labels[~valid]))
            raise ValueError(f"labels must be integers in 0..{num_classes - 1}, got {wrong}")

    @staticmethod
    def is_tensor(x: Any) -> bool:
        """Whether ``x`` is a tensor that the framework computes with."""
        raise NotImplementedError

    def check_tensors(self, **tensors: Any) -> None:
        """Raise ``TypeError`` unless all are tensors of the framework."""
        for name, tensor in tensors.items():
            if not self.is_tensor(tensor):
                raise TypeError(f"{name} must be a tensor of the loss's framework, got {type(tensor).__name__}")

    def check_shapes(self, tensors: dict[str, Any], shapes: dict[str, list[list[str]]]) -> None:
        """Raise an error unless all are tensors with the rank of one of their shapes, and have the same length.

        Raises:
            TypeError: If one is not a tensor of the framework.
            ValueError: If a shape does not fit.
        """
        self.check_tensors(**tensors)
        for name, tensor in tensors.items():
            checks.shape(name, tensor.shape, *shapes[name])
        lengths = {name: tensor.shape[0] for name, tensor in tensors.items()}
        if len(set(lengths.values())) > 1:
            *first, last = lengths
            raise ValueError(f"{', '.join(first)} and {last} must have the same length, got {list(lengths.values())}")

    def serialized_arguments(self) -> dict[str, Any]:
        """The constructor's arguments for a saved model, from which an equal loss can be made."""
        return arguments_of(self)

    @property
    def last_logs(self) -> dict[str, float]:
        """Statistics of the last batch, by name. Reading them waits for the device."""
        return {name: float(value) for name, value in self.logs.items()}


def on_first(loss: Any, dim: int | None, embeddings: Tensor, targets: Sequence[Tensor]) -> Tensor:
    """A loss on the rows of a batch, of the first ``dim`` components of the embeddings; of all for None.

    A loss of another library is called with embeddings and targets.
    """
    if not hasattr(loss, "on_batch"):
        return loss(embeddings if dim is None else embeddings[:, :dim], *targets)
    return loss.on_batch(embeddings, *targets) if dim is None else loss.on_first(dim, embeddings, *targets)


def is_own(loss: Any) -> bool:
    """Whether a loss, with all that it contains, is of this library and keeps nothing from one call to the next."""
    return hasattr(loss, "on_batch") and all(is_own(part) for part in getattr(loss, "parts", ()))


@contextmanager
def in_evaluation(loss: Any) -> Iterator[None]:
    """A context in which a loss of this library, with all that it contains, is called to evaluate."""
    losses, modes = [loss] if hasattr(loss, "on_batch") else [], []
    while losses:
        one = losses.pop()
        losses += getattr(one, "parts", ())
        if hasattr(one, "training"):
            modes.append((one, one.training))
            one.training = False
    try:
        yield
    finally:
        for one, mode in modes:
            one.training = mode


class WeightedLoss(Loss):
    """Interface of losses with weights of their own, such as class centres. A separate optimizer trains them.

    The shape of the weights may be left open. A tuner knows it from its data and model; :meth:`create_weights` sets it
    by hand.
    The initial weights are drawn by numpy, so they are the same in every framework.
    """

    in_features: int | None = None
    num_classes: int | None = None

    def create_weights(
        self, in_features: int, num_classes: int, seed: int = 0, names: Sequence[Any] | None = None
    ) -> None:
        """Create the weights, or add weights for new classes to existing ones.

        Args:
            in_features: D, of the embeddings ``[N, D]``.
            num_classes: The number of classes.
            seed: Seed of the initial weights.
            names: The user's names of the classes.

        Raises:
            ValueError: If weights exist for more classes or another D.
        """
        raise NotImplementedError

    @property
    def built_shape(self) -> tuple[int, int] | None:
        """``in_features`` and ``num_classes`` of the weights; None before they are created."""
        raise NotImplementedError

    def make_weights(self, arrays: dict[str, np.ndarray]) -> None:
        """Set ``arrays`` as weights, each as the attribute of its name. Existing weights are replaced."""
        raise NotImplementedError

    def create_generator(self) -> None:
        """Create the random generator of :meth:`random_uniform`, in a framework where losses have one of their own."""

    def random_uniform(self, like: Tensor) -> Tensor:
        """Random float32 numbers, at least 0 and below 1, in the shape of ``like`` and on its device."""
        raise NotImplementedError

    def remove_weights(self) -> None:
        """Remove the weights, so that they can be created with another shape."""
        raise NotImplementedError

    def weights_on_host(self) -> dict[str, np.ndarray]:
        """Copies of the weights, by name; empty before they are created."""
        raise NotImplementedError


def xavier_uniform(shape: tuple[int, int], rng: np.random.Generator) -> np.ndarray:
    """Float32 weights drawn uniformly from ``+-sqrt(6 / (rows + columns))``.

    References:
        Glorot and Bengio, "Understanding the difficulty of training deep feedforward neural networks", AISTATS 2010.
    """
    bound = np.sqrt(6 / sum(shape))
    return rng.uniform(-bound, bound, shape).astype(np.float32)
