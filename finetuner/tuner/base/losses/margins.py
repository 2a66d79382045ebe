"""The SphereFace family: each item is to lie nearer to its class's centre than to others, by a margin."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from .. import checks
from .centres import MarginLoss
from .interface import Tensor, xavier_uniform

__all__ = ["ArcFaceLoss", "ArcFaceLossWithMLP", "CosFaceLoss", "SphereFaceLoss"]


class ArcFaceLoss(MarginLoss):
    r"""A margin in radians, added to the angle between an item and the centre of its class.

    .. math:: -\frac{1}{N} \sum_i \log \frac{e^{s \psi(\theta_{i y_i})}}
        {e^{s \psi(\theta_{i y_i})} + \sum_{c \ne y_i} e^{s \cos \theta_{ic}}}, \qquad
        \psi(\theta) = \begin{cases} \cos(\theta + m) & \theta \le \pi - m \\ -2 - \cos(\theta + m) & \theta > \pi - m
        \end{cases}

    Beyond :math:`\pi - m`, where the cosine would rise again, :math:`\psi` goes on falling, without a step. Called
    with embeddings ``[N, D]`` and labels ``[N]``, integers in ``0 .. num_classes - 1``; the centres are
    ``loss.weight``, ``[num_classes, in_features]``, or given as a third argument.

    Args:
        in_features: D; may be left to :meth:`size` or to a tuner.
        num_classes: how many classes there are; likewise.
        margin: m, in radians, at least 0 and at most pi.
        scale: s, above 0.
        smoothing_epsilon: the share of a label that is taken from an item's own class and spread evenly, at least 0,
            below 1.
        label2category: a category for each label, as a mapping or a sequence: smoothing then spreads within the
            category of the item's class. For a tuner its keys are the classes as the data names them.
        reduction: ``"mean"`` over the items, their ``"sum"``, or ``"none"``: ``[N]``.
        need_logs: whether to keep ``last_logs``, see :class:`Loss`.

    Raises:
        ValueError: if an argument is out of its range, or a label is.

    Source: Deng et al., "ArcFace: Additive angular margin loss for deep face recognition", CVPR 2019. Its authors' code
    goes on with :math:`\cos \theta - m \sin m` beyond :math:`\pi - m`, which has a step there.
    """

    def __init__(
        self,
        in_features: int | None = None,
        num_classes: int | None = None,
        margin: float = 0.5,
        scale: float = 64.0,
        smoothing_epsilon: float = 0.0,
        label2category: Mapping[Any, Any] | Sequence[Any] | None = None,
        reduction: str = "mean",
        need_logs: bool = False,
    ):
        super().__init__(in_features, num_classes, scale, smoothing_epsilon, label2category, reduction, need_logs)
        self.margin = checks.at_least("margin", margin, 0)
        if margin > np.pi:
            raise ValueError(f"margin must be at most pi, got {margin}")


class ArcFaceLossWithMLP(ArcFaceLoss):
    r"""ArcFace of what a small network makes of the embeddings; the network is the loss's own, and ends with it.

    The projector's layers are linear, with rectifiers between them; the last has none. So the embeddings need not
    be what the classes ask for, only hold it.

    Args:
        in_features: D, of the embeddings; may be left to :meth:`size` or to a tuner.
        num_classes: how many classes there are; likewise.
        margin: in radians, at least 0 and at most pi.
        scale: above 0.
        smoothing_epsilon: the share of a label that is taken from an item's own class and spread evenly, at least 0,
            below 1.
        label2category: a category for each label, as in :class:`ArcFaceLoss`.
        reduction: ``"mean"`` over the items, their ``"sum"``, or ``"none"``: ``[N]``.
        need_logs: whether to keep ``last_logs``, see :class:`Loss`.
        mlp_features: the widths of the projector's layers; the centres have the last, ``[num_classes, width]``.

    Raises:
        ValueError: if an argument is out of its range, or a label is.

    Source: Deng et al., "ArcFace", CVPR 2019; the projector as in Chen et al., "A simple framework for contrastive
    learning of visual representations", ICML 2020.
    """

    def __init__(
        self,
        in_features: int | None = None,
        num_classes: int | None = None,
        margin: float = 0.5,
        scale: float = 64.0,
        smoothing_epsilon: float = 0.0,
        label2category: Mapping[Any, Any] | Sequence[Any] | None = None,
        reduction: str = "mean",
        need_logs: bool = False,
        mlp_features: Sequence[int] = (128,),
    ):
        super().__init__(None, num_classes, margin, scale, smoothing_epsilon, label2category, reduction, need_logs)
        self.mlp_features = [checks.whole("mlp_features", width, 1) for width in mlp_features]
        if not self.mlp_features:
            raise ValueError("mlp_features must hold a width at least, got none")
        self.in_features = None if in_features is None else checks.whole("in_features", in_features, 1)
        self.size_as_told()

    def first_weights(self, in_features: int, num_classes: int, rng: np.random.Generator) -> dict[str, np.ndarray]:
        """The projector's layers, ``[out, in]`` each with its bias, and the centres."""
        widths = [in_features, *self.mlp_features]
        arrays: dict[str, np.ndarray] = {}
        for i in range(len(widths) - 1):
            arrays[f"mlp_weight_{i}"] = xavier_uniform((widths[i + 1], widths[i]), rng)
            arrays[f"mlp_bias_{i}"] = np.zeros(widths[i + 1], np.float32)
        return arrays | super().first_weights(widths[-1], num_classes, rng)

    def layer(self, number: int) -> tuple[Tensor, Tensor]:
        """Weight ``[out, in]`` and bias ``[out]`` of a layer of the projector."""
        return getattr(self, f"mlp_weight_{number}"), getattr(self, f"mlp_bias_{number}")


