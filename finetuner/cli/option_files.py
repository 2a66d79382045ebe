"""Options from files: ``--config FILE.toml``, and the options of an earlier run for ``--like`` and ``--resume``.

Click reads options that are not on the command line from ``Context.default_map``. These options fill it before the
others are read.
"""

import inspect
import json
import tomllib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, get_args, get_origin

import typer

from .terminal import FAILED, error_line, print_message

__all__ = [
    "CODE",
    "code_of_folder",
    "known_options",
    "option_types",
    "read_toml_options",
    "use_config_file",
    "use_options_of_resumed_run",
    "use_options_of_run",
]

CODE = ("model", "preprocess", "collate", "augment")  # options that name the user's code
OWN_OPTIONS = ("output", "config", "like", "resume", "trust", "debug")  # that an earlier run does not pass on
CONFIG, FOLDER = "finetuner.config", "finetuner.folder"  # keys of Context.meta
EXPECTED = {
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    str: "a text",
    Path: "a path",
    list: "a text, or a list or a table of texts",
    tuple: "a path, or a list of paths",
}


@contextmanager
def errors_in_one_line() -> Iterator[None]:
    """Print an error about a file in one line, and exit."""
    try:
        yield
    except (OSError, ValueError, TypeError) as error:
        print_message(error_line(error), "error", "red")
        raise typer.Exit(FAILED) from None


# The callbacks of the options. While a shell completes a command, they read no file ----------------------


def use_config_file(context: typer.Context, path: Path | None) -> Path | None:
    """Use the options of a TOML file as defaults. Those of the command line come first."""
    if path is not None and not context.resilient_parsing:
        with errors_in_one_line():
            options = read_toml_options(path, option_types(context.command.callback))
        context.meta[CONFIG] = options.keys()
        context.default_map = {**(context.default_map or {}), **options}
    return path


def use_options_of_run(context: typer.Context, folder: Path | None) -> Path | None:
    """Use the options of an earlier run as defaults."""
    if folder is not None and not context.resilient_parsing:
        with errors_in_one_line():
            path, options, _ = read_run_options(folder, option_types(context.command.callback))
            if not options:
                raise ValueError(f"{path} was not written by `finetuner fit`, and has no options")
        options.pop("checkpoint_folder", None)
        add_run_options(context, path, options)
    return folder


def use_options_of_resumed_run(context: typer.Context, folder: Path | None) -> Path | None:
    """Use the options of the run that is resumed as defaults; its output too, if nothing is there yet."""
    if folder is not None and not context.resilient_parsing:
        with errors_in_one_line():
            path, options, output = read_run_options(folder, option_types(context.command.callback))
        if output is not None and not Path(output).exists():
            options["output"] = output
        if Path(options.get("checkpoint_folder", "")).resolve() != path.resolve().parent:
            options.pop("checkpoint_folder", None)  # not a folder that the run only names
        add_run_options(context, path, options)
    return folder


def add_run_options(context: typer.Context, path: Path, options: dict[str, Any]) -> None:
    """Add the options of a run to the defaults. Those of a file of the user come first."""
    context.meta[FOLDER] = path
    context.default_map = {**options, **(context.default_map or {})}


def code_of_folder(context: typer.Context) -> tuple[Path | None, set[str]]:
    """The folder of ``--like`` or ``--resume``, and the options for code that come from it, and not from the user."""
    ours = context.meta.get(CONFIG, ())
    sources = {name: context.get_parameter_source(name) for name in CODE}
    defaults = {name for name, source in sources.items() if source is not None and source.name == "DEFAULT_MAP"}
    return context.meta.get(FOLDER), defaults - set(ours)


# The files -----------------------------------------------------------------------------------------------


