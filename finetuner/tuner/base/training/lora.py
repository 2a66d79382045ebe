"""LoRA: what a saved run says of the base of its layers, and a blend of two states of them."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ....files import read_json
from .encoder_files import MODEL, write_description
from .framework import Framework
from .model_source import ModelSource

__all__ = ["BASE", "LoRASource", "LoRAWeights", "blends_linearly", "check_blend_base", "lora_source"]

BASE = "base"  # the folder of a run that says how the base is made, without its weights
# The product of two matrices is added to a layer. One of them begins as zero, and the other one as random numbers.
ZERO_AT_FIRST, RANDOM_AT_FIRST = (".lora_B.", ".lora_embedding_A."), (".lora_A.", ".lora_embedding_B.")
MAGNITUDE = ".lora_magnitude_vector."  # of DoRA


@dataclass(frozen=True)
class LoRAWeights:
    """What is trained of a model with LoRA.

    Args:
        names: The weights and buffers that are trained and saved.
        asked: The settings as they were given, as JSON can hold them.
        settings: The settings with the names of the layers, from which the same layers are made again.
        text: What was chosen, in words.
    """

    names: frozenset[str]
    asked: Mapping[str, Any]
    settings: Mapping[str, Any]
    text: str


@dataclass
class LoRASource(ModelSource):
    """How a model with LoRA is made: its base, which is named and not saved, and the layers.

    Args:
        base: How the base was made; None for a model of the user.
        digest: Computes the hash of the weights of the base.
    """

    base: ModelSource | None = None
    digest: Callable[[], str] = field(default=str)

    def config(self) -> dict[str, Any]:
        """The recipe. The hash is that of the weights as they are now."""
        where = None if self.base is None else self.base.origin
        return {**super().config(), "base": where, "base_sha256": self.digest()}

    def check_folder(self, folder: Path) -> None:
        """Raise ``ValueError`` unless the weights of a run are for this base."""
        made = read_json(folder / MODEL, dict) if (folder / MODEL).is_file() else {}
        if made.get("library") != self.library:
            raise ValueError(f"{folder} must be a run with LoRA, whose weights this model has, and is none")
        saved, own = made.get("base_sha256"), self.digest()
        if not isinstance(saved, str) or not saved:
            raise ValueError(f"{folder} must name the hash of its base as base_sha256 in {MODEL}, and does not")
        if saved != own:
            where = made.get("base")
            raise ValueError(
                f"the base of {folder} must have the weights with which it was trained, and "
                f"{where or 'the model that was given'} has others (SHA-256 {own[:12]} here, {saved[:12]} there)"
            )


def lora_source(encoder: Any, framework: Framework, base: ModelSource | None) -> LoRASource:
    """The source of an encoder whose model has LoRA."""
    weights = framework.lora_of(encoder.embed_model)
    assert weights is not None
    recipe = {"lora": dict(weights.settings), "asked": dict(weights.asked)}

    def write_files(folder: Path) -> None:
        if base is not None:
            (folder / BASE).mkdir()
            write_description(folder / BASE, framework, encoder.embed_model, base, encoder.config())

    return LoRASource(
        "lora",
        "own" if base is None else base.kind,
        recipe,
        write_files,
        None if base is None else base.check_items,
        base=base,
        digest=lambda: framework.base_digest(encoder.embed_model),
    )


def check_blend_base(weights: Mapping[str, Any]) -> None:
    """Raise ``ValueError`` for a state of LoRA from which no blend can be made: it must add nothing to the base.

    The merged weights of a blend would be a sum of two products, and the layers have one.
    """
    if any(MAGNITUDE in name for name in weights):
        raise ValueError("a blend must be of weights that are sums, and those of DoRA (use_dora) are none")
    if any(is_zero_at_first(name) and bool((value != 0).any()) for name, value in weights.items()):
        raise ValueError("the base of a blend with LoRA must be the model before LoRA was trained, and is another")


def is_zero_at_first(name: str) -> bool:
    """Whether this is the factor of LoRA that begins as zero."""
    return any(part in f".{name}" for part in ZERO_AT_FIRST)


def blends_linearly(name: str) -> bool:
    """Whether a weight is blended. Of the two factors of LoRA one is, so that their product moves linearly."""
    return not any(part in f".{name}" for part in RANDOM_AT_FIRST)
