"""What the commands are made of: errors in one line, options, files, tables of metrics."""

import functools
import itertools
import json
import os
import re
import signal
import traceback
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import typer

from .console_noise import ignore_framework_warnings
from .user_code import built, named, user_files

__all__ = [
    "callbacks_for",
    "check_inputs",
    "check_output",
    "free_folder",
    "loaded",
    "options",
    "read",
    "recorded",
    "reported",
    "say",
    "show",
    "uninterrupted",
]

ESCAPES = re.compile(r"\x1b\[[0-9;]*m")
WRAPPERS = ("Exception encountered when calling ", "Could not automatically infer the output shape")
INTERRUPTED = 130  # as a shell tells of Ctrl-C
FORESEEN = (ValueError, TypeError, OSError, ImportError)


def say(text: str, kind: str = "", colour: str | None = None) -> None:
    """A line on the standard error."""
    typer.echo(typer.style(f"{kind}: ", fg=colour) * bool(kind) + text, err=True)


def reported(command: Callable[..., None]) -> Callable[..., None]:
    """A command that tells of an error in one line, and of Ctrl-C, by its exit code too."""

    @functools.wraps(command)
    def run(*args: Any, **given: Any) -> None:
        try:
            with warnings.catch_warnings():
                warnings.showwarning = warned
                ignore_framework_warnings()
                command(*args, **given)
        except KeyboardInterrupt:
            say("interrupted")
            raise typer.Exit(INTERRUPTED) from None
        except (typer.BadParameter, typer.Exit):
            raise
        except Exception as error:
            where = users_line(error)
            if given.get("debug"):
                raise
            line = reason(error) if isinstance(error, FORESEEN) else f"{told(error)} (--debug shows where)"
            say(f"{told(error)} ({where})" if where else line, "error", "red")
            raise typer.Exit(1) from None

    return run


def warned(message: Warning | str, category: type[Warning], *where: Any, **more: Any) -> None:
    """Takes the place of :func:`warnings.showwarning`."""
    say(str(message), "warning", "yellow")


def users_line(error: BaseException) -> str | None:
    """The last line of the user's own code on the way to an error, as ``file:line``."""
    frames = [(frame.filename, frame.lineno) for frame in traceback.extract_tb(error.__traceback__)]
    if isinstance(error, SyntaxError):
        frames.append((error.filename or "", error.lineno))
    return next((f"{file}:{line}" for file, line in reversed(frames) if file in user_files), None)


def reason(error: BaseException) -> str:
    """What an error says, in a line."""
    if isinstance(error, OSError) and error.strerror and error.filename:
        return f"{error.filename}: {error.strerror}"
    lines = [line for line in map(str.strip, ESCAPES.sub("", str(error)).splitlines()) if line]
    while len(lines) > 1 and lines[0].startswith(WRAPPERS):  # Keras, which comes to the error itself below
        del lines[0]
    return lines[0] if lines else type(error).__name__


def told(error: BaseException) -> str:
    """The kind of an error and what it says, in a line; of an engine that Keras lacks, what can be done."""
    from ..tuner import no_engine

    if help_for_it := no_engine(error):
        return help_for_it
    name, text = type(error).__name__, reason(error)
    return name if text == name else f"{name}: {text}"