class CosFaceLoss(MarginLoss):
    r"""A margin taken from the cosine between an item and the centre of its class.

    .. math:: -\frac{1}{N} \sum_i \log \frac{e^{s (\cos \theta_{i y_i} - m)}}
        {e^{s (\cos \theta_{i y_i} - m)} + \sum_{c \ne y_i} e^{s \cos \theta_{ic}}}

    Called with embeddings ``[N, D]`` and labels ``[N]``, integers in ``0 .. num_classes - 1``; the centres are
    ``loss.weight``, ``[num_classes, in_features]``, or given as a third argument.

    Args:
        in_features: D; may be left to :meth:`size` or to a tuner.
        num_classes: how many classes there are; likewise.
        margin: m, in units of the cosine, at least 0.
        scale: s, above 0.
        smoothing_epsilon: the share of a label that is taken from an item's own class and spread evenly, at least 0,
            below 1.
        label2category: a category for each label, as in :class:`ArcFaceLoss`.
        reduction: ``"mean"`` over the items, their ``"sum"``, or ``"none"``: ``[N]``.
        need_logs: whether to keep ``last_logs``, see :class:`Loss`.

    Raises:
        ValueError: if an argument is out of its range, or a label is.

    Source: Wang et al., "CosFace: Large margin cosine loss for deep face recognition", CVPR 2018.
    """

    def __init__(
        self,
        in_features: int | None = None,
        num_classes: int | None = None,
        margin: float = 0.35,
        scale: float = 64.0,
        smoothing_epsilon: float = 0.0,
        label2category: Mapping[Any, Any] | Sequence[Any] | None = None,
        reduction: str = "mean",
        need_logs: bool = False,
    ):
        super().__init__(in_features, num_classes, scale, smoothing_epsilon, label2category, reduction, need_logs)
        self.margin = checks.at_least("margin", margin, 0)


class SphereFaceLoss(MarginLoss):
    r"""A margin by which the angle between an item and the centre of its class is multiplied.

    .. math:: -\frac{1}{N} \sum_i \log \frac{e^{s \psi(\theta_{i y_i})}}
        {e^{s \psi(\theta_{i y_i})} + \sum_{c \ne y_i} e^{s \cos \theta_{ic}}}, \qquad
        \psi(\theta) = (-1)^k \cos(m \theta) - 2k, \quad k = \lfloor m \theta / \pi \rfloor

    Called with embeddings ``[N, D]`` and labels ``[N]``, integers in ``0 .. num_classes - 1``; the centres are
    ``loss.weight``, ``[num_classes, in_features]``, or given as a third argument.

    Args:
        in_features: D; may be left to :meth:`size` or to a tuner.
        num_classes: how many classes there are; likewise.
        margin: m, by which the angle is multiplied, at least 1, and whole or not.
        scale: s, above 0, in place of the embedding's length.
        smoothing_epsilon: the share of a label that is taken from an item's own class and spread evenly, at least 0,
            below 1.
        label2category: a category for each label, as in :class:`ArcFaceLoss`.
        reduction: ``"mean"`` over the items, their ``"sum"``, or ``"none"``: ``[N]``.
        need_logs: whether to keep ``last_logs``, see :class:`Loss`.

    Raises:
        ValueError: if an argument is out of its range, or a label is.

    Source: Liu et al., "SphereFace: Deep hypersphere embedding for face recognition", CVPR 2017, where m = 4 is
    approached slowly; the defaults are of "SphereFace revived", TPAMI 2022, by the same authors.
    """

    def __init__(
        self,
        in_features: int | None = None,
        num_classes: int | None = None,
        margin: float = 1.5,
        scale: float = 30.0,
        smoothing_epsilon: float = 0.0,
        label2category: Mapping[Any, Any] | Sequence[Any] | None = None,
        reduction: str = "mean",
        need_logs: bool = False,
    ):
        super().__init__(in_features, num_classes, scale, smoothing_epsilon, label2category, reduction, need_logs)
        self.margin = checks.at_least("margin", margin, 1)
