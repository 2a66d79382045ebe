"""Runs that go on: --like, --resume, checkpoints, signals, and a run that cannot be saved where it should be."""

import json
import os
import re
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pytest

import finetuner
from finetuner.cli.terminal import INTERRUPTED
from finetuner.cli.user_code import resolve_callable

from .commands import ROOT, error, fit, folder, model, run  # noqa: F401  (folder and model are fixtures)
from .toy import TRAIN


def bytes_of(folder):
    return (folder / "weights.safetensors").read_bytes()


def command_of(folder):
    return json.loads((folder / "config.json").read_text())["command"]


# --like and --resume -------------------------------------------------------------------------------------


def test_like_a_run(model, folder, monkeypatch):
    chosen = ("--loss-option", "margin=0.4", "--seed", 3, "--metric", "hit@1", "--early-stopping", 9)
    fit(model, "--eval-data", "new=test.npz", *chosen)
    (folder / "elsewhere").mkdir()
    monkeypatch.chdir(folder / "elsewhere")  # the paths of the run are found from there, too
    run("fit", "--like", "../run", "--trust", "--output", "again")
    assert bytes_of(folder / "run") == bytes_of(Path("again"))
    mine, theirs = command_of(Path("again")), command_of(folder / "run")
    differing = {name for name in mine if mine[name] != theirs[name]}
    assert differing == {"like", "output", "trust"}
    run("fit", "--like", "../run", "--model", f"{model}:make", "--output", "other", "--loss-option", "margin=0.2")
    assert command_of(Path("other"))["loss_option"] == ["margin=0.2"]


def test_like_does_not_take_the_output_of_the_run(model, folder):
    fit(model, "--checkpoint-folder", "checkpoints")
    assert "Missing option '--output'" in run("fit", "--like", "run", "--trust", code=2).stderr
    run("fit", "--like", "run", "--trust", "--output", "again")
    assert not (folder / "again-checkpoints").exists()
    line = error(run("fit", "--like", "run", "--resume", "run", "--trust", "--output", "both", code=1))
    assert line == "--like must not be used with --resume, which takes the options of its run, too"


def test_what_belongs_to_one_command_is_not_passed_on(model, folder):
    fit(model, "--debug")
    run("fit", "--like", "run", "--trust", "--output", "again")
    assert command_of(folder / "again")["debug"] is False
    run("fit", "--resume", "again", "--trust", "--epochs", 3, "--output", "longer")


def test_a_file_comes_before_the_run_and_may_name_it(model, folder):
    fit(model, "--seed", 3)
    (folder / "options.toml").write_text("epochs = 1\nlike = 'run'\noutput = 'again'\n")
    run("fit", "--config", "options.toml", "--trust")
    assert command_of(folder / "again")["epochs"] == 1
    assert command_of(folder / "again")["seed"] == 3


def test_code_that_a_file_names_is_of_the_user(model, folder):
    fit(model, name="broken", code=1)
    fit(model)
    (folder / "options.toml").write_text(f"model = '{model}:make'\noutput = 'again'")
    run("fit", "--config", "options.toml", "--like", "run")
    run("fit", "--like", "run", "--config", "options.toml", "--output", "in-the-other-order")


def test_a_run_without_options(model, folder):
    made = resolve_callable("--model", f"{model}:make")()
    finetuner.fit(made, TRAIN, callbacks=[], epochs=1, batch_size=24).save("run")
    line = error(fit(model, "--like", "run", "--output", "again", code=1))
    assert line == "run was not written by `finetuner fit`, and has no options"
    fit(model, "--resume", "run", "--output", "again")
    assert len(json.loads((folder / "again" / "history.json").read_text())) == 2


def test_options_of_another_version(model, folder):
    fit(model)
    config = json.loads((folder / "run" / "config.json").read_text())
    config["command"]["magic"] = 3
    (folder / "run" / "config.json").write_text(json.dumps(config))
    result = run("fit", "--like", "run", "--trust", "--output", "again")
    assert "warning: run has options that this version does not know: magic" in result.stderr


def test_a_resumed_training_gives_the_same_bits(model, folder):
    chosen = ("--eval-data", "test.npz", "--checkpoint-every", "1 epoch", "--keep-checkpoints", 2)
    chosen += ("--ema-decay", 0.9, "--keep-best", "--monitor", "mAP@R", "--schedule", "cosine")
    fit(model, *chosen, "--epochs", 4)
    assert sorted(path.name for path in (folder / "run-checkpoints").iterdir()) == ["epoch-3", "epoch-4"]
    (folder / "run").rename(folder / "whole")
    result = run("fit", "--resume", "run-checkpoints/epoch-3", "--trust")  # the output is free, so it is the default
    assert "continued after step 6" in result.stderr
    assert bytes_of(folder / "run") == bytes_of(folder / "whole")
    assert [row["epoch"] for row in json.loads((folder / "run" / "history.json").read_text())] == [0, 1, 2, 3, 4]


