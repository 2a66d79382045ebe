"""What ``finetuner fit`` needs around a training: evaluation data, callbacks, and a place for the run."""

import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .inputs import (
    COLUMN_OPTIONS,
    check_output,
    first_free_folder,
    has_gallery,
    parse_eval_data,
    read_data,
    read_eval_set,
)
from .names import TRACKERS
from .option_files import CODE
from .terminal import error_message, print_message
from .user_code import absolute_spec

if TYPE_CHECKING:
    from ..tuner.base import Callback, Run

__all__ = ["build_callbacks", "command_to_record", "read_eval_data", "save_run", "train_options"]

PATHS = ("index_data", "output", "checkpoint_folder", "cache_folder", "config", "like", "resume")


def command_to_record(options: Mapping[str, Any]) -> dict[str, Any]:
    """The options of ``fit`` as ``config.json`` has them. Paths are absolute, for use from another folder."""
    recorded = dict(options)
    for name in PATHS:
        if options[name] is not None:
            recorded[name] = str(Path(options[name]).absolute())
    recorded["data"] = [str(path.absolute()) for path in options["data"]]
    for name in CODE:
        recorded[name] = absolute_spec(options[name])
    if options["eval_data"] is not None:
        sets = parse_eval_data(options["eval_data"])
        recorded["eval_data"] = [
            f"{name}={path.absolute()}" if name else str(path.absolute()) for name, path in sets.items()
        ]
    return recorded


def train_options(options: Mapping[str, Any]) -> dict[str, Any]:
    """The options for the training data. Without labels, those for columns of labels are for the evaluation data."""
    ours = dict(options)
    if ours["unlabelled"]:
        ours.update(dict.fromkeys(name for name in COLUMN_OPTIONS if name != "input_column"))
    return ours


def eval_options(options: Mapping[str, Any]) -> dict[str, Any]:
    """The options for the evaluation data, which may have labels that the training data has not."""
    ours = dict(options)
    if ours["unlabelled"] and any(ours[name] for name in COLUMN_OPTIONS if name != "input_column"):
        ours["unlabelled"] = False
        if ours["anchor_column"]:
            ours["input_column"] = None
    ours["split"] = ours["eval_split"]
    return ours


def eval_sets(options: Mapping[str, Any]) -> dict[str, Any]:
    """The paths of the evaluation sets by their names. The training data is one if a part of it is to be evaluated."""
    sets: dict[str, Any] = {**parse_eval_data(options["eval_data"])}
    part = options["eval_classes"] or options["eval_split"]
    return {"": options["data"]} if part and not sets else sets


def read_eval_data(options: Mapping[str, Any]) -> Any:
    """The evaluation data: a dataset, a pair of queries and gallery, or a mapping of these; None for none.

    Raises:
        ValueError: If there is a gallery, and nothing to search in it.
    """
    sets, classes, options = eval_sets(options), options["eval_classes"], eval_options(options)
    if not sets:
        if options["index_data"] is not None:
            raise ValueError("--index-data must be used with --eval-data or --eval-classes")
        return None
    if options["index_data"] is None:
        datasets = {name: read_eval_set(path, options, classes, name or "eval") for name, path in sets.items()}
    else:
        datasets = {name: read_data(path, options, classes, name or "eval") for name, path in sets.items()}
        gallery = read_data(options["index_data"], options, classes, "index")
        datasets = {name: (dataset, gallery) for name, dataset in datasets.items()}
    return datasets.get("", datasets)


# Callbacks -----------------------------------------------------------------------------------------------


def build_callbacks(options: Mapping[str, Any], resumed: Path | None) -> list[Any]:
    """The callbacks for the options of ``fit``.

    Args:
        options: The options.
        resumed: The folder of the run that is resumed; None for none.

    Raises:
        ValueError: If the run has no value of the name that is to be monitored.
        FileExistsError: If the folder for checkpoints is in use.
    """
    from ..checks import one_of
    from ..tuner.base import BestModel, EarlyStopping, ProgressBar

    names = numbers_of_history(options)
    monitor = one_of("--monitor", options["monitor"] or names[0], names)
    callbacks: list[Any] = [record_command(options), ProgressBar()]
    if options["keep_best"]:
        callbacks.append(BestModel(monitor))
    if options["early_stopping"] is not None:
        callbacks.append(EarlyStopping(monitor, options["early_stopping"]))
    callbacks += build_trackers(options)
    if any(options[name] is not None for name in ("checkpoint_every", "checkpoint_folder", "keep_checkpoints")):
        callbacks.append(build_checkpoint(options, resumed))
    return callbacks


