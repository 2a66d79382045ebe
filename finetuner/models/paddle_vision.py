"""Image models of paddle.vision, for PaddlePaddle."""

import inspect
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .. import checks
from ..tuner.base.training.encoder import Encoder
from ..tuner.base.training.framework import Framework
from .hub import import_library, one_line_errors
from .images import ImageTransform, both_sides
from .vision import build, reopen

__all__ = ["open_name", "open_saved"]

IMAGENET: dict[str, Any] = {"mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225], "interpolation": "bilinear"}


def open_name(name: str, framework: Framework, options: Mapping[str, Any]) -> Encoder:
    """The encoder of a model by its name in ``paddle.vision.models``."""
    model = create(name, options.get("pretrained") is not False)
    default = 299 if name == "inception_v3" else 224
    size = both_sides("image_size", options.get("image_size") or default)
    transform = ImageTransform(size, resize=[side * 256 // 224 for side in size], **IMAGENET)
    return build(model, framework, f"paddle:{name}", transform, options, "paddle_vision", {"name": name})


def open_saved(folder: Path, recipe: Mapping[str, Any], framework: Framework, trust_code: bool) -> Encoder:
    """The encoder of a saved run, without its weights."""
    return reopen(create(str(recipe.get("name")), False), framework, folder, recipe, "paddle_vision")


def create(name: str, pretrained: bool) -> Any:
    """A model of paddle.vision without its classifier.

    Raises:
        ValueError: If there is no such model, or its weights can be neither found nor downloaded.
    """
    models = import_library("paddle.vision.models", "paddle")
    known = {key: value for key, value in vars(models).items() if inspect.isfunction(value) and key in models.__all__}
    if name not in known:
        raise ValueError(f"paddle.vision has no model {name!r}; {checks.closest_match(name, known)}")
    title = f"paddle:{name} with its weights (pretrained=True)" if pretrained else f"paddle:{name}"
    with one_line_errors(title):
        return without_classifier(known[name](pretrained=pretrained))


def without_classifier(model: Any) -> Any:
    """The model without its last linear layer. Its output is flat."""
    from paddle import nn

    linear = [name for name, layer in model.named_sublayers() if isinstance(layer, nn.Linear)]
    if not linear:
        raise ValueError("a model must have a linear layer at its end, to be removed, and has none")
    parent: Any = model
    *parents, child = linear[-1].split(".")
    for part in parents:
        parent = parent[int(part)] if part.isdigit() else getattr(parent, part)
    if isinstance(parent, nn.Sequential):
        parent._sub_layers[child] = nn.Identity()
    else:
        setattr(parent, child, nn.Identity())
    return model
