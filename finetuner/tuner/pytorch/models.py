"""Models that a tuner makes: two towers, for PyTorch."""

from collections.abc import Mapping
from typing import Any

from torch import nn

from ..base.training.framework import accepts_keywords

__all__ = ["TwoTower", "call_model"]


class TwoTower(nn.Module):
    """Two models, one per side of a pair."""

    def __init__(self, first: nn.Module, second: nn.Module):
        super().__init__()
        self.first, self.second = first, second

    def forward(self, first: Any, second: Any) -> tuple[Any, Any]:
        return call_model(self.first, first), call_model(self.second, second)


def call_model(model: nn.Module, inputs: Any) -> Any:
    """Call ``model``. A mapping is passed as keyword arguments if the model has such arguments."""
    if isinstance(inputs, Mapping) and accepts_keywords(model.forward, inputs):
        return model(**inputs)
    return model(inputs)
