"""A tuner on disk: safetensors for what is a tensor, JSON for the rest, and nothing that is ever unpickled."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from .run import new_folder, read_json, write_json

if TYPE_CHECKING:
    from .tuner import Tuner

__all__ = ["load", "save"]


def save(tuner: "Tuner", path: str | Path) -> Path:
    """Write the tuner into the new folder ``path``; see :meth:`~finetuner.tuner.base.tuner.Tuner.save`."""
    with new_folder(path) as folder:
        slots, plain = ({}, {}) if tuner.optimizer is None else tuner.optimizer_state()
        state = {f"optimizer.{name}": value for name, value in slots.items()}
        state |= {f"loss.{name}": value for name, value in tuner.loss_state().items()}
        tuner.write_tensors(folder / "weights.safetensors", tuner.model_state())
        tuner.write_tensors(folder / "training.safetensors", state)
        training = {"epoch": tuner.epoch, "optimizer": type(tuner.optimizer).__name__, **plain}
        write_json(folder / "training.json", training)
        write_json(folder / "config.json", tuner.config)
        write_json(folder / "history.json", tuner.history)
        write_json(folder / "metrics.json", tuner.metrics)
    return Path(path)


def load(tuner: "Tuner", path: str | Path, weights_only: bool) -> None:
    """Take over what :func:`save` wrote; see :meth:`~finetuner.tuner.base.tuner.Tuner.load`."""
    path = Path(path)
    config = read_json(path / "config.json")
    if config.get("backend") != tuner.backend:
        raise ValueError(f"{path} must be a run of {tuner.backend}, and is of {config.get('backend')}")
    weights = tensors_of(tuner, path / "weights.safetensors")
    if weights_only:
        tuner.load_model_state(weights)
        return
    training, optimizer = read_json(path / "training.json"), type(tuner.optimizer).__name__
    if training["optimizer"] != optimizer:
        raise ValueError(f"the optimizer must be {training['optimizer']} to go on from {path}, got {optimizer}")
    history, metrics = read_json(path / "history.json"), read_json(path / "metrics.json")
    state = tensors_of(tuner, path / "training.safetensors")
    tuner.load_model_state(weights)
    tuner.load_loss_state(below("loss.", state))
    if tuner.optimizer is not None:
        tuner.load_optimizer_state(below("optimizer.", state), training)
    tuner.epoch, tuner.history, tuner.metrics = training["epoch"], history, metrics


def below(prefix: str, tensors: dict[str, Any]) -> dict[str, Any]:
    """The tensors whose names begin with ``prefix``, by the rest of their names."""
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}


def tensors_of(tuner: "Tuner", path: Path) -> dict[str, Any]:
    """What is in a safetensors file of a saved run."""
    from safetensors import SafetensorError

    if not path.is_file():
        raise FileNotFoundError(f"{path.parent} must be the folder of a saved run, and has no {path.name}")
    try:
        return tuner.read_tensors(path)
    except SafetensorError as error:
        raise ValueError(f"{path} must be a safetensors file: {error}") from None
