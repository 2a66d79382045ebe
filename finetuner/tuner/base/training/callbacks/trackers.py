"""Trackers: callbacks that write the numbers of a training to a file, TensorBoard, MLflow or Weights & Biases."""

import csv
import importlib
import io
import json
import os
import re
import socket
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ..state import State
from .callback import Callback

__all__ = ["CSVLogger", "MLflow", "TensorBoard", "Tracker", "WandB"]

NOT_EVALUATION = {"epoch", "step", "loss", "seconds", "items_per_second"}  # of a row of the history
MLFLOW_STATUS = {"finished": "FINISHED", "interrupted": "KILLED", "failed": "FAILED"}
EXIT_CODES = {"finished": 0, "interrupted": 130, "failed": 1}  # 130: ended by Ctrl-C
MLFLOW_BATCH = 100  # settings in one request, at most


class Tracker(Callback, ABC):
    """Interface of all trackers: four methods, which are called with the settings and the numbers of a training.

    A tracker of your own overrides :meth:`log`, and of :meth:`start`, :meth:`log_settings` and :meth:`finish` what it
    needs. The hooks of the training call them in this order: ``start``, ``log_settings``, ``log`` any number of times,
    ``finish``. An error in one of them ends the training.

    ``log`` gets these numbers:

    ========================  ==========================================================================
    ``train/...``             each row of ``run.log``: ``train/loss``, ``train/learning_rate``, ``train/gradient_norm``,
                              ``train/items_per_second`` and, on an accelerator, ``train/memory`` in bytes; at the end of
                              an epoch also the statistics of a loss with ``need_logs``
    ``eval/...``              each evaluation, with the names of ``run.history``: ``eval/val_loss``, ``eval/hit@1``, and
                              with several evaluation sets ``eval/bank/hit@1``; the model before training is step 0
    ========================  ==========================================================================

    Attributes:
        run_id: What the library calls the tracked run. :meth:`start` sets it. A saved run keeps it, so that ``start`` of
            a training that is resumed, also in another process, can continue the tracked run. It is None when a
            training begins at step 0.

    Example:
        >>> class Printer(Tracker):
        ...     def log(self, numbers, step):
        ...         print(step, *numbers)
        ...
        ...     def finish(self, status):
        ...         print(status)
        >>> run = train_a_model(callbacks=[Printer()], epochs=1)
        1 train/loss train/learning_rate train/gradient_norm train/items_per_second...
        finished
    """

    run_id: str | None = None
    running = False
    outer_error: BaseException | None = None

    def start(self, step: int) -> None:  # noqa: B027
        """Open the tracked run: continue the run ``run_id``, or start a new one if it is None.

        Args:
            step: The number of steps that the training has already taken. Numbers of later steps, if any were logged,
                are those of an earlier process, whose training goes on from a checkpoint before them.
        """

    def log_settings(self, settings: dict[str, Any]) -> None:  # noqa: B027
        """Log the settings of the run, ``run.config``: nested mappings that JSON can hold."""

    @abstractmethod
    def log(self, numbers: dict[str, float], step: int) -> None:
        """Log numbers.

        Args:
            numbers: A mapping from names to numbers. They may be NaN or infinite.
            step: The number of steps of the training, from 0. It does not decrease. It may repeat.
        """

    def finish(self, status: str) -> None:  # noqa: B027
        """Close the tracked run.

        Args:
            status: ``"finished"``; ``"interrupted"`` after Ctrl-C, SIGTERM or SIGHUP; ``"failed"`` after an error.
        """

    def state_dict(self) -> dict[str, Any]:
        return {"run_id": self.run_id}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.run_id = state["run_id"]

    def on_fit_begin(self, state: State) -> None:
        self.outer_error = sys.exception()  # fit may be called where an error is handled
        if not state.step:
            self.run_id = None
        self.start(state.step)
        self.running = True
        self.log_settings(state.tuner.config)
        if state.history and not state.step:
            self.log_row("eval", state.history[0], NOT_EVALUATION, 0)

    def on_log(self, state: State) -> None:
        self.log_row("train", state.log[-1], {"epoch", "step"}, state.step)

    def on_epoch_end(self, state: State) -> None:
        row, statistics = state.history[-1], set(state.logs)
        self.log_row("train", row, row.keys() - statistics, state.step)
        self.log_row("eval", row, NOT_EVALUATION | statistics, state.step)

    on_evaluation_end = on_epoch_end

    def on_fit_end(self, state: State) -> None:
        if not self.running:  # the training failed before its start
            return
        self.running = False
        error, self.outer_error = sys.exception() is not self.outer_error, None
        self.finish("interrupted" if state.interrupted else "failed" if error else "finished")

    def log_row(self, prefix: str, row: Mapping[str, Any], without: Iterable[str], step: int) -> None:
        """Log the numbers of a row of the log or the history, if there are any."""
        numbers = {f"{prefix}/{name}": as_float(value) for name, value in row.items() if name not in without}
        if numbers:
            self.log(numbers, step)


