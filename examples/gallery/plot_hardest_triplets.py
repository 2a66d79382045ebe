"""
The hardest triplets of a batch
===============================

See which images a model confuses. A miner selects, for each image of a batch, the farthest image of the same digit and
the nearest image of another digit.
"""

# %%
# First, train a small model for a few epochs. With ``need_logs=True`` the loss reports the share of triplets that are
# still active, and the mean distances of positives and negatives. The tuner writes them into the history.

import matplotlib.pyplot as plt
import torch
from sklearn.datasets import load_digits
from torch import nn

import finetuner
from finetuner.tuner.pytorch import TripletEasyHardMiner, TripletLoss
from finetuner.tuner.pytorch.functional import pairwise_distance

x, y = load_digits(return_X_y=True)
x = (x / 16).reshape(-1, 1, 8, 8).astype("float32")

torch.manual_seed(0)
model = nn.Sequential(nn.Flatten(), nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 32))
run = finetuner.fit(
    model,
    (x[:1200], y[:1200]),
    loss=TripletLoss(margin=0.3, need_logs=True),
    epochs=10,
    batch_size=100,
    callbacks=[],
)
names = ["epoch", "active", "positive_distance", "negative_distance"]
for row in run.history[::3]:
    print({name: round(row[name], 3) for name in names})

# %%
# Take a batch of new images, and compute the cosine distances between all of them. ``miner.mine`` returns three arrays
# of indices: anchors, positives and negatives.

batch, labels = x[1200:1400], torch.from_numpy(y[1200:1400])
embeddings = torch.from_numpy(finetuner.embed(run.model, batch))
distances = pairwise_distance(embeddings, embeddings, "cosine")
miner = TripletEasyHardMiner(pos_strategy="hard", neg_strategy="hard")
anchor, positive, negative = miner.mine(labels, distances)
print(f"{len(anchor)} triplets, one for each anchor")

# %%
# A triplet is hard if the positive is farther away than the negative. These are the six hardest triplets.

gap = distances[anchor, positive] - distances[anchor, negative]
print(f"{(gap > 0).float().mean():.0%} of the triplets are hard")

hardest = gap.argsort(descending=True)[:6]
rows = {"anchor": anchor, "positive": positive, "negative": negative}
figure, axes = plt.subplots(3, 6, figsize=(10, 6), layout="constrained")
for column, triplet in zip(axes.T, hardest, strict=True):
    for ax, (name, indices) in zip(column, rows.items(), strict=True):
        index = indices[triplet]
        ax.imshow(batch[index, 0], cmap="gray_r")
        ax.set_title(f"{name}: {labels[index]}", fontsize=10)
        ax.set(xticks=[], yticks=[])
        if name != "anchor":
            ax.set_xlabel(f"distance {distances[anchor[triplet], index]:.2f}", fontsize=9)
plt.show()