def test_a_resumed_training_goes_on_in_its_own_checkpoints_only(model, folder):
    fit(model, "--checkpoint-folder", "mine", "--epochs", 2)
    run("fit", "--resume", "mine", "--trust", "--epochs", 3, "--output", "second", "--keep-checkpoints", 2)
    assert sorted(path.name for path in (folder / "mine").iterdir()) == ["epoch-2", "epoch-3"]
    run("fit", "--resume", "run", "--trust", "--epochs", 3, "--output", "third", "--checkpoint-every", "1 epoch")
    assert [path.name for path in (folder / "third-checkpoints").iterdir()] == ["epoch-3"]
    again = ("--resume", "run", "--trust", "--epochs", 3, "--output", "fourth", "--checkpoint-folder", "mine")
    assert error(run("fit", *again, code=1)).startswith("mine must be a new or an empty folder")


def test_resume_a_finished_run_for_more_epochs(model, folder):
    fit(model, "--epochs", 2)
    fit(model, "--epochs", 4, "--output", "whole")
    assert "Missing option '--output'" in run("fit", "--resume", "run", "--trust", code=2).stderr
    run("fit", "--resume", "run", "--trust", "--epochs", 4, "--output", "longer")
    assert bytes_of(folder / "longer") == bytes_of(folder / "whole")
    assert command_of(folder / "longer")["resume"] == str(folder / "run")


def test_a_checkpoint_can_be_used(model, folder):
    fit(model, "--checkpoint-every", 2, "--epochs", 3)
    assert [path.name for path in sorted((folder / "run-checkpoints").iterdir())] == ["step-2", "step-4", "step-6"]
    for path in ("run-checkpoints/step-4", "run-checkpoints"):
        metrics = json.loads(run("evaluate", "--run", path, "--trust", "--data", "test.npz", "--json").stdout)
        run("embed", "--run", path, "--trust", "--data", "test.npz", "--output", f"{Path(path).name}.npz")
        assert 0 < metrics["mAP@R"] <= 1
    newest = json.loads(run("evaluate", "--run", "run", "--trust", "--data", "test.npz", "--json").stdout)
    assert newest == metrics


def test_what_cannot_be_resumed(model, folder):
    fit(model, "--checkpoint-folder", "checkpoints")
    np.savez("less.npz", x=TRAIN.x[:-1], y=TRAIN.labels[:-1])
    to = ("--resume", "run", "--output", "again")
    make = ("--model", f"{model}:make")
    for arguments, message in (
        (("--model", f"{model}:other"), "run cannot be resumed: the weights must be those of the same model"),
        ((*make, "--data", "less.npz"), "a fit that is resumed must have the same settings and data"),
        ((*make, "--batch-size", 12), "a fit that is resumed must have the same settings and data, and .*batch_size"),
        ((*make, "--optimizer", "SGD"), "the optimizer must be Adam to resume from run, got SGD"),
        ((*make, "--seed", 1), "the settings must be those of the run in run, and seed is 0 there and 1 here"),
        ((*make, "--schedule", "linear"), "the settings must be those of the run in run, and schedule is 'constant'"),
    ):
        line = error(run("fit", *to, *arguments, code=1))
        assert re.match(message, line), line
        assert not (folder / "again").exists()
    assert error(run("fit", "--resume", "run", *make, "--output", "run", code=1)).startswith(
        "run must be a new or an empty"
    )
    (folder / "run" / "training.safetensors").write_bytes(b"damaged")
    assert error(run("fit", *to, *make, code=1)).startswith("run/training.safetensors must be a safetensors file")
    (folder / "run" / "config.json").write_text("{")
    assert error(run("fit", *to, *make, code=1)).startswith("run/config.json must hold JSON")


# Signals -------------------------------------------------------------------------------------------------


