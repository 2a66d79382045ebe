"""Adapters: small residual layers on the embeddings of a model that is not trained itself."""

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np

from ... import checks

__all__ = ["AdaptedModel", "Adapter", "LinearAdapter", "MLPAdapter"]

Tensor = Any


class Adapter:
    """Interface of a residual layer from embeddings ``[N, D]`` to embeddings ``[N, D]``.

    Before the training it returns its input, so that a training begins with the embeddings of the base.
    """

    kind: ClassVar[str]

    def __init__(self, dim: int):
        super().__init__()  # of the framework's model: attributes can be set from here on
        self.dim = checks.integer("dim", dim, 1)

    def new_weight(self, name: str, values: np.ndarray) -> Tensor:
        """A trainable weight with these values."""
        raise NotImplementedError

    def arguments(self) -> dict[str, Any]:
        """The constructor's arguments of a layer of the same size."""
        return {"dim": self.dim}

    def check(self, shape: Sequence[int], dtype: Any) -> None:
        """Raise an error if embeddings do not fit."""
        if len(shape) != 2 or shape[1] != self.dim:
            raise ValueError(f"embeddings must have shape [N, {self.dim}], got {list(shape)}")
        if "float" not in str(dtype):
            raise TypeError(f"embeddings must be floats, got {dtype}")


class LinearAdapter(Adapter):
    r"""A linear residual layer.

    .. math:: f(x) = x + W x + b

    :math:`W` and :math:`b` are zeros before the training, so that :math:`f(x) = x`.

    Args:
        dim: D, the size of the embeddings.

    Raises:
        ValueError: If ``dim`` is below 1.

    Example:
        >>> adapter = LinearAdapter(2)
        >>> tuple(adapter(tensor([[0.6, 0.8], [1.0, 0.0], [0.0, 1.0]])).shape)
        (3, 2)
    """

    kind = "linear"

    def __init__(self, dim: int):
        super().__init__(dim)
        self.weight = self.new_weight("weight", np.zeros((self.dim, self.dim)))
        self.bias = self.new_weight("bias", np.zeros(self.dim))

    def compute(self, x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        """Embeddings ``[N, D]`` of embeddings ``[N, D]``."""
        raise NotImplementedError


class MLPAdapter(Adapter):
    r"""A residual layer with one hidden layer.

    .. math:: f(x) = x + W_2 \max(W_1 x + b_1, 0) + b_2

    :math:`W_2` and :math:`b_2` are zeros before the training, so that :math:`f(x) = x`. :math:`W_1` is drawn from the
    normal distribution with the variance :math:`2 / D`, with the same numbers in each framework.

    Args:
        dim: D, the size of the embeddings.
        hidden: The number of rows of :math:`W_1`. The default is D.
        seed: Of :math:`W_1`.

    Raises:
        ValueError: If a size is below 1.

    Example:
        >>> adapter = MLPAdapter(2, hidden=8)
        >>> tuple(adapter(tensor([[0.6, 0.8], [1.0, 0.0], [0.0, 1.0]])).shape)
        (3, 2)

    References:
        Houlsby et al., "Parameter-efficient transfer learning for NLP", ICML 2019.
    """

    kind = "mlp"

    def __init__(self, dim: int, hidden: int | None = None, seed: int = 0):
        super().__init__(dim)
        self.hidden = self.dim if hidden is None else checks.integer("hidden", hidden, 1)
        rng = np.random.default_rng(checks.integer("seed", seed, 0))
        self.weight1 = self.new_weight("weight1", rng.normal(0, np.sqrt(2 / self.dim), (self.hidden, self.dim)))
        self.bias1 = self.new_weight("bias1", np.zeros(self.hidden))
        self.weight2 = self.new_weight("weight2", np.zeros((self.dim, self.hidden)))
        self.bias2 = self.new_weight("bias2", np.zeros(self.dim))

    def compute(self, x: Tensor, weight1: Tensor, bias1: Tensor, weight2: Tensor, bias2: Tensor) -> Tensor:
        """Embeddings ``[N, D]`` of embeddings ``[N, D]``."""
        raise NotImplementedError

    def arguments(self) -> dict[str, Any]:
        """The constructor's arguments of a layer of the same size."""
        return {"dim": self.dim, "hidden": self.hidden}


class AdaptedModel:
    """A model and an adapter after it: from the inputs of the model to adapted embeddings.

    Args:
        base: The model.
        adapter: The adapter of the model's embeddings.
    """

    def __init__(self, base: Any, adapter: Any):
        super().__init__()  # of the framework's model
        self.base, self.adapter = base, adapter
