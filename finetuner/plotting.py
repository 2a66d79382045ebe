"""Plots of the history of a training, and of embeddings in two dimensions.

Figures are created without ``pyplot``, so its backend and its open figures stay unchanged. Plots need matplotlib, t-SNE
needs scikit-learn, and UMAP needs umap-learn: ``pip install "finetuner[plot]"``.
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
NOT_PLOTTED = ("epoch", "step", "seconds", "items_per_second")
MAX_LEGEND = 20  # a plot with more classes has no legend
TEXT_COLOR, GRID_COLOR = "#333333", "#dddddd"


def plot_history(
    history: Sequence[Mapping[str, Any]], path: str | Path, *, log: Sequence[Mapping[str, Any]] = ()
) -> Path:
    """Plot losses, metrics, learning rate and gradient norm over the steps of a training.

    There is a panel for the losses, one for the metrics of each evaluation set, and with a ``log`` one each for the
    learning rate and the norm of the gradient. Rows without steps are plotted over the epochs.

    Args:
        history: One mapping per epoch or evaluation, such as
            :attr:`Run.history <finetuner.tuner.base.training.run.Run>`. The line of a number skips rows without it.
        path: The image file to write: ``.png``, ``.svg`` or ``.pdf``. Its folder is created if necessary.
        log: Rows by step, such as :attr:`Run.log <finetuner.tuner.base.training.run.Run>`.

    Returns:
        The path of the image file.

    Raises:
        ImportError: If matplotlib is not installed.
        ValueError: If there is no number to plot, or the image format is unknown.

    Example:
        >>> history = [{"epoch": 0, "hit@1": 0.5}, {"epoch": 1, "loss": 0.3, "hit@1": 0.7}]
        >>> plot_history(history, "history.png").name
        'history.png'
    """
    names = dict.fromkeys(name for row in history for name in row)
    by_step = bool(history) and all("step" in row for row in history)
    panels: dict[str, list[tuple[str, Sequence[Mapping[str, Any]]]]] = {"loss": []}
    if by_step and len(log) > 1:
        panels["loss"].append(("loss", log))
    for name in names:
        title = "loss" if name.rpartition("/")[2] in LOSSES else name.rpartition("/")[0] or "retrieval"
        if name not in NOT_PLOTTED and not (name == "loss" and panels["loss"][:1] == [("loss", log)]):
            panels.setdefault(title, []).append((name, history))
    if by_step and len(log) > 1:
        panels |= {name.replace("_", " "): [(name, log)] for name in ("learning_rate", "gradient_norm")}
    panels = {title: lines for title, lines in panels.items() if lines}
    if not panels:
        raise ValueError(f"history must have a loss or a metric, got {len(history)} rows with {list(names) or 'none'}")
    figure = _figure(6.0 * min(len(panels), 3), 3.8 * (-(-len(panels) // 3)))
    for axes, (title, lines) in zip(_subplots(figure, len(panels), 3), panels.items(), strict=True):
        for number, (name, rows) in enumerate(lines):
            shown = [row for row in rows if row.get(name) is not None]
            axes.plot(
                [row["step" if by_step else "epoch"] for row in shown],
                [row[name] for row in shown],
                label=name.rpartition("/")[2] if title != "loss" else name,
                color=_colors(len(lines))[number],
                linewidth=1.8 if rows is history else 1.2,
                marker="o" if rows is history else "",
                markersize=3.5,
            )
        axes.set_title(title, loc="left", fontsize=11, color=TEXT_COLOR)
        axes.set_xlabel("step" if by_step else "epoch", color=TEXT_COLOR)
        axes.xaxis.get_major_locator().set_params(integer=True)
        axes.grid(color=GRID_COLOR, linewidth=0.6)
        axes.spines[["top", "right"]].set_visible(False)
        if title != lines[0][0].replace("_", " ") or len(lines) > 1:
            axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), frameon=False, fontsize=9, labelcolor=TEXT_COLOR)
    return _save(figure, path)


def plot_embeddings(
    panels: Mapping[str, Any],
    labels: Any,
    path: str | Path,
    *,
    method: str = "auto",
    distance: str = "cosine",
    seed: int = 0,
) -> Path:
    """Plot embeddings of the same items side by side, such as before and after training, with one color per class.

    Args:
        panels: The embeddings ``[N, D]`` of each panel, by its title.
        labels: ``[N]``, the class of each item. A legend names up to 20 classes.
        path: The image file to write: ``.png``, ``.svg`` or ``.pdf``. Its folder is created if necessary.
        method: The projection, see :func:`project`.
        distance: The distance of the projection, see :func:`project`.
        seed: The random seed, see :func:`project`.

    Returns:
        The path of the image file.

    Raises:
        ImportError: If matplotlib or the library of the method is not installed.
        ValueError: If there is no panel, embeddings and labels differ in length, or an argument is wrong as in
            :func:`project`.

    Example:
        >>> before = np.random.default_rng(0).normal(size=(4, 3))
        >>> after = np.array([[1.0, 0.0], [0.9, 0.1], [0.0, 1.0], [0.1, 0.9]])
        >>> panels = {"before": before, "after": after}
        >>> plot_embeddings(panels, ["cat", "cat", "dog", "dog"], "embeddings.png", method="pca").name
        'embeddings.png'
    """
    if not panels:
        raise ValueError("panels must have at least one panel, got none")
    names, codes = np.unique(np.asarray(labels), return_inverse=True)
    points = {title: project(x, method, seed, distance=distance) for title, x in panels.items()}
    for title, xy in points.items():
        if len(xy) != len(codes):
            raise ValueError(f"{title!r} and labels must have the same length, got {len(xy)} and {len(codes)}")
    has_legend = len(names) <= MAX_LEGEND
    figure = _figure(4.4 * len(panels) + 0.9 * has_legend, 4.6)
    order = np.random.default_rng(seed).permutation(len(codes))  # otherwise, the last class would cover the others
    colors = np.asarray(_colors(len(names)))[codes[order]]
    for axes, (title, xy) in zip(_subplots(figure, len(panels)), points.items(), strict=True):
        axes.scatter(*xy[order].T, c=colors, s=max(4.0, min(16.0, 9000 / len(xy))), alpha=0.85, linewidths=0)
        axes.set_title(title, fontsize=11, color=TEXT_COLOR)
        axes.set(xticks=[], yticks=[])
        axes.set_box_aspect(1)
        axes.margins(0.04)
        axes.spines[:].set_color(GRID_COLOR)
    if has_legend:
        from matplotlib.lines import Line2D

        dots = [Line2D([], [], marker="o", linestyle="", color=color) for color in _colors(len(names))]
        figure.legend(dots, list(map(str, names)), loc="outside right center", frameon=False, labelcolor=TEXT_COLOR)
    return _save(figure, path)


def project(embeddings: Any, method: str = "auto", seed: int = 0, *, distance: str = "cosine") -> np.ndarray:
    """Project embeddings ``[N, D]`` to two dimensions.

    Args:
        embeddings: ``[N, D]``.
        method: ``"pca"`` (needs no library), ``"tsne"`` (needs scikit-learn) or ``"umap"`` (needs umap-learn, and its
            first import takes half a minute). ``"auto"`` is t-SNE for 8 to 5,000 items and UMAP for more. It is PCA for
            fewer than 8 items, or if that library is not installed.
        seed: The random seed. The same seed gives the same result on one machine.
        distance: ``"cosine"`` compares directions only. ``"euclidean"`` also compares lengths. ``"sqeuclidean"`` is the
            same as ``"euclidean"``.

    Returns:
        ``[N, 2]`` float32.

    Raises:
        ImportError: If the library of the method is not installed.
        TypeError: If ``seed`` is not an integer.
        ValueError: If embeddings are empty, not ``[N, D]`` or not finite, an argument is unknown, or t-SNE or UMAP gets
            fewer than 4 items.

    Example:
        >>> project([[0.0, 0.0, 1.0], [0.0, 0.0, 3.0]], "pca", distance="euclidean").tolist()
        [[-1.0, 0.0], [1.0, 0.0]]
    """
    one_of("method", method, METHODS)
    one_of("distance", distance, ("cosine", "euclidean", "sqeuclidean"))
    integer("seed", seed, 0)
    x = np.asarray(embeddings, np.float32)
    shape("embeddings", x.shape, ["N", "D"])
    if not x.size or not np.isfinite(x).all():
        raise ValueError(f"embeddings must be finite and not empty, got shape {list(x.shape)}")
    if distance == "cosine":
        x = x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-12)
    if method == "auto":
        method, library = ("tsne", "sklearn") if len(x) <= 5000 else ("umap", "umap")
        if len(x) < 8 or importlib.util.find_spec(library) is None:
            method = "pca"
    return {"pca": _pca, "tsne": _tsne, "umap": _umap}[method](x, seed)


def _pca(x: np.ndarray, seed: int) -> np.ndarray:
    _, _, axes = np.linalg.svd(x - x.mean(axis=0), full_matrices=False)
    axes = axes[:2]
    axes = (
        axes * np.sign(axes[np.arange(len(axes)), np.abs(axes).argmax(axis=1)])[:, None]
    )  # axes have no sign of their own
    xy = (x - x.mean(axis=0)) @ axes.T
    return np.pad(xy, ((0, 0), (0, 2 - xy.shape[1])))


def _tsne(x: np.ndarray, seed: int) -> np.ndarray:
    manifold = _require("sklearn.manifold", "t-SNE", "scikit-learn")
    threads = _require("threadpoolctl", "t-SNE", "scikit-learn")
    if len(x) < 4:
        raise ValueError(f"t-SNE must have at least 4 items, got {len(x)}; use method 'pca'")
    tsne = manifold.TSNE(perplexity=min(30.0, (len(x) - 1) / 3), init="pca", random_state=seed)
    with threads.threadpool_limits(1):  # on a busy processor, one thread is ten times faster
        return np.asarray(tsne.fit_transform(x), np.float32)


def _umap(x: np.ndarray, seed: int) -> np.ndarray:
    if len(x) < 4:
        raise ValueError(f"UMAP must have at least 4 items, got {len(x)}; use method 'pca'")
    # umap imports TensorFlow, if it is installed, for a model that is not used here.
    tensorflow = sys.modules.get("tensorflow")
    sys.modules.setdefault("tensorflow", None)  # type: ignore[arg-type]
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # warnings that TensorFlow is missing, and that a seed implies one thread
            umap = _require("umap", "UMAP", "umap-learn")
            xy = umap.UMAP(n_neighbors=min(15, len(x) - 1), random_state=seed).fit_transform(x)
    finally:
        if tensorflow is None:
            sys.modules.pop("tensorflow", None)
    return np.asarray(xy, np.float32)


def _require(module: str, purpose: str, library: str) -> Any:
    """Import a module, or raise ``ImportError`` with the ``library`` to install."""
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError:
        raise ImportError(f'{purpose} needs {library}: pip install "finetuner[plot]"') from None


def _figure(width: float, height: float) -> Any:
    figure = _require("matplotlib.figure", "a plot", "matplotlib")
    return figure.Figure(figsize=(width, height), layout="constrained")


def _subplots(figure: Any, count: int, columns: int = 0) -> Iterable[Any]:
    """``count`` axes side by side, in rows of at most ``columns``; 0 for one row."""
    columns = min(count, columns or count)
    axes = figure.subplots(-(-count // columns), columns, squeeze=False).ravel()
    for unused in axes[count:]:
        unused.set_axis_off()
    return list(axes[:count])


def _colors(count: int) -> list[Any]:
    """``count`` distinct colors."""
    from matplotlib import colormaps

    if count > 20:
        return list(colormaps["turbo"](np.linspace(0, 1, count)))
    return list(colormaps["tab10" if count <= 10 else "tab20"](np.arange(count)))


def _save(figure: Any, path: str | Path) -> Path:
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=150)
    return path
