"""Models, data and helpers for the tests of the command line."""

from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from finetuner.cli.commands import app

from .toy import TEST, TRAIN, D

ROOT = Path(__file__).parents[1]
# Files with functions that create models: ``make``, ``other`` with other weights, ``narrow`` for items of another size,
# and ``pooled`` with a pooling layer.
MODELS = {
    "pytorch": f"""
import torch

def make():
    return torch.nn.Sequential(torch.nn.Linear({D}, 32), torch.nn.ReLU(), torch.nn.Linear(32, 8))

def other():
    return torch.nn.Linear({D}, 8)

def narrow():
    return torch.nn.Linear(3, 2)

def pooled():
    layers = torch.nn.Unflatten(1, (1, {D})), torch.nn.Conv1d(1, 16, 3, padding=1), torch.nn.ReLU()
    return torch.nn.Sequential(*layers, torch.nn.AdaptiveAvgPool1d(1), torch.nn.Flatten(), torch.nn.Linear(16, 8))
""",
    "keras": f"""
import keras

def make():
    return keras.Sequential([keras.Input(({D},)), keras.layers.Dense(32, "relu"), keras.layers.Dense(8)])

def other():
    return keras.Sequential([keras.Input(({D},)), keras.layers.Dense(8)])

def narrow():
    return keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)])

def pooled():
    layers = keras.layers.Reshape(({D}, 1)), keras.layers.Conv1D(16, 3, padding="same", activation="relu")
    pool = keras.layers.GlobalAveragePooling1D()
    return keras.Sequential([keras.Input(({D},)), *layers, pool, keras.layers.Dense(8)])
""",
    "paddle": f"""
import paddle

def make():
    return paddle.nn.Sequential(paddle.nn.Linear({D}, 32), paddle.nn.ReLU(), paddle.nn.Linear(32, 8))

def other():
    return paddle.nn.Linear({D}, 8)

def narrow():
    return paddle.nn.Linear(3, 2)

def pooled():
    layers = paddle.nn.Unflatten(1, [1, {D}]), paddle.nn.Conv1D(1, 16, 3, padding=1), paddle.nn.ReLU()
    return paddle.nn.Sequential(*layers, paddle.nn.AdaptiveAvgPool1D(1), paddle.nn.Flatten(), paddle.nn.Linear(16, 8))
""",
}
FUNCTIONS = f"""
from pathlib import Path

import numpy as np

def words(texts):
    return np.array([[text.count(letter) for letter in "abcdefgh"] for text in texts], np.float32)

def grey(image):
    return image[0, 0, :{D}]

def grey_last(image):
    return image[0, :{D}, 0]

def same(item):
    return item

def wrong(item):
    return item["no"]

seen = 0

def interrupting(item):
    global seen
    seen += 1
    if seen > 48 + 2 * 96 + 24:  # evaluation, two epochs with evaluation, and one batch
        raise KeyboardInterrupt
    return item

def broken():
    return {{}}["x"]

def taking(item):
    path = Path("run", "taken.txt")
    path.parent.mkdir(exist_ok=True)
    path.touch()
    return item

number = 3
"""


@pytest.fixture
def model(backend, tmp_path):
    """A file with functions that create models."""
    pytest.importorskip("faiss")
    path = tmp_path / "models.py"
    path.write_text(MODELS[backend.name] + FUNCTIONS)
    return path


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The working folder of the commands, with data."""
    monkeypatch.chdir(tmp_path)
    for name, data in (("train", TRAIN), ("test", TEST)):
        np.savez(tmp_path / f"{name}.npz", x=data.x, y=data.classes[data.labels])
    return tmp_path


def run(*arguments, code=0):
    """Run a command and check its exit code."""
    result = CliRunner().invoke(app, list(map(str, arguments)), prog_name="finetuner")
    assert result.exit_code == code, result.output + str(result.exception)
    return result


def fit(model, *arguments, name="make", code=0):
    """Run ``finetuner fit`` with common options, and others after them."""
    common = ("--model", f"{model}:{name}", "--batch-size", 24, "--epochs", 2, "--output", "run")
    data = () if "--data" in arguments else ("--data", "train.npz")  # repeated, it would be one more file
    return run("fit", *data, *common, *arguments, code=code)


def error(result):
    """The error message, which must be one line."""
    lines = [line for line in result.stderr.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1
    assert "Traceback" not in result.output
    return lines[0].removeprefix("error: ")
