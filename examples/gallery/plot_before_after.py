"""
Embeddings before and after training
====================================

Train a small network that recognises digits in any of four orientations, and compare its embeddings of new images
before and after the training.
"""

# %%
# Data
# ----
#
# The training data are the first 1,200 digits, each in four orientations. The class of an image is its digit, whatever
# the orientation. The test data are the other 597 digits, each in one random orientation. Other people wrote them.

import numpy as np
import torch
from sklearn.datasets import load_digits
from torch import nn

import finetuner
from finetuner.plotting import plot_embeddings

x, y = load_digits(return_X_y=True)
x = (x / 16).reshape(-1, 1, 8, 8).astype("float32")

train_x = np.concatenate([np.rot90(x[:1200], turn, axes=(2, 3)) for turn in range(4)])
train_y = np.tile(y[:1200], 4)

turns = np.random.default_rng(0).integers(4, size=597)
test_x = np.stack([np.rot90(x[1200 + i], turns[i], axes=(1, 2)) for i in range(597)])
test_y = y[1200:]

# %%
# Model
# -----
#
# Any ``torch.nn.Module`` that returns ``[N, D]`` works. This one returns embeddings of 64 numbers.

torch.manual_seed(0)
model = nn.Sequential(
    nn.Conv2d(1, 32, 3, padding=1),
    nn.BatchNorm2d(32),
    nn.ReLU(),
    nn.MaxPool2d(2),
    nn.Conv2d(32, 64, 3, padding=1),
    nn.BatchNorm2d(64),
    nn.ReLU(),
    nn.Flatten(),
    nn.Linear(64 * 16, 64),
)
before = finetuner.embed(model, test_x)

# %%
# Training
# --------
#
# :func:`finetuner.fit` trains the model in place. It measures retrieval on the test data before the training and after
# each epoch. ``callbacks=[]`` switches the progress bar off.

run = finetuner.fit(
    model,
    (train_x, train_y),
    (test_x, test_y),
    loss="SupConLoss",
    epochs=5,
    batch_size=200,
    callbacks=[],
)
for when, metrics in run.metrics.items():
    print(f"{when:6} hit@1 {metrics['hit@1']:.2f}  mAP@R {metrics['mAP@R']:.2f}")

# %%
# Embeddings
# ----------
#
# :func:`~finetuner.plotting.plot_embeddings` projects both sets of embeddings to two dimensions with t-SNE. Before the
# training, the images of a digit are spread over several groups. After the training they form one group. An upside-down
# 6 looks like a 9, so these two digits stay close to each other.

after = finetuner.embed(run.model, test_x)
panels = {"before training": before, "after training": after}
plot_embeddings(panels, test_y, "embeddings.png")

# %%
# History
# -------
#
# ``run.history`` has one row for each epoch. ``run.plot`` draws it.

run.plot("history.png")
