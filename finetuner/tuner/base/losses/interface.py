"""What all losses share, before they meet a tensor."""

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np

from .. import checks

__all__ = ["TAKES", "Loss", "WeightedLoss"]

Tensor = Any  # whatever the framework at hand calls a tensor
DISTANCES = ("cosine", "euclidean", "sqeuclidean")
MEANS = ("mean", "sum", "none")  # of losses that are a mean over rows, all of which count

# What a loss may be told of each item, and which datasets tell it.
TAKES = {
    "relations": "who belongs to whom (ClassDataset, InstanceDataset, SessionDataset, TripletDataset, or a PairDataset "
    "without scores)",
    "classes": "the class of each item (ClassDataset)",
    "pairs": "pairs that belong together (a PairDataset without scores)",
    "scores": "pairs with a score each (a PairDataset with scores)",
    "vectors": "a vector of each item (TargetDataset)",
    "relevance": "the relevance of each item to a query (RankingDataset)",
    "values": "a number, a vector or a class of each item (TargetDataset, ClassDataset or RankingDataset)",
}


class Loss:
    """Interface of all losses.

    A loss is called with embeddings and what is known of them, in a form of its own (see its class), computes in
    float32 at least, and gives a scalar ``[]``, or ``[N]`` where its reduction is ``"none"``. A batch that holds
    nothing to learn from gives 0 with gradients of 0.

    Args:
        need_logs: whether to keep :attr:`last_logs`, at the price of another matrix of distances.

    Attributes:
        last_logs: numbers of the last batch, by name: ``active``, the share of tuples that are not yet as the loss
            wants them; ``positive_distance`` and ``negative_distance``, the means; ``spread``, 1 less the squared
            length of the mean of unit embeddings: 0 where all are one, 1 where they lie all around.
    """

    takes: ClassVar[str] = "relations"  # what it is told of each item, a key of TAKES
    sampler: ClassVar[str] = "class"  # what a batch has to be to teach it: "class" or "random"

    def __init__(self, need_logs: bool = False):
        super().__init__()  # of the framework's layer, so that attributes can be set from here on
        self.need_logs = need_logs
        self.noted: dict[str, Tensor] = {}

    def of_batch(self, embeddings: Tensor, *targets: Tensor) -> Tensor:
        """The loss of a batch as a tuner has it: the rows of all items, and what the dataset tells of each row."""
        return self(embeddings, *targets)  # type: ignore[operator]

    def check_labels(self, labels: np.ndarray, count: int) -> None:
        """Raise ``ValueError`` for labels, on the host, that are none of ``count`` classes."""
        wrong = np.unique(labels[(labels < 0) | (labels >= count)])
        if len(wrong):
            raise ValueError(f"labels must lie in 0..{count - 1}, got {checks.some_of(wrong)}")

    @property
    def last_logs(self) -> dict[str, float]:
        """Numbers of the last batch, by name; reading them waits for the device."""
        return {name: float(value) for name, value in self.noted.items()}


class WeightedLoss(Loss):
    """Interface of losses with weights of their own, which an optimizer of their own trains.

    Their sizes may be left out: a tuner knows them from its data and model, and :meth:`size` gives them by hand.
    The first weights are drawn by numpy, so that they are the same in every framework.
    """

    in_features: int | None = None
    num_classes: int | None = None

    def size(self, in_features: int, num_classes: int, seed: int = 0, names: Sequence[Any] | None = None) -> None:
        """Make the weights, or let those that are there grow to more classes, whose centres are new ones.

        Args:
            in_features: D, of the embeddings ``[N, D]``.
            num_classes: how many classes there are.
            seed: of the first weights.
            names: what the data calls the classes.

        Raises:
            ValueError: if the weights are there already and are larger, or of another D.
        """
        raise NotImplementedError

    @property
    def sizes(self) -> tuple[int, int] | None:
        """``in_features`` and ``num_classes`` that the weights were made for; None before."""
        raise NotImplementedError

    def make_weights(self, arrays: dict[str, np.ndarray]) -> None:
        """Take ``arrays`` as weights, each the attribute of its name, in place of those that are there."""
        raise NotImplementedError

    def weights_on_host(self) -> dict[str, np.ndarray]:
        """Copies of the weights, by name; empty where they are not made yet."""
        raise NotImplementedError


def xavier_uniform(shape: tuple[int, int], rng: np.random.Generator) -> np.ndarray:
    """Weights drawn evenly from ``+-sqrt(6 / (rows + columns))``, float32.

    Source: Glorot and Bengio, "Understanding the difficulty of training deep feedforward neural networks", 2010.
    """
    bound = np.sqrt(6 / sum(shape))
    return rng.uniform(-bound, bound, shape).astype(np.float32)


def check_rows(forms: dict[str, Any], ranks: dict[str, list[list[str]]]) -> None:
    """Raise ``ValueError`` unless each tensor has one of its forms, and all are of one length."""
    for name, tensor in forms.items():
        checks.expected_shape(name, tensor.shape, *ranks[name])
    lengths = {name: tensor.shape[0] for name, tensor in forms.items()}
    if len(set(lengths.values())) > 1:
        *first, last = lengths
        raise ValueError(f"{', '.join(first)} and {last} must be of one length, got {list(lengths.values())}")
