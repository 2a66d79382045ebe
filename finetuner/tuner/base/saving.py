"""A tuner on disk: safetensors for what is a tensor, JSON for the rest, and nothing that is ever unpickled."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from .losses.interface import WeightedLoss
from .run import new_folder, read_json, write_json

if TYPE_CHECKING:
    from .tuner import Tuner

__all__ = ["load", "save"]

OPTIMIZERS = ("optimizer", "loss_optimizer")  # of a tuner


def save(tuner: "Tuner", path: str | Path) -> Path:
    """Write the tuner into the new folder ``path``; see :meth:`~finetuner.tuner.base.tuner.Tuner.save`."""
    with new_folder(path) as folder:
        state = {f"loss.{name}": value for name, value in tuner.loss_state().items()}
        plain: dict[str, Any] = {}
        for kind in OPTIMIZERS:
            optimizer = getattr(tuner, kind)
            slots, settings = ({}, {}) if optimizer is None else tuner.optimizer_state(optimizer)
            state |= {f"{kind}.{name}": value for name, value in slots.items()}
            plain[kind] = None if optimizer is None else {"name": type(optimizer).__name__, **settings}
        tuner.write_tensors(folder / "weights.safetensors", tuner.model_state())
        tuner.write_tensors(folder / "training.safetensors", state)
        sizes = getattr(tuner.loss, "sizes", None)
        training = {"epoch": tuner.epoch, "classes": tuner.classes, "loss_sizes": sizes, **plain}
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
    training = read_json(path / "training.json")
    history, metrics = read_json(path / "history.json"), read_json(path / "metrics.json")
    state = tensors_of(tuner, path / "training.safetensors")
    check_kind(tuner, "optimizer", training, path)
    tuner.load_model_state(weights)
    if training["loss_sizes"] is not None and isinstance(tuner.loss, WeightedLoss):
        in_features, num_classes = training["loss_sizes"]
        tuner.loss.size(in_features, num_classes, tuner.seed)
    tuner.find_loss_optimizer_once()
    check_kind(tuner, "loss_optimizer", training, path)
    tuner.load_loss_state(below("loss.", state))
    for kind in OPTIMIZERS:
        if training[kind] is not None:
            tuner.load_optimizer_state(getattr(tuner, kind), below(f"{kind}.", state), training[kind])
    tuner.epoch, tuner.history, tuner.metrics = training["epoch"], history, metrics
    tuner.classes = training["classes"]


def check_kind(tuner: "Tuner", kind: str, training: dict[str, Any], path: Path) -> None:
    """Raise ``ValueError`` unless the tuner's optimizer of this kind is what was saved."""
    saved, here = (training[kind] or {}).get("name"), getattr(tuner, kind)
    name = None if here is None else type(here).__name__
    if saved != name:
        raise ValueError(f"the {kind} must be {saved} to go on from {path}, got {name}")


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
