"""Image models: what the libraries have in common, from a model that returns features to an encoder."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ..tuner import load_subpackage
from ..tuner.base.registry import describe
from ..tuner.base.training.encoder import Encoder
from ..tuner.base.training.encoder_files import read_config
from ..tuner.base.training.framework import Framework
from ..tuner.base.training.model_source import ModelSource
from .heads import heads_of, new_head, saved_head
from .images import ImageBatch, ImageTransform

__all__ = ["build", "of_framework", "reopen", "transform_of"]

OF_TEXTS = ("max_length", "prompts", "tokenizer", "padding_token")  # options without a meaning here
PROBES = 4  # images by which a pooler is checked


def build(
    model: Any,
    framework: Framework,
    name: str,
    transform: ImageTransform,
    options: Mapping[str, Any],
    library: str,
    recipe: Mapping[str, Any],
    write_files: Callable[[Path], Any] | None = None,
) -> Encoder:
    """The encoder of an image model, with a pooler and a head.

    Args:
        model: A model of the framework, from images to features ``[N, C]``.
        framework: The framework's models and data.
        name: What the user called it, for messages.
        transform: Makes the model's input of an image.
        options: ``pooler``, ``pooler_options``, ``head``, ``head_type``, ``image_size``.
        library: The module that opens a saved run.
        recipe: What that module needs, without the transform, the pooler and the head.
        write_files: Writes what else it needs.

    Raises:
        ValueError: If an option is of texts, there is no global pooling to replace, or the model does not return
            ``[N, C]``.
    """
    for option in OF_TEXTS:
        if options.get(option) is not None:
            raise ValueError(f"{option} must be used with a text model; {name} is a model of images")
    pooler = options.get("pooler")
    encoder = Encoder(model, framework, pooler=pooler, pooler_options=options.get("pooler_options"))
    features = probe(encoder, transform, name) if pooler is not None or options.get("head") is not None else 0
    head = new_head(framework, options, lambda: features)
    if head is not None:
        encoder.model = encoder.embed_model = heads_of(framework).with_head(encoder.embed_model, head)
    collate = ImageBatch(transform)
    made = {**recipe, "transform": transform.arguments(), "pooler": encoder.pooler, "head": describe(head)}
    source = ModelSource(library, "vision", made, write_files, collate.check)
    whole = Encoder(encoder.embed_model, framework, collate_fn=collate, source=source)
    whole.pooler = encoder.pooler
    return whole


def probe(encoder: Encoder, transform: ImageTransform, name: str) -> int:
    """The number of features, by a forward pass that also checks a new pooler."""
    images = np.random.default_rng(0).standard_normal((PROBES, *transform.shape)).astype(np.float32)
    encoder.framework.check_pooling(encoder.embed_model, images, PROBES)
    try:
        features = encoder.framework.embed_eagerly(encoder.embed_model, images, PROBES)
    except (TypeError, ValueError, RuntimeError) as error:
        line = " ".join(str(error).split())
        raise ValueError(f"{name} must return features [N, C] of images {list(images.shape)}: {line:.300}") from error
    return int(features.shape[1])


def reopen(
    model: Any,
    framework: Framework,
    folder: Path,
    recipe: Mapping[str, Any],
    library: str,
    write_files: Callable[[Path], Any] | None = None,
) -> Encoder:
    """The encoder of a saved run, around its model without pooler and head.

    The pooler is that of the run, which may have been put in by the training, and otherwise that of the recipe.
    """
    own = {key: value for key, value in recipe.items() if key not in ("library", "kind", "transform", "pooler", "head")}
    pooler = read_config(folder).get("pooler") or recipe.get("pooler")
    transform = transform_of(folder, recipe)
    options: dict[str, Any] = {}
    if pooler is not None:
        if not isinstance(pooler, dict) or not isinstance(pooler.get("options"), dict):
            raise ValueError(f"the pooler of {folder} must be one of finetuner's to be restored, got {pooler!s:.80}")
        options = {"pooler": pooler.get("name"), "pooler_options": pooler["options"]}
    encoder = build(model, framework, str(folder), transform, options, library, own, write_files)
    head = saved_head(framework, recipe.get("head"), folder)
    if head is not None:
        encoder.model = encoder.embed_model = heads_of(framework).with_head(encoder.embed_model, head)
        assert encoder.source is not None
        encoder.source.recipe = {**encoder.source.recipe, "head": recipe["head"]}
    return encoder


def transform_of(folder: Path, recipe: Mapping[str, Any]) -> ImageTransform:
    """The transform of a saved run."""
    try:
        return ImageTransform(**recipe["transform"])
    except (KeyError, TypeError) as error:
        raise ValueError(f"the model of {folder} must say how its images are made: {error}") from None


def of_framework(name: str, framework: Framework | None, device: str, title: str) -> Framework:
    """The framework of this name for a model that only it can open."""
    if framework is None:
        found: Framework = load_subpackage(name).Framework(device)
        return found
    if framework.name != name:
        raise ValueError(f"{title} is a model of {name}, and cannot be opened in {framework.name}")
    return framework
