"""What TensorBoard, MLflow and Weights & Biases read back of a training, each with its own reader, offline."""

import json
import math
import os
import subprocess
import sys
from pathlib import Path

import pytest

from finetuner.tuner.base import Callback, MLflow, TensorBoard, WandB

from .test_guides import ROOT, code_of_page
from .toy import TEST, TRAIN, make_tuner
from .tracking import EVAL_NUMBERS, FIT, TRAIN_NUMBERS, NotFinite, Raise, expected, fit, records, wandb_runs

pytest.importorskip("faiss")


# TensorBoard.


@pytest.fixture
def events():
    """A function that reads a folder with TensorBoard's own reader."""
    module = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")

    def read(folder):
        return module.EventAccumulator(str(folder), size_guidance=dict.fromkeys(("scalars", "tensors"), 0)).Reload()

    return read


def scalars(reader, name):
    return [(event.step, event.value) for event in reader.Scalars(name)]


def test_tensorboard(backend, events, tmp_path):
    run = fit(backend, TensorBoard(tmp_path / "logs"))
    reader = events(tmp_path / "logs")
    assert sorted(reader.Tags()["scalars"]) == sorted([*TRAIN_NUMBERS, *EVAL_NUMBERS])
    for name in (*TRAIN_NUMBERS, *EVAL_NUMBERS):
        assert scalars(reader, name) == [(step, pytest.approx(value)) for step, value in expected(run, name)]
    (settings,) = reader.Tensors("settings")
    assert json.loads(settings.tensor_proto.string_val[0]) == run.config
    assert reader.summary_metadata["settings"].plugin_data.plugin_name == "text"


def test_tensorboard_of_a_resumed_training(backend, events, tmp_path):
    whole = fit(backend, log_every=1)
    saved = {"checkpoint_folder": tmp_path / "runs", "checkpoint_every": 2, "log_every": 1}
    with pytest.raises(OSError, match="full"):
        fit(backend, TensorBoard(tmp_path / "logs"), Raise(3, OSError("full")), **saved)
    assert [step for step, _ in scalars(events(tmp_path / "logs"), "train/loss")] == [1, 2, 3]
    fit(backend, TensorBoard(tmp_path / "logs"), resume=tmp_path / "runs", log_every=1)
    for name in ("train/loss", "eval/hit@1"):
        values = [(step, pytest.approx(value)) for step, value in expected(whole, name)]
        assert scalars(events(tmp_path / "logs"), name) == values
    fit(backend, TensorBoard(tmp_path / "logs"), epochs=1, log_every=4)  # a new training in the same folder
    assert [step for step, _ in scalars(events(tmp_path / "logs"), "train/loss")] == [4]


def test_tensorboard_of_numbers_that_are_not_finite(backend, events, tmp_path):
    fit(backend, NotFinite(), TensorBoard(tmp_path))
    values = [str(value) for _, value in scalars(events(tmp_path), "train/gradient_norm")]
    assert values == ["nan", "inf", "-inf", "1.0"]


