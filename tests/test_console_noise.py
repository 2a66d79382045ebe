"""What the program does around the import of a framework: no chatter, and no crash."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

from finetuner.cli.console_noise import captured

from .commands import folder  # noqa: F401  (a fixture)

ROOT = Path(__file__).parents[1]
LINES = (
    b"I0000 00:00:1795315012.176866   21991 port.cc:153] oneDNN custom operations are on.\n",
    b"WARNING: OMP_NUM_THREADS set to 2, not 1.\n",
    b"the disk is full\n",
)


def test_only_chatter_is_held_back(capfd):
    with captured():
        for line in LINES:
            os.write(2, line)
    assert capfd.readouterr() == ("", "the disk is full\n")


def test_all_is_told_after_an_error(capfd):
    def load():
        os.write(2, b"".join(LINES))
        raise ImportError("it cannot be loaded")

    with captured(), pytest.raises(ImportError):
        load()
    assert capfd.readouterr().err == LINES[-1].decode()
    with pytest.raises(ImportError), captured():
        load()
    assert capfd.readouterr().err == b"".join(LINES).decode()


def program(*arguments, **environment):
    command = [sys.executable, "-m", "finetuner", *arguments]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), **environment}
    return subprocess.run(command, capture_output=True, text=True, env=environment)


EMBED = ("embed", "--data", "test.npz", "--model", "model.py:make", "--output", "e.npz")


def test_paddle_after_tensorflow(backend, folder):
    """One crashes the other, where a user's file imports TensorFlow, or what imports it, first."""
    if backend.name != "paddle" or importlib.util.find_spec("tensorflow") is None:
        pytest.skip("takes Paddle and TensorFlow")
    (folder / "model.py").write_text("import tensorflow, paddle\n\ndef make():\n    return paddle.nn.Linear(8, 2)\n")
    done = program(*EMBED)
    assert (done.returncode, done.stderr) == (0, "data   48 items\n")
    assert done.stdout == "e.npz  embeddings [48, 2]\n"


def test_a_users_file_without_an_engine(backend, folder):
    if backend.name != "keras":
        pytest.skip("it has no engines")
    absent = f"import sys\nsys.modules[{backend.engine!r}] = None  # as if it were not installed\nimport keras\n"
    (folder / "model.py").write_text(absent)
    told = program(*EMBED, KERAS_BACKEND=backend.engine).stderr
    assert told.startswith("error: Keras must have the engine that KERAS_BACKEND or its own settings name")
    assert told.endswith("model.py:3)\n")
    assert told.count("\n") == 1
