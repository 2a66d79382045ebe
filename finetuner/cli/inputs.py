"""What the user passes: options, paths, data, models and the settings of a saved run."""

import itertools
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import typer

from .terminal import print_message
from .user_code import build_model, resolve_callable

__all__ = [
    "build_callbacks",
    "check_inputs",
    "check_output",
    "first_free_folder",
    "load_model_and_functions",
    "parse_image_size",
    "parse_options",
    "read_data",
    "run_settings",
]

COLUMN_OPTIONS = ("input_column", "label_column", "session_column", "role_column")
IMAGE_OPTIONS = ("image_size", "image_mode", "in_memory", "channels_first")


def parse_options(flag: str, pairs: list[str] | None) -> dict[str, Any]:
    """Parse ``KEY=VALUE`` pairs. A value is read as JSON, or as text if it is not JSON.

    Args:
        flag: The option of the command line, for the error message.
        pairs: The pairs; None for none.

    Raises:
        typer.BadParameter: If a pair is not ``KEY=VALUE``.

    Example:
        >>> parse_options("--loss-option", ["margin=0.3", "reduction=sum"])
        {'margin': 0.3, 'reduction': 'sum'}
    """
    parsed: dict[str, Any] = {}
    for pair in pairs or []:
        key, equals, value = pair.partition("=")
        if not key or not equals:
            raise typer.BadParameter(f"must be KEY=VALUE, got {pair!r}", param_hint=flag)
        try:
            parsed[key] = json.loads(value)
        except json.JSONDecodeError:
            parsed[key] = value
    return parsed


def parse_image_size(text: str) -> int | tuple[int, ...]:
    """Parse the size of an image: one number for both sides, or height and width.

    Raises:
        typer.BadParameter: If ``text`` has another form.

    Example:
        >>> parse_image_size("28"), parse_image_size("28x32")
        (28, (28, 32))
    """
    parts = text.lower().split("x")
    if len(parts) > 2 or not all(part.isdecimal() for part in parts):
        raise typer.BadParameter(f"must be SIZE or HEIGHTxWIDTH, got {text!r}", param_hint="--image-size")
    return int(parts[0]) if len(parts) == 1 else tuple(map(int, parts))


# Paths ---------------------------------------------------------------------------------------------------


def check_inputs(*paths: Path | None) -> None:
    """Check that input files or folders exist. This runs before a framework is imported, which takes seconds.

    Raises:
        FileNotFoundError: If one does not exist.
    """
    for path in paths:
        if path is not None and not path.exists():
            raise FileNotFoundError(f"{path} must be a file or a folder, and does not exist")


def check_output(path: Path, kind: str = "folder") -> None:
    """Check that an output can be written. This runs before anything is computed.

    Args:
        path: A folder, which must be new or empty, or a file, which must be new.
        kind: ``"folder"``, or the suffix that the file must have.

    Raises:
        FileExistsError: If something is at ``path``.
        OSError: If it is in a folder that is not writable.
        ValueError: If it has another suffix.
    """
    from ..files import check_new_folder

    if kind == "folder":
        check_new_folder(path)
    elif path.suffix != kind:
        raise ValueError(f"--output must end in {kind}, got {path}")
    elif path.exists():
        raise FileExistsError(f"{path} must be a new file, and it exists; nothing was written")
    parent = next(folder for folder in path.absolute().parents if folder.exists())
    if not parent.is_dir() or not os.access(parent, os.W_OK | os.X_OK):
        raise OSError(f"{path} must be in a writable folder, and {parent} is not one")


def first_free_folder(name: str) -> Path:
    """The first of ``name``, ``name-2``, ``name-3``, ... that does not exist."""
    names = (name if number == 1 else f"{name}-{number}" for number in itertools.count(1))
    return next(path for path in map(Path, names) if not path.exists())


# Data ----------------------------------------------------------------------------------------------------


def read_data(
    path: Path, settings: Mapping[str, Any], classes: list[str] | None, title: str, labelled: bool = True
) -> Any:
    """Read a file or a folder, and print one line about it.

    Args:
        path: The file or folder.
        settings: The options of the command. Those for columns and images are used.
        classes: Names or patterns of the classes to keep; None for all.
        title: What the printed line calls the data.
        labelled: Whether to read labels too.

    Returns:
        A dataset, or the items alone if not ``labelled``.

    Raises:
        FileNotFoundError, ImportError, ValueError: See :func:`finetuner.data.load`. The message names ``path``.
    """
    from ..data import load, load_inputs

    options: dict[str, Any] = {name: settings.get(name) or None for name in (*COLUMN_OPTIONS, *IMAGE_OPTIONS)}
    options["in_memory"], options["channels_first"] = bool(options["in_memory"]), not settings.get("channels_last")
    if isinstance(options["input_column"], list) and len(options["input_column"]) == 1:
        options["input_column"] = options["input_column"][0]
    if isinstance(options["image_size"], str):
        options["image_size"] = parse_image_size(options["image_size"])
    try:
        if labelled:
            data = load(path, **options, classes=classes)
        else:
            data = load_inputs(path, **{name: options[name] for name in ("input_column", *IMAGE_OPTIONS)})
    except (TypeError, ValueError) as error:
        if str(path) in str(error):
            raise
        raise type(error)(f"{path}: {error}") from error
    print_message(f"{title:<6} {data if labelled else f'{len(data)} items'}")
    return data


