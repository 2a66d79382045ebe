"""The files of a saved encoder: weights, settings, and how the model is made."""

from pathlib import Path
from typing import Any

import numpy as np

from .... import checks
from ....files import read_json, write_json
from .framework import Framework
from .model_source import ModelSource

__all__ = [
    "MODEL",
    "WEIGHTS",
    "check_tensors",
    "read_config",
    "read_tensors",
    "write_description",
    "write_encoder",
    "write_tensors",
]

WEIGHTS, CONFIG, MODEL = "weights.safetensors", "config.json", "model.json"


def write_encoder(
    folder: Path,
    framework: Framework,
    model: Any,
    source: ModelSource | None,
    config: dict[str, Any],
    weights: dict[str, Any],
) -> None:
    """Write the files of an encoder into a folder."""
    write_tensors(framework, folder / WEIGHTS, weights)
    write_description(folder, framework, model, source, config)


def write_description(
    folder: Path, framework: Framework, model: Any, source: ModelSource | None, config: dict[str, Any]
) -> None:
    """Write the files of an encoder but its weights into a folder."""
    write_json(folder / CONFIG, config)
    made = framework.model_config(model) if source is None else source.config()
    if source is not None and source.write_files is not None:
        source.write_files(folder)
    if made is not None:
        write_json(folder / MODEL, made)


def read_config(path: Path, backend: str | None = None) -> dict[str, Any]:
    """The settings of a saved run; with ``backend``, one of that framework.

    Raises:
        FileNotFoundError: If ``path`` is not the folder of a saved run.
        ValueError: If the file is damaged, or the run is of another framework.
    """
    config = read_json(path / CONFIG, dict)
    if backend is not None and config.get("backend") != backend:
        raise ValueError(f"{path} must be a run of {backend}, and is of {config.get('backend')}")
    return config


def write_tensors(framework: Framework, path: Path, tensors: dict[str, Any]) -> None:
    """Write a safetensors file; raise ``OSError`` if that fails, as when the disk is full."""
    from safetensors import SafetensorError

    try:
        framework.write_tensors(path, tensors)
    except SafetensorError as error:
        raise OSError(f"{path.name} cannot be written: {error}") from None


def read_tensors(framework: Framework, path: Path) -> dict[str, Any]:
    """Read a safetensors file of a saved run.

    Raises:
        FileNotFoundError: If the file does not exist.
        ValueError: If it is not a safetensors file.
    """
    from safetensors import SafetensorError

    if not path.is_file():
        raise FileNotFoundError(f"{path.parent} must be the folder of a saved run, and has no {path.name}")
    try:
        return framework.read_tensors(path)
    except (SafetensorError, ValueError, OverflowError) as error:
        line = " ".join(str(error).split())  # Paddle's messages have several lines
        raise ValueError(f"{path} must be a safetensors file: {line[:300]}") from None


def check_tensors(path: Path, tensors: dict[str, Any]) -> None:
    """Raise ``ValueError`` if a tensor contains NaN or infinity."""
    bad = [name for name, value in tensors.items() if not is_finite(value)]
    if bad:
        raise ValueError(f"{path} must contain finite weights, and does not in {checks.preview(bad)}")


def is_finite(value: Any) -> bool:
    """Whether a tensor on the host contains no NaN and no infinity."""
    if "float" not in str(value.dtype):
        return True
    if isinstance(value, np.ndarray):
        return bool(np.isfinite(value).all())
    return bool((value == value).all()) and not bool((abs(value) == float("inf")).any())
