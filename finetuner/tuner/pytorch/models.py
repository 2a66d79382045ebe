"""What a tuner makes of models: one of two, and how one is called, for PyTorch."""

from collections.abc import Mapping
from typing import Any

from torch import nn

from ..base.framework import takes_keywords

__all__ = ["Towers", "called"]


class Towers(nn.Module):
    """Two models, one for each side of a pair."""

    def __init__(self, first: nn.Module, second: nn.Module):
        super().__init__()
        self.first, self.second = first, second

    def forward(self, first: Any, second: Any) -> tuple[Any, Any]:
        return called(self.first, first), called(self.second, second)


def called(model: nn.Module, inputs: Any) -> Any:
    """What ``model`` makes of inputs, of which a mapping is passed as keywords where it takes them so."""
    if isinstance(inputs, Mapping) and takes_keywords(model.forward, inputs):
        return model(**inputs)
    return model(inputs)
