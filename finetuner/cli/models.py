"""The model and the functions that prepare its input: of the user, or of a saved run.

The folder of a run names code: the user's functions that create the model, preprocess and collate. This code is run
only if the user says so with ``--trust``. Somebody else may have written the folder.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from .inputs import COLUMN_OPTIONS, IMAGE_OPTIONS, TABLE_OPTIONS, parse_options
from .option_files import CODE, known_options, option_types
from .user_code import build_model, names_code, resolve_callable

if TYPE_CHECKING:
    from ..tuner.base import Encoder

__all__ = [
    "create_model",
    "has_model",
    "import_functions",
    "model_options_of",
    "open_encoder",
    "run_settings",
    "trusted_code",
]

# What evaluate and embed take over from a run. Not --trust.
SHARED_OPTIONS = {*CODE, *COLUMN_OPTIONS, *TABLE_OPTIONS, *IMAGE_OPTIONS, "channels_last", "model_option", "seed"}


def trusted_code(
    options: Mapping[str, Any], named: Mapping[str, Any], folder: Path | None, trust: bool, loadable: bool
) -> dict[str, str | None]:
    """The functions to import: those that the user gives, and those that a trusted folder names.

    Args:
        options: The options for code that the user gives.
        named: The options for code that the folder names.
        folder: The folder of a run.
        trust: Whether to run the code that it names.
        loadable: Whether the folder has a model that can be opened without code.

    Returns:
        ``model``, ``preprocess``, ``collate`` and ``augment``. The model is None if it is to be opened from the folder.

    Raises:
        ValueError: If the folder names code that the user neither gives nor trusts.
    """
    code = {name: options.get(name) for name in CODE}
    if code["model"] is None and named.get("model") is not None and not names_code(named["model"]) and not loadable:
        code["model"] = named["model"]
    missing = {name: named[name] for name in CODE if code[name] is None and named.get(name) is not None}
    if trust:
        return code | missing
    if loadable:
        missing.pop("model", None)
    if missing:
        wanted = " and ".join(f"--{name} {spec!r:.80}" for name, spec in missing.items())
        flags = " and ".join(f"--{name}" for name in missing)
        raise ValueError(
            f"{folder} names code that is not run without your consent: {wanted}; give {flags}, or add --trust to run "
            "this code"
        )
    return code


def has_model(folder: Path | None) -> bool:
    """Whether a run has a model that can be opened without code."""
    from ..tuner.base.training.encoder_files import MODEL

    if folder is None or not (folder / MODEL).is_file():
        return False
    made = recipe_of(folder)
    if made.get("library") == "lora":
        return made.get("base") is not None
    return made.get("library") != "adapter" or not (folder / "base").is_dir() or has_model(folder / "base")


def recipe_of(folder: Path) -> dict[str, Any]:
    """What a run says about its model; empty if it says nothing."""
    from ..files import read_json
    from ..tuner.base.training.encoder_files import MODEL

    path = folder / MODEL
    return read_json(path, dict) if path.is_file() else {}


def import_functions(code: Mapping[str, str | None]) -> dict[str, Any]:
    """Import ``preprocess_fn`` and ``collate_fn``."""
    return {f"{name}_fn": resolve_callable(f"--{name}", code[name]) for name in ("preprocess", "collate")}


def create_model(
    code: Mapping[str, str | None],
    model_options: Mapping[str, Any],
    seed: int,
    resumed: Path | None,
    device: str,
    trust: bool,
) -> Any:
    """Create the model of a training.

    Args:
        code: See :func:`trusted_code`.
        model_options: Arguments of :func:`finetuner.load_model`, for a model that is not made by a function.
        seed: Seeds the weights.
        resumed: The folder of the run that is resumed; its model is opened if ``code`` has none.
        device: Where to compute.
        trust: Whether the code that the folder names may run.
    """
    spec = code["model"]
    if spec is not None and not names_code(spec):
        return open_model(spec, model_options, device, trust)
    if model_options:
        raise ValueError(f"--model-option must be used with a model by name or folder, got {dict(model_options)}")
    if spec is not None:
        return build_model("--model", spec, seed)
    from ..api import load

    assert resumed is not None
    encoder = load(resumed, device=device, trust_code=trust)
    if encoder.source is None:
        return encoder.model
    return getattr(encoder, "base", encoder)  # the training makes the adapter again


def open_model(spec: str, model_options: Mapping[str, Any], device: str, trust: bool) -> Any:
    """The encoder of a model by name or folder."""
    from ..models import load_model

    try:
        return load_model(spec, device=device, trust_code=trust, **model_options)
    except TypeError as error:
        if "unexpected keyword argument" not in str(error):
            raise
        name = str(error).rpartition("argument ")[2]
        raise ValueError(f"--model-option must be an argument of finetuner.load_model, got {name}") from None


def run_settings(context: typer.Context, options: Mapping[str, Any]) -> dict[str, Any]:
    """The options of ``evaluate`` or ``embed``, with those of the run in ``--run`` as defaults.

    Args:
        context: The context of the command.
        options: The options of the command. None and False count as not given.

    Returns:
        The options, with the functions to import, the settings of the run as ``run_config``, and its folder as ``run``.

    Raises:
        FileNotFoundError: If ``--run`` is not the folder of a run.
        ValueError: If there is no model, or the folder names code and is not trusted.
    """
    given = {name: value for name, value in options.items() if value is not None and value is not False}
    run: Path | None = given.get("run")
    if run is None:
        if given.get("model") is None:
            raise ValueError("--model must be given if --run is not")
        return {"seed": 0, **given, **trusted_code(given, {}, None, False, False), "run_config": {}}
    from ..tuner.base.training.checkpoint import find_run
    from ..tuner.base.training.encoder_files import read_config

    run = find_run(run)
    config = read_config(run)
    types = {name: kind for name, kind in option_types(context.command.callback).items() if name in SHARED_OPTIONS}
    named = known_options(run, config.get("command") or {}, types)
    code = trusted_code(given, named, run, bool(given.get("trust")), has_model(run))
    if code["model"] is None and not has_model(run):
        raise ValueError(f"--model must be given if {run} was not written by `finetuner fit`")
    return {"seed": 0, **named, **given, **code, "run_config": config, "run": run}


def open_encoder(settings: Mapping[str, Any]) -> "Encoder":
    """The encoder for ``evaluate`` and ``embed``, with the weights of a run if there is one.

    Args:
        settings: The result of :func:`run_settings`.
    """
    from ..api import load
    from ..checks import one_of
    from ..tuner import framework_class
    from ..tuner.base import Encoder

    functions, device, distance = import_functions(settings), settings["device"], settings.get("distance")
    run: Path | None = settings.get("run")
    library = None if run is None else recipe_of(run).get("library")
    if settings["model"] is None or library in ("adapter", "lora"):  # the weights are not all of the model's
        assert run is not None
        spec, base = settings["model"], None
        if spec is not None and names_code(spec):
            base = build_model("--model", spec, settings["seed"])
        elif library == "lora":
            base = spec
        encoder = load(run, base, device=device, trust_code=bool(settings.get("trust")), **functions)
        if distance is not None:
            encoder.distance = one_of("distance", distance, ("cosine", "euclidean", "sqeuclidean"))
        return encoder
    config = settings["run_config"]
    distance = distance or config.get("distance")
    if not names_code(settings["model"]):
        options = {**model_options_of(settings), "distance": distance}
        model = open_model(settings["model"], options, device, bool(settings.get("trust")))
        model.use_functions(functions["preprocess_fn"], functions["collate_fn"])
        return model if run is None else model.load(run)
    model, distance = build_model("--model", settings["model"], settings["seed"]), distance or "cosine"
    pooler = pooler_arguments(run, config.get("pooler"))
    encoder = Encoder(model, framework_class(model)(device), distance=distance, **functions, **pooler)
    return encoder if run is None else encoder.load(run)


def model_options_of(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments of :func:`finetuner.load_model` among the options of a command."""
    options = parse_options("--model-option", settings.get("model_option"))
    if settings.get("pooler") is not None:
        options["pooler"] = settings["pooler"]
        options["pooler_options"] = parse_options("--pooler-option", settings.get("pooler_option"))
    return options


def pooler_arguments(run: Path | None, pooler: Any) -> dict[str, Any]:
    """The arguments of an encoder that restore the pooler of a run.

    Args:
        run: The folder of the run, for the error message.
        pooler: The pooler in the configuration of the run; None for none.

    Raises:
        ValueError: If it is not a pooler of finetuner. The configuration does not have the arguments of others.
    """
    if pooler is None:
        return {}
    if not isinstance(pooler, dict) or not isinstance(pooler.get("options"), dict):
        raise ValueError(f"the pooler of {run} must be one of finetuner's poolers to be restored, got {pooler!s:.80}")
    return {"pooler": pooler.get("name"), "pooler_options": pooler["options"]}
