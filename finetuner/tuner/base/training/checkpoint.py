"""Saved runs: safetensors for tensors, JSON for the rest. Nothing is pickled."""

from pathlib import Path
from typing import Any

from ....files import new_folder, read_json, write_json
from ..losses.loss import WeightedLoss
from .loss_setup import LossSetup

__all__ = ["load", "save"]

OPTIMIZERS = ("optimizer", "loss_optimizer")  # of a tuner


def save(tuner: LossSetup, path: str | Path) -> Path:
    """Write the run of a tuner into the new folder ``path``. See ``Tuner.save``."""
    with new_folder(path) as folder:
        tensors = {f"loss.{name}": value for name, value in tuner.loss_state().items()}
        optimizers: dict[str, Any] = {}
        for kind in OPTIMIZERS:
            optimizer = getattr(tuner, kind)
            slots, settings = ({}, {}) if optimizer is None else tuner.optimizer_state(optimizer)
            tensors |= {f"{kind}.{name}": value for name, value in slots.items()}
            optimizers[kind] = None if optimizer is None else {"name": type(optimizer).__name__, **settings}
        tuner.write_tensors(folder / "weights.safetensors", tuner.model_state())
        tuner.write_tensors(folder / "training.safetensors", tensors)
        built_shape = getattr(tuner.loss, "built_shape", None)
        training = {"epoch": tuner.epoch, "classes": tuner.classes, "loss_built_shape": built_shape, **optimizers}
        write_json(folder / "training.json", training)
        write_json(folder / "config.json", tuner.config)
        write_json(folder / "history.json", tuner.history)
        write_json(folder / "metrics.json", tuner.metrics)
    return Path(path)


def load(tuner: LossSetup, path: str | Path, weights_only: bool) -> None:
    """Load a run that :func:`save` wrote into a tuner. See ``Tuner.load``."""
    path = Path(path)
    config = read_json(path / "config.json")
    if config.get("backend") != tuner.backend:
        raise ValueError(f"{path} must be a run of {tuner.backend}, and is of {config.get('backend')}")
    weights = read_tensors(tuner, path / "weights.safetensors")
    if weights_only:
        tuner.load_model_state(weights)
        return
    training = read_json(path / "training.json")
    history, metrics = read_json(path / "history.json"), read_json(path / "metrics.json")
    tensors = read_tensors(tuner, path / "training.safetensors")
    check_optimizer_name(tuner, "optimizer", training, path)
    tuner.load_model_state(weights)
    if training["loss_built_shape"] is not None and isinstance(tuner.loss, WeightedLoss):
        in_features, num_classes = training["loss_built_shape"]
        tuner.loss.create_weights(in_features, num_classes, tuner.seed)
    tuner.ensure_loss_optimizer()
    check_optimizer_name(tuner, "loss_optimizer", training, path)
    tuner.load_loss_state(strip_prefix("loss.", tensors))
    for kind in OPTIMIZERS:
        if training[kind] is not None:
            tuner.load_optimizer_state(getattr(tuner, kind), strip_prefix(f"{kind}.", tensors), training[kind])
    tuner.epoch, tuner.history, tuner.metrics = training["epoch"], history, metrics
    tuner.classes = training["classes"]


def check_optimizer_name(tuner: LossSetup, kind: str, training: dict[str, Any], path: Path) -> None:
    """Raise ``ValueError`` unless the tuner's optimizer of this kind has the class of the saved one."""
    saved, optimizer = (training[kind] or {}).get("name"), getattr(tuner, kind)
    name = None if optimizer is None else type(optimizer).__name__
    if saved != name:
        raise ValueError(f"the {kind} must be {saved} to resume from {path}, got {name}")


def strip_prefix(prefix: str, tensors: dict[str, Any]) -> dict[str, Any]:
    """The tensors whose names begin with ``prefix``, by the rest of their names."""
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}


def read_tensors(tuner: LossSetup, path: Path) -> dict[str, Any]:
    """Read a safetensors file of a saved run.

    Raises:
        FileNotFoundError: If the file does not exist.
        ValueError: If it is not a safetensors file.
    """
    from safetensors import SafetensorError

    if not path.is_file():
        raise FileNotFoundError(f"{path.parent} must be the folder of a saved run, and has no {path.name}")
    try:
        return tuner.read_tensors(path)
    except SafetensorError as error:
        raise ValueError(f"{path} must be a safetensors file: {error}") from None