def numbers_of_history(options: Mapping[str, Any]) -> list[str]:
    """The numbers that can be monitored. The first one is the default."""
    from ..evaluation import DEFAULT_METRICS

    numbers = []
    for name, path in eval_sets(options).items():
        is_search = options["index_data"] is not None or has_gallery(path, eval_options(options))
        of_set = [*([] if is_search else ["val_loss"]), *(options["metric"] or DEFAULT_METRICS)]  # a search has no loss
        numbers += [f"{name}/{number}" if name else number for number in of_set]
    return [*numbers, "loss"]


def build_checkpoint(options: Mapping[str, Any], resumed: Path | None) -> Any:
    """The callback that saves checkpoints. A training that is resumed goes on in the same folder."""
    from ..tuner.base import Checkpoint, Every

    folder = Path(options["checkpoint_folder"] or f"{Path(options['output'])}-checkpoints")
    if resumed is None or folder.resolve() != resumed.resolve().parent:
        check_output(folder)
    every = Every.of(options["checkpoint_every"] or "1 epoch", "--checkpoint-every")
    return Checkpoint(folder, every, keep=options["keep_checkpoints"])


def build_trackers(options: Mapping[str, Any]) -> list[Any]:
    """The callbacks of ``--track``.

    Raises:
        ValueError: For an unknown tracker.
        ImportError: If its library is not installed.
    """
    from ..checks import one_of

    names = [one_of("--track", name, TRACKERS) for name in options["track"] or ()]
    if not names:
        return []
    from ..tuner.base import CSVLogger, MLflow, TensorBoard, WandB

    output = Path(options["output"])
    trackers: dict[str, Callable[[], Any]] = {
        "csv": lambda: CSVLogger(f"{output}.csv"),
        "tensorboard": lambda: TensorBoard(f"{output}-tensorboard"),
        "mlflow": lambda: MLflow(run_name=output.name),
        "wandb": lambda: WandB(name=output.name),
    }
    return [trackers[name]() for name in names]


def record_command(options: Mapping[str, Any]) -> "Callback":
    """A callback that adds the command to the settings of the run, so that checkpoints have it too."""
    from ..tuner.base import Callback

    class RecordCommand(Callback):
        """Adds the command to the settings of the run."""

        def on_fit_begin(self, state: Any) -> None:
            config = state.tuner.config
            config["command"] = command_to_record(options)
            config["callbacks"] = [name for name in config["callbacks"] if name != type(self).__name__]

    return RecordCommand()


# The run -------------------------------------------------------------------------------------------------


def save_run(run: "Run", output: Path) -> Path:
    """Save a run in ``output``, or if that fails, at another place, which is printed.

    Other places are the first free one of ``output-2``, ``output-3``, ..., and the folder for temporary files.

    Returns:
        The folder of the run.

    Raises:
        OSError: If it cannot be saved anywhere.
    """
    places: dict[str, Callable[[], Path]] = {
        str(output): lambda: output,
        "a folder beside it": lambda: first_free_folder(str(output), 2),
        "the folder for temporary files": lambda: Path(tempfile.mkdtemp(prefix="finetuner-")) / output.name,
    }
    failed: list[str] = []
    for place, folder in places.items():
        try:
            saved = run.save(folder())
        except OSError as error:
            failed.append(f"{place} ({error.strerror or error_message(error)})")
            continue
        if failed:
            print_message(f"the run is in {saved}; it could not be saved in {', '.join(failed)}", "warning", "yellow")
        return saved
    raise OSError(f"the run could not be saved in {', '.join(failed)}")
