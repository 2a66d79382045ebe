"""Saved runs: safetensors for tensors, JSON for the rest. Nothing is pickled, and a run is checked when it is read."""

import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from pathlib import Path
from typing import Any

from .... import checks
from ....files import new_folder, read_json, write_json
from ..registry import describe
from .callbacks import Callback
from .callbacks.checkpoints import checkpoints_in
from .encoder_files import WEIGHTS, check_tensors, read_config, read_tensors, write_encoder, write_tensors
from .framework import Framework
from .model_source import ModelSource
from .state import Progress

__all__ = [
    "SavedRun",
    "decode_class_names",
    "differing_settings",
    "encode_class_names",
    "find_run",
    "load_callbacks",
    "read_run",
    "save_callbacks",
    "write_run",
]

# Settings that must be the same when a training is resumed, of the run and of its fit.
SETTINGS = (
    *("seed", "loss", "optimizer", "optimizer_options", "loss_optimizer", "loss_optimizer_options", "learning_rate"),
    *("schedule", "schedule_options", "warmup", "weight_decay", "layer_decay", "clip_norm", "freeze", "ema_decay"),
    *("precision", "lora"),
)
FIT_SETTINGS = (
    *("batch_size", "micro_batch_size", "num_items_per_class", "sampler", "gradient_accumulation_steps"),
    *("length_groups", "batches", "labels"),
)


OF_DATA = ("in_features", "num_classes", "label2category")  # arguments of a loss that a tuner sets


@dataclass
class SavedRun:
    """What the folder of a run holds.

    Attributes:
        weights: The weights of the model.
        tensors: Weights of the loss, optimizers, averages and callbacks; names begin with what they belong to.
        training: The same for numbers and texts.
        config: The settings.
        history: See ``Run``.
        log: See ``Run``.
        metrics: See ``Run``.
    """

    weights: dict[str, Any]
    tensors: dict[str, Any] = field(default_factory=dict)
    training: dict[str, Any] = field(default_factory=dict)
    config: dict[str, Any] = field(default_factory=dict)
    history: list[dict[str, Any]] = field(default_factory=list)
    log: list[dict[str, Any]] = field(default_factory=list)
    metrics: dict[str, Any] = field(default_factory=dict)

    def part(self, name: str) -> dict[str, Any]:
        """The tensors that belong to ``name``, without this beginning of their names."""
        prefix = f"{name}."
        return {key.removeprefix(prefix): value for key, value in self.tensors.items() if key.startswith(prefix)}


def write_run(path: str | Path, framework: Framework, model: Any, source: ModelSource | None, run: SavedRun) -> Path:
    """Write a run into the new folder ``path``."""
    with new_folder(path) as folder:
        write_encoder(folder, framework, model, source, run.config, run.weights)
        write_tensors(framework, folder / "training.safetensors", run.tensors)
        write_json(folder / "training.json", run.training)
        write_json(folder / "history.json", run.history)
        write_json(folder / "log.json", run.log)
        write_json(folder / "metrics.json", run.metrics)
    return Path(path)


def read_run(path: Path, framework: Framework) -> SavedRun:
    """Read the folder of a run, and check it.

    Raises:
        FileNotFoundError: If ``path`` is not the folder of a saved run.
        ValueError: If a file is damaged, or the run is of another framework.
    """
    config = read_config(path, framework.name)
    training = read_json(path / "training.json", dict)
    history, log = (rows_of(path / name) for name in ("history.json", "log.json"))
    metrics = read_json(path / "metrics.json", dict)
    weights, tensors = (read_tensors(framework, path / name) for name in (WEIGHTS, "training.safetensors"))
    check_tensors(path / WEIGHTS, weights)
    check_training(path / "training.json", training)
    return SavedRun(weights, tensors, training, config, history, log, metrics)


def check_training(path: Path, training: dict[str, Any]) -> None:
    """Raise ``ValueError`` unless ``training.json`` has what a resumed training needs."""
    expected: dict[str, Any] = {
        "progress": dict, "classes": list, "loss_built_shape": list | None, "optimizer": dict | None,
        "loss_optimizer": dict | None, "scale": dict | None, "schedule": dict | None, "callbacks": list,
    }  # fmt: skip
    unknown = training.keys() - expected.keys()
    if unknown:
        raise ValueError(f"{path} must have {', '.join(expected)} alone, got {checks.preview(sorted(unknown))}")
    for key, kind in expected.items():
        if key not in training or not isinstance(training[key], kind):
            raise ValueError(f"{path} must have {key!r}, and it is {type(training.get(key)).__name__}")
    try:
        Progress.from_state(training["progress"])
    except (ValueError, TypeError) as error:
        raise ValueError(f"{path}: {error}") from None
    shape = training["loss_built_shape"]
    if shape is not None and not (len(shape) == 2 and all(isinstance(n, int) and 0 <= n < 2**31 for n in shape)):
        raise ValueError(f"{path} must have two sizes as loss_built_shape, got {str(shape)[:80]}")
    if shape and shape[1] and len(training["classes"]) > shape[1]:
        raise ValueError(f"{path} must have at most {shape[1]} classes, got {len(training['classes'])}")
    for entry in training["callbacks"]:
        if not isinstance(entry, dict) or not isinstance(entry.get("state"), dict):
            raise ValueError(f"{path} must have a name and a state for each callback")


