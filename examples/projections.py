"""Projections: plot the two-dimensional embeddings that three losses learn from the same digits.

A triplet loss forms a cluster per class. ArcFace and CosFace give each class a direction, and the distance from the
origin is free. The same network is trained three times, on the first 1,200 digits of scikit-learn. The plot shows the
other 597, which other people wrote:

    python examples/projections.py --output projections.png      # about a minute

Install ``pip install "finetuner[pytorch,demo]"``.
"""

import argparse
from pathlib import Path

import numpy as np
import torch
from matplotlib import colormaps
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from sklearn.datasets import load_digits
from torch import nn

import finetuner
from finetuner.tuner.pytorch import ArcFaceLoss, CosFaceLoss, TripletMarginLoss

NUM_TRAIN = 1200
LOSSES = {
    "TripletMarginLoss": lambda: TripletMarginLoss(distance="euclidean", margin=1.0),
    "ArcFaceLoss": lambda: ArcFaceLoss(scale=8, margin=0.5),
    "CosFaceLoss": lambda: CosFaceLoss(scale=8, margin=0.35),
}


def model(seed):
    torch.manual_seed(seed)

    def block(channels, width):
        return [nn.Conv2d(channels, width, 3, padding=1), nn.BatchNorm2d(width), nn.ReLU(), nn.MaxPool2d(2)]

    return nn.Sequential(*block(1, 32), *block(32, 64), nn.Flatten(), nn.Linear(256, 64), nn.ReLU(), nn.Linear(64, 2))


def draw(panels, labels, path):
    """Save a figure with one panel per loss: its title, embeddings ``[N, 2]``, and class centres or None."""
    colours = colormaps["tab10"](np.arange(10))
    figure = Figure(figsize=(4.4 * len(panels) + 0.7, 4.9), layout="constrained")
    order = np.random.default_rng(0).permutation(len(labels))  # no class covers another
    for axes, (title, points, centres) in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels, strict=True):
        limit = 1.08 * np.abs(points).max()
        if centres is not None:
            for digit, (x, y) in enumerate(limit * 2 * centres / np.linalg.norm(centres, axis=1, keepdims=True)):
                axes.plot([0, x], [0, y], color=colours[digit], linewidth=0.8, alpha=0.6, zorder=1)
        axes.scatter(*points[order].T, c=colours[labels[order]], s=12, alpha=0.8, linewidths=0, zorder=2)
        axes.plot(0, 0, marker="+", color="#333333", markersize=9, zorder=3)
        axes.set_title(title, fontsize=11)
        axes.set_xlabel("cross: the origin" + "; lines: the class centres" * (centres is not None), color="#666666")
        axes.set(xlim=(-limit, limit), ylim=(-limit, limit), xticks=[], yticks=[], aspect="equal")
        axes.spines[:].set_color("#dddddd")
    dots = [Line2D([], [], marker="o", linestyle="", color=colour) for colour in colours]
    figure.legend(dots, [str(digit) for digit in range(10)], title="digit", loc="outside right center", frameon=False)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=150)


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--output", type=Path, default=Path("projections.png"), help="image file to write")
    parser.add_argument("--epochs", type=int, default=80)
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(arguments)

    x, y = load_digits(return_X_y=True)
    x = (x / 16).reshape(-1, 1, 8, 8).astype(np.float32)
    train, test = (x[:NUM_TRAIN], y[:NUM_TRAIN]), (x[NUM_TRAIN:], y[NUM_TRAIN:])
    panels = []
    for name, make in LOSSES.items():
        loss = make()
        run = finetuner.fit(
            model(options.seed),
            train,
            test,
            loss=loss,
            learning_rate=3e-3,
            loss_optimizer_options={"learning_rate": 0.05} if hasattr(loss, "weight") else None,  # centres move far
            seed=options.seed,
            epochs=options.epochs,
            batch_size=options.batch_size,
            metrics=["mAP@R"],
        )
        score = run.metrics["after"]["mAP@R"]
        print(f"{name:18} mAP@R {run.metrics['before']['mAP@R']:.3f} {score:.3f}", flush=True)
        centres = loss.weight.detach().cpu().numpy() if hasattr(loss, "weight") else None
        panels.append((f"{name}: mAP@R {score:.2f}", finetuner.embed(run.model, test[0]), centres))
    draw(panels, test[1], options.output)
    print(f"saved {options.output}")


if __name__ == "__main__":
    main()