class CSVLogger(Tracker):
    """Writes the numbers of a training to a CSV file, with the standard library alone.

    Each call of ``log`` is a row. The first column is ``step``; numbers that a row does not have are empty. A number that
    is not finite is ``nan``, ``inf`` or ``-inf``. A new training replaces the file. A training that is resumed keeps the
    rows up to the step from which it goes on, and appends.

    Args:
        path: The file. Its folder is created.

    Raises:
        ValueError: When the training begins, if ``path`` is a file that no ``CSVLogger`` wrote. It is left unchanged.

    Example:
        >>> run = train_a_model(callbacks=[CSVLogger("log.csv")], epochs=2)
        >>> lines = Path("log.csv").read_text().splitlines()
        >>> len(lines), lines[0][:15]
        (3, 'step,train/loss')
    """

    def __init__(self, path: str | Path):
        self.path = Path(path)
        self.columns = ["step"]
        self.rows: int | None = None  # in the file, without the names

    def state_dict(self) -> dict[str, Any]:
        return {"rows": self.rows}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.rows = state["rows"]

    def start(self, step: int) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.columns, rows = self.read()
        kept = [row for row in rows[: self.rows] if int(row[0]) <= step] if step else []
        if not kept:
            self.columns = ["step"]
        self.rows = len(kept)
        self.write(kept)

    def log(self, numbers: dict[str, float], step: int) -> None:
        new = [name for name in numbers if name not in self.columns]
        if new:
            rows = self.read()[1]
            self.columns += new
            self.write([*row, *[""] * len(new)] for row in rows)
        with self.path.open("a", newline="", encoding="utf-8") as file:
            csv.writer(file, lineterminator="\n").writerow(
                [step, *(numbers.get(name, "") for name in self.columns[1:])]
            )
        self.rows = (self.rows or 0) + 1

    def read(self) -> tuple[list[str], list[list[str]]]:
        """The names of the columns, and the rows; a last line that a killed process left incomplete is dropped."""
        text = self.path.read_text(encoding="utf-8", errors="replace") if self.path.exists() else ""
        columns, *rows = list(csv.reader(io.StringIO(text[: text.rfind("\n") + 1]))) or [["step"]]
        if columns[:1] != ["step"] or not all(name.startswith(("train/", "eval/")) for name in columns[1:]):
            raise ValueError(
                f"path must be a new file or one that a CSVLogger wrote, and {self.path} has other columns"
            )
        return columns, rows

    def write(self, rows: Iterable[Sequence[str]]) -> None:
        """Replace the file by the columns and these rows. The file is complete at any time."""
        new = self.path.with_name(f".{self.path.name}.new")
        with new.open("w", newline="", encoding="utf-8") as file:
            csv.writer(file, lineterminator="\n").writerows([self.columns, *rows])
        os.replace(new, self.path)


