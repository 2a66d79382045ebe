"""Heads: layers after a model that make embeddings of another size."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from ... import checks
from .losses.loss import xavier_uniform

__all__ = ["BNNeckHead", "Head", "LinearHead", "MLPHead"]

Tensor = Any
EPSILON = 1e-5  # added to the variance of a batch
MOMENTUM = 0.1  # the share of a new batch in the running mean and variance


class Head:
    """Interface of all heads.

    ``head(x)`` takes features ``[N, C]``, or maps ``[N, C, 1, 1]``, and returns embeddings ``[N, D]`` in float32 at
    least. The initial weights depend on the sizes and the seed alone, and are the same in each framework.

    Args:
        in_features: C, the number of features.
        out_features: D, the number of components of an embedding.
        seed: Of the initial weights.
    """

    weight: Any
    bias: Any
    hidden_weight: Any
    hidden_bias: Any
    norm: Any

    def __init__(self, in_features: int, out_features: int, seed: int = 0):
        super().__init__()  # of the framework's layer: attributes can be set from here on
        self.in_features = checks.integer("in_features", in_features, 1)
        self.out_features = checks.integer("out_features", out_features, 1)
        self.seed = checks.integer("seed", seed, 0)

    def linear(self, prefix: str, sizes: tuple[int, int], rng: np.random.Generator, bias: bool = True) -> None:
        """Add the weights of a linear layer, ``[D, C]`` and ``[D]``."""
        setattr(self, f"{prefix}weight", self.new_weight(f"{prefix}weight", xavier_uniform(sizes, rng)))
        if bias:
            setattr(self, f"{prefix}bias", self.new_weight(f"{prefix}bias", np.zeros(sizes[0], np.float32)))

    def new_weight(self, name: str, values: np.ndarray) -> Tensor:
        """A trainable weight of the layer with these values."""
        raise NotImplementedError

    def compute(self, x: Tensor) -> Tensor:
        """Embeddings ``[N, D]`` of features ``[N, C]``."""
        raise NotImplementedError

    def arguments(self) -> dict[str, Any]:
        """The constructor's arguments of a head of the same sizes."""
        return {"in_features": self.in_features, "out_features": self.out_features, "seed": self.seed}

    def check(self, x: Sequence[int]) -> None:
        """Raise ``ValueError`` if the shape does not fit."""
        if len(x) < 2 or x[1] != self.in_features or any(size != 1 for size in x[2:]):
            raise ValueError(f"x must have shape [N, {self.in_features}], got {list(x)}")


class LinearHead(Head):
    r"""A linear layer.

    .. math:: f(x) = W x + b

    Args:
        in_features: C, the number of features.
        out_features: D, the number of components of an embedding.
        seed: Of the initial weights.

    Raises:
        ValueError: If a shape does not fit.

    Example:
        >>> head = LinearHead(4, 2)
        >>> list(head(tensor([[1.0, 2.0, 3.0, 4.0]])).shape)
        [1, 2]
    """

    def __init__(self, in_features: int, out_features: int, seed: int = 0):
        super().__init__(in_features, out_features, seed)
        self.linear("", (self.out_features, self.in_features), np.random.default_rng(seed))


class BNNeckHead(Head):
    r"""A linear layer without a bias, and batch normalization without a shift: the neck of re-identification.

    .. math:: f(x) = \gamma \odot \frac{W x - \mu}{\sqrt{\sigma^2 + \epsilon}}

    In training, :math:`\mu` and :math:`\sigma^2` are mean and variance of the batch. In evaluation they are running
    averages, to which each batch contributes a tenth. Without a shift, the embeddings of all items lie around the
    origin, where their angles tell them apart.

    Args:
        in_features: C, the number of features.
        out_features: D, the number of components of an embedding.
        seed: Of the initial weights.

    Raises:
        ValueError: If a shape does not fit.

    Example:
        >>> head = BNNeckHead(4, 2)
        >>> list(head(tensor([[1.0, 2.0, 3.0, 4.0], [4.0, 3.0, 2.0, 1.0]])).shape)
        [2, 2]

    References:
        Luo et al., "Bag of tricks and a strong baseline for deep person re-identification", CVPR workshops 2019.
    """

    def __init__(self, in_features: int, out_features: int, seed: int = 0):
        super().__init__(in_features, out_features, seed)
        self.linear("", (self.out_features, self.in_features), np.random.default_rng(seed), bias=False)
        self.norm = self.new_norm()

    def new_norm(self) -> Any:
        """The framework's batch normalization, without a shift."""
        raise NotImplementedError


class MLPHead(Head):
    r"""Two linear layers with a ReLU between them.

    .. math:: f(x) = W_2 \max(W_1 x + b_1, 0) + b_2

    Args:
        in_features: C, the number of features.
        out_features: D, the number of components of an embedding.
        seed: Of the initial weights.
        hidden_features: The number of hidden units. The default is C.

    Raises:
        ValueError: If a shape does not fit.

    Example:
        >>> head = MLPHead(4, 2, hidden_features=8)
        >>> list(head(tensor([[1.0, 2.0, 3.0, 4.0]])).shape)
        [1, 2]

    References:
        Chen et al., "A simple framework for contrastive learning of visual representations", ICML 2020.
    """

    def __init__(self, in_features: int, out_features: int, seed: int = 0, hidden_features: int | None = None):
        super().__init__(in_features, out_features, seed)
        hidden = self.in_features if hidden_features is None else hidden_features
        self.hidden_features = checks.integer("hidden_features", hidden, 1)
        rng = np.random.default_rng(seed)
        self.linear("hidden_", (self.hidden_features, self.in_features), rng)
        self.linear("", (self.out_features, self.hidden_features), rng)

    def arguments(self) -> dict[str, Any]:
        """The constructor's arguments of a head of the same sizes."""
        return {**super().arguments(), "hidden_features": self.hidden_features}
