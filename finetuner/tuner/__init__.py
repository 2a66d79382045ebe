"""Finds the tuner of the framework that a model belongs to, without importing any other."""

import importlib
import traceback
from pathlib import Path
from types import ModuleType
from typing import Any

__all__ = ["load_subpackage", "no_engine", "subpackage_of", "tuner_class"]

SUBPACKAGES = {"keras": "keras", "torch": "pytorch", "paddle": "paddle"}  # by the frameworks' own names
ENGINES = ("tensorflow", "jax", "torch")  # that Keras trains on


def subpackage_of(model: Any) -> str:
    """Name of the subpackage for ``model``, read from its class list.

    The classes are looked at from the model's own towards ``object``, so a Keras model that runs on
    torch, and thus is a ``torch.nn.Module`` too, is found to be Keras.

    Raises:
        TypeError: if it is of no framework that there is a subpackage for.
    """
    for cls in type(model).__mro__:
        if name := SUBPACKAGES.get(cls.__module__.partition(".")[0]):
            return name
    raise TypeError(f"model must be a torch.nn.Module, a keras.Model or a paddle.nn.Layer, got {type(model).__name__}")


def load_subpackage(name: str) -> ModuleType:
    """The subpackage of that name, and with it the framework.

    Raises:
        ImportError: if what it needs is not installed; it says what to install.
    """
    try:
        return importlib.import_module(f".{name}", __name__)
    except ModuleNotFoundError as error:
        missing = (error.name or "").partition(".")[0]
        if missing in ("", __name__.partition(".")[0]):
            raise  # it says more itself, as jax does of jaxlib, or is a fault of ours
        install = f'finetuner.tuner.{name} needs {missing}: pip install "finetuner[{name}]"'
        raise ImportError(no_engine(error) or install) from error


def no_engine(error: BaseException) -> str | None:
    """What can be done about an error, if it is that Keras' engine is not installed."""
    missing = (getattr(error, "name", None) or "").partition(".")[0]
    files = (frame.filename for frame in traceback.extract_tb(error.__traceback__))
    if not isinstance(error, ModuleNotFoundError) or missing not in ENGINES or not any(map(is_keras, files)):
        return None
    return (
        f"Keras must have the engine that KERAS_BACKEND or its own settings name, and {missing} is not installed: "
        f"set KERAS_BACKEND to tensorflow, jax or torch, whichever is installed, or pip install {missing}"
    )


def is_keras(file: str) -> bool:
    """Whether a file is of Keras itself, and not of a folder of ours of this name."""
    parts = Path(file).parts
    return "keras" in parts and "src" in parts


def tuner_class(model: Any) -> Any:
    """The tuner for ``model``, or a pair of models; imports its subpackage and no other."""
    first = model[0] if isinstance(model, tuple | list) and model else model
    return load_subpackage(subpackage_of(first)).Tuner
