"""Poolers: from several vectors per item to one."""

from collections.abc import Sequence
from typing import Any, NamedTuple

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


class Place(NamedTuple):
    """A pooling layer, and where it is in the model."""

    name: str
    layer: Any
    depth: int  # the number of layers around it
    is_global: bool  # whether it pools inputs of any size to one vector; False if that depends on their size
    is_last: bool  # whether no convolution with a window is declared after it
    is_certain: bool = False  # whether it is known to be global, and the only path to the output


def best_place(places: Sequence[Place], pooler: Any, ours: type, layers: Sequence[Any]) -> Place:
    """The place of the model's global pooling, as far as its layers tell. Only a forward pass can confirm it.

    Layers that can only pool globally, or that no convolution follows, are preferred to others such as the pooling of
    a stem. Among these, outer layers are preferred to inner ones such as the pooling of a squeeze-and-excitation block,
    and later ones to earlier ones.

    Args:
        places: The pooling layers in the order of declaration, without those that never pool globally.
        pooler: The new pooler.
        ours: The pooler class of this library.
        layers: All layers of the model, for the error message.

    Raises:
        TypeError: If ``pooler`` is not of this library.
        ValueError: If there is no pooling layer.
    """
    if not isinstance(pooler, ours):
        raise TypeError(f"pooler must be one of {ours.__module__}, got {type(pooler).__name__}")
    if not places:
        found = checks.preview(dict.fromkeys(type(layer).__name__ for layer in layers[1:] or layers))
        raise ValueError(
            "the model must have a pooling layer of its framework or of ours that pools globally, to be replaced by "
            f"{type(pooler).__name__}, and has none among its layers: {found}"
        )
    ranked = sorted(places, key=lambda one: (one.is_certain, one.is_global or one.is_last, -one.depth, one.is_global))
    return ranked[-1]  # the last of equals


def is_global_size(size: Any) -> bool | None:
    """Whether an output size of a pooling layer is one position; None if the layer has none, or it is open."""
    sizes = np.ravel(size).tolist()
    return None if None in sizes else all(one == 1 for one in sizes)


def is_spatial_convolution(layer: Any) -> bool:
    """Whether a layer is a convolution with a window larger than 1."""
    size = getattr(layer, "kernel_size", getattr(layer, "_kernel_size", 1))
    return "Conv" in type(layer).__name__ and bool(np.max(size) > 1)
