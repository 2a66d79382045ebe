"""Image models of keras.applications, and models in ``.keras`` files, for Keras on any engine."""

import inspect
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from .. import checks
from ..tuner.base.training.encoder import Encoder
from ..tuner.base.training.framework import Framework
from .hub import import_library, one_line_errors
from .images import ImageTransform, both_sides
from .vision import build, reopen, transform_of

__all__ = ["open_file", "open_name", "open_saved"]

IMAGENET = {"mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]}
# How ``preprocess_input`` of the module of a model makes its input of pixels from 0 to 255.
SCALINGS: dict[str, dict[str, Any]] = {
    "tf": {"mean": 1.0, "scale": 1 / 127.5},
    "torch": IMAGENET,
    "caffe": {"mean": [103.939, 116.779, 123.68], "scale": 1.0, "reverse": True},
    "none": {"scale": 1.0},  # the model has layers that do it
}
MODES = {
    "caffe": ("resnet", "vgg16", "vgg19"),
    "torch": ("densenet",),
    "none": ("convnext", "efficientnet", "efficientnet_v2", "mobilenet_v3"),
}
SIZES = {"InceptionV3": 299, "InceptionResNetV2": 299, "Xception": 299, "NASNetLarge": 331}


def open_name(name: str, framework: Framework, options: Mapping[str, Any]) -> Encoder:
    """The encoder of a model by its name in ``keras.applications``."""
    keras = import_library("keras", "keras")
    known = applications(keras)
    if name not in known:
        raise ValueError(f"keras.applications has no model {name!r}; {checks.closest_match(name, known)}")
    size = both_sides("image_size", options.get("image_size") or default_size(name))
    first = keras.config.image_data_format() == "channels_first"
    model = create(name, size, options.get("pretrained") is not False)
    scaling = SCALINGS[mode_of(known[name])]
    transform = ImageTransform(size, interpolation="bilinear", channels_first=first, **scaling)
    return build(model, framework, f"keras:{name}", transform, options, "keras_applications", {"name": name})


def create(name: str, size: Sequence[int], pretrained: bool) -> Any:
    """A model of ``keras.applications`` without its classifier, with global average pooling."""
    keras = import_library("keras", "keras")
    first = keras.config.image_data_format() == "channels_first"
    shape = (3, *size) if first else (*size, 3)
    title = f"keras:{name} with its weights (pretrained=True)" if pretrained else f"keras:{name}"
    with one_line_errors(title):
        return getattr(keras.applications, name)(
            include_top=False, weights="imagenet" if pretrained else None, pooling="avg", input_shape=shape
        )


def open_file(path: Path, framework: Framework, options: Mapping[str, Any]) -> Encoder:
    """The encoder of a model in a ``.keras`` file. Its images have values from 0 to 1."""
    keras = import_library("keras", "keras")
    if not path.is_file():
        raise FileNotFoundError(f"the file of a model must exist, got {path}")
    with one_line_errors(str(path)):
        model = keras.saving.load_model(path, compile=False, safe_mode=not options.get("trust_code"))
    shape = getattr(model, "input_shape", None)
    if not isinstance(shape, tuple) or len(shape) != 4:
        encoder = Encoder(model, framework, pooler=options.get("pooler"), pooler_options=options.get("pooler_options"))
        if options.get("head") is not None:
            raise ValueError(f"head must be used with a model of images [N, H, W, C], and {path} takes {shape}")
        return encoder
    first = keras.config.image_data_format() == "channels_first"
    channels, size = (shape[1], shape[2:]) if first else (shape[3], shape[1:3])
    if options.get("image_size") is not None:
        size = both_sides("image_size", options["image_size"])
    if None in size:
        raise ValueError(f"image_size must be given for {path}, which takes images of any size")
    transform = ImageTransform(size, interpolation="bilinear", channels=channels, channels_first=first)
    made = framework.model_config(model) or {}
    return build(model, framework, str(path), transform, options, "keras_applications", made)


def open_saved(folder: Path, recipe: Mapping[str, Any], framework: Framework, trust_code: bool) -> Encoder:
    """The encoder of a saved run, without its weights."""
    if "name" in recipe:
        keras = import_library("keras", "keras")
        name = checks.one_of("the model of a run", recipe["name"], tuple(applications(keras)))
        model = create(name, transform_of(folder, recipe).size, False)
    elif "keras" in recipe:
        model = framework.model_from_config({"keras": recipe["keras"]}, trust_code)
    else:
        raise ValueError(f"{folder} does not say how its model is made, so it must be given: load(path, model=...)")
    return reopen(model, framework, folder, recipe, "keras_applications")


def applications(keras: Any) -> dict[str, Any]:
    """The functions of ``keras.applications`` by name."""
    return {name: function for name, function in vars(keras.applications).items() if inspect.isfunction(function)}


def default_size(name: str) -> int:
    """The size of the images that a model was trained on, as the documentation of Keras tells."""
    efficient = {f"EfficientNetB{i}": size for i, size in enumerate((224, 240, 260, 300, 380, 456, 528, 600))}
    efficient |= {f"EfficientNetV2B{i}": size for i, size in enumerate((224, 240, 260, 300))}
    efficient |= {"EfficientNetV2S": 384, "EfficientNetV2M": 480, "EfficientNetV2L": 480}
    return {**SIZES, **efficient}.get(name, 224)


def mode_of(function: Any) -> str:
    """The name of the scaling of a model."""
    module = function.__module__.rpartition(".")[2]
    return next((mode for mode, modules in MODES.items() if module in modules), "tf")
