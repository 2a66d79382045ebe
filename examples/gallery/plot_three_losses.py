"""
Three losses in two dimensions
==============================

Train the same network with three losses. Its embeddings have two dimensions, so they can be plotted as they are.
"""

# %%
# A triplet loss compares distances: each class becomes a cluster. ArcFace and CosFace give each class a direction from
# the origin, its *class centre*. Only the angle matters to them, so a class becomes a ray.

import matplotlib.pyplot as plt
import numpy as np
import torch
from sklearn.datasets import load_digits
from torch import nn

import finetuner
from finetuner.tuner.pytorch import ArcFaceLoss, CosFaceLoss, TripletLoss

x, y = load_digits(return_X_y=True)
x = (x / 16).reshape(-1, 1, 8, 8).astype("float32")
train, test = (x[:1200], y[:1200]), (x[1200:], y[1200:])


def make_model():
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(1, 16, 3, padding=1),
        nn.BatchNorm2d(16),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(256, 64),
        nn.BatchNorm1d(64),
        nn.ReLU(),
        nn.Linear(64, 2),
    )


# %%
# The class centres of ArcFace and CosFace are weights of the loss. They have their own optimizer, here with a larger
# learning rate than the model. With few classes, a small ``scale`` works best.

losses = [
    TripletLoss(distance="euclidean", margin=1.0),
    ArcFaceLoss(scale=8, margin=0.5),
    CosFaceLoss(scale=8, margin=0.35),
]
fast = {"learning_rate": 0.05}
runs = []
for loss in losses:
    run = finetuner.fit(
        make_model(),
        train,
        test,
        loss=loss,
        learning_rate=3e-3,
        loss_optimizer_options=fast if hasattr(loss, "weight") else None,
        epochs=25,
        batch_size=128,
        metrics=["mAP@R"],
        callbacks=[],
    )
    runs.append(run)
    print(f"{type(loss).__name__:12} mAP@R {run.metrics['after']['mAP@R']:.2f}")

# %%
# The plots show the 597 test images. The cross is the origin. The lines are the directions of the class centres.

colors = plt.colormaps["tab10"](np.arange(10))
figure, panels = plt.subplots(1, 3, figsize=(11, 4), layout="constrained")
for ax, loss, run in zip(panels, losses, runs, strict=True):
    points = finetuner.embed(run.model, test[0])
    limit = 1.08 * np.abs(points).max()
    if hasattr(loss, "weight"):
        centres = loss.weight.detach().numpy()
        ends = 2 * limit * centres / np.linalg.norm(centres, axis=1, keepdims=True)
        for digit, (u, v) in enumerate(ends):
            ax.plot([0, u], [0, v], color=colors[digit], linewidth=0.8, alpha=0.6)
    for digit in range(10):
        u, v = points[test[1] == digit].T
        ax.scatter(u, v, color=colors[digit], s=8, alpha=0.8, label=digit)
    ax.plot(0, 0, "k+", markersize=9)
    ax.set(xlim=(-limit, limit), ylim=(-limit, limit), xticks=[], yticks=[])
    ax.set_title(type(loss).__name__)
    ax.set_box_aspect(1)
handles, names = panels[0].get_legend_handles_labels()
figure.legend(handles, names, title="digit", loc="outside right center", frameon=False)
plt.show()
