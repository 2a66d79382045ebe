"""Tests of the demo: its data, its files, its messages, and that training improves retrieval of unseen digits."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from finetuner import demo
from finetuner.cli import console_noise

ROOT = Path(__file__).parents[1]

sklearn = pytest.importorskip("sklearn.datasets")
# A warning of Paddle about every batch norm.
pytestmark = pytest.mark.filterwarnings("ignore:When training, we now always track global mean:UserWarning")


@pytest.fixture
def run_demo(backend, tmp_path):
    """A function that runs the demo with the backend."""
    for module in ("faiss", "matplotlib"):
        pytest.importorskip(module)
    return lambda **options: demo.run_demo(backend.name, tmp_path / "demo", **options)


def test_digits():
    seen, unseen = demo.digits()
    assert seen.x.shape == (8 * 901, 1, 8, 8)
    assert unseen.x.shape == (896, 1, 8, 8)
    assert len(seen.classes) == 40
    assert {name[0] for name in seen.classes} == set("01234")
    assert unseen.classes.tolist() == [5, 6, 7, 8, 9]
    for x in (seen.x, unseen.x):
        assert x.dtype == np.float32
        assert (x.min(), x.max()) == (0, 1)


def test_distort():
    image = demo.digits()[1].x[0]
    first, repeated, other = (demo.distort(image, np.random.default_rng(seed)) for seed in (1, 1, 2))
    assert first.shape == image.shape
    assert first.dtype == np.float32
    np.testing.assert_array_equal(first, repeated)
    for a, b in ((first, image), (first, other)):
        assert not np.allclose(a, b, atol=0.1)


def test_zero_distortion_keeps_image():
    class ZeroGenerator:
        def uniform(self, low, high, size):
            return np.zeros(size)

    image = demo.digits()[1].x[0]
    np.testing.assert_allclose(demo.distort(image, ZeroGenerator()), image, atol=1e-6)


def test_short_demo(run_demo, tmp_path):
    run = run_demo(epochs=1, callbacks=[])
    plots = [tmp_path / "demo" / name for name in ("history.png", "embeddings.png")]
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in plots)
    assert (tmp_path / "demo" / "weights.safetensors").is_file()
    assert len(run.history) == 2
    with pytest.raises(FileExistsError, match="must be a new or an empty folder"):
        run_demo()


def test_training_improves_retrieval_of_unseen_digits(run_demo):
    metrics = run_demo(callbacks=[]).metrics
    assert metrics["after"]["hit@1"] > metrics["before"]["hit@1"]
    assert metrics["after"]["mAP@R"] > metrics["before"]["mAP@R"] + 0.02


def test_unknown_backend(tmp_path):
    with pytest.raises(ValueError, match="backend must be one of 'pytorch', 'keras', 'paddle', got 'jax'"):
        demo.run_demo("jax", tmp_path / "demo")
    assert not (tmp_path / "demo").exists()


@pytest.mark.parametrize(
    ("module", "library"), [("sklearn.datasets", "scikit-learn"), ("matplotlib.figure", "matplotlib")]
)
def test_missing_library(module, library, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ImportError, match=f'the demo needs {library}: pip install "finetuner'):
        demo.run_demo(output=tmp_path / "demo")


def error_of_demo(*missing, **environment):
    """The error of ``finetuner demo --backend ...`` if the modules ``missing`` are not installed."""
    backend = environment.pop("backend")
    code = f"""
import sys

class MissingModules:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {missing}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)

sys.meta_path.insert(0, MissingModules())
sys.argv = ["finetuner", "demo", "--backend", {backend!r}, "--output", "never"]
from finetuner.cli.commands import main
main()
"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, env={**os.environ, **environment}
    )
    assert (done.returncode, done.stdout) == (1, "")
    assert not (ROOT / "never").exists()
    return done.stderr


def test_missing_framework(backend):
    error = error_of_demo(backend.framework, backend=backend.name)
    install = f'pip install "finetuner[{backend.name}]"'
    assert error == f"error: finetuner.tuner.{backend.name} needs {backend.framework}: {install}\n"


def test_missing_engine(backend):
    if backend.name != "keras":
        pytest.skip("only Keras has engines")
    error = error_of_demo(backend.engine, backend="keras", KERAS_BACKEND=backend.engine)
    assert error.startswith(f"error: the engine of Keras must be installed, and {backend.engine} (from KERAS_BACKEND")
    assert error.count("\n") == 1


def test_nothing_is_printed(backend, tmp_path):
    """Neither the frameworks nor the libraries that they load print anything."""
    code = "import sys, finetuner.cli.console_noise as console_noise, finetuner.demo as demo; console_noise.silence_frameworks(); console_noise.ignore_framework_warnings()\n"
    code += f"demo.load_subpackage({backend.name!r}).Tuner(demo.BACKENDS[{backend.name!r}](0)).embed(demo.digits()[1])"
    environment = {key: value for key, value in os.environ.items() if key not in console_noise.VARIABLES}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, env=environment)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
