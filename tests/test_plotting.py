"""Tests of the plots: their content, their files and their errors."""

import subprocess
import sys

import numpy as np
import pytest

from finetuner.plotting import plot_embeddings, plot_history, project
from finetuner.tuner.base import Run

HISTORY = [
    {"epoch": 0, "val_loss": 0.5, "hit@1": 0.3},
    {"epoch": 1, "loss": 0.4, "val_loss": 0.4, "hit@1": 0.5, "seconds": 1.0, "items_per_second": 10.0},
    {"epoch": 2, "loss": None, "val_loss": 0.3, "hit@1": 0.6, "seconds": 1.0, "items_per_second": 10.0},
]


@pytest.fixture
def figures(monkeypatch):
    """A list of the figures that the test creates."""
    figure = pytest.importorskip("matplotlib.figure")
    created = []

    class RecordedFigure(figure.Figure):
        def __init__(self, *args, **options):
            super().__init__(*args, **options)
            created.append(self)

    monkeypatch.setattr(figure, "Figure", RecordedFigure)
    return created


def clusters(num_items_per_class=12, seed=0):
    """Three classes with different directions in 6 dimensions."""
    y = np.repeat(["a", "b", "c"], num_items_per_class)
    centres = np.repeat(np.eye(6)[:3] * 8, num_items_per_class, axis=0)
    return (centres + np.random.default_rng(seed).normal(size=(len(y), 6))).astype(np.float32), y


def lines(axes):
    return {line.get_label(): (list(line.get_xdata()), list(line.get_ydata())) for line in axes.get_lines()}


def test_plot_history(figures, tmp_path):
    path = plot_history(HISTORY, tmp_path / "new" / "history.png")
    assert path.read_bytes().startswith(b"\x89PNG")
    losses, metrics = figures[0].axes
    assert lines(losses) == {"loss": ([1], [0.4]), "val_loss": ([0, 1, 2], [0.5, 0.4, 0.3])}
    assert lines(metrics) == {"hit@1": ([0, 1, 2], [0.3, 0.5, 0.6])}


@pytest.mark.parametrize("name", ["loss", "hit@1"])
def test_history_with_one_panel(figures, tmp_path, name):
    plot_history([{"epoch": 1, name: 0.5}], tmp_path / "history.svg")
    assert [list(lines(axes)) for axes in figures[0].axes] == [[name]]


@pytest.mark.parametrize("history", [[], [{"epoch": 0}]])
def test_history_without_numbers(history, tmp_path):
    with pytest.raises(ValueError, match="history must have a loss or a metric, got"):
        plot_history(history, tmp_path / "history.png")


def test_unknown_image_format(figures, tmp_path):
    with pytest.raises(ValueError, match="Format 'xyz' is not supported"):
        plot_history(HISTORY, tmp_path / "history.xyz")


@pytest.mark.parametrize("method", ["pca", "tsne"])
def test_projection_separates_classes_and_is_deterministic(method):
    if method == "tsne":
        pytest.importorskip("sklearn")
    x, y = clusters()
    xy = project(x, method)
    assert xy.shape == (36, 2)
    assert xy.dtype == np.float32
    distances = np.linalg.norm(xy[:, None] - xy[None], axis=2) + np.diag(np.full(36, np.inf))
    assert (y[distances.argmin(axis=1)] == y).all()
    np.testing.assert_array_equal(xy, project(x, method))


def test_pca_has_maximum_variance():
    x, _ = clusters()
    values = np.linalg.eigvalsh(np.cov(x.T, bias=True))[::-1]
    np.testing.assert_allclose(project(x, "pca", distance="euclidean").var(axis=0), values[:2], rtol=1e-4)


def test_cosine_ignores_lengths():
    x, _ = clusters()
    lengths = np.random.default_rng(0).uniform(0.1, 10, (len(x), 1))
    np.testing.assert_allclose(project(x * lengths, "pca"), project(x, "pca"), atol=1e-5)
    assert not np.allclose(project(x * lengths, "pca", distance="euclidean"), project(x, "pca"), atol=1e-2)


@pytest.mark.parametrize("shape", [(1, 3), (2, 3), (5, 1), (7, 2)])
def test_few_items_and_dimensions(shape):
    assert project(np.random.default_rng(0).normal(size=shape)).shape == (shape[0], 2)


@pytest.mark.parametrize(
    ("x", "options", "message"),
    [
        (np.ones(3), {}, r"embeddings must have shape \[N, D\], got \[3\]"),
        (np.ones((0, 3)), {}, r"embeddings must be finite and not empty, got shape \[0, 3\]"),
        ([[1.0, np.nan]], {}, "embeddings must be finite"),
        (np.ones((9, 3)), {"method": "tsn"}, "method must be one of .*did you mean 'tsne'"),
        (np.ones((9, 3)), {"distance": "cosin"}, "distance must be one of .*did you mean 'cosine'"),
        (np.ones((9, 3)), {"seed": -1}, "seed must be at least 0, got -1"),
    ],
)
def test_bad_embeddings(x, options, message):
    with pytest.raises(ValueError, match=message):
        project(x, **options)


