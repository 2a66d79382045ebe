"""The framework's own losses in the form that tuners use, for PyTorch."""

import copy
from typing import Any

from torch import nn

from ..base.losses import native as base
from .functional import masked_mean
from .layers import Loss
from .ops import Tensor

__all__ = ["NativeLoss"]


class NativeLoss(base.NativeLoss, Loss):
    names = ("BCEWithLogitsLoss", "CrossEntropyLoss", "HuberLoss", "L1Loss", "MSELoss", "SmoothL1Loss")

    def __init__(self, loss: Any, need_logs: bool = False):
        super().__init__(loss, need_logs)
        if not self.is_native(loss):
            raise TypeError(f"loss must be one of torch.nn, got {type(loss).__name__}")

    @staticmethod
    def is_native(loss: object) -> bool:
        return isinstance(loss, nn.modules.loss._Loss)

    def forward(self, outputs: Tensor, targets: Tensor, weights: Tensor | None = None) -> Tensor:
        self.check(outputs, targets, weights)
        if outputs.ndim == 2 and outputs.shape[1] == 1 and targets.ndim == 1:
            outputs = outputs[:, 0]
        as_float = targets.is_floating_point() or outputs.ndim == targets.ndim
        targets = targets.to(outputs.dtype) if as_float else targets.long()
        if weights is None:
            return self.loss(outputs, targets)
        unreduced = copy.copy(self.loss)
        unreduced.reduction = "none"
        terms = unreduced(outputs, targets)
        terms = terms if terms.ndim == 1 else terms.mean(dim=1)
        return masked_mean(terms, weights)
