"""Models by name, by folder or as objects of other libraries, with all that they need to take items."""

from .loading import load_model

__all__ = ["LIBRARIES", "load_model"]

# The modules that open the models of saved runs.
LIBRARIES = (
    "adapter",
    "huggingface",
    "huggingface_vision",
    "keras_applications",
    "keras_hub",
    "lora",
    "paddle_vision",
    "static",
    "timm",
    "torchvision",
)