class TensorBoard(Tracker):
    """Writes the numbers of a training for TensorBoard, with the package ``tensorboard`` alone.

    Start ``tensorboard --logdir FOLDER`` to see them. The settings are the text ``settings``. NaN and infinite numbers
    are shown as such. A training that is resumed adds a file to the folder, and TensorBoard drops the numbers after the
    step from which it goes on. So does a new training in the same folder, for all earlier numbers.

    Args:
        folder: The folder of this run. It is created.

    Raises:
        ImportError: If ``tensorboard`` is not installed.

    Example:
        >>> run = train_a_model(callbacks=[TensorBoard("logs/first")], epochs=1)
        >>> [path.name[:19] for path in Path("logs/first").iterdir()]
        ['events.out.tfevents']
    """

    def __init__(self, folder: str | Path):
        self.folder = Path(folder)
        self.records = import_library(self, "tensorboard", "tensorboard.summary.writer.record_writer")
        self.protos = {
            name: import_library(self, "tensorboard", f"tensorboard.compat.proto.{name}_pb2")
            for name in ("event", "summary", "tensor", "types")
        }
        self.writer: Any = None
        self.step = 0

    def start(self, step: int) -> None:
        self.run_id, self.step = str(self.folder), step
        self.folder.mkdir(parents=True, exist_ok=True)
        # tensorboard's EventFileWriter would import TensorFlow where it is installed.
        name = f"events.out.tfevents.{time.time():.6f}.{socket.gethostname()}.{os.getpid()}"
        self.writer = self.records.RecordWriter((self.folder / name).open("xb"))
        events = self.protos["event"]
        self.write(file_version="brain.Event:2")
        restart = events.SessionLog(status=events.SessionLog.START)
        self.write(step=step + 1 if step else 0, session_log=restart)  # drops what has this step or a later one

    def log_settings(self, settings: dict[str, Any]) -> None:
        lines = json.dumps(settings, indent=2, default=str).splitlines()
        text = "\n".join(f"    {line}" for line in lines)  # code, in Markdown
        tensor = self.protos["tensor"].TensorProto(dtype=self.protos["types"].DT_STRING, string_val=[text.encode()])
        metadata = self.protos["summary"].SummaryMetadata(plugin_data={"plugin_name": "text"})
        self.write_values([{"tag": "settings", "metadata": metadata, "tensor": tensor}], self.step)

    def log(self, numbers: dict[str, float], step: int) -> None:
        self.write_values([{"tag": name, "simple_value": value} for name, value in numbers.items()], step)

    def finish(self, status: str) -> None:
        self.writer.close()

    def write_values(self, values: list[dict[str, Any]], step: int) -> None:
        """Write a summary of these values."""
        summary = self.protos["summary"].Summary
        self.write(step=step, summary=summary(value=[summary.Value(**value) for value in values]))

    def write(self, **fields: Any) -> None:
        """Write an event with these fields."""
        event = self.protos["event"].Event(wall_time=time.time(), **fields)
        self.writer.write(event.SerializeToString())
        self.writer.flush()


class MLflow(Tracker):
    """Logs the numbers of a training to MLflow.

    The settings are parameters with dotted names, such as ``fit.batch_size``. MLflow does not allow some characters in
    names: ``@`` becomes ``_at_``, as in ``eval/hit_at_1``, and any other such character ``_``. MLflow's SQL stores
    replace an infinite number by the largest float; NaN stays.

    A training that is resumed continues the run of MLflow. MLflow cannot remove numbers, so those of steps that are
    repeated are there twice, and it keeps the first value of a parameter.

    Args:
        experiment: The name of the experiment, which is created if there is none. The default is MLflow's default.
        run_name: The name of the run. The default is a random name.
        tracking_uri: Where MLflow stores runs, such as ``"sqlite:///mlflow.db"`` or the address of a server. The default
            is MLflow's default, such as the environment variable ``MLFLOW_TRACKING_URI``.

    Without arguments, the active run of a block ``with mlflow.start_run():`` is used, and left open.

    Raises:
        ImportError: If ``mlflow`` is not installed.

    Example:
        >>> tracker = MLflow(experiment="toy", tracking_uri="sqlite:///mlflow.db")
        >>> run = train_a_model(callbacks=[tracker], epochs=1)
        >>> tracker.client.get_run(tracker.run_id).info.status
        'FINISHED'
    """

    def __init__(self, experiment: str | None = None, run_name: str | None = None, tracking_uri: str | None = None):
        self.experiment, self.run_name, self.tracking_uri = experiment, run_name, tracking_uri
        self.mlflow = import_library(self, "mlflow")
        self.client: Any = None
        self.owned = True

    def start(self, step: int) -> None:
        self.client = self.mlflow.MlflowClient(tracking_uri=self.tracking_uri)
        active = self.mlflow.active_run()
        given = (self.experiment, self.run_name, self.tracking_uri) != (None, None, None)
        self.owned = given or active is None or self.run_id not in (None, active.info.run_id)
        if not self.owned:
            self.run_id = active.info.run_id
        elif self.run_id is not None:
            self.client.update_run(self.run_id, status="RUNNING")
        else:
            self.run_id = self.client.create_run(self.experiment_id(), run_name=self.run_name).info.run_id

    def log_settings(self, settings: dict[str, Any]) -> None:
        known = self.client.get_run(self.run_id).data.params
        params = {mlflow_name(name): value for name, value in flatten(settings).items()}
        entries = [self.mlflow.entities.Param(name, value) for name, value in params.items() if name not in known]
        for first in range(0, len(entries), MLFLOW_BATCH):
            self.client.log_batch(self.run_id, params=entries[first : first + MLFLOW_BATCH])

    def log(self, numbers: dict[str, float], step: int) -> None:
        now, metric = int(time.time() * 1000), self.mlflow.entities.Metric
        metrics = [metric(mlflow_name(name), value, now, step) for name, value in numbers.items()]
        self.client.log_batch(self.run_id, metrics=metrics)

    def finish(self, status: str) -> None:
        if self.owned:
            self.client.set_terminated(self.run_id, MLFLOW_STATUS[status])

    def experiment_id(self) -> str:
        """The experiment with the name that was given; MLflow's default without one."""
        if self.experiment is None:
            return self.mlflow.tracking.fluent._get_experiment_id()
        found = self.client.get_experiment_by_name(self.experiment)
        return self.client.create_experiment(self.experiment) if found is None else found.experiment_id


