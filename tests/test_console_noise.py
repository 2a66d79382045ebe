"""The import of a framework in the program: no messages, and no crash."""

import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from finetuner.cli.console_noise import filter_stderr

from .commands import folder  # noqa: F401  (a fixture)

ROOT = Path(__file__).parents[1]
LINES = (
    b"I0000 00:00:1795315012.176866   21991 port.cc:153] oneDNN custom operations are on.\n",
    b"WARNING: OMP_NUM_THREADS set to 2, not 1.\n",
    b"the disk is full\n",
)


def test_only_noise_is_removed(capfd):
    with filter_stderr():
        for line in LINES:
            os.write(2, line)
    assert capfd.readouterr() == ("", "the disk is full\n")


def test_nothing_is_removed_after_an_error(capfd):
    def load():
        os.write(2, b"".join(LINES))
        raise ImportError("it cannot be loaded")

    with filter_stderr(), pytest.raises(ImportError):
        load()
    assert capfd.readouterr().err == LINES[-1].decode()
    with pytest.raises(ImportError), filter_stderr():
        load()
    assert capfd.readouterr().err == b"".join(LINES).decode()


def program(*arguments, **environment):
    command = [sys.executable, "-m", "finetuner", *arguments]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), **environment}
    return subprocess.run(command, capture_output=True, text=True, env=environment)


EMBED = ("embed", "--data", "test.npz", "--model", "model.py:make", "--output", "e.npz")


def test_paddle_after_tensorflow(backend, folder):
    """Without isolation, Paddle crashes if a user's file imports TensorFlow first."""
    if backend.name != "paddle" or importlib.util.find_spec("tensorflow") is None:
        pytest.skip("needs Paddle and TensorFlow")
    (folder / "model.py").write_text("import tensorflow, paddle\n\ndef make():\n    return paddle.nn.Linear(8, 2)\n")
    result = program(*EMBED)
    assert (result.returncode, result.stderr) == (0, "data   48 items\n")
    assert result.stdout == "e.npz  embeddings [48, 2]\n"


def test_missing_engine_in_user_code(backend, folder):
    if backend.name != "keras":
        pytest.skip("the framework has no engines")
    code = f"import sys\nsys.modules[{backend.engine!r}] = None  # as if it is not installed\nimport keras\n"
    (folder / "model.py").write_text(code)
    stderr = program(*EMBED, KERAS_BACKEND=backend.engine).stderr
    assert re.match(f"error: .*{backend.engine} .*set KERAS_BACKEND to", stderr)
    assert stderr.endswith("model.py:3)\n")
    assert stderr.count("\n") == 1
