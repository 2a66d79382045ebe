"""Poolers: from several vectors per item to one."""

import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np

from ... import checks
from .registry import argument_names

__all__ = ["AveragePooling", "CLSPooling", "GeM", "MaxPooling", "Pooler"]

Tensor = Any
MIN_P = 0.1  # of a trained GeM: below it, the root 1 / p magnifies the rounding of the mean without bound


class Pooler:
    """Interface of all poolers.

    ``pooler(x)`` pools feature maps ``[N, C, H, W]`` (any number of spatial axes; channels where the framework has
    them) to ``[N, C]``. ``pooler(x, mask)`` pools sequences ``[N, T, C]`` to ``[N, C]``; the mask ``[N, T]`` says which
    steps count. Without a mask all steps count. An item without any step that counts becomes zeros. A pooler computes
    in float32 at least and returns the type of ``x``.
    """

    def __init__(self) -> None:
        super().__init__()  # of the framework's layer: attributes can be set from here on

    def compute(self, x: Tensor, mask: Tensor) -> Tensor:
        """Pool ``[N, S, C]`` to ``[N, C]``. A boolean mask ``[N, S, 1]`` says what counts."""
        raise NotImplementedError

    def new_weight(self, name: str, value: float) -> Tensor:
        """A trainable weight of the layer, float32 of shape ``[]``."""
        raise NotImplementedError

    def value_of(self, weight: Tensor) -> float:
        """The current value of a weight of shape ``[]``."""
        raise NotImplementedError

    def arguments(self) -> dict[str, Any]:
        """The constructor's arguments of an equal pooler."""
        return {name: getattr(self, name) for name in argument_names(type(self))}

    def check(self, x: Sequence[int], mask: Sequence[int] | None = None) -> None:
        """Raise ``ValueError`` if the shapes do not fit."""
        if len(x) < 3:
            raise ValueError(f"x must have shape [N, C, H, W] or [N, T, C], got {list(x)}")
        if mask is not None and (len(x) != 3 or list(mask) != list(x[:2])):
            raise ValueError(f"mask must have shape [N, T] of an x [N, T, C], got {list(mask)} and {list(x)}")


class GeM(Pooler):
    r"""Generalised mean pooling: between average pooling (p = 1) and max pooling (p towards infinity).

    .. math:: \Big(\frac{1}{|S|} \sum_{s \in S} \max(x_s, \epsilon)^p\Big)^{1/p}

    With ``trainable=True`` the exponent is a weight ``p`` of the layer. It is trained, saved and loaded with the model.
    If training moves it below 0.1, the layer computes with p = 0.1. The gradient by p is the one at 0.1, so p can rise
    again.

    Args:
        p: The exponent, above 0. If it is trained, its initial value, at least 0.1.
        eps: The smallest value that enters the mean, above 0. Smaller values are replaced by it.
        trainable: Whether p is trained with the model.

    Raises:
        ValueError: If an argument is out of its range.
        TypeError: If p or eps is not a number.

    Example:
        >>> x = tensor([[[1.0, 2.0], [3.0, 4.0]]])  # [N, T, C] = [1, 2, 2]
        >>> [f"{value:.4f}" for value in np.asarray(GeM(p=3.0)(x))[0]]
        ['2.4101', '3.3019']

    References:
        Radenovic et al., "Fine-tuning CNN image retrieval with no human annotation", TPAMI 2019.
    """

    def __init__(self, p: float = 3.0, eps: float = 1e-6, trainable: bool = False):
        super().__init__()
        p = float(checks.above("p", p, 0))
        self.eps = float(checks.above("eps", eps, 0))
        self.trainable = checks.one_of("trainable", trainable, (False, True))
        self.p = self.new_weight("p", checks.at_least("a trained p", p, MIN_P)) if trainable else p

    def arguments(self) -> dict[str, Any]:
        """The constructor's arguments of an equal pooler, with the current value of p."""
        trained = not isinstance(self.p, float)  # a frozen Keras layer is not ``trainable`` any more
        p = max(self.value_of(self.p), MIN_P) if trained else self.p
        return {"p": float(str(np.float32(p))) if trained else p, "eps": self.eps, "trainable": trained}


