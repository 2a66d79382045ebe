"""Image models of torchvision, for PyTorch: by name, or an object."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .. import checks
from ..tuner.base.training.encoder import Encoder
from ..tuner.base.training.framework import Framework
from .hub import import_library, one_line_errors
from .images import ImageTransform, both_sides, resized
from .vision import build, reopen

__all__ = ["open_name", "open_object", "open_saved"]

IMAGENET: dict[str, Any] = {"mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225], "interpolation": "bilinear"}
SIZES = (224, 256)  # of an object, which does not say for which images it was trained


def open_name(name: str, framework: Framework, options: Mapping[str, Any]) -> Encoder:
    """The encoder of a model by its name in torchvision."""
    pretrained = options.get("pretrained") is not False
    model, weights = create(name, pretrained)
    return encoder_of(model, framework, f"torchvision:{name}", options, name, weights)


def open_object(model: Any, framework: Framework, options: Mapping[str, Any]) -> Encoder:
    """The encoder of a model of torchvision, which is trained in place. Its classifier is removed.

    The object does not say how it was made, so its saved run is opened with ``finetuner.load(run, model=...)``.
    """
    return encoder_of(without_classifier(model), framework, type(model).__name__, options, None, None)


def open_saved(folder: Path, recipe: Mapping[str, Any], framework: Framework, trust_code: bool) -> Encoder:
    """The encoder of a saved run, without its weights."""
    name = recipe.get("name")
    if name is None:
        raise ValueError(
            f"{folder} has a model of torchvision that was given as an object, so it must be given: "
            "finetuner.load(path, model=...)"
        )
    return reopen(create(str(name), False)[0], framework, folder, recipe, "torchvision")


def create(name: str, pretrained: bool) -> tuple[Any, Any]:
    """A model of torchvision without its classifier, and the weights that belong to it.

    Raises:
        ValueError: If there is no such model, or its weights can be neither found nor downloaded.
    """
    models = import_library("torchvision.models", "vision")
    known = models.list_models(module=models)
    if name not in known:
        raise ValueError(f"torchvision has no model {name!r}; {checks.closest_match(name, known)}")
    weights = models.get_model_weights(name).DEFAULT
    title = f"torchvision:{name} with its weights (pretrained=True)" if pretrained else f"torchvision:{name}"
    with one_line_errors(title):
        model = models.get_model(name, weights=weights if pretrained else None)
    return without_classifier(model), weights


def without_classifier(model: Any) -> Any:
    """The model without its last linear layer, and without classifiers that are for training alone."""
    from torch import nn

    for name in ("AuxLogits", "aux1", "aux2"):
        if getattr(model, name, None) is not None:
            setattr(model, name, None)
            model.aux_logits = False
    linear = [name for name, layer in model.named_modules() if isinstance(layer, nn.Linear)]
    if linear and linear[-1].partition(".")[0] in ("fc", "head", "heads", "classifier"):
        parent, _, child = linear[-1].rpartition(".")
        setattr(model.get_submodule(parent), child, nn.Identity())
    elif isinstance(getattr(model, "classifier", None), nn.Sequential):  # of SqueezeNet, a convolution
        model.classifier = nn.AdaptiveAvgPool2d(1)
    return model


def encoder_of(
    model: Any, framework: Framework, title: str, options: Mapping[str, Any], name: str | None, weights: Any
) -> Encoder:
    """The encoder of a model of torchvision without a classifier."""
    size, resize, arguments = *SIZES, dict[str, Any](IMAGENET)
    if weights is not None:
        preset = weights.transforms()
        size, resize = preset.crop_size[0], preset.resize_size[0]
        arguments = {"mean": list(preset.mean), "std": list(preset.std), "interpolation": preset.interpolation.value}
    sides, before = both_sides("size", size), both_sides("size", resize)
    if options.get("image_size") is not None:
        sides, before = resized(sides, before, options["image_size"])
    transform = ImageTransform(sides, resize=before, **arguments)
    return build(model, framework, title, transform, options, "torchvision", {"name": name})
