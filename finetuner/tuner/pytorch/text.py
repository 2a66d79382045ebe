"""A text model of PyTorch: a transformer, pooling over its tokens, dense layers."""

import inspect
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from .functional import l2_normalize
from .poolers import Pooler

__all__ = ["POOLING_MODES", "Dense", "TextModel", "pool_tokens"]

# By their names in sentence-transformers.
POOLING_MODES = ("mean", "cls", "max", "lasttoken", "mean_sqrt_len_tokens", "weightedmean")


class Dense(nn.Module):
    """A dense layer on embeddings: ``activation(linear(x))``."""

    def __init__(self, linear: nn.Linear, activation: nn.Module):
        super().__init__()
        self.linear, self.activation = linear, activation

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.activation(self.linear(x))


class TextModel(nn.Module):
    """From the tokens of texts to embeddings ``[N, D]``.

    Args:
        transformer: A model of ``transformers`` that returns ``last_hidden_state``, ``[N, T, C]``.
        pooling: Names among :data:`POOLING_MODES`, whose results are concatenated, or a pooler of this library.
        dense: Layers on the pooled embedding.
        normalize: Whether embeddings have length 1.
        head: A new layer after the dense layers, before the normalization.
    """

    def __init__(
        self,
        transformer: nn.Module,
        pooling: Sequence[str] | Pooler,
        dense: Sequence[nn.Module],
        normalize: bool,
        head: nn.Module | None = None,
    ):
        super().__init__()
        self.transformer, self.normalize = transformer, normalize
        self.pooling = pooling if isinstance(pooling, nn.Module) else tuple(pooling)
        self.dense, self.head = nn.Sequential(*dense), head
        self.arguments = set(inspect.signature(transformer.forward).parameters)

    def forward(self, attention_mask: torch.Tensor, **tokens: Any) -> torch.Tensor:
        mask = tokens.pop("pooling_mask", attention_mask)
        accepted = {name: value for name, value in tokens.items() if name in self.arguments}
        states = self.transformer(attention_mask=attention_mask, **accepted).last_hidden_state
        if isinstance(self.pooling, nn.Module):
            pooled = self.pooling(states, mask)
        else:
            pooled = torch.cat([pool_tokens(states, mask, attention_mask, mode) for mode in self.pooling], dim=-1)
        pooled = self.dense(pooled)
        if self.head is not None:
            pooled = self.head(pooled)
        return l2_normalize(pooled) if self.normalize else pooled


def pool_tokens(states: torch.Tensor, mask: torch.Tensor, attention_mask: torch.Tensor, mode: str) -> torch.Tensor:
    """Pool the states ``[N, T, C]`` of tokens to ``[N, C]``, as sentence-transformers does.

    Args:
        states: The states.
        mask: ``[N, T]``, 1 for the tokens that count.
        attention_mask: ``[N, T]``, 1 for tokens, with those of a prompt that does not count.
        mode: A name among :data:`POOLING_MODES`.
    """
    if mode in ("cls", "lasttoken"):
        counts = mask.to(torch.int32)
        steps = counts.shape[1]
        last = steps - 1 - counts.flip(1).argmax(dim=1)
        place = counts.argmax(dim=1) if mode == "cls" else last
        return states[torch.arange(len(states), device=states.device), place]
    weights = mask[:, :, None].to(states.dtype)
    if mode == "max":
        return states.masked_fill(weights == 0, -torch.inf).amax(dim=1)
    if mode == "weightedmean":
        first = attention_mask.to(torch.int32).argmax(dim=1)
        places = torch.arange(1, mask.shape[1] + 1, device=states.device)
        weights = weights * (places - first[:, None])[:, :, None].to(states.dtype)
    total = weights.sum(dim=1).clamp(min=1e-9)
    return (states * weights).sum(dim=1) / (total.sqrt() if mode == "mean_sqrt_len_tokens" else total)