def read_toml_options(path: Path, types: Mapping[str, type]) -> dict[str, Any]:
    """Read the options of a command from a TOML file. Its keys are names of options, with ``-`` or ``_``.

    Raises:
        OSError: If it cannot be read.
        ValueError: If it is not TOML, a key is unknown, or a value has another type.
    """
    from ..checks import closest_match

    try:
        table = tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except ValueError as error:  # not TOML, or not UTF-8
        raise ValueError(f"{path} must hold TOML: {error}") from None
    options: dict[str, Any] = {}
    for key, value in table.items():
        name = key.replace("-", "_")
        if name not in types or name == "config":
            hint = closest_match(key, [known.replace("_", "-") for known in types if known != "config"])
            hint = hint if hint.startswith("did you mean") else "--help lists them"
            raise ValueError(f"{path} must have options of this command, got {key!r}; {hint}")
        if name in options:
            raise ValueError(f"{path} must have each option once, got {key!r} twice")
        options[name] = check_value(f"{path}: {key}", value, types[name])
    return options


def read_run_options(folder: Path, types: Mapping[str, type]) -> tuple[Path, dict[str, Any], str | None]:
    """Read the options of an earlier run.

    Args:
        folder: The folder of the run, or of checkpoints.
        types: The types of the options of this command.

    Returns:
        The folder of the run itself, its options, and its output.

    Raises:
        FileNotFoundError: If it is not the folder of a run.
        ValueError: If its settings are damaged.
    """
    from ..checks import preview
    from ..files import read_json
    from ..tuner.base.training.checkpoint import find_run

    path = find_run(folder)
    command = read_json(path / "config.json", dict).get("command") or {}
    options = known_options(path, command, types)
    unknown = [name for name, value in command.items() if name not in types and value is not None]
    if unknown:
        print_message(f"{path} has options that this version does not know: {preview(unknown)}", "warning", "yellow")
    output = options.get("output")
    return path, {name: value for name, value in options.items() if name not in OWN_OPTIONS}, output


def known_options(path: Path, command: Any, types: Mapping[str, type]) -> dict[str, Any]:
    """The options in the settings of a run that this command has, without those that were not given.

    Raises:
        ValueError: If one has another type.
    """
    place = path / "config.json"
    if not isinstance(command, dict):
        raise ValueError(f"{place} must hold a JSON object as command, got {type(command).__name__}")
    return {
        name: check_value(f"{place}: {name}", value, types[name])
        for name, value in command.items()
        if name in types and value is not None
    }


# Types of options ----------------------------------------------------------------------------------------


def option_types(command: Callable[..., Any] | None) -> dict[str, type]:
    """The options of a command and their types: ``bool``, ``int``, ``float``, ``str``, ``Path`` or ``list``.

    The type of a list of paths is ``tuple``.
    """
    types: dict[str, type] = {}
    for name, parameter in inspect.signature(command).parameters.items() if command else ():
        if get_origin(parameter.annotation) is Annotated:
            kind = get_args(parameter.annotation)[0]
            if isinstance(kind, UnionType):  # such as int | None
                kind = get_args(kind)[0]
            types[name] = tuple if get_args(kind) == (Path,) else get_origin(kind) or kind
    return types


def check_value(place: str, value: Any, kind: type) -> Any:
    """Check the type of an option in a file.

    Args:
        place: The file and the option, for the error message.
        value: Its value.
        kind: The type that it must have.

    Returns:
        The value as the command line has it: a list of texts for an option that can be repeated.

    Raises:
        ValueError: If the value has another type.

    Example:
        >>> check_value("", {"margin": 0.3, "reduction": "sum"}, list)
        ['margin=0.3', 'reduction=sum']
    """
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    is_text = isinstance(value, str) or (isinstance(value, int) and is_number)  # an image-size of 64, for example
    if kind is bool and isinstance(value, bool):
        return value
    if kind is int and isinstance(value, int) and is_number:
        return value
    if kind is float and is_number:
        return float(value)
    if kind in (str, Path) and is_text:
        return str(value)
    if kind in (list, tuple) and is_text:
        return [str(value)]
    if kind is tuple and isinstance(value, list) and value and all(isinstance(one, str) for one in value):
        return value
    if kind is list and isinstance(value, list) and all(isinstance(one, str | int | float) for one in value):
        return [value_text(one) for one in value]
    if kind is list and isinstance(value, dict):
        return [f"{key}={value_text(one)}" for key, one in value.items()]
    raise ValueError(f"{place} must be {EXPECTED[kind]}, got {value!r:.80}")


def value_text(value: Any) -> str:
    """A value as it is written on the command line: JSON, or a text as it is."""
    return value if isinstance(value, str) else json.dumps(value, default=str)
