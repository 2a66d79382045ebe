"""ArcFace, CosFace and SphereFace: softmax losses with class centres and a margin on the angle or the cosine."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from .... import checks
from .centres import MarginLoss
from .loss import Tensor, xavier_uniform

__all__ = ["ArcFaceLoss", "ArcFaceLossWithMLP", "CosFaceLoss", "SphereFaceLoss"]


class ArcFaceLoss(MarginLoss):
    r"""ArcFace: softmax over class centres with an additive margin on the angle to the item's own centre.

    .. math:: -\frac{1}{N} \sum_i \log \frac{e^{s \psi(\theta_{i y_i})}}
        {e^{s \psi(\theta_{i y_i})} + \sum_{c \ne y_i} e^{s \cos \theta_{ic}}}, \qquad
        \psi(\theta) = \begin{cases} \cos(\theta + m) & \theta \le \pi - m \\ -2 - \cos(\theta + m) & \theta > \pi - m
        \end{cases}

    Beyond :math:`\pi - m`, where the cosine would rise again, :math:`\psi` continues to fall, without a step. The loss
    is called with embeddings ``[N, D]`` and labels ``[N]``, integers in ``0 .. num_classes - 1``. The centres are
    ``loss.weight``, ``[num_classes, in_features]``, or a third argument.

    With ``sample`` below 1 (Partial FC), a training step sees the classes of its batch and ``round(sample *
    num_classes)`` random others, or a few more. Each of K other classes that are drawn from L has the weight L / K in
    the sum over c, so the expectation of the sum is the sum over all classes. The code of the reference has no weights.
    The logarithm of the sum, and with it the loss, is a little smaller on average than that of all classes. The
    gradient reaches the centres of the step only. All classes are used in evaluation mode: for ``val_loss``, after
    ``loss.eval()``, or in Keras ``loss.training = False``.

    Args:
        in_features: D. A tuner or :meth:`create_weights` can set it later.
        num_classes: The number of classes. A tuner or :meth:`create_weights` can set it later.
        margin: m, in radians, from 0 to pi.
        scale: s, above 0.
        smoothing_epsilon: The share of a label that is spread evenly over all classes, at least 0 and below 1.
        label2category: The category of each label, as a mapping or a sequence. Smoothing then spreads within the
            category of the item's class. With a tuner, the keys are the class names of the data.
        sample: The share of the classes that is drawn in each training step, above 0 and at most 1; 1.0 is exact.
        reduction: ``"mean"`` over the items, their ``"sum"``, or ``"none"``: ``[N]``.
        need_logs: Whether to keep ``last_logs``, see :class:`Loss`.

    Raises:
        ValueError: If an argument or a label is out of its range.

    Example:
        >>> embeddings = tensor([[1.0, 0.0], [0.8, 0.6], [0.0, 1.0], [-0.6, 0.8]])
        >>> labels = tensor([0, 0, 1, 1])
        >>> centres = tensor([[1.0, 0.0], [0.0, 1.0]])
        >>> loss = ArcFaceLoss(in_features=2, num_classes=2, margin=0.5, scale=8.0)
        >>> round(float(loss(embeddings, labels, centres)), 4)
        0.4228

    References:
        Deng et al., "ArcFace: Additive angular margin loss for deep face recognition", CVPR 2019. The authors' code
        continues with :math:`\cos \theta - m \sin m` beyond :math:`\pi - m`, which has a step there. ``sample`` is
        from An et al., "Partial FC: Training 10 million identities on a single machine", 2021.
    """

    def __init__(
        self,
        in_features: int | None = None,
        num_classes: int | None = None,
        margin: float = 0.5,
        scale: float = 64.0,
        smoothing_epsilon: float = 0.0,
        label2category: Mapping[Any, Any] | Sequence[Any] | None = None,
        sample: float = 1.0,
        reduction: str = "mean",
        need_logs: bool = False,
    ):
        super().__init__(
            in_features, num_classes, scale, smoothing_epsilon, label2category, sample, reduction, need_logs
        )
        self.margin = checks.at_least("margin", margin, 0)
        if margin > np.pi:
            raise ValueError(f"margin must be at most pi, got {margin}")


class ArcFaceLossWithMLP(ArcFaceLoss):
    r"""ArcFace on the output of a projection head, which is part of the loss and is discarded after training.

    The head consists of linear layers with ReLU between them; the last layer has no activation. The embeddings
    themselves are not forced into the class structure.

    Args:
        in_features: D, of the embeddings. A tuner or :meth:`create_weights` can set it later.
        num_classes: The number of classes. A tuner or :meth:`create_weights` can set it later.
        margin: In radians, from 0 to pi.
        scale: Above 0.
        smoothing_epsilon: The share of a label that is spread evenly over all classes, at least 0 and below 1.
        label2category: The category of each label, see :class:`ArcFaceLoss`.
        sample: The share of the classes that is drawn in each training step, see :class:`ArcFaceLoss`.
        reduction: ``"mean"`` over the items, their ``"sum"``, or ``"none"``: ``[N]``.
        need_logs: Whether to keep ``last_logs``, see :class:`Loss`.
        mlp_features: The widths of the head's layers. The centres have the last width.

    Raises:
        ValueError: If an argument or a label is out of its range.

    Example:
        >>> embeddings = tensor([[1.0, 0.0], [0.8, 0.6], [0.0, 1.0], [-0.6, 0.8]])
        >>> labels = tensor([0, 0, 1, 1])
        >>> loss = ArcFaceLossWithMLP(in_features=2, num_classes=2, mlp_features=(16, 4))
        >>> tuple(loss.weight.shape)
        (2, 4)
        >>> bool(loss(embeddings, labels) > 0)
        True

    References:
        Deng et al., "ArcFace: Additive angular margin loss for deep face recognition", CVPR 2019. The projection head
        is from Chen et al., "A simple framework for contrastive learning of visual representations", ICML 2020.
    """

    def __init__(
        self,
        in_features: int | None = None,
        num_classes: int | None = None,
        margin: float = 0.5,
        scale: float = 64.0,
        smoothing_epsilon: float = 0.0,
        label2category: Mapping[Any, Any] | Sequence[Any] | None = None,
        sample: float = 1.0,
        reduction: str = "mean",
        need_logs: bool = False,
        mlp_features: Sequence[int] = (128,),
    ):
        super().__init__(
            None, num_classes, margin, scale, smoothing_epsilon, label2category, sample, reduction, need_logs
        )
        self.mlp_features = [checks.integer("mlp_features", width, 1) for width in mlp_features]
        if not self.mlp_features:
            raise ValueError("mlp_features must hold at least one width, got none")
        self.in_features = None if in_features is None else checks.integer("in_features", in_features, 1)
        self.create_weights_if_sized()

    def initial_weights(self, in_features: int, num_classes: int, rng: np.random.Generator) -> dict[str, np.ndarray]:
        """The layers of the head, a weight ``[out, in]`` and a bias each, and the centres."""
        widths = [in_features, *self.mlp_features]
        arrays: dict[str, np.ndarray] = {}
        for i in range(len(widths) - 1):
            arrays[f"mlp_weight_{i}"] = xavier_uniform((widths[i + 1], widths[i]), rng)
            arrays[f"mlp_bias_{i}"] = np.zeros(widths[i + 1], np.float32)
        return arrays | super().initial_weights(widths[-1], num_classes, rng)

    def fits(self, width: int, weight: Tensor | None) -> bool:
        """Whether the first layer takes embeddings with ``width`` features; with given centres, also fewer."""
        features = self.built_shape[0] if self.built_shape else 0
        return width == features if weight is None else width <= features

    def on_first(self, dim: int, embeddings: Tensor, *targets: Tensor) -> Tensor:
        """As ``on_batch``, of the first ``dim`` components of embeddings, and of the inputs of the first layer."""
        return self(embeddings[:, :dim], *targets, self.weight)  # type: ignore[operator]

    def layer(self, number: int) -> tuple[Tensor, Tensor]:
        """Weight ``[out, in]`` and bias ``[out]`` of a layer of the head."""
        return getattr(self, f"mlp_weight_{number}"), getattr(self, f"mlp_bias_{number}")


class CosFaceLoss(MarginLoss):
    r"""CosFace: softmax over class centres with an additive margin on the cosine to the item's own centre.

    .. math:: -\frac{1}{N} \sum_i \log \frac{e^{s (\cos \theta_{i y_i} - m)}}
        {e^{s (\cos \theta_{i y_i} - m)} + \sum_{c \ne y_i} e^{s \cos \theta_{ic}}}

    The loss is called with embeddings ``[N, D]`` and labels ``[N]``, integers in ``0 .. num_classes - 1``. The centres
    are ``loss.weight``, ``[num_classes, in_features]``, or a third argument.

    Args:
        in_features: D. A tuner or :meth:`create_weights` can set it later.
        num_classes: The number of classes. A tuner or :meth:`create_weights` can set it later.
        margin: m, in units of the cosine, at least 0.
        scale: s, above 0.
        smoothing_epsilon: The share of a label that is spread evenly over all classes, at least 0 and below 1.
        label2category: The category of each label, see :class:`ArcFaceLoss`.
        sample: The share of the classes that is drawn in each training step, see :class:`ArcFaceLoss`.
        reduction: ``"mean"`` over the items, their ``"sum"``, or ``"none"``: ``[N]``.
        need_logs: Whether to keep ``last_logs``, see :class:`Loss`.

    Raises:
        ValueError: If an argument or a label is out of its range.

    Example:
        >>> embeddings = tensor([[1.0, 0.0], [0.8, 0.6], [0.0, 1.0], [-0.6, 0.8]])
        >>> labels = tensor([0, 0, 1, 1])
        >>> centres = tensor([[1.0, 0.0], [0.0, 1.0]])
        >>> loss = CosFaceLoss(in_features=2, num_classes=2, margin=0.35, scale=8.0)
        >>> round(float(loss(embeddings, labels, centres)), 4)
        0.3686

    References:
        Wang et al., "CosFace: Large margin cosine loss for deep face recognition", CVPR 2018.
    """

    def __init__(
        self,
        in_features: int | None = None,
        num_classes: int | None = None,
        margin: float = 0.35,
        scale: float = 64.0,
        smoothing_epsilon: float = 0.0,
        label2category: Mapping[Any, Any] | Sequence[Any] | None = None,
        sample: float = 1.0,
        reduction: str = "mean",
        need_logs: bool = False,
    ):
        super().__init__(
            in_features, num_classes, scale, smoothing_epsilon, label2category, sample, reduction, need_logs
        )
        self.margin = checks.at_least("margin", margin, 0)


class SphereFaceLoss(MarginLoss):
    r"""SphereFace: softmax over class centres with a multiplicative margin on the angle to the item's own centre.

    .. math:: -\frac{1}{N} \sum_i \log \frac{e^{s \psi(\theta_{i y_i})}}
        {e^{s \psi(\theta_{i y_i})} + \sum_{c \ne y_i} e^{s \cos \theta_{ic}}}, \qquad
        \psi(\theta) = (-1)^k \cos(m \theta) - 2k, \quad k = \lfloor m \theta / \pi \rfloor

    The loss is called with embeddings ``[N, D]`` and labels ``[N]``, integers in ``0 .. num_classes - 1``. The centres
    are ``loss.weight``, ``[num_classes, in_features]``, or a third argument.

    Args:
        in_features: D. A tuner or :meth:`create_weights` can set it later.
        num_classes: The number of classes. A tuner or :meth:`create_weights` can set it later.
        margin: m, the factor of the angle, at least 1; it need not be an integer.
        scale: s, above 0, in place of the norm of the embedding.
        smoothing_epsilon: The share of a label that is spread evenly over all classes, at least 0 and below 1.
        label2category: The category of each label, see :class:`ArcFaceLoss`.
        sample: The share of the classes that is drawn in each training step, see :class:`ArcFaceLoss`.
        reduction: ``"mean"`` over the items, their ``"sum"``, or ``"none"``: ``[N]``.
        need_logs: Whether to keep ``last_logs``, see :class:`Loss`.

    Raises:
        ValueError: If an argument or a label is out of its range.

    Example:
        >>> embeddings = tensor([[1.0, 0.0], [0.8, 0.6], [0.0, 1.0], [-0.6, 0.8]])
        >>> labels = tensor([0, 0, 1, 1])
        >>> centres = tensor([[1.0, 0.0], [0.0, 1.0]])
        >>> loss = SphereFaceLoss(in_features=2, num_classes=2, margin=1.5, scale=8.0)
        >>> round(float(loss(embeddings, labels, centres)), 4)
        0.2062

    References:
        Liu et al., "SphereFace: Deep hypersphere embedding for face recognition", CVPR 2017, which reaches m = 4
        gradually. The defaults are from "SphereFace revived", TPAMI 2022, by the same authors.
    """

    def __init__(
        self,
        in_features: int | None = None,
        num_classes: int | None = None,
        margin: float = 1.5,
        scale: float = 30.0,
        smoothing_epsilon: float = 0.0,
        label2category: Mapping[Any, Any] | Sequence[Any] | None = None,
        sample: float = 1.0,
        reduction: str = "mean",
        need_logs: bool = False,
    ):
        super().__init__(
            in_features, num_classes, scale, smoothing_epsilon, label2category, sample, reduction, need_logs
        )
        self.margin = checks.at_least("margin", margin, 1)
