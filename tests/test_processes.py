"""Several processes that train one model, each test by a launcher of the framework, on a CPU."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from finetuner.tuner.base.processes import ALONE, cut, started_processes

from .toy import TRAIN, make_tuner

ROOT = Path(__file__).parents[1]
SECONDS = 240


@pytest.fixture
def launch(backend, tmp_path, monkeypatch):
    """A function that runs a program of ``tests/processes`` in some processes; returns the exit code and the output."""
    if backend.name == "keras":
        pytest.skip("a launcher of PyTorch or Paddle")
    for name in ("RANK", "WORLD_SIZE", "PYTEST_XDIST_WORKER"):
        monkeypatch.delenv(name, raising=False)

    def run(count, program, *arguments):
        logs = tmp_path / "logs"
        command = [sys.executable]
        if count > 1 and backend.name == "pytorch":
            command += ["-m", "torch.distributed.run", "--nproc-per-node", str(count), "--standalone"]
        if count > 1 and backend.name == "paddle":
            command += ["-m", "paddle.distributed.launch", "--nproc_per_node", str(count), "--log_dir", str(logs)]
        command += [str(program), backend.key, *map(str, arguments)]
        process = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=SECONDS, env=environment())
        output = process.stdout + process.stderr
        return process.returncode, output + "".join(file.read_text() for file in sorted(logs.glob("workerlog.*")))

    return run


def environment():
    import os

    return {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"}


LOSSES, RUNS = (ROOT / "tests" / "processes" / f"{name}.py" for name in ("losses", "runs"))


def test_losses_are_those_of_one_process(launch):
    code, output = launch(2, LOSSES, "--quick")
    assert (code, "0 wrong" in output) == (0, True), output


def test_a_loss_draws_the_same_in_all_processes(launch):
    code, output = launch(2, ROOT / "tests" / "processes" / "draws.py")
    assert (code, "in 2 processes" in output) == (0, True), output


@pytest.mark.parametrize("fault", ["scale", "backward", "forward"])
def test_a_fault_is_found(launch, fault):
    code, output = launch(2, LOSSES, "--quick", "--plant", fault, "--only", "NTXentLoss")
    assert code, output
    assert "value off by" in output


def test_runs_are_those_of_one_process(launch, tmp_path):
    assert launch(1, RUNS, tmp_path / "runs")[0] == 0
    code, output = launch(2, RUNS, tmp_path / "runs")
    assert (code, "WRONG" in output) == (0, False), output
    # Paddle's launcher repeats the log of the first process.
    assert len({line for line in output.splitlines() if "the same in all True" in line}) == 8, output


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ("nan", "inputs must be finite, and in batch 1 of epoch 3 items 17 of the data are not"),
        ("error", "item 17 is broken"),
        ("kill", ""),
        ("interrupt", "ended after [("),
        ("stop", "ended after [(7, False), (7, False)]"),
    ],
)
def test_all_processes_end(launch, tmp_path, how, message):
    code, output = launch(2, RUNS, tmp_path, "--end", how)
    assert (code == 0) == (how in ("interrupt", "stop")), output
    assert message in output
    assert "Traceback" not in output or code
    newest = max((tmp_path / "checkpoints").iterdir(), key=lambda path: int(path.name.partition("-")[2]))
    assert (newest / "training.json").exists()  # a checkpoint is renamed when it is complete


def test_slices():
    assert cut(7, 3) == [slice(0, 2), slice(2, 4), slice(4, 7)]
    assert cut(6, 4, size=2) == [slice(0, 0), slice(0, 2), slice(2, 4), slice(4, 6)]
    assert ALONE.slices(5, 3) == [slice(0, 5)]
    assert cut(7, 2, size=3) == [slice(0, 3), slice(3, 7)]


def test_started_processes():
    assert started_processes({"RANK": "1", "WORLD_SIZE": "3"}) == (1, 3)
    assert started_processes({"PADDLE_TRAINER_ID": "0", "PADDLE_TRAINERS_NUM": "2"}) == (0, 2)
    for environment in ({}, {"RANK": "0", "WORLD_SIZE": "1"}, {"RANK": "x", "WORLD_SIZE": "2"}, {"RANK": "0"}):
        assert started_processes(environment) is None


def test_a_single_process(backend):
    tuner = make_tuner(backend)
    assert tuner.fit(TRAIN, epochs=1).config["processes"] == 1
    assert tuner.engine.processes is ALONE
    assert ALONE.line == ""
    with pytest.raises(ValueError, match="processes must be 'auto' or False, got True"):
        make_tuner(backend, processes=True)
    with pytest.raises(OSError, match="broken"):
        ALONE.exchange(OSError("broken"))
    np.testing.assert_array_equal(ALONE.gather_arrays(np.arange(3)), np.arange(3))
