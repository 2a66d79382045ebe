"""Models with LoRA: a saved run has the layers that were trained, and names its base, whose weights are elsewhere."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..files import read_json
from ..tuner.base.training.encoder import Encoder
from ..tuner.base.training.encoder_files import MODEL, read_config
from ..tuner.base.training.framework import Framework
from ..tuner.base.training.lora import BASE, LoRASource
from ..tuner.base.training.model_source import is_source
from ..tuner.base.training.opening import open_saved_model, open_source

__all__ = ["merged", "open_saved"]

RECIPE = {"lora", "asked", "base", "base_sha256"}
HEAD = "backbone."  # the beginning of the names in a model that a head was added to


def open_saved(
    folder: Path, recipe: Mapping[str, Any], framework: Framework, trust_code: bool, model: Any = None
) -> Encoder:
    """The encoder of a saved run with LoRA: its base and new layers, whose weights are still to be loaded.

    Args:
        folder: The folder of the run.
        recipe: What it says about LoRA and the base.
        framework: That of the run.
        trust_code: Whether code that the base names may run.
        model: The base: a model or an encoder, which gets the layers in place, or where its weights are. None for the
            place that the run names.

    Raises:
        ValueError: If something is missing in the recipe, or the base does not fit.
        FileNotFoundError: If there is no base at the place.
    """
    from ..saved_runs import missing_pooler

    missing = sorted(RECIPE - recipe.keys())
    if missing:
        raise ValueError(f"{MODEL} of a run with LoRA must have {', '.join(sorted(RECIPE))}, and lacks {missing[0]}")
    for name in ("lora", "asked"):
        if not isinstance(recipe[name], dict):
            raise ValueError(f"{name} in {MODEL} of {folder} must be a mapping, got {recipe[name]!r:.80}")
    if model is None or isinstance(model, str | os.PathLike) or is_source(model):
        encoder = open_base(folder, recipe, framework, trust_code, model)
    elif isinstance(model, Encoder):
        encoder = model
    else:
        encoder = Encoder(model, framework, **(missing_pooler(model, read_config(folder).get("pooler")) or {}))
    encoder.add_lora({"settings": recipe["lora"], "asked": recipe["asked"]})
    return encoder


def open_base(
    folder: Path, recipe: Mapping[str, Any], framework: Framework, trust_code: bool, model: Any = None
) -> Encoder:
    """The base of a run: made as the run says, with the weights of its place.

    The hash of the weights is checked when those of the run are loaded.
    """
    where = recipe["base"] if model is None else model
    if where is None or not (isinstance(where, str | os.PathLike) or is_source(where)):
        raise ValueError(
            f"{folder} does not say where the base of its LoRA is, so it must be given: finetuner.load(path, model=...)"
        )
    saved = Path(where) / MODEL if isinstance(where, str | os.PathLike) else None
    if saved is not None and saved.is_file() and read_json(saved, dict).get("library") == "lora":
        raise ValueError(f"the base of {folder} must be a model without LoRA, and {where} is a run with LoRA")
    try:
        found = open_source(where, framework=framework, trust_code=trust_code)
    except (FileNotFoundError, ValueError) as error:
        line = str(error).partition("\n")[0]
        raise type(error)(
            f"the base of {folder}, {where if isinstance(where, str) else 'which was given'}, cannot be opened; "
            f"finetuner.load(path, model=...) opens it elsewhere: {line}"
        ) from error
    path = folder / BASE
    if not (path / MODEL).is_file():
        return found
    encoder = open_saved_model(path, read_json(path / MODEL, dict), framework, trust_code)
    weights, own = found.state(), encoder.state()
    taken = {name: weights.get(name, weights.get(name.removeprefix(HEAD), value)) for name, value in own.items()}
    try:
        encoder.load_state(taken)
    except ValueError as error:
        raise ValueError(
            f"the base of {folder} must be that of the training, and {where} is another: {error}"
        ) from None
    encoder.source.origin = None if found.source is None else found.source.origin
    return encoder


def merged(encoder: Encoder) -> Encoder:
    """An encoder of a copy of the model with LoRA merged into its weights; the same encoder without LoRA."""
    source = encoder.source
    if not isinstance(source, LoRASource):
        return encoder
    framework = encoder.framework
    plain = Encoder(
        framework.merge_lora(encoder.embed_model),
        framework,
        distance=encoder.distance,
        preprocess_fn=encoder.preprocess_fn,
        collate_fn=encoder.collate_fn,
        source=source.base,
    )
    plain.pooler, plain.record = encoder.pooler, encoder.record
    return plain
