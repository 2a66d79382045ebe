"""Pictures: the history of a training, and embeddings in two dimensions.

Figures are made without ``pyplot``, so neither its backend nor its open figures are touched. They need
matplotlib, scikit-learn for t-SNE and umap-learn for UMAP: ``pip install "finetuner[plot]"``.
"""

import importlib
import importlib.util
import sys
import warnings
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from .checks import integer, one_of, shape

__all__ = ["plot_embeddings", "plot_history", "project"]

METHODS = ("auto", "pca", "tsne", "umap")
LOSSES = ("loss", "val_loss")
NOT_DRAWN = ("epoch", "seconds", "items_per_second", *LOSSES)
MOST_NAMED = 20  # classes that a legend names
INK, LINES = "#333333", "#dddddd"


def plot_history(history: Sequence[Mapping[str, Any]], path: str | Path) -> Path:
    """Draw losses in one panel and retrieval metrics in another, over the epochs.

    Args:
        history: a mapping an epoch, as :attr:`Run.history <finetuner.tuner.base.training.run.Run>` has it; a number
            that an epoch lacks is left out of its line.
        path: the picture: ``.png``, ``.svg``, ``.pdf``; its folder is made if need be.

    Raises:
        ImportError: if matplotlib is not installed.
        ValueError: if the history holds no number to draw, or the picture's kind is unknown.
    """
    names = dict.fromkeys(name for row in history for name in row)
    panels = {
        "loss": [name for name in LOSSES if name in names],
        "retrieval": [name for name in names if name not in NOT_DRAWN],
    }
    panels = {title: lines for title, lines in panels.items() if lines}
    if not panels:
        raise ValueError(f"history must hold a loss or a metric, got {len(history)} rows with {list(names) or 'none'}")
    figure = _figure(6.0 * len(panels), 3.8)
    for axes, (title, lines) in zip(_row(figure, len(panels)), panels.items(), strict=True):
        for number, name in enumerate(lines):
            rows = [row for row in history if row.get(name) is not None]
            axes.plot(
                [row["epoch"] for row in rows],
                [row[name] for row in rows],
                label=name,
                color=_colours(len(lines))[number],
                linewidth=1.8,
                marker="o",
                markersize=3.5,
            )
        axes.set_title(title, loc="left", fontsize=11, color=INK)
        axes.set_xlabel("epoch", color=INK)
        axes.xaxis.get_major_locator().set_params(integer=True)
        axes.grid(color=LINES, linewidth=0.6)
        axes.spines[["top", "right"]].set_visible(False)
        axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), frameon=False, fontsize=9, labelcolor=INK)
    return _saved(figure, path)


def plot_embeddings(
    panels: Mapping[str, Any],
    labels: Any,
    path: str | Path,
    *,
    method: str = "auto",
    distance: str = "cosine",
    seed: int = 0,
) -> Path:
    """Draw embeddings of the same items side by side, say before and after training, a colour a class.

    Args:
        panels: the title of each and its embeddings ``[N, D]``.
        labels: ``[N]``, the class of each item; up to 20 are named in a legend.
        path: the picture: ``.png``, ``.svg``, ``.pdf``; its folder is made if need be.
        method, distance, seed: of :func:`project`.

    Raises:
        ImportError: if matplotlib, or what the method needs, is not installed.
        ValueError: if there is no panel, or embeddings and labels differ in length.
    """
    if not panels:
        raise ValueError("panels must hold at least one, got none")
    names, codes = np.unique(np.asarray(labels), return_inverse=True)
    points = {title: project(x, method, seed, distance=distance) for title, x in panels.items()}
    for title, xy in points.items():
        if len(xy) != len(codes):
            raise ValueError(f"{title!r} and labels must be of one length, got {len(xy)} and {len(codes)}")
    named = len(names) <= MOST_NAMED
    figure = _figure(4.4 * len(panels) + 0.9 * named, 4.6)
    order = np.random.default_rng(seed).permutation(len(codes))  # so that no class lies above another
    colours = np.asarray(_colours(len(names)))[codes[order]]
    for axes, (title, xy) in zip(_row(figure, len(panels)), points.items(), strict=True):
        axes.scatter(*xy[order].T, c=colours, s=max(4.0, min(16.0, 9000 / len(xy))), alpha=0.85, linewidths=0)
        axes.set_title(title, fontsize=11, color=INK)
        axes.set(xticks=[], yticks=[])
        axes.set_box_aspect(1)
        axes.margins(0.04)
        axes.spines[:].set_color(LINES)
    if named:
        from matplotlib.lines import Line2D

        dots = [Line2D([], [], marker="o", linestyle="", color=colour) for colour in _colours(len(names))]
        figure.legend(dots, list(map(str, names)), loc="outside right center", frameon=False, labelcolor=INK)
    return _saved(figure, path)


