"""Image models of timm, for PyTorch: by name, or an object."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .. import checks
from ..tuner.base.training.encoder import Encoder
from ..tuner.base.training.framework import Framework
from .hub import import_library, one_line_errors
from .images import ImageTransform, both_sides
from .vision import build, reopen

__all__ = ["is_object", "open_name", "open_object", "open_saved"]


def is_object(model: Any) -> bool:
    """Whether an object is a model of timm."""
    return isinstance(getattr(model, "pretrained_cfg", None), Mapping) and hasattr(model, "num_features")


def open_name(name: str, framework: Framework, options: Mapping[str, Any]) -> Encoder:
    """The encoder of a model by its name in timm."""
    model = create(name, options.get("pretrained") is not False)
    return encoder_of(model, framework, f"timm:{name}", options, name)


def open_object(model: Any, framework: Framework, options: Mapping[str, Any]) -> Encoder:
    """The encoder of a model of timm, which is trained in place. Its classifier is removed."""
    if getattr(model, "num_classes", 0):
        model.reset_classifier(0)
    name = str(model.pretrained_cfg.get("architecture") or "")
    return encoder_of(model, framework, type(model).__name__, options, name)


def open_saved(folder: Path, recipe: Mapping[str, Any], framework: Framework, trust_code: bool) -> Encoder:
    """The encoder of a saved run, without its weights."""
    return reopen(create(str(recipe.get("name")), False), framework, folder, recipe, "timm")


def create(name: str, pretrained: bool) -> Any:
    """A model of timm without its classifier.

    Raises:
        ValueError: If there is no such model, or its weights can be neither found nor downloaded.
    """
    timm = import_library("timm", "vision")
    if ":" not in name and not timm.is_model(name):
        raise ValueError(f"timm has no model {name!r}; {checks.closest_match(name, timm.list_models())}")
    with one_line_errors(f"timm:{name}" if not pretrained else f"timm:{name} with its weights (pretrained=True)"):
        return timm.create_model(name, pretrained=pretrained, num_classes=0)


def encoder_of(model: Any, framework: Framework, title: str, options: Mapping[str, Any], name: str) -> Encoder:
    """The encoder of a model of timm without a classifier."""
    data = import_library("timm", "vision").data.resolve_model_data_config(model)
    channels, *size = data["input_size"]
    if options.get("image_size") is not None:
        size = list(both_sides("image_size", options["image_size"]))
    interpolation = data["interpolation"] if data["interpolation"] != "random" else "bilinear"
    transform = ImageTransform(
        size,
        mean=data["mean"] if len(data["mean"]) in (1, channels) else data["mean"][0],
        std=data["std"] if len(data["std"]) in (1, channels) else data["std"][0],
        interpolation=interpolation,
        resize=[math.floor(side / data["crop_pct"]) for side in size],
        crop=data["crop_mode"] or "center",
        channels=channels,
    )
    return build(model, framework, title, transform, options, "timm", {"name": name})
