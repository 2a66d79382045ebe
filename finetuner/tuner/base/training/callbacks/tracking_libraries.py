"""Trackers that use a library: TensorBoard, MLflow, Weights & Biases. Each library is imported when it is used."""

import importlib
import json
import os
import re
import socket
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .trackers import Tracker

__all__ = ["MLflow", "TensorBoard", "WandB"]

MLFLOW_STATUS = {"finished": "FINISHED", "interrupted": "KILLED", "failed": "FAILED"}
EXIT_CODES = {"finished": 0, "interrupted": 130, "failed": 1}  # 130: ended by Ctrl-C
MLFLOW_BATCH = 100  # settings in one request, at most


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

    Without arguments, the active run of a block ``with mlflow.start_run():`` is used, and left open.

    Args:
        experiment: The name of the experiment, which is created if there is none. The default is that of
            ``mlflow.set_experiment``, ``MLFLOW_EXPERIMENT_NAME`` or ``MLFLOW_EXPERIMENT_ID``, or ``Default``.
        run_name: The name of the run. The default is a random name.
        tracking_uri: Where MLflow stores runs, such as ``"sqlite:///mlflow.db"`` or the address of a server. The
            default is that of MLflow: ``mlflow.set_tracking_uri`` or ``MLFLOW_TRACKING_URI``.

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
        """The id of the experiment; it is created if there is none of its name."""
        name = self.experiment or os.environ.get("MLFLOW_EXPERIMENT_NAME")
        if name is None:
            return os.environ.get("MLFLOW_EXPERIMENT_ID", "0")  # mlflow.set_experiment sets it
        found = self.client.get_experiment_by_name(name)
        return self.client.create_experiment(name) if found is None else found.experiment_id


class WandB(Tracker):
    """Logs the numbers of a training to Weights & Biases.

    The horizontal axis of all charts is ``step``. A training that is resumed continues the run with ``resume="allow"``.
    Numbers of steps that are repeated are there twice. Offline, each process writes a folder of its own with the same
    id, and ``wandb sync`` joins them in the order of their time.

    Without arguments, the active run that ``wandb.init`` has started is used, and left open.

    Args:
        project: The name of the project.
        name: The name of the run. The default is a random name.
        folder: The folder in which ``wandb`` writes its files. It is created. The default is the current folder.
        options: Further arguments of ``wandb.init``, such as ``{"mode": "offline", "tags": ["toy"]}``.

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