class WandB(Tracker):
    """Logs the numbers of a training to Weights & Biases.

    The horizontal axis of all charts is ``step``. A training that is resumed continues the run with ``resume="allow"``.
    Numbers of steps that are repeated are there twice. Offline, each process writes a folder of its own with the same
    id, and ``wandb sync`` joins them in the order of their time.

    Args:
        project: The name of the project.
        name: The name of the run. The default is a random name.
        folder: The folder in which ``wandb`` writes its files. It is created. The default is the current folder.
        options: Further arguments of ``wandb.init``, such as ``{"mode": "offline", "tags": ["toy"]}``.

    Without arguments, the active run that ``wandb.init`` has started is used, and left open.

    Raises:
        ImportError: If ``wandb`` is not installed.

    Example:
        >>> tracker = WandB(project="toy", options={"mode": "offline"})
        >>> run = train_a_model(callbacks=[tracker], epochs=1)
        >>> [path.name.endswith(tracker.run_id) for path in Path("wandb").glob("offline-run-*")]
        [True]
    """

    def __init__(
        self,
        project: str | None = None,
        name: str | None = None,
        folder: str | Path | None = None,
        options: Mapping[str, Any] | None = None,
    ):
        self.folder = None if folder is None else Path(folder)
        self.options = {"project": project, "name": name, **(options or {})}
        self.wandb = import_library(self, "wandb")
        self.run: Any = None
        self.owned = True

    def start(self, step: int) -> None:
        active = self.wandb.run
        given = self.folder is not None or any(value is not None for value in self.options.values())
        self.owned = given or active is None
        self.run = self.init() if self.owned else active
        self.run_id = self.run.id
        for names in ("train/*", "eval/*"):
            self.run.define_metric(names, step_metric="step")

    def log_settings(self, settings: dict[str, Any]) -> None:
        self.run.config.update(settings, allow_val_change=True)

    def log(self, numbers: dict[str, float], step: int) -> None:
        self.run.log({"step": step, **numbers})

    def finish(self, status: str) -> None:
        run, self.run = self.run, None
        run.summary["status"] = status
        if self.owned:
            run.finish(exit_code=EXIT_CODES[status])

    def init(self) -> Any:
        """Start a run of wandb, or continue the run ``run_id``."""
        options: dict[str, Any] = {"reinit": "create_new"} if self.wandb.run is not None else {}
        if self.folder is not None:
            self.folder.mkdir(parents=True, exist_ok=True)
            options["dir"] = str(self.folder)
        if self.run_id is not None:
            options |= {"id": self.run_id, "resume": "allow"}
        return self.wandb.init(**{**self.options, **options})


def import_library(tracker: Tracker, library: str, module: str | None = None) -> Any:
    """Import a module of a library; raise ``ImportError`` that says how to install it."""
    try:
        return importlib.import_module(module or library)
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != library:
            raise
        name = type(tracker).__name__
        raise ImportError(f'{name} needs {library}: pip install "finetuner[{library}]"') from None


def as_float(value: Any) -> float:
    """A number of a row; NaN for None, which a file of JSON has in its place."""
    return float("nan") if value is None else float(value)


def flatten(settings: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """Settings as texts with dotted names. Lists, and mappings whose keys are no names, are JSON.

    Example:
        >>> flatten({"seed": 0, "fit": {"epochs": 2, "metrics": ["hit@1"]}, "freeze": {"^0": 1}})
        {'seed': '0', 'fit.epochs': '2', 'fit.metrics': '["hit@1"]', 'freeze': '{"^0": 1}'}
    """
    flat: dict[str, str] = {}
    for name, value in settings.items():
        if isinstance(value, Mapping) and value and all(re.fullmatch(r"[\w-]+", str(key)) for key in value):
            flat |= flatten(value, f"{prefix}{name}.")
        else:
            flat[prefix + name] = value if isinstance(value, str) else json.dumps(value, default=str)
    return flat


def mlflow_name(name: str) -> str:
    """A name with the characters that MLflow allows.

    Example:
        >>> mlflow_name("eval/bank/hit@1")
        'eval/bank/hit_at_1'
    """
    return re.sub(r"[^\w.\- /]", "_", name.replace("@", "_at_"))