class AveragePooling(Pooler):
    r"""The mean of the steps that count: :math:`\frac{1}{|S|} \sum_{s \in S} x_s`.

    Raises:
        ValueError: If a shape does not fit.

    Example:
        >>> x = tensor([[[1.0, 2.0], [3.0, 4.0]]])  # [N, T, C] = [1, 2, 2]
        >>> np.asarray(AveragePooling()(x)).tolist()
        [[2.0, 3.0]]

    References:
        Lin et al., "Network in network", ICLR 2014.
    """


class MaxPooling(Pooler):
    r"""The maximum over the steps that count, per channel: :math:`\max_{s \in S} x_s`.

    Raises:
        ValueError: If a shape does not fit.

    Example:
        >>> x = tensor([[[1.0, 4.0], [3.0, 2.0]]])  # [N, T, C] = [1, 2, 2]
        >>> np.asarray(MaxPooling()(x)).tolist()
        [[3.0, 4.0]]

    References:
        Tolias et al., "Particular object retrieval with integral max-pooling of CNN activations", ICLR 2016.
    """


class CLSPooling(Pooler):
    r"""The first step of a sequence ``[N, T, C]``, the CLS token of BERT-like models.

    Raises:
        ValueError: If a shape does not fit. Feature maps are not accepted.

    Example:
        >>> x = tensor([[[1.0, 2.0], [3.0, 4.0]]])  # [N, T, C] = [1, 2, 2]
        >>> np.asarray(CLSPooling()(x)).tolist()
        [[1.0, 2.0]]

    References:
        Devlin et al., "BERT: Pre-training of deep bidirectional transformers", NAACL 2019.
    """

    def check(self, x: Sequence[int], mask: Sequence[int] | None = None) -> None:
        """Raise ``ValueError`` if the shapes do not fit."""
        if len(x) != 3:
            raise ValueError(f"x must have shape [N, T, C], got {list(x)}")
        Pooler.check(self, x, mask)  # not super(), which Paddle's compiler cannot translate


def last_pooling(layers: Sequence[Any], pooler: Any, ours: type, theirs: tuple[type, ...]) -> Any:
    """The last pooling layer of a model, which ``pooler`` will replace.

    Warns if convolutions with a window larger than 1 follow it: they would get a single vector per item.

    Args:
        layers: The layers of the model, in order.
        pooler: The new pooler.
        ours: The pooler class of this library.
        theirs: The pooling classes of the framework.

    Raises:
        TypeError: If ``pooler`` is not of this library.
        ValueError: If there is no pooling layer.
    """
    if not isinstance(pooler, ours):
        raise TypeError(f"pooler must be one of {ours.__module__}, got {type(pooler).__name__}")
    positions = [position for position, layer in enumerate(layers) if isinstance(layer, (ours, *theirs))]
    name = type(pooler).__name__
    if not positions:
        found = checks.preview(dict.fromkeys(type(layer).__name__ for layer in layers[1:] or layers))
        raise ValueError(
            "the model must have a pooling layer of its framework or of ours to be replaced by "
            f"{name}, and has none among its layers: {found}"
        )
    last = layers[positions[-1]]
    after = [layer for layer in layers[positions[-1] + 1 :] if is_spatial_convolution(layer)]
    if after:
        warnings.warn(
            f"{type(last).__name__}, the model's last pooling layer, is replaced by {name}, though convolutions come "
            f"after it: {checks.preview(dict.fromkeys(type(layer).__name__ for layer in after))}",
            stacklevel=2,
        )
    return last


def is_spatial_convolution(layer: Any) -> bool:
    """Whether a layer is a convolution with a window larger than 1."""
    size = getattr(layer, "kernel_size", getattr(layer, "_kernel_size", 1))
    return "Conv" in type(layer).__name__ and bool(np.max(size) > 1)