def test_interrupted_in_python(model, folder):
    arguments = ("--epochs", 9, "--preprocess", f"{model}:interrupting")
    result = fit(model, "--eval-data", "test.npz", *arguments, code=INTERRUPTED)
    assert "interrupted in epoch 3" in result.stderr
    assert len(json.loads((folder / "run" / "history.json").read_text())) == 3
    assert (folder / "run" / "weights.safetensors").is_file()


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGHUP"])
def test_a_signal_saves_the_run(model, folder, name):
    # A background job ignores SIGINT, and one that nohup has started SIGHUP.
    handler = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)"
    handler += "; signal.signal(signal.SIGHUP, signal.SIG_DFL)"
    command = [sys.executable, "-c", f"{handler}; from finetuner.cli import main; main()", "fit", "--data", "train.npz"]
    command += ["--eval-data", "test.npz", "--model", f"{model}:make", "--epochs", "1000000"]
    command += ["--batch-size", "24", "--output", "run"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)
    for line in process.stderr:
        if line.startswith("epoch") and "2/1000000" in line:
            break
    process.send_signal(getattr(signal, name))
    out, err = process.communicate(timeout=120)
    assert process.returncode == 128 + getattr(signal, name), err
    assert "Traceback" not in err
    assert "interrupted in epoch" in err
    assert "run " in out
    done = len(json.loads((folder / "run" / "history.json").read_text()))
    if name == "SIGTERM":
        assert run("evaluate", "--data", "test.npz", "--run", "run", "--trust").stdout
        run("fit", "--resume", "run", "--trust", "--epochs", done, "--output", "resumed")
        assert len(json.loads((folder / "resumed" / "history.json").read_text())) == done + 1


def test_ctrl_c_before_training(model, folder, monkeypatch):
    def interrupted(*args, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr("finetuner.data.load", interrupted)
    assert fit(model, code=INTERRUPTED).stderr == "interrupted\n"
    assert not (folder / "run").exists()


def test_a_second_signal_does_not_stop_the_saving(model, folder, monkeypatch):
    write_json = finetuner.files.write_json

    def write(path, content):
        signal.raise_signal(signal.SIGINT)
        write_json(path, content)

    monkeypatch.setattr("finetuner.tuner.base.training.checkpoint.write_json", write)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a process in the background ignores it
    try:
        fit(model)
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    finally:
        signal.signal(signal.SIGINT, before)
    assert len(json.loads((folder / "run" / "history.json").read_text())) == 2


# Another place for the run -------------------------------------------------------------------------------


def test_somebody_takes_the_folder(model, folder):
    (folder / "run-2").mkdir()
    result = fit(model, "--preprocess", f"{model}:taking")
    (line,) = [line for line in result.stderr.splitlines() if line.startswith("warning: ")]
    assert line == (
        "warning: the run is in run-3; it could not be saved in run (run must be a new or an empty folder, "
        "and it exists; nothing was written)"
    )
    assert [path.name for path in (folder / "run").iterdir()] == ["taken.txt"]
    assert (folder / "run-3" / "weights.safetensors").is_file()
    assert "run-3/  weights.safetensors" in result.stdout


def test_a_full_disk(model, folder, monkeypatch, tmp_path_factory):
    temporary = tmp_path_factory.mktemp("temporary")
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))
    write_json = finetuner.files.write_json

    def write(path, content):
        if path.is_relative_to(folder) or not path.is_relative_to(temporary):
            raise OSError(28, "No space left on device")
        write_json(path, content)

    monkeypatch.setattr("finetuner.tuner.base.training.checkpoint.write_json", write)
    result = fit(model)
    (line,) = [line for line in result.stderr.splitlines() if line.startswith("warning: ")]
    place = next(temporary.glob("finetuner-*/run"))
    assert line == (
        f"warning: the run is in {place}; it could not be saved in run (No space left on device), a folder beside it "
        "(No space left on device)"
    )
    assert (place / "weights.safetensors").is_file()
    assert not (folder / "run").exists()
    assert not list(folder.glob(".*"))
    assert run("evaluate", "--run", place, "--trust", "--data", "test.npz").stdout


LIMITED = """
import resource, signal, sys
from finetuner.cli.commands import app
from finetuner.tuner.base.training.tuner import Tuner

fit = Tuner.fit

def limited(*args, **options):
    run = fit(*args, **options)
    resource.setrlimit(resource.RLIMIT_FSIZE, (200, resource.RLIM_INFINITY))
    return run

Tuner.fit = limited
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
app(sys.argv[1:])
"""


def test_no_place_at_all(model, folder):
    arguments = ["fit", "--data", "train.npz", "--model", f"{model}:make", "--batch-size", "24", "--output", "run"]
    (folder / "temporary").mkdir()
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "TMPDIR": str(folder / "temporary"), "COLUMNS": "200"}
    command = [sys.executable, "-c", LIMITED, *arguments, "--epochs", "1"]
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert done.returncode == 1
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert line.startswith("error: the run could not be saved in run (")
    assert "a folder beside it (" in line
    assert "the folder for temporary files (" in line
    assert "Traceback" not in done.stderr
    assert not list(folder.glob("run*"))