# Models --------------------------------------------------------------------------------------------------


def build_callbacks(command: Mapping[str, Any], has_eval_data: bool) -> list[Any]:
    """The callbacks for the options of ``fit``.

    Args:
        command: The options.
        has_eval_data: Whether there are a validation loss and metrics to monitor.

    Raises:
        ValueError: If the run has no value of the name that is to be monitored.
        FileExistsError: If the folder for checkpoints exists and is not empty.
    """
    from .. import checks
    from ..evaluation import DEFAULT_METRICS
    from ..tuner.base import BestModel, Checkpoint, EarlyStopping, ProgressBar

    monitors = ["val_loss", *(command["metric"] or DEFAULT_METRICS), "loss"] if has_eval_data else ["loss"]
    monitor = checks.one_of("--monitor", command["monitor"] or monitors[0], monitors)
    callbacks: list[Any] = [ProgressBar()]
    if command["keep_best"]:
        callbacks.append(BestModel(monitor))
    if command["early_stopping"] is not None:
        callbacks.append(EarlyStopping(monitor, command["early_stopping"]))
    if command["checkpoint_every"] is not None:
        folder = Path(f"{Path(command['output'])}-checkpoints")
        check_output(folder)
        callbacks.append(Checkpoint(folder, command["checkpoint_every"]))
    return callbacks


def load_model_and_functions(
    settings: Mapping[str, Any], run: Path | None = None, device: str = "auto"
) -> tuple[Any, dict[str, Any]]:
    """Create the model, load the weights of a run into it, and import the functions that prepare its input.

    Args:
        settings: The options of the command, or the result of :func:`run_settings`.
        run: The folder of a saved run; None for a model without saved weights.
        device: Where to compute.

    Returns:
        The model, and a mapping with ``preprocess_fn`` and ``collate_fn``.
    """
    functions = {f"{name}_fn": resolve_callable(f"--{name}", settings.get(name)) for name in ("preprocess", "collate")}
    model = build_model("--model", settings["model"], settings["seed"])
    if run is not None:
        from ..tuner import tuner_class

        pooler = pooler_arguments(run, settings.get("pooler"))
        tuner = tuner_class(model)(model, callbacks=[], device=device, **pooler)
        model = tuner.load(run, weights_only=True).embed_model
    return model, functions


def pooler_arguments(run: Path, pooler: Any) -> dict[str, Any]:
    """The arguments of a tuner that restore the pooler of a run.

    Args:
        run: The folder of the run, for the error message.
        pooler: The pooler in the configuration of the run; None for none.

    Raises:
        ValueError: If it is not a pooler of finetuner. The configuration does not have the arguments of others.
    """
    if isinstance(pooler, str):
        raise ValueError(f"the pooler of {run} must be one of finetuner's poolers to be restored, got {pooler}")
    return {"pooler": pooler["name"], "pooler_options": pooler["options"]} if pooler else {}


def run_settings(run: Path | None, options: Mapping[str, Any]) -> dict[str, Any]:
    """The options of a command, with the settings of a saved run as defaults.

    Args:
        run: The folder of the run; None for none.
        options: The options of the command. None and False count as not given.

    Raises:
        FileNotFoundError: If ``run`` is not the folder of a run.
        ValueError: If neither the run nor the options name a model.
    """
    settings: dict[str, Any] = {}
    if run is not None:
        from ..files import read_json

        config = read_json(run / "config.json")
        settings = dict(config.get("command", {}))
        loss = config.get("loss")
        settings["pooler"] = config.get("pooler")
        settings["distance"] = loss["options"].get("distance") if isinstance(loss, dict) else None
    settings.setdefault("seed", 0)
    settings |= {name: value for name, value in options.items() if value is not None and value is not False}
    if settings.get("model") is None:
        reason = f"{run} was not written by `finetuner fit`" if run else "--run is not"
        raise ValueError(f"--model must be given if {reason}")
    return settings
