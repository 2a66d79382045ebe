"""An image model of transformers as one that returns features, for PyTorch."""

import torch
from torch import nn

__all__ = ["ImageModel"]


class ImageModel(nn.Module):
    """From images to features ``[N, C]``.

    Args:
        model: A model of ``transformers`` that takes ``pixel_values``. Its ``pooler_output`` is used if there is one,
            else the mean of its last states over tokens or places.
    """

    def __init__(self, model: nn.Module):
        super().__init__()
        self.model = model

    def forward(self, pixel_values: torch.Tensor) -> torch.Tensor:
        output = self.model(pixel_values=pixel_values)
        pooled = getattr(output, "pooler_output", None)
        if pooled is not None:
            return pooled.flatten(1)
        states = output.last_hidden_state
        return states.mean(dim=1) if states.ndim == 3 else states.flatten(2).mean(dim=2)
