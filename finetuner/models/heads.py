"""Heads of pre-trained models: a new one by the options of ``load_model``, and that of a saved run."""

import importlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from .. import checks
from ..tuner.base.training.framework import Framework

__all__ = ["heads_of", "new_head", "saved_head"]

HEADS = {"linear": "LinearHead", "bnneck": "BNNeckHead", "mlp": "MLPHead"}


def heads_of(framework: Framework) -> Any:
    """The heads of a framework."""
    return importlib.import_module(f"finetuner.tuner.{framework.name}.heads")


def new_head(framework: Framework, options: Mapping[str, Any], count_features: Callable[[], int]) -> Any:
    """The new head that the options ask for; None if they ask for none.

    Args:
        framework: The framework's models and data.
        options: ``head``, its size, and ``head_type``.
        count_features: Returns the number of features that the head takes.

    Raises:
        ValueError: If a type is given without a size, or one of them is out of its range.
    """
    size, kind = options.get("head"), options.get("head_type")
    if size is None:
        if kind is not None:
            raise ValueError(f"head_type must be used with a head, got {kind!r} and no head")
        return None
    kind = "linear" if kind is None else kind
    known = checks.one_of("head_type", kind.lower() if isinstance(kind, str) else kind, tuple(HEADS))
    size = checks.integer("head", size, 1)
    return getattr(heads_of(framework), HEADS[known])(count_features(), size)


def saved_head(framework: Framework, described: Any, folder: Path) -> Any:
    """The head of a saved run, without its weights; None if it has none.

    Args:
        framework: The framework's models and data.
        described: Its name and its arguments.
        folder: The folder of the run, for messages.

    Raises:
        ValueError: If it is none of finetuner's.
    """
    if described is None:
        return None
    names = sorted(HEADS.values())
    if (
        not isinstance(described, dict)
        or described.get("name") not in names
        or not isinstance(described.get("options"), dict)
    ):
        raise ValueError(f"the head of {folder} must be one of {checks.preview(names)}, got {described!s:.80}")
    try:
        return getattr(heads_of(framework), described["name"])(**described["options"])
    except TypeError as error:
        raise ValueError(f"the head of {folder} must have the arguments of its class: {error}") from None