def project(embeddings: Any, method: str = "auto", seed: int = 0, *, distance: str = "cosine") -> np.ndarray:
    """Two dimensions of many: embeddings ``[N, D]`` to ``[N, 2]`` float32.

    Args:
        embeddings: ``[N, D]``.
        method: ``"pca"`` (nothing needed), ``"tsne"`` (scikit-learn) or ``"umap"`` (umap-learn, whose first
            import takes half a minute). ``"auto"`` is t-SNE up to 5,000 items and UMAP above, where they
            are installed, and else PCA.
        seed: of the random state; the same seed gives the same picture on one machine.
        distance: what is near: ``"cosine"`` looks at directions alone, ``"euclidean"`` at lengths too.

    Raises:
        ImportError: if what the method needs is not installed.
        ValueError: if embeddings are not ``[N, D]`` and finite, or an argument is unknown.
    """
    one_of("method", method, METHODS)
    one_of("distance", distance, ("cosine", "euclidean", "sqeuclidean"))
    integer("seed", seed, 0)
    x = np.asarray(embeddings, np.float32)
    shape("embeddings", x.shape, ["N", "D"])
    if not x.size or not np.isfinite(x).all():
        raise ValueError(f"embeddings must be finite and at least one, got {list(x.shape)}")
    if distance == "cosine":
        x = x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-12)
    if method == "auto":
        method, needs = ("tsne", "sklearn") if len(x) <= 5000 else ("umap", "umap")
        if len(x) < 8 or importlib.util.find_spec(needs) is None:
            method = "pca"
    return {"pca": _pca, "tsne": _tsne, "umap": _umap}[method](x, seed)


def _pca(x: np.ndarray, seed: int) -> np.ndarray:
    _, _, axes = np.linalg.svd(x - x.mean(axis=0), full_matrices=False)
    axes = axes[:2]
    axes = axes * np.sign(axes[np.arange(len(axes)), np.abs(axes).argmax(axis=1)])[:, None]  # one of two signs
    xy = (x - x.mean(axis=0)) @ axes.T
    return np.pad(xy, ((0, 0), (0, 2 - xy.shape[1])))


def _tsne(x: np.ndarray, seed: int) -> np.ndarray:
    manifold = _needed("sklearn.manifold", "t-SNE", "scikit-learn")
    threads = _needed("threadpoolctl", "t-SNE", "scikit-learn")
    if len(x) < 4:
        raise ValueError(f"t-SNE must have at least 4 items, got {len(x)}; take method 'pca'")
    tsne = manifold.TSNE(perplexity=min(30.0, (len(x) - 1) / 3), init="pca", random_state=seed)
    with threads.threadpool_limits(1):  # several wait for one another in each small step: ten times slower when busy
        return np.asarray(tsne.fit_transform(x), np.float32)


def _umap(x: np.ndarray, seed: int) -> np.ndarray:
    if len(x) < 4:
        raise ValueError(f"UMAP must have at least 4 items, got {len(x)}; take method 'pca'")
    # It would import TensorFlow, where that is installed, for a model that is not used here.
    tensorflow = sys.modules.get("tensorflow")
    sys.modules.setdefault("tensorflow", None)  # type: ignore[arg-type]
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of TensorFlow's absence, and of seeds that take one thread
            umap = _needed("umap", "UMAP", "umap-learn")
            xy = umap.UMAP(n_neighbors=min(15, len(x) - 1), random_state=seed).fit_transform(x)
    finally:
        if tensorflow is None:
            sys.modules.pop("tensorflow", None)
    return np.asarray(xy, np.float32)


def _needed(module: str, what: str, library: str) -> Any:
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError:
        raise ImportError(f'{what} needs {library}: pip install "finetuner[plot]"') from None


def _figure(width: float, height: float) -> Any:
    figure = _needed("matplotlib.figure", "a picture", "matplotlib")
    return figure.Figure(figsize=(width, height), layout="constrained")


def _row(figure: Any, count: int) -> Iterable[Any]:
    """Axes side by side."""
    return list(figure.subplots(1, count, squeeze=False)[0])


def _colours(count: int) -> list[Any]:
    """As many colours, far apart."""
    from matplotlib import colormaps

    if count > 20:
        return list(colormaps["turbo"](np.linspace(0, 1, count)))
    return list(colormaps["tab10" if count <= 10 else "tab20"](np.arange(count)))


def _saved(figure: Any, path: str | Path) -> Path:
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=150)
    return path
