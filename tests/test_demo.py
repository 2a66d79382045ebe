"""The demo: what it trains on, what it writes, and that digits never seen are found better than before."""

import sys

import numpy as np
import pytest

from finetuner import demo

sklearn = pytest.importorskip("sklearn.datasets")


@pytest.fixture
def written(backend, tmp_path):
    """A function that runs the demo."""
    for module in ("faiss", "matplotlib"):
        pytest.importorskip(module)
    if backend.name not in demo.BACKENDS:
        pytest.skip(f"no demo of {backend.name}")
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


def test_backends_to_come(tmp_path):
    with pytest.raises(ValueError, match="backend must be one of 'pytorch', got 'jax'"):
        demo.run_demo("jax", tmp_path / "demo")
    assert not (tmp_path / "demo").exists()


@pytest.mark.parametrize(
    ("module", "library"), [("sklearn.datasets", "scikit-learn"), ("matplotlib.figure", "matplotlib")]
)
def test_missing_library(module, library, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ImportError, match=f'the demo needs {library}: pip install "finetuner'):
        demo.run_demo(output=tmp_path / "demo")
