"""Finds the tuner of the framework that a model belongs to, without importing any other."""

import importlib
from typing import Any

__all__ = ["subpackage_of", "tuner_class"]

SUBPACKAGES = {"keras": "keras", "torch": "pytorch", "paddle": "paddle"}  # by the frameworks' own names
WRITTEN = ("pytorch", "keras", "paddle")


def subpackage_of(model: Any) -> str:
    """Name of the subpackage for ``model``, read from its class list.

    The classes are looked at from the model's own towards ``object``, so a Keras model that runs on
    torch, and thus is a ``torch.nn.Module`` too, is found to be Keras.

    Raises:
        TypeError: if it is of no framework that there is a subpackage for.
    """
    for cls in type(model).__mro__:
        name = SUBPACKAGES.get(cls.__module__.partition(".")[0])
        if name in WRITTEN:
            return str(name)
        if name is not None:
            raise TypeError(f"model must be of one of {', '.join(WRITTEN)} in this version, got one of {name}")
    raise TypeError(f"model must be a torch.nn.Module, got {type(model).__name__}")


def tuner_class(model: Any) -> Any:
    """The tuner for ``model``; imports its subpackage and no other."""
    return importlib.import_module(f".{subpackage_of(model)}", __name__).Tuner
