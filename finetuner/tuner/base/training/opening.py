"""The encoder of a model in all forms that a tuner takes: a model, an encoder, a name, a folder."""

import importlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .encoder import Encoder
from .framework import Framework
from .model_source import is_source

__all__ = ["as_encoder", "open_saved_model", "open_source"]


def as_encoder(
    model: Any, framework: Framework, distance: str, pooler: Any = None, pooler_options: Any = None
) -> Encoder:
    """The encoder of a model in all forms that a tuner takes.

    Args:
        model: A model of the framework, a pair of models, an encoder, or what :func:`finetuner.load_model` opens.
        framework: Where the model is trained.
        distance: Of retrieval.
        pooler: See :class:`Encoder`.
        pooler_options: Arguments of a pooler given by name or class.

    Raises:
        ValueError: If the encoder is of another framework, or it has no pooling to be replaced.
    """
    if is_source(model):
        model = open_source(model, framework=framework, pooler=pooler, pooler_options=pooler_options)
        pooler = pooler_options = None
    if not isinstance(model, Encoder):
        return Encoder(model, framework, distance=distance, pooler=pooler, pooler_options=pooler_options)
    if model.framework.name != framework.name:
        raise ValueError(f"the encoder must be of {framework.name}, got one of {model.framework.name}")
    preprocess_fn, collate_fn = model.own_functions
    return Encoder(
        model.model,
        framework,
        distance=distance,
        preprocess_fn=preprocess_fn,
        collate_fn=collate_fn,
        pooler=pooler,
        pooler_options=pooler_options,
        source=model.source,
    )


def open_saved_model(folder: Path, recipe: Mapping[str, Any], framework: Any, trust_code: bool) -> Any:
    """The encoder of a saved run, without its weights, by the module of :mod:`finetuner.models` that the run names."""
    library = str(recipe.get("library"))
    models = importlib.import_module("finetuner.models")
    if library not in models.LIBRARIES:
        raise ValueError(f"{folder} must name a known library of its model, got {library[:40]!r}")
    module = importlib.import_module(f"finetuner.models.{library}")
    return module.open_saved(folder, recipe, framework, trust_code)


def open_source(source: Any, **options: Any) -> Any:
    """:func:`finetuner.load_model`. It is above this layer, so it is imported when it is needed."""
    return importlib.import_module("finetuner.models").load_model(source, **options)
