"""Splits a text model after some of its blocks, for PyTorch."""

import copy
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import nn

from ..base.training.split_model import SplitModel, leading, not_separable
from .text import TextModel

__all__ = ["split_text_model"]

# By the type of a model of transformers: its embeddings, and its list of blocks.
BERT_LIKE = {
    **dict.fromkeys(("bert", "roberta", "xlm-roberta", "camembert", "electra", "mpnet"), "encoder.layer"),
    "distilbert": "transformer.layer",
}


class States(nn.Module):
    """The states ``[N, T, C]`` that a transformer returns."""

    def __init__(self, transformer: nn.Module, arguments: set[str]):
        super().__init__()
        self.transformer, self.arguments = transformer, arguments

    def forward(self, **tokens: Any) -> torch.Tensor:
        accepted = {name: value for name, value in tokens.items() if name in self.arguments}
        return self.transformer(**accepted).last_hidden_state


class GivenStates(nn.Module):
    """Takes the place of the embeddings of a transformer: returns the states that it is given."""

    def forward(
        self, input_ids: Any = None, inputs_embeds: Any = None, position_ids: Any = None, **others: Any
    ) -> torch.Tensor:
        states: torch.Tensor = inputs_embeds
        return states


def split_text_model(model: TextModel, kinds: str, obstacle: Callable[[nn.Module], str | None]) -> SplitModel:
    """Split a text model after its embeddings and some of its blocks.

    Args:
        model: The model.
        kinds: The models that can be split, for messages.
        obstacle: Why the outputs of a layer cannot be kept; None if they can.
    """
    transformer: Any = model.transformer
    config = getattr(transformer, "config", None)
    kind, is_own = getattr(config, "model_type", ""), type(transformer).__module__.startswith("transformers.models.")
    if kind not in BERT_LIKE or not is_own or getattr(config, "is_decoder", False):
        raise not_separable(f"{kinds} ({', '.join(BERT_LIKE)})", transformer)
    if hasattr(transformer, "embeddings_project"):
        raise not_separable("an ELECTRA whose embeddings have the size of its states", transformer)
    stack, name = BERT_LIKE[kind].split(".")
    blocks = list(getattr(getattr(transformer, stack), name))
    layers = [("embeddings", transformer.embeddings)]
    layers += [(f"{stack}.{name}.{number}", block) for number, block in enumerate(blocks)]
    reasons = [(path, obstacle(layer)) for path, layer in layers]
    others = [layer for key, layer in getattr(transformer, stack).named_children() if key != name]
    if any(map(obstacle, others)):
        reasons = reasons[:1]  # all blocks use a layer that is trained, such as one of relative positions
    count = leading(reasons)
    prefix = with_blocks(transformer, transformer.embeddings, stack, name, blocks[: count - 1])
    rest = shallow_copy(model)
    rest.transformer = with_blocks(transformer, GivenStates(), stack, name, blocks[count - 1 :])
    return SplitModel(
        States(prefix, model.arguments), rest, tuple(path for path, _ in layers[:count]), states="inputs_embeds"
    )


def with_blocks(transformer: Any, embeddings: nn.Module, stack: str, name: str, blocks: Sequence[nn.Module]) -> Any:
    """A transformer with the same layers, but other embeddings, and some of the blocks."""
    new = shallow_copy(transformer)
    new.embeddings = embeddings
    inner = shallow_copy(getattr(transformer, stack))
    setattr(inner, name, nn.ModuleList(blocks))
    setattr(new, stack, inner)
    return new


def shallow_copy(module: Any) -> Any:
    """A copy of a module with the same layers, whose layers can be replaced without changing the module."""
    new = copy.copy(module)
    new._modules = dict(module._modules)
    return new