def test_tsne_with_too_few_items():
    pytest.importorskip("sklearn")
    with pytest.raises(ValueError, match="t-SNE must have at least 4 items, got 3"):
        project(np.ones((3, 2)), "tsne")


def test_umap_does_not_import_tensorflow(monkeypatch):
    """umap imports TensorFlow for a model that is not used here. A TensorFlow that is already imported stays imported."""
    received = {}

    class Umap:
        def __init__(self, **options):
            received.update(options, tensorflow=sys.modules["tensorflow"])

        def fit_transform(self, x):
            return x[:, :2]

    monkeypatch.delitem(sys.modules, "tensorflow", raising=False)
    monkeypatch.setitem(sys.modules, "umap", type("module", (), {"UMAP": Umap}))
    assert project(clusters()[0], "umap", seed=3).shape == (36, 2)
    assert received == {"n_neighbors": 15, "random_state": 3, "tensorflow": None}
    assert "tensorflow" not in sys.modules
    monkeypatch.setitem(sys.modules, "tensorflow", "loaded before")
    project(clusters()[0], "umap")
    assert received["tensorflow"] == sys.modules["tensorflow"] == "loaded before"


def test_plot_embeddings(figures, tmp_path):
    x, y = clusters()
    path = plot_embeddings({"before": x[::-1], "after": x}, y, tmp_path / "embeddings.png", method="pca")
    assert path.read_bytes().startswith(b"\x89PNG")
    (figure,) = figures
    assert [axes.get_title() for axes in figure.axes] == ["before", "after"]
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["a", "b", "c"]
    for axes in figure.axes:
        (points,) = axes.collections
        assert points.get_offsets().shape == (36, 2)
        assert len(np.unique(points.get_facecolors(), axis=0)) == 3


def test_points_have_the_color_of_their_class(figures, tmp_path):
    x, y = clusters()
    plot_embeddings({"all": x}, y, tmp_path / "embeddings.png", method="pca")
    (points,) = figures[0].axes[0].collections
    legend = [line.get_color()[:3] for line in figures[0].legends[0].get_lines()]
    color_at = {tuple(xy): color[:3] for xy, color in zip(points.get_offsets(), points.get_facecolors(), strict=True)}
    for xy, name in zip(project(x, "pca"), y, strict=True):
        np.testing.assert_allclose(color_at[tuple(xy)], legend["abc".index(name)], atol=1e-6)


def test_many_classes_have_no_legend(figures, tmp_path):
    x = np.random.default_rng(0).normal(size=(60, 3))
    plot_embeddings({"all": x}, np.arange(60) % 30, tmp_path / "embeddings.png", method="pca")
    assert not figures[0].legends


@pytest.mark.parametrize(
    ("panels", "message"),
    [({}, "panels must have at least one panel, got none"), ({"a": np.eye(3)}, "'a' and labels must have the same length, got 3 and 2")],
)  # fmt: skip
def test_bad_panels(panels, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        plot_embeddings(panels, [0, 1], tmp_path / "embeddings.png", method="pca")


@pytest.mark.parametrize(
    ("module", "call"),
    [
        ("matplotlib", "plot_history([{'epoch': 1, 'loss': 1.0}], 'x.png')"),
        ("sklearn", "project([[1.0, 2.0]] * 9, 'tsne')"),
        ("umap", "project([[1.0, 2.0]] * 9, 'umap')"),
    ],
)
def test_missing_library(module, call):
    code = f"import sys; sys.modules[{module!r}] = None; from finetuner.plotting import *; {call}"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    library = {"sklearn": "scikit-learn", "umap": "umap-learn"}.get(module, module)
    assert f'needs {library}: pip install "finetuner[plot]"' in done.stderr.splitlines()[-1]


def test_plotting_has_no_side_effects(tmp_path):
    """pyplot is not imported, and the settings of matplotlib stay unchanged."""
    pytest.importorskip("matplotlib")
    code = f"""
import sys, matplotlib
from finetuner.plotting import plot_history
settings = lambda: {{name: matplotlib.rcParams[name] for name in matplotlib.rcParams if name != "backend"}}
before = settings()
plot_history([{{"epoch": 1, "loss": 1.0}}], {str(tmp_path / "x.png")!r})
assert settings() == before
assert "matplotlib.pyplot" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", code], check=True)


def test_the_log_of_a_training_is_plotted(figures, tmp_path):
    history = [{"epoch": epoch, "step": 2 * epoch, "val_loss": 0.5, "hit@1": 0.3} for epoch in range(3)]
    log = [{"epoch": 1, "step": step, "loss": 0.4, "learning_rate": 0.1, "gradient_norm": 2.0} for step in range(4)]
    Run(None, history, {}, {}, log=log).plot(tmp_path / "log.png")
    Run(None, history, {}, {}).plot(tmp_path / "no-log.png")
    titles = [[title for axes in figure.axes if (title := axes.get_title(loc="left"))] for figure in figures]
    assert titles == [["loss", "retrieval", "learning rate", "gradient norm"], ["loss", "retrieval"]]
    assert [line.get_label() for line in figures[0].axes[0].lines] == ["loss", "val_loss"]
