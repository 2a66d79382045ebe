"""Which library opens an image model: by a prefix such as ``timm:``, by the files of a folder, or by its class."""

import importlib
import os
from pathlib import Path
from typing import Any

from .. import checks
from ..tuner.base.training.encoder import Encoder
from ..tuner.base.training.framework import Framework
from .vision import of_framework

__all__ = ["open_source", "refuse_options"]

OF_IMAGES = ("image_size", "pretrained")
OF_HEADS = ("head", "head_type")
# The prefix of a name -> the module that opens it, and its framework.
PREFIXES = {
    "timm": ("timm", "pytorch"),
    "torchvision": ("torchvision", "pytorch"),
    "keras": ("keras_applications", "keras"),
    "kerashub": ("keras_hub", "keras"),
    "paddle": ("paddle_vision", "paddle"),
}


def open_source(source: Any, framework: Framework | None, device: str, options: dict[str, Any]) -> Encoder | None:
    """The encoder of an image model; None for any other source."""
    if isinstance(source, str | os.PathLike):
        return open_name(str(source), framework, device, options)
    from . import huggingface_vision, timm

    if huggingface_vision.is_object(source):
        title = type(source).__name__
        return huggingface_vision.open_object(source, of_framework("pytorch", framework, device, title), options)
    modules = [cls.__module__ for cls in type(source).__mro__]
    if not any(module.startswith("torch.nn") for module in modules):
        return None
    library = "timm" if timm.is_object(source) else None
    if modules[0].startswith("torchvision.models"):
        library = "torchvision"
    if library is None:
        return None
    title = type(source).__name__
    module = importlib.import_module(f"finetuner.models.{library}")
    opened: Encoder = module.open_object(source, of_framework("pytorch", framework, device, title), options)
    return opened


def open_name(name: str, framework: Framework | None, device: str, options: dict[str, Any]) -> Encoder | None:
    """The encoder of an image model by its name; None for any other name."""
    if name.endswith(".keras"):
        from .keras_applications import open_file

        return open_file(Path(name), of_framework("keras", framework, device, name), options)
    prefix, colon, rest = name.partition(":")
    if not colon or prefix not in PREFIXES or os.path.exists(name):
        return None
    if not rest:
        raise ValueError(f"{name} must have the name of a model after the colon")
    library, backend = PREFIXES[prefix]
    module = importlib.import_module(f"finetuner.models.{library}")
    checks.boolean("pretrained", True if options["pretrained"] is None else options["pretrained"])
    opened: Encoder = module.open_name(rest, of_framework(backend, framework, device, name), options)
    return opened


def refuse_options(source: Any, options: dict[str, Any], takes_head: bool = False) -> None:
    """Raise ``ValueError`` for an option of image models, or of a head where the source takes none."""
    for option in OF_IMAGES:
        if options[option] is not None:
            raise ValueError(f"{option} must be used with an image model, got {source!r:.80}")
    for option in OF_HEADS:
        if options[option] is not None and not takes_head:
            raise ValueError(f"{option} must be used with an image model or a transformer, got {source!r:.80}")