def rows_of(path: Path) -> list[dict[str, Any]]:
    """The rows of a history; raise ``ValueError`` if they are not mappings with an epoch and a step."""
    rows = read_json(path, list)
    for row in rows:
        if not isinstance(row, dict) or not all(isinstance(row.get(key), int) for key in ("epoch", "step")):
            raise ValueError(f"{path} must hold rows with an epoch and a step, got {str(row)[:80]}")
        row.update({name: float("nan") for name, value in row.items() if value is None})  # JSON has no NaN
    return rows


def find_run(path: str | Path) -> Path:
    """The folder of a run: ``path`` itself, or the newest checkpoint in it.

    Raises:
        FileNotFoundError: If there is neither.
    """
    path = Path(path)
    if (path / "config.json").exists():
        return path
    found = checkpoints_in(path)
    if not found:
        raise FileNotFoundError(f"{path} must be the folder of a saved run or of checkpoints, and has no config.json")
    return found[-1]


def differing_settings(saved: Mapping[str, Any], own: Mapping[str, Any], names: Iterable[str]) -> list[str]:
    """The settings that differ, as text."""
    return [
        f"{name} is {saved[name]!r} there and {own.get(name)!r} here"
        for name in names
        if name in saved and comparable(saved[name]) != comparable(own.get(name))
    ]


def comparable(setting: Any) -> Any:
    """A setting as it can be compared. What a loss has learned of the data does not count."""
    setting = describe(setting)
    if isinstance(setting, dict):
        return {key: comparable(value) for key, value in setting.items() if key not in OF_DATA}
    return [comparable(value) for value in setting] if isinstance(setting, list) else setting


def encode_class_names(names: Iterable[Any]) -> list[Any]:
    """Names of classes as JSON can hold them."""
    kinds = {bytes: lambda name: name.decode("latin-1"), date: date.isoformat, datetime: datetime.isoformat}
    return [{type(name).__name__: kinds[type(name)](name)} if type(name) in kinds else name for name in names]


def decode_class_names(names: Iterable[Any]) -> list[Any]:
    """The names that :func:`encode_class_names` has encoded."""
    kinds = {
        "bytes": lambda text: text.encode("latin-1"),
        "date": date.fromisoformat,
        "datetime": datetime.fromisoformat,
    }
    decoded = []
    for name in names:
        kind, text = next(iter(name.items())) if isinstance(name, dict) and len(name) == 1 else (None, name)
        decoded.append(name if kind is None else kinds[kind](text))
    return decoded


# Callbacks ---------------------------------------------------------------------------------------------------


def save_callbacks(callbacks: Sequence[Callback]) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """The states of callbacks: what JSON can hold, and tensors."""
    entries: list[dict[str, Any]] = []
    tensors: dict[str, Any] = {}
    for number, callback in enumerate(callbacks):
        plain: dict[str, Any] = {}
        for key, value in callback.state_dict().items():
            found = isinstance(value, Mapping) and value and all(hasattr(one, "shape") for one in value.values())
            if found:
                tensors |= {f"callback.{number}.{key}.{name}": tensor for name, tensor in value.items()}
                plain[key] = {"tensors": True}
            else:
                plain[key] = value
        entries.append({"name": type(callback).__name__, "state": plain})
    return entries, tensors


def load_callbacks(callbacks: Sequence[Callback], run: SavedRun) -> None:
    """Give each callback the state that one of its class had; the first of a class the first, and so on."""
    saved = list(enumerate(run.training["callbacks"]))
    for callback in callbacks:
        match = next((pair for pair in saved if pair[1]["name"] == type(callback).__name__), None)
        if match is None:
            continue
        saved.remove(match)
        number, entry = match
        state = {
            key: run.part(f"callback.{number}.{key}") if value == {"tensors": True} else value
            for key, value in entry["state"].items()
        }
        if state:
            try:
                callback.load_state_dict(state)
            except (KeyError, TypeError) as error:
                raise ValueError(f"the state of {entry['name']} in training.json is damaged: {error!r}") from None
    lost = [entry["name"] for _, entry in saved if any(value is not None for value in entry["state"].values())]
    if lost:
        warnings.warn(
            f"the run was trained with callbacks that this tuner does not have: {checks.preview(lost)}", stacklevel=4
        )
