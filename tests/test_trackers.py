"""Trackers: their calls during a training, and the CSV file."""

import csv
import sys

import pytest

from finetuner.tuner.base import Callback, CSVLogger, MLflow, TensorBoard, Tracker, WandB

from .toy import TEST, TRAIN, make_tuner
from .tracking import EVAL_NUMBERS, TRAIN_NUMBERS, NotFinite, Raise, expected, fit

pytest.importorskip("faiss")


class Recorder(Tracker):
    """Remembers the calls."""

    def __init__(self):
        self.calls = []

    def start(self, step):
        self.calls.append(("start", step, self.run_id))
        self.run_id = self.run_id or "new"

    def log_settings(self, settings):
        self.calls.append(("log_settings", settings))

    def log(self, numbers, step):
        self.calls.append(("log", step, numbers))

    def finish(self, status):
        self.calls.append(("finish", status))

    def kinds(self):
        return [(kind, *what[:1]) if kind != "log_settings" else (kind,) for kind, *what in self.calls]


def without_times(rows):
    return [{name: value for name, value in row.items() if "items_per_second" not in name} for row in rows]


# The calls of a tracker.


def test_calls_of_a_training(backend):
    tracker = Recorder()
    run = fit(backend, tracker, epochs=1)
    kinds = [("start", 0), ("log_settings",)]
    kinds += [("log", step) for step in (0, 2, 3, 4, 4)]
    assert tracker.kinds() == [*kinds, ("finish", "finished")]
    assert tracker.calls[1][1] == run.config
    logged = [(step, numbers) for kind, step, *rest in tracker.calls if kind == "log" for numbers in rest]
    assert [list(numbers) for _, numbers in logged] == [
        EVAL_NUMBERS,
        TRAIN_NUMBERS,
        EVAL_NUMBERS,
        TRAIN_NUMBERS,
        EVAL_NUMBERS,
    ]
    for name in (*TRAIN_NUMBERS, *EVAL_NUMBERS):
        assert [(step, numbers[name]) for step, numbers in logged if name in numbers] == expected(run, name)


def test_evaluation_sets_and_statistics_of_the_loss(backend):
    tracker = Recorder()
    sets = {"bank": TEST, "shop": TEST}
    run = fit(backend, tracker, evaluation=sets, epochs=1, loss_options={"need_logs": True})
    names = {name for kind, *what in tracker.calls if kind == "log" for name in what[1]}
    statistics = set(run.history[-1]) & {"active", "spread", "positive_distance", "negative_distance"}
    assert statistics
    assert {f"train/{name}" for name in statistics} <= names
    assert {name for name in names if name.startswith("eval/")} == {
        f"eval/{which}/{name}" for which in sets for name in ("val_loss", "hit@1")
    }


def test_without_an_evaluation(backend):
    tracker = Recorder()
    make_tuner(backend, [tracker]).fit(TRAIN, epochs=2, batch_size=12, num_items_per_class=3)
    assert [(kind, *what[:1]) for kind, *what in tracker.calls if kind == "log"] == [("log", 4), ("log", 8)]


@pytest.mark.parametrize(
    ("error", "status"), [(None, "finished"), (KeyboardInterrupt(), "interrupted"), (OSError("full"), "failed")]
)
@pytest.mark.parametrize("inside", [False, True], ids=["", "where an error is handled"])
def test_status(backend, error, status, inside):
    tracker = Recorder()
    callbacks = [tracker, *([] if error is None else [Raise(3, error)])]

    def train():
        if status == "failed":
            with pytest.raises(OSError, match="full"):
                fit(backend, *callbacks)
        else:
            fit(backend, *callbacks)

    if inside:
        try:
            raise ValueError
        except ValueError:
            train()
    else:
        train()
    assert tracker.calls[-1] == ("finish", status)
    assert sum(kind == "finish" for kind, *_ in tracker.calls) == 1


def test_a_tracker_that_did_not_start_does_not_finish(backend):
    class Fails(Callback):
        def on_fit_begin(self, state):
            raise OSError("full")

    tracker = Recorder()
    with pytest.raises(OSError, match="full"):
        fit(backend, Fails(), tracker)
    assert tracker.calls == []


def test_the_run_id_is_saved_and_a_new_training_has_none(backend, tmp_path):
    tracker = Recorder()
    fit(backend, tracker, Raise(3, KeyboardInterrupt())).save(tmp_path / "run")
    resumed = Recorder()
    fit(backend, resumed, resume=tmp_path / "run")
    assert resumed.calls[0] == ("start", 3, "new")
    logged = [step for kind, step, *_ in resumed.calls if kind == "log"]
    assert logged == [3, 4, 6, 6, 8, 8]  # the evaluation of step 3 was due when the training was stopped
    fit(backend, resumed)
    assert resumed.calls[-1] == ("finish", "finished")
    assert [call for call in resumed.calls if call[0] == "start"][1] == ("start", 0, None)


