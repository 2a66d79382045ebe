"""The demo: what it trains on, what it writes, and that digits never seen are found better than before."""

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
# Paddle, of any batch norm.
pytestmark = pytest.mark.filterwarnings("ignore:When training, we now always track global mean:UserWarning")


@pytest.fixture
def written(backend, tmp_path):
    """A function that runs the demo."""
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


def test_bent():
    image = demo.digits()[1].x[0]
    one, same, other = (demo.bent(image, np.random.default_rng(seed)) for seed in (1, 1, 2))
    assert one.shape == image.shape
    assert one.dtype == np.float32
    np.testing.assert_array_equal(one, same)
    for a, b in ((one, image), (one, other)):
        assert not np.allclose(a, b, atol=0.1)


def test_nothing_bent_leaves_the_image():
    class Middle:
        def uniform(self, low, high, size):
            return np.zeros(size)

    image = demo.digits()[1].x[0]
    np.testing.assert_allclose(demo.bent(image, Middle()), image, atol=1e-6)


def test_a_short_demo(written, tmp_path):
    run = written(epochs=1, callbacks=[])
    pictures = [tmp_path / "demo" / name for name in ("history.png", "embeddings.png")]
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in pictures)
    assert (tmp_path / "demo" / "weights.safetensors").is_file()
    assert len(run.history) == 2
    with pytest.raises(FileExistsError, match="must be a new or an empty folder"):
        written()


def test_unseen_digits_are_found_better(written):
    metrics = written(callbacks=[]).metrics
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


def told_by_the_program(*absent, **environment):
    """What ``finetuner demo --backend ...`` says where these modules are not installed."""
    backend = environment.pop("backend")
    code = f"""
import sys

class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {absent}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)

sys.meta_path.insert(0, Absent())
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
    told = told_by_the_program(backend.framework, backend=backend.name)
    install = f'pip install "finetuner[{backend.name}]"'
    assert told == f"error: finetuner.tuner.{backend.name} needs {backend.framework}: {install}\n"


def test_missing_engine(backend):
    if backend.name != "keras":
        pytest.skip("it has no engines")
    told = told_by_the_program(backend.engine, backend="keras", KERAS_BACKEND=backend.engine)
    assert told.startswith(
        f"error: Keras must have the engine that KERAS_BACKEND or its own settings name, and {backend.engine}"
    )
    assert told.count("\n") == 1


def test_nothing_but_the_result_is_told(backend, tmp_path):
    """Not by the frameworks, nor by what they load."""
    code = "import sys, finetuner.cli.console_noise as console_noise, finetuner.demo as demo; console_noise.silence_frameworks(); console_noise.ignore_framework_warnings()\n"
    code += f"demo.load_subpackage({backend.name!r}).Tuner(demo.BACKENDS[{backend.name!r}](0)).embed(demo.digits()[1])"
    environment = {key: value for key, value in os.environ.items() if key not in console_noise.VARIABLES}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, env=environment)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
