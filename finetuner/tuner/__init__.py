"""Finds the tuner for a model. No other framework is imported."""

import importlib
import traceback
from pathlib import Path
from types import ModuleType
from typing import Any

__all__ = ["framework_class", "load_subpackage", "no_engine", "subpackage_of", "tuner_class"]

# The package that defines the class of a model -> our subpackage.
SUBPACKAGES = {"keras": "keras", "torch": "pytorch", "paddle": "paddle"}
ENGINES = ("tensorflow", "jax", "torch")  # the backends of Keras


def subpackage_of(model: Any) -> str:
    """The name of the subpackage for ``model``: ``"pytorch"``, ``"keras"`` or ``"paddle"``.

    The first base class that a framework defines decides. A Keras model on torch is also a ``torch.nn.Module``, but its
    Keras classes come first.

    Args:
        model: A model of one of the three frameworks.

    Returns:
        The name, for :func:`load_subpackage`.

    Raises:
        TypeError: If the model belongs to none of the three frameworks.
    """
    for cls in type(model).__mro__:
        if name := SUBPACKAGES.get(cls.__module__.partition(".")[0]):
            return name
    raise TypeError(f"model must be a torch.nn.Module, a keras.Model or a paddle.nn.Layer, got {type(model).__name__}")


def load_subpackage(name: str) -> ModuleType:
    """Import the subpackage of that name, and with it the framework.

    Raises:
        ImportError: If a package that it needs is not installed. The message says how to install it.
    """
    try:
        return importlib.import_module(f".{name}", __name__)
    except ModuleNotFoundError as error:
        missing = (error.name or "").partition(".")[0]
        if missing in ("", __name__.partition(".")[0]):
            raise  # the message is already helpful (as that of jax about jaxlib), or the error is ours
        install = f'finetuner.tuner.{name} needs {missing}: pip install "finetuner[{name}]"'
        raise ImportError(no_engine(error) or install) from error


def no_engine(error: BaseException) -> str | None:
    """How to fix an error, if its cause is that the engine of Keras is not installed; None for other errors."""
    missing = (getattr(error, "name", None) or "").partition(".")[0]
    files = (frame.filename for frame in traceback.extract_tb(error.__traceback__))
    if not isinstance(error, ModuleNotFoundError) or missing not in ENGINES or not any(map(is_keras_source, files)):
        return None
    return (
        f"the engine of Keras must be installed, and {missing} (from KERAS_BACKEND or the settings of Keras) is not: "
        f"set KERAS_BACKEND to tensorflow, jax or torch, whichever is installed, or run pip install {missing}"
    )


def is_keras_source(file: str) -> bool:
    """Whether a file belongs to Keras itself, and not to our folder of the same name."""
    parts = Path(file).parts
    return "keras" in parts and "src" in parts


def tuner_class(model: Any) -> Any:
    """The tuner class for ``model``, or for a pair of models. It imports only the subpackage of their framework."""
    return subpackage_for(model).Tuner


def framework_class(model: Any) -> Any:
    """The framework class for ``model``, or for a pair of models."""
    return subpackage_for(model).Framework


def subpackage_for(model: Any) -> ModuleType:
    """The imported subpackage for ``model``, for a pair of models, or for an encoder."""
    if hasattr(model, "framework") and hasattr(model, "embed_model"):
        return load_subpackage(model.framework.name)
    return load_subpackage(subpackage_of(model[0] if isinstance(model, tuple | list) and model else model))
