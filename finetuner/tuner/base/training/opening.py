"""The encoder of a model in all forms that a tuner takes: a model, an encoder, a name, a folder."""

import importlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .... import checks
from .encoder import Encoder
from .framework import Framework
from .lora import LoRAWeights
from .model_source import is_source

__all__ = [
    "add_lora",
    "as_encoder",
    "check_trainable",
    "fit_adapter",
    "open_model",
    "open_saved_model",
    "open_source",
]


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
    if pooler is not None and model.source is not None and model.source.kind in ("transformer", "static"):
        raise ValueError(
            f"pooler must be given to load_model for a model of texts, which pools its tokens, got {pooler!r:.80}"
        )
    preprocess_fn, collate_fn = model.own_functions
    encoder = Encoder(
        model.model,
        framework,
        distance=distance,
        preprocess_fn=preprocess_fn,
        collate_fn=collate_fn,
        pooler=pooler,
        pooler_options=pooler_options,
        source=model.source,
    )
    encoder.pooler = encoder.pooler or model.pooler  # which is in the model already
    return encoder


def add_lora(encoder: Encoder, given: Any, lora: Any, seed: int, optimizer: Any) -> LoRAWeights | None:
    """Add LoRA to the model of a tuner in place, unless ``lora`` is None.

    Args:
        encoder: That of the tuner.
        given: What the tuner was given. An encoder has the same model, and gets to know of it.
        lora: The rank, or the settings.
        seed: Of the new weights.
        optimizer: That of the training.

    Returns:
        What is trained of a model with LoRA; None for one without.

    Raises:
        ValueError: If the optimizer cannot have the new weights, or the model has no layers for LoRA.
    """
    if lora is not None:
        if not isinstance(optimizer, str | type):
            raise ValueError(
                "optimizer must be a name or a class with lora, which adds weights to the model, got an instance of "
                f"{type(optimizer).__name__}"
            )
        encoder.add_lora(lora, seed)
        if isinstance(given, Encoder):
            given.source = encoder.source
    weights: LoRAWeights | None = encoder.framework.lora_of(encoder.embed_model)
    return weights


def open_saved_model(
    folder: Path, recipe: Mapping[str, Any], framework: Any, trust_code: bool, model: Any = None
) -> Any:
    """The encoder of a saved run, without its weights, by the module of :mod:`finetuner.models` that the run names.

    An adapter needs a ``model`` if the run does not say how its base is made, and LoRA if it does not name its base.
    """
    library = str(recipe.get("library"))
    models = importlib.import_module("finetuner.models")
    if library not in models.LIBRARIES:
        raise ValueError(f"{folder} must name a known library of its model, got {library[:40]!r}")
    module = importlib.import_module(f"finetuner.models.{library}")
    options = {} if model is None else {"model": model}
    return module.open_saved(folder, recipe, framework, trust_code, **options)


def open_source(source: Any, **options: Any) -> Any:
    """:func:`finetuner.load_model`. It is above this layer, so it is imported when it is needed."""
    return importlib.import_module("finetuner.models").load_model(source, **options)


def fit_adapter(fit: Any, arguments: Mapping[str, Any]) -> Any:
    """The function of :mod:`finetuner.models.adapter`, which is above this layer."""
    return importlib.import_module("finetuner.models.adapter").fit_adapter(fit, arguments)


def check_trainable(model: Any) -> None:
    """Raise ``ValueError`` for an encoder whose base is not trained with its adapter."""
    source = model.source if isinstance(model, Encoder) else None
    if source is not None and source.library == "adapter" and source.recipe["has_base"] and hasattr(model, "base"):
        raise ValueError(
            "an encoder with an adapter must be trained with another adapter: adapter='linear'; to train the model "
            "too, give encoder.embed_model and its collate_fn"
        )


def open_model(
    model: Any,
    device: str,
    pooler: Any,
    pooler_options: Mapping[str, Any] | None,
    model_options: Mapping[str, Any] | None,
) -> tuple[Any, Any, Mapping[str, Any] | None]:
    """The model of a training, and the pooler that is still to be put into it, with its options.

    Raises:
        ValueError: If the pooler is passed twice, or an option is for pre-trained models and this is none.
    """
    options = dict(model_options or {})
    if "pooler" in options or "pooler_options" in options:
        if pooler is not None or pooler_options is not None:
            raise ValueError(f"the pooler must be given once, got pooler={pooler!r} and model_options={options}")
        pooler, pooler_options = options.pop("pooler", None), options.pop("pooler_options", None)
    if is_source(model):
        try:
            encoder = open_source(model, pooler=pooler, pooler_options=pooler_options, device=device, **options)
        except TypeError as error:
            name = str(error).rpartition("unexpected keyword argument ")[2].strip("'")
            if name not in options:
                raise
            raise TypeError(f"model_options must be arguments of finetuner.load_model, got {name!r}") from None
        return encoder, None, None
    if options:
        option = next(iter(options))
        hint = checks.closest_match(option, ("pooler", "pooler_options"))
        raise TypeError(f"model_options has no option {option!r}; {hint}, and others for a pre-trained model alone")
    return model, pooler, pooler_options