def test_tensorboard_loads_no_framework(tmp_path):
    pytest.importorskip("tensorboard")
    for name in ("tensorflow", "torch"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text("raise RuntimeError('a framework was imported')")
    code = (
        "from finetuner.tuner.base import TensorBoard; tracker = TensorBoard('logs'); tracker.start(0); "
        "tracker.log_settings({'a': 1}); tracker.log({'b': 1.0}, 1); tracker.finish('finished')"
    )
    path = os.pathsep.join([str(tmp_path), str(Path(__file__).parents[1])])
    environment = {**os.environ, "PYTHONPATH": path}
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


# MLflow.


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """A SQLite store of MLflow; creating one takes seconds."""
    pytest.importorskip("mlflow")
    return f"sqlite:///{tmp_path_factory.mktemp('mlflow')}/mlflow.db"


def measured(tracker, name):
    """The steps and values of a number, by MLflow's client, in the order in which they were logged."""
    return [(one.step, one.value) for one in tracker.client.get_metric_history(tracker.run_id, name)]


def test_mlflow(backend, store):
    tracker = MLflow(experiment="toy", run_name="first", tracking_uri=store)
    run = fit(backend, tracker, evaluation={"bank": TEST})
    found = tracker.client.get_run(tracker.run_id)
    assert (found.info.run_name, found.info.status) == ("first", "FINISHED")
    assert tracker.client.get_experiment(found.info.experiment_id).name == "toy"
    assert set(found.data.metrics) == {*TRAIN_NUMBERS, "eval/bank/val_loss", "eval/bank/hit_at_1"}
    for name in TRAIN_NUMBERS:
        assert measured(tracker, name) == expected(run, name)
    assert measured(tracker, "eval/bank/hit_at_1") == expected(run, "eval/bank/hit@1")
    params = found.data.params
    assert (params["seed"], params["fit.batch_size"], params["fit.metrics"]) == ("0", "12", '["bank/hit@1"]')
    second = MLflow(experiment="toy", tracking_uri=store)
    fit(backend, second, epochs=1)
    assert second.run_id != tracker.run_id
    assert second.client.get_run(second.run_id).info.experiment_id == found.info.experiment_id


def test_mlflow_of_a_resumed_training(backend, store, tmp_path):
    first = MLflow(tracking_uri=store)
    saved = {"checkpoint_folder": tmp_path / "runs", "checkpoint_every": 2}
    with pytest.raises(OSError, match="full"):
        fit(backend, first, Raise(3, OSError("full")), **saved)
    assert first.client.get_run(first.run_id).info.status == "FAILED"
    second, during = MLflow(tracking_uri=store), []

    class Watch(Callback):
        def on_epoch_end(self, state):
            during.append(second.client.get_run(second.run_id).info.status)

    tuner = make_tuner(backend, [second, Watch()])
    run = tuner.fit(TRAIN, TEST, resume=tmp_path / "runs", **FIT)
    assert second.run_id == first.run_id
    assert during == ["RUNNING", "RUNNING"]
    assert second.client.get_run(second.run_id).info.status == "FINISHED"
    for name, other in (("train/loss", "train/loss"), ("eval/hit_at_1", "eval/hit@1")):
        assert measured(second, name) == expected(run, other)
    tuner.fit(TRAIN, TEST, **{**FIT, "epochs": 1})  # a second fit goes on, with other settings
    assert second.run_id == first.run_id
    found = second.client.get_run(second.run_id)
    assert found.data.params["fit.epochs"] == "2"
    assert max(step for step, _ in measured(second, "train/loss")) == 12


def test_mlflow_of_numbers_that_are_not_finite(backend, store):
    tracker = MLflow(tracking_uri=store)
    fit(backend, NotFinite(), tracker)
    values = [value for _, value in measured(tracker, "train/gradient_norm")]
    assert math.isnan(values[0])
    assert values[1:] == [sys.float_info.max, -sys.float_info.max, 1.0]


def test_mlflow_uses_the_active_run(backend, store, monkeypatch):
    mlflow = pytest.importorskip("mlflow")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", store)
    tracker = MLflow()
    with mlflow.start_run() as active:
        fit(backend, tracker, Raise(3, KeyboardInterrupt()))
        assert tracker.run_id == active.info.run_id
        assert tracker.client.get_run(tracker.run_id).info.status == "RUNNING"
        other = MLflow(run_name="own")
        fit(backend, other, Raise(3, KeyboardInterrupt()))
    assert tracker.client.get_run(other.run_id).info.status == "KILLED"
    assert measured(tracker, "train/loss")


@pytest.mark.parametrize("name", ["hit@1", "a(b)/ä b-c.d:e_1", "mAP@R", "^4", "x=1,y"])
def test_mlflow_allows_the_names(name, store):
    tracker = MLflow(tracking_uri=store)
    tracker.start(0)
    tracker.log({f"eval/{name}": 1.0}, 0)
    tracker.log_settings({name: 1})
    assert len(tracker.client.get_run(tracker.run_id).data.metrics) == 1


def test_mlflow_with_many_and_long_settings(store):
    tracker = MLflow(tracking_uri=store)
    tracker.start(0)
    tracker.log_settings({"all": {f"setting{number}": "v" * 10_000 for number in range(250)}})
    assert len(tracker.client.get_run(tracker.run_id).data.params) == 250


# Weights & Biases.


@pytest.fixture
def offline(monkeypatch):
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    return pytest.importorskip("wandb")


def test_wandb(backend, offline, tmp_path):
    tracker = WandB(project="toy", name="first", folder=tmp_path / "new", options={"tags": ["one"]})
    run = fit(backend, tracker)
    ((run_id, rows, config, codes),) = wandb_runs(tmp_path / "new")
    assert (run_id, codes) == (tracker.run_id, [0])
    assert config["fit"]["batch_size"] == 12
    for name in (*TRAIN_NUMBERS, *EVAL_NUMBERS):
        assert [(row["step"], row[name]) for row in rows if name in row] == expected(run, name)
    (path,) = (tmp_path / "new").glob("wandb/offline-run-*/*.wandb")
    (started,) = [record.run for record in records(path) if record.WhichOneof("record_type") == "run"]
    assert (started.project, started.display_name, list(started.tags)) == ("toy", "first", ["one"])
    metrics = {record.metric.glob_name: record.metric.step_metric for record in records(path)}
    assert metrics["train/*"] == metrics["eval/*"] == "step"
    assert offline.run is None


def test_wandb_of_a_resumed_training(backend, offline, tmp_path):
    saved = {"checkpoint_folder": tmp_path / "runs", "checkpoint_every": 2}
    with pytest.raises(OSError, match="full"):
        fit(backend, WandB(folder=tmp_path), Raise(3, OSError("full")), **saved)
    second = WandB(folder=tmp_path)
    run = fit(backend, second, resume=tmp_path / "runs")
    (first_id, before, _, failed), (second_id, after, _, finished) = wandb_runs(tmp_path)
    assert first_id == second_id == second.run_id
    assert (failed, finished) == ([1], [0])
    found = [(row["step"], row["train/loss"]) for row in [*before, *after] if "train/loss" in row]
    assert found == expected(run, "train/loss")


def test_wandb_of_numbers_that_are_not_finite(backend, offline, tmp_path):
    fit(backend, NotFinite(), WandB(folder=tmp_path))
    ((_, rows, _, _),) = wandb_runs(tmp_path)
    values = [str(row["train/gradient_norm"]) for row in rows if "train/gradient_norm" in row]
    assert values == ["nan", "inf", "-inf", "1"]


def test_wandb_uses_the_active_run(backend, offline, tmp_path):
    with offline.init(dir=str(tmp_path)) as active:
        tracker = WandB()
        fit(backend, tracker, Raise(3, KeyboardInterrupt()))
        assert tracker.run_id == active.id
        assert offline.run is active
        other = WandB(folder=tmp_path / "other")
        fit(backend, other, Raise(3, KeyboardInterrupt()))
        assert other.run_id != active.id
    ((run_id, rows, _, codes),) = wandb_runs(tmp_path)
    assert (run_id, codes) == (active.id, [0])
    assert [row["step"] for row in rows if "train/loss" in row] == [2]
    ((_, _, _, codes),) = wandb_runs(tmp_path / "other")
    assert codes == [130]


# The guide.


def test_the_guide_with_all_libraries(backend, offline, store, tmp_path):
    pytest.importorskip("tensorboard")
    pytest.importorskip("sklearn")
    page = (ROOT / "docs" / "guides" / "track-a-training.md").read_text()
    blocks = page.count("```py\n")
    assert blocks
    script = tmp_path / "page.py"
    script.write_text(code_of_page(page.replace("```py\n", "```python\n")))
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, script], cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert list(tmp_path.glob("logs/*/events.out.tfevents.*"))
    assert list(wandb_runs(tmp_path))