@pytest.mark.parametrize(
    ("cls", "args", "library"), [(TensorBoard, ["logs"], "tensorboard"), (MLflow, [], "mlflow"), (WandB, [], "wandb")]
)
def test_a_missing_library(cls, args, library, monkeypatch):
    for name in [name for name in sys.modules if name.split(".")[0] == library]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(ImportError) as error:
        cls(*args)
    assert str(error.value) == f'{cls.__name__} needs {library}: pip install "finetuner[{library}]"'


# CSV.


def rows_of(path):
    with open(path, newline="") as file:
        return [{name: value for name, value in row.items() if value != ""} for row in csv.DictReader(file)]


def test_csv(backend, tmp_path):
    path = tmp_path / "new" / "log.csv"
    run = fit(backend, CSVLogger(path))
    rows = rows_of(path)
    assert path.read_text().splitlines()[0].split(",") == ["step", *EVAL_NUMBERS, *TRAIN_NUMBERS]
    for name in (*TRAIN_NUMBERS, *EVAL_NUMBERS):
        assert [(int(row["step"]), float(row[name])) for row in rows if name in row] == expected(run, name)
    assert [path.name for path in path.parent.iterdir()] == ["log.csv"]
    fit(backend, CSVLogger(path), epochs=1)  # replaces the file
    assert [row["step"] for row in rows_of(path)] == ["0", "2", "3", "4", "4"]


@pytest.mark.parametrize(("checkpoint", "evaluate_every"), [(2, 3), (4, 3), (4, "1 epoch")])
def test_csv_of_a_resumed_training(backend, checkpoint, evaluate_every, tmp_path):
    """Also from a checkpoint at the end of an epoch, which is written before the evaluation of this epoch."""
    options = {"log_every": 1, "evaluate_every": evaluate_every}
    fit(backend, CSVLogger(tmp_path / "whole.csv"), **options)
    saved = {"checkpoint_folder": tmp_path / "runs", "checkpoint_every": checkpoint, **options}
    with pytest.raises(OSError, match="full"):
        fit(backend, CSVLogger(tmp_path / "log.csv"), Raise(checkpoint + 1, OSError("full")), **saved)
    before = rows_of(tmp_path / "log.csv")
    assert before[-1]["step"] == str(checkpoint + 1)
    with (tmp_path / "log.csv").open("a") as file:
        file.write("99,0.5,")  # of a process that was killed
    fit(backend, CSVLogger(tmp_path / "log.csv"), resume=tmp_path / "runs", **options)
    assert (tmp_path / "log.csv").read_text().count("step") == 1
    whole = without_times(rows_of(tmp_path / "whole.csv"))
    resumed = without_times(rows_of(tmp_path / "log.csv"))
    assert resumed == whole


def test_csv_drops_an_incomplete_line(tmp_path):
    (tmp_path / "log.csv").write_text("step,train/loss\n1,0.5\n2,0.")
    assert CSVLogger(tmp_path / "log.csv").read() == (["step", "train/loss"], [["1", "0.5"]])


def test_csv_of_a_run_that_had_no_tracker(backend, tmp_path):
    fit(backend, Raise(4, KeyboardInterrupt())).save(tmp_path / "run")
    fit(backend, CSVLogger(tmp_path / "log.csv"), resume=tmp_path / "run")
    assert {row["step"] for row in rows_of(tmp_path / "log.csv")} == {"6", "8"}


def test_csv_leaves_other_files(backend, tmp_path):
    path = tmp_path / "data.csv"
    path.write_text("text,label\nhello,1\n")
    with pytest.raises(ValueError, match=r"path must be a new file or one that a CSVLogger wrote, and .*data.csv"):
        fit(backend, CSVLogger(path))
    assert path.read_text() == "text,label\nhello,1\n"


def test_csv_of_numbers_that_are_not_finite(backend, tmp_path):
    fit(backend, NotFinite(), CSVLogger(tmp_path / "log.csv"))
    rows = rows_of(tmp_path / "log.csv")
    assert [row["train/gradient_norm"] for row in rows if "train/gradient_norm" in row] == ["nan", "inf", "-inf", "1.0"]
    assert [row["eval/val_loss"] for row in rows if "eval/val_loss" in row][1:3] == ["nan", "nan"]
