"""The arguments of a training that are not given, by the kind of the model."""

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np

from ..data.datasets import Dataset
from .encoder import Encoder
from .lora import LoRASource

__all__ = ["DEFAULTS", "Defaults", "default_loss", "defaults_of", "kind_of"]


@dataclass(frozen=True)
class Defaults:
    """The defaults for one kind of model. The arguments are those of ``Tuner`` and ``Tuner.fit``."""

    title: str
    loss: str = "TripletLoss"
    loss_options: Mapping[str, Any] | None = None
    optimizer: str = "Adam"
    learning_rate: float = 1e-3
    schedule: str = "constant"
    warmup: float = 0
    clip_norm: float | None = None
    epochs: int = 10
    batch_size: int = 256
    length_groups: int = 1

    def fill(self, **given: Any) -> dict[str, Any]:
        """The arguments, with the defaults in place of None.

        The default options of a loss are for the default loss alone. With an optimizer that is an instance, the rest of
        the optimization is as for a model of the user.
        """
        optimizer = given.get("optimizer")
        of_instance = not (optimizer is None or isinstance(optimizer, str | type))
        chosen = {}
        for name, value in given.items():
            defaults = OWN if of_instance and name in ("learning_rate", "schedule", "warmup", "clip_norm") else self
            chosen[name] = getattr(defaults, name) if value is None else value
        rates = chosen.get("learning_rate")
        if isinstance(rates, Mapping):
            chosen["learning_rate"] = {
                pattern: self.learning_rate if rate is None else rate for pattern, rate in rates.items()
            }
        if given.get("loss") is not None:
            chosen["loss_options"] = given["loss_options"]
        return chosen

    def with_title(self, text: str | None) -> "Defaults":
        """These defaults, with what was chosen beside them in their title."""
        return replace(self, title=f"{self.title} with {text}") if text else self

    def line(self, chosen: Mapping[str, Any]) -> str:
        """What is chosen, in words; nothing for a model of the user, whose defaults are documented."""
        if self is OWN:
            return ""
        names = [one.name for one in fields(self) if one.name in chosen and one.name not in ("title", "loss_options")]
        words = {
            "optimizer": lambda value: f"{name_of(value)} {rate_text(chosen['learning_rate'])}",
            "warmup": lambda value: f"{value:.0%} warm-up" if value < 1 else f"{value} steps of warm-up",
            "clip_norm": lambda value: f"gradients clipped at {value:g}",
            "batch_size": lambda value: f"batches of {value}",
            "epochs": lambda value: f"{value} epoch{'s' if value > 1 else ''}",
            "loss": lambda value: name_of(value) + option_text(chosen.get("loss_options")),
            "schedule": lambda value: f"{name_of(value)} schedule",
        }
        parts = [words[name](chosen[name]) for name in names if name in words and chosen[name]]
        return f"{self.title}: {', '.join(parts)}"


def name_of(thing: Any) -> str:
    """The name of a class or an object, or a name."""
    return thing if isinstance(thing, str) else getattr(thing, "__name__", type(thing).__name__)


def rate_text(rate: float | Mapping[str, float]) -> str:
    """A learning rate, or the rates of patterns."""
    return (
        ", ".join(f"{name or 'others'} {one:g}" for name, one in rate.items())
        if isinstance(rate, Mapping)
        else f"{rate:g}"
    )


def option_text(options: Mapping[str, Any] | None) -> str:
    """Arguments in brackets; nothing for none."""
    return f"({', '.join(f'{name}={value}' for name, value in options.items())})" if options else ""


OWN = Defaults("a model of your own")
# Chosen on folds of training data alone, see docs/guides/pretrained-models.md.
DEFAULTS = {
    "transformer": Defaults(
        "pre-trained transformer", "NTXentLoss", {"temperature": 0.1}, "AdamW", 5e-5, "linear", 0.1, 1.0, 1, 64, 4
    ),
    "static": Defaults("static embeddings", "NTXentLoss", {"temperature": 0.1}, "Adam", 3e-2, "linear", 0.1, epochs=3),
    "vision": Defaults(
        "pre-trained image model", "NTXentLoss", {"temperature": 0.1}, "AdamW", 1e-4, "cosine", 0.1, 1.0, 5, 64
    ),
    "adapter": Defaults("adapter", "NTXentLoss", {"temperature": 0.1}, "Adam", 1e-3, "linear", 0.1, epochs=6),
}


# LoRA changes a weight by a product of two small matrices, one of which begins as zero. It needs larger steps. That of
# transformers was chosen on intents of the training data of Banking77; that of image models was not measured.
LORA_RATES = {"transformer": 1e-3, "vision": 5e-4}


def kind_of(model: Any) -> str | None:
    """The kind of a model if it is an encoder of :func:`finetuner.load_model`; None for a model of the user."""
    source = model.source if isinstance(model, Encoder) else None
    return source.kind if source is not None and source.kind in DEFAULTS else None


def defaults_of(model: Any, lora: bool = False) -> Defaults:
    """The defaults for a model: those of its kind if it is an encoder of :func:`finetuner.load_model`.

    Args:
        model: The model.
        lora: Whether LoRA is added to it.
    """
    kind = kind_of(model)
    defaults = OWN if kind is None else DEFAULTS[kind]
    if kind in LORA_RATES and (lora or isinstance(model.source, LoRASource)):
        return replace(defaults, learning_rate=LORA_RATES[kind])
    return defaults


def default_loss(dataset: Dataset) -> tuple[str | None, Mapping[str, Any] | None]:
    """The loss of a pre-trained model for data of this kind, and its options; (None, None) for that of the model."""
    if "scores" in dataset.target_types:
        low, high = float(np.min(dataset.labels)), float(np.max(dataset.labels))
        return ("CosineSimilarityLoss", {"low": low, "high": high}) if low < high else (None, None)
    return ("CLIPLoss", None) if "pairs" in dataset.target_types else (None, None)