@contextmanager
def uninterrupted() -> Iterator[None]:
    """Not to be ended by a second Ctrl-C."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


# What the user says ------------------------------------------------------------------------------------


def options(flag: str, pairs: list[str] | None) -> dict[str, Any]:
    """``["margin=0.3", "reduction=sum"]`` as a mapping; a value is JSON where it is, and else text."""
    found: dict[str, Any] = {}
    for pair in pairs or []:
        key, equals, value = pair.partition("=")
        if not key or not equals:
            raise typer.BadParameter(f"must be KEY=VALUE, got {pair!r}", param_hint=flag)
        try:
            found[key] = json.loads(value)
        except json.JSONDecodeError:
            found[key] = value
    return found


# What it makes ---------------------------------------------------------------------------------------


def callbacks_for(command: Mapping[str, Any], loss_and_gradients: bool) -> list[Any]:
    """The callbacks that the options of ``fit`` ask for."""
    from .. import checks
    from ..evaluation import DEFAULT_METRICS
    from ..tuner.base import BestModel, Checkpoint, EarlyStopping, ProgressBar

    known = ["val_loss", *(command["metric"] or DEFAULT_METRICS), "loss"] if loss_and_gradients else ["loss"]
    monitor = checks.one_of("--monitor", command["monitor"] or known[0], known)
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


def loaded(settings: Mapping[str, Any], run: Path | None = None, device: str = "auto") -> tuple[Any, dict[str, Any]]:
    """The model, with the weights of the run if there is one, and the functions that prepare its input."""
    functions = {f"{name}_fn": named(f"--{name}", settings.get(name)) for name in ("preprocess", "collate")}
    model = built("--model", settings["model"], settings["seed"])
    if run is not None:
        from ..tuner import tuner_class

        tuner = tuner_class(model)(model, callbacks=[], device=device, **made_again(run, settings.get("pooler")))
        model = tuner.load(run, weights_only=True).embed_model
    return model, functions


def made_again(run: Path, pooler: Any) -> dict[str, Any]:
    """How to give a tuner the pooler that the configuration of a ``run`` tells of, if any."""
    if isinstance(pooler, str):
        raise ValueError(f"the pooler of {run} must be one of finetuner's to be made again, and is {pooler}")
    return {"pooler": pooler["name"], "pooler_options": pooler["options"]} if pooler else {}


# Files -------------------------------------------------------------------------------------------------


def check_output(path: Path, kind: str = "folder") -> None:
    """Raise, before anything is done for it, if ``path`` cannot become a folder of ours, or a new ``.npz``."""
    from ..files import check_new_folder

    if kind == "folder":
        check_new_folder(path)
    elif path.suffix != kind:
        raise ValueError(f"--output must end in {kind}, got {path}")
    elif path.exists():
        raise FileExistsError(f"{path} must be a new file, and it exists; nothing was written")
    parent = next(folder for folder in path.absolute().parents if folder.exists())
    if not parent.is_dir() or not os.access(parent, os.W_OK | os.X_OK):
        raise OSError(f"{path} must lie where it can be written, and {parent} cannot be written to")


def free_folder(name: str) -> Path:
    """``name``, or ``name-2``, ``name-3``, ... if there is something there."""
    names = (name if number == 1 else f"{name}-{number}" for number in itertools.count(1))
    return next(path for path in map(Path, names) if not path.exists())


COLUMNS = ("input_column", "label_column", "session_column", "role_column")
IMAGES = ("image_size", "image_mode", "in_memory", "channels_first")


def check_inputs(*paths: Path | None) -> None:
    """Raise, before a framework is loaded, if one of the files or folders is not there."""
    for path in paths:
        if path is not None and not path.exists():
            raise FileNotFoundError(f"there must be a file or a folder at {path}, and there is none")


def read(path: Path, settings: Mapping[str, Any], classes: list[str] | None, title: str, labelled: bool = True) -> Any:
    """A dataset, or items alone, from a file or folder and what was said of it; said in a line."""
    from ..data import load, load_inputs

    asked: dict[str, Any] = {name: settings.get(name) or None for name in (*COLUMNS, *IMAGES)}
    asked["in_memory"], asked["channels_first"] = bool(asked["in_memory"]), not settings.get("channels_last")
    if isinstance(asked["input_column"], list) and len(asked["input_column"]) == 1:
        asked["input_column"] = asked["input_column"][0]
    if isinstance(asked["image_size"], str):
        asked["image_size"] = sides(asked["image_size"])
    try:
        if labelled:
            data = load(path, **asked, classes=classes)
        else:
            data = load_inputs(path, **{name: asked[name] for name in ("input_column", *IMAGES)})
    except (TypeError, ValueError) as error:
        if str(path) in str(error):
            raise
        raise type(error)(f"{path}: {error}") from error
    say(f"{title:<6} {data if labelled else f'{len(data)} items'}")
    return data


def sides(text: str) -> int | tuple[int, ...]:
    """``28`` or ``28x32``."""
    parts = text.lower().split("x")
    if len(parts) > 2 or not all(part.isdecimal() for part in parts):
        raise typer.BadParameter(f"must be as 28 or 28x32, got {text!r}", param_hint="--image-size")
    return int(parts[0]) if len(parts) == 1 else tuple(map(int, parts))


def recorded(run: Path | None, given: Mapping[str, Any]) -> dict[str, Any]:
    """What was given, and where it was not, what the run of ``finetuner fit`` in the folder ``run`` was given.

    Raises:
        FileNotFoundError: if there is no run in ``run``.
        ValueError: if neither says what makes the model.
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
    settings |= {name: value for name, value in given.items() if value is not None and value is not False}
    if settings.get("model") is None:
        told = f"{run} was not written by `finetuner fit`" if run else "there is no --run"
        raise ValueError(f"--model must be given, since {told}")
    return settings


# Tables ------------------------------------------------------------------------------------------------


def metrics_table(columns: Mapping[str, Mapping[str, float]]) -> Any:
    """A table of metrics; two columns are taken for before and after, and get a third, their difference."""
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, header_style="bold", pad_edge=False, padding=(0, 3, 0, 0))
    table.add_column("metric")
    change = len(columns) == 2
    for title in (*columns, "change")[: len(columns) + change]:
        table.add_column(title, justify="right")
    for name in next(iter(columns.values())):
        values = [column[name] for column in columns.values()]
        cells: list[Any] = [f"{value:.4f}" for value in values]
        if change:
            gain = values[1] - values[0]
            better = (gain < 0) if "loss" in name else (gain > 0)
            cells.append(Text(f"{gain:+.4f}", style="green" if better else "red" if gain else ""))
        table.add_row(name, *cells)
    return table


def show(metrics: Mapping[str, Mapping[str, float]]) -> None:
    """Print the table of metrics, if there are any."""
    if metrics:
        from rich.console import Console

        console = Console(highlight=False)
        console.print()
        console.print(metrics_table(metrics))
        console.print()
