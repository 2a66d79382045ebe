"""Image models of transformers, for PyTorch: a folder, a name, or an object."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..tuner.base.training.encoder import Encoder
from ..tuner.base.training.framework import Framework
from .hub import import_library, load_transformer, one_line_errors, read_config
from .images import FILTERS, ImageTransform, both_sides, resized
from .vision import build, reopen

__all__ = ["is_object", "is_vision", "open_folder", "open_object", "open_saved"]

FILES, PROCESSOR = "model", "preprocessor_config.json"
ORDER = {0: "nearest", 1: "lanczos", 2: "bilinear", 3: "bicubic", 4: "box", 5: "hamming"}  # numbers of Pillow


def is_vision(folder: Path) -> bool:
    """Whether a folder has an image model of transformers, and no model of texts and images."""
    if not (folder / "config.json").is_file() or (folder / "modules.json").is_file():
        return False
    config = read_config(folder / "config.json")
    return (
        "model_type" in config and "text_config" not in config and ("num_channels" in config or "image_size" in config)
    )


def is_object(model: Any) -> bool:
    """Whether an object is an image model of transformers."""
    if not any(cls.__module__.startswith("transformers.") for cls in type(model).__mro__):
        return False
    return getattr(model, "main_input_name", "") == "pixel_values" and not hasattr(model.config, "text_config")


def open_folder(folder: Path, framework: Framework, name: str, options: Mapping[str, Any]) -> Encoder:
    """The encoder of an image model in a folder of transformers."""
    model, has_pooler = load_transformer(folder, name, bool(options.get("trust_code")))
    if not has_pooler:  # as in folders of classifiers: random numbers would pool
        model.pooler = None
    processor = read_config(folder / PROCESSOR) if (folder / PROCESSOR).is_file() else {}
    return encoder_of(model, framework, name, processor, options)


def open_object(model: Any, framework: Framework, options: Mapping[str, Any]) -> Encoder:
    """The encoder of an image model of transformers, which is trained in place."""
    where = Path(str(getattr(model.config, "_name_or_path", "")))
    processor = read_config(where / PROCESSOR) if (where / PROCESSOR).is_file() else {}
    return encoder_of(model, framework, type(model).__name__, processor, options)


def open_saved(folder: Path, recipe: Mapping[str, Any], framework: Framework, trust_code: bool) -> Encoder:
    """The encoder of a saved run, without its weights."""
    from ..tuner.pytorch.vision import ImageModel

    transformers = import_library("transformers", "text")
    if "auto_map" in read_config(folder / FILES / "config.json") and not trust_code:
        raise ValueError(f"{folder} names code of its own: pass trust_code=True to run it")
    with one_line_errors(str(folder / FILES)):
        config = transformers.AutoConfig.from_pretrained(folder / FILES, trust_remote_code=trust_code)
        model = transformers.AutoModel.from_config(config, trust_remote_code=trust_code, dtype="float32")
    if recipe.get("has_pooler") is False:
        model.pooler = None
    return reopen(
        ImageModel(model.eval()), framework, folder, recipe, "huggingface_vision", lambda to: save_config(model, to)
    )


def save_config(model: Any, folder: Path) -> None:
    """Write the configuration of a model."""
    model.config.save_pretrained(folder / FILES)


def encoder_of(
    model: Any, framework: Framework, name: str, processor: Mapping[str, Any], options: Mapping[str, Any]
) -> Encoder:
    """The encoder of an image model, with the settings of its processor."""
    from ..tuner.pytorch.vision import ImageModel

    try:
        transform = transform_of_processor(model.config, processor, options.get("image_size"))
    except KeyError as error:
        raise ValueError(
            f"the {PROCESSOR} of {name} must have sizes with height and width or with shortest_edge, and has no {error}"
        ) from None
    recipe = {"has_pooler": getattr(model, "pooler", None) is not None}
    write = lambda folder: save_config(model, folder)  # noqa: E731
    return build(ImageModel(model), framework, name, transform, options, "huggingface_vision", recipe, write)


def transform_of_processor(config: Any, processor: Mapping[str, Any], image_size: Any) -> ImageTransform:
    """The transform that a ``preprocessor_config.json`` describes. Without one, mean and deviation are 0.5."""
    channels = getattr(config, "num_channels", 3)
    size: Any = processor.get("size") or getattr(config, "image_size", 224)
    crop, resize = "squash", size
    if isinstance(size, Mapping):
        if "shortest_edge" in size:
            crop, size = "center", size["shortest_edge"]
        else:
            size = [size["height"], size["width"]]
        resize = size
    if processor.get("do_center_crop") and processor.get("crop_size"):
        cut = processor["crop_size"]
        size = [cut["height"], cut["width"]] if isinstance(cut, Mapping) else cut
    elif crop == "center" and size < 384 and "crop_pct" in processor:  # of ConvNeXt and ResNet
        resize = math.floor(size / processor["crop_pct"])
    sides, before = both_sides("size", size), both_sides("resize", resize)
    if image_size is not None:
        sides, before = resized(sides, before, image_size)
    normalizes = processor.get("do_normalize", True)
    return ImageTransform(
        sides,
        resize=before,
        crop=crop,
        mean=processor.get("image_mean", 0.5) if normalizes else 0.0,
        std=processor.get("image_std", 0.5) if normalizes else 1.0,
        scale=processor.get("rescale_factor", 1 / 255) if processor.get("do_rescale", True) else 1.0,
        interpolation=ORDER.get(processor.get("resample", 2), FILTERS[2]),
        channels=channels,
    )
