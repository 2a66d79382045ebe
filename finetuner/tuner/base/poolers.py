"""Poolers: from many vectors an item to one, before they meet a tensor."""

import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np

from . import checks
from .registry import options_of

__all__ = ["AveragePooling", "CLSPooling", "GeM", "MaxPooling", "Pooler"]

Tensor = Any
LEAST_P = 0.1  # of a trained GeM: the root 1 / p grows without bound below, and the rounding of the mean with it


class Pooler:
    """Interface of all poolers.

    ``pooler(x)`` turns feature maps ``[N, C, H, W]`` (any number of spatial axes, channels where the
    framework has them) into ``[N, C]``; ``pooler(x, mask)`` turns sequences ``[N, T, C]``, of which a mask
    ``[N, T]`` says which steps count, into ``[N, C]``. Without a mask all steps of a sequence count. An
    item none of whose steps counts becomes zeros. Computes in float32 at least and returns x's type.
    """

    def __init__(self) -> None:
        super().__init__()  # of the framework's layer, so that attributes can be set from here on

    def compute(self, x: Tensor, mask: Tensor) -> Tensor:
        """Pool ``[N, S, C]``, of which a boolean ``[N, S, 1]`` says what counts, to ``[N, C]``."""
        raise NotImplementedError

    def new_weight(self, name: str, value: float) -> Tensor:
        """A number that is trained with the model: a weight of the layer, float32, of shape ``[]``."""
        raise NotImplementedError

    def value_of(self, weight: Tensor) -> float:
        """What a weight of shape ``[]`` is now."""
        raise NotImplementedError

    def arguments(self) -> dict[str, Any]:
        """What makes a pooler like this one, as it is now."""
        return {name: getattr(self, name) for name in options_of(type(self))}

    def check(self, x: Sequence[int], mask: Sequence[int] | None = None) -> None:
        """Raise ``ValueError`` if the shapes do not fit."""
        if len(x) < 3:
            raise ValueError(f"x must have shape [N, C, H, W] or [N, T, C], got {list(x)}")
        if mask is not None and (len(x) != 3 or list(mask) != list(x[:2])):
            raise ValueError(f"mask must have shape [N, T] of an x [N, T, C], got {list(mask)} and {list(x)}")


class GeM(Pooler):
    r"""Generalised mean: between the average (p = 1) and the maximum (p towards infinity).

    .. math:: \Big(\frac{1}{|S|} \sum_{s \in S} \max(x_s, \epsilon)^p\Big)^{1/p}

    With ``trainable=True`` the exponent is a weight ``p`` of the layer, trained, saved and loaded with the
    model. Training may drive it anywhere: where it is below 0.1, the pooler is that of p = 0.1, and the
    gradient by p is the one there, so that p finds its way back once the loss asks for a larger one.

    Args:
        p: the exponent, above 0; where it is trained, what it starts from, at least 0.1.
        eps: the least value that enters the mean, above 0; smaller ones are raised to it.
        trainable: whether p is trained with the model.

    Raises:
        ValueError: if an argument is out of its range.
        TypeError: if p or eps is no number.

    Source: Radenovic et al., "Fine-tuning CNN image retrieval with no human annotation", TPAMI 2019.
    """

    def __init__(self, p: float = 3.0, eps: float = 1e-6, trainable: bool = False):
        super().__init__()
        p = float(checks.above("p", p, 0))
        self.eps = float(checks.above("eps", eps, 0))
        self.trainable = checks.one_of("trainable", trainable, (False, True))
        self.p = self.new_weight("p", checks.at_least("a trained p", p, LEAST_P)) if trainable else p

    def arguments(self) -> dict[str, Any]:
        """What makes a pooler like this one, as it is now."""
        trained = not isinstance(self.p, float)  # a layer of Keras' that is frozen is not ``trainable`` any more
        p = max(self.value_of(self.p), LEAST_P) if trained else self.p
        return {"p": float(str(np.float32(p))) if trained else p, "eps": self.eps, "trainable": trained}


class AveragePooling(Pooler):
    r"""The mean of what counts: :math:`\frac{1}{|S|} \sum_{s \in S} x_s`.

    Raises:
        ValueError: if a shape does not fit.

    Source: Lin et al., "Network in network", ICLR 2014.
    """


class MaxPooling(Pooler):
    r"""The largest of what counts, in each channel: :math:`\max_{s \in S} x_s`.

    Raises:
        ValueError: if a shape does not fit.

    Source: Tolias et al., "Particular object retrieval with integral max-pooling of CNN activations", ICLR 2016.
    """


class CLSPooling(Pooler):
    r"""The first step of a sequence ``[N, T, C]``, where language models put what they make of the whole.

    Raises:
        ValueError: if a shape does not fit, as feature maps do not.

    Source: Devlin et al., "BERT: Pre-training of deep bidirectional transformers", NAACL 2019.
    """

    def check(self, x: Sequence[int], mask: Sequence[int] | None = None) -> None:
        """Raise ``ValueError`` if the shapes do not fit."""
        if len(x) != 3:
            raise ValueError(f"x must have shape [N, T, C], got {list(x)}")
        Pooler.check(self, x, mask)  # not by super(), in which Paddle's compiler gets lost


def last_pooling(layers: Sequence[Any], pooler: Any, ours: type, theirs: tuple[type, ...]) -> Any:
    """The last of a model's layers that is a pooling layer, ``ours`` or ``theirs``, to be replaced by ``pooler``.

    Warns if wide convolutions follow, to which a single vector an item gives nothing to do.

    Raises:
        TypeError: if ``pooler`` is not of ``ours``.
        ValueError: if there is no pooling layer.
    """
    if not isinstance(pooler, ours):
        raise TypeError(f"pooler must be one of {ours.__module__}, got {type(pooler).__name__}")
    places = [place for place, layer in enumerate(layers) if isinstance(layer, (ours, *theirs))]
    name = type(pooler).__name__
    if not places:
        found = checks.some_of(dict.fromkeys(type(layer).__name__ for layer in layers[1:] or layers))
        raise ValueError(
            "the model must have a pooling layer of its framework or of ours to be replaced by "
            f"{name}, and has none among its layers: {found}"
        )
    last, after = layers[places[-1]], [layer for layer in layers[places[-1] + 1 :] if is_wide(layer)]
    if after:
        warnings.warn(
            f"{type(last).__name__}, the model's last pooling layer, is replaced by {name}, though convolutions come "
            f"after it: {checks.some_of(dict.fromkeys(type(layer).__name__ for layer in after))}",
            stacklevel=2,
        )
    return last


def is_wide(layer: Any) -> bool:
    """Whether a layer is a convolution, or the like, that looks at more than one place at a time."""
    size = getattr(layer, "kernel_size", getattr(layer, "_kernel_size", 1))
    return "Conv" in type(layer).__name__ and bool(np.max(size) > 1)
