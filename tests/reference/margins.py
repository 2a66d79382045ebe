"""The losses with a centre for each class, one item at a time."""

import math

import numpy as np

from . import LOSSES, grid, reference
from .batches import CENTRES, points

SIZES = {"in_features": 4, "num_classes": 3}


def sized(points):
    return [{**SIZES, **point} for point in points]


def cosine(x, y):
    if not x.any() or not y.any():
        return x.dtype.type(0)
    x, y = x / np.abs(x).max(), y / np.abs(y).max()
    return min(1, max(-1, x @ y / np.sqrt((x @ x) * (y @ y))))


def angle_between(x, y):
    """Not by the cosine, which knows little of small angles."""
    if not x.any() or not y.any():
        return math.pi / 2
    x, y = x / np.abs(x).max(), y / np.abs(y).max()
    x, y = x / np.sqrt(x @ x), y / np.sqrt(y @ y)
    return 2 * np.arctan2(np.sqrt(((x - y) ** 2).sum()), np.sqrt(((x + y) ** 2).sum()))


def smoothed(y, num_classes, epsilon=0.2, categories=None):
    """Three classes, the first two of one category, epsilon 0.2.

    Without categories, of class 0: [1 - 0.2 + 0.2 / 3, 0.2 / 3, 0.2 / 3] = [0.8667, 0.0667, 0.0667].
    With them, of class 0: [0.9, 0.1, 0], and of class 2, alone in its category: [0, 0, 1].
    """
    shares = np.zeros((len(y), num_classes))
    for i, own in enumerate(y):
        others = [c for c in range(num_classes) if categories is None or categories[c] == categories[own]]
        for c in others:
            shares[i, c] += epsilon / len(others)
        shares[i, own] += 1 - epsilon
    return shares


def margin_loss(batch, member, scale, smoothing_epsilon=0.0, label2category=None, reduction="mean", **sizes):
    """Cross-entropy of scaled cosines, in which ``member(theta)`` stands for an item's own class."""
    shares = smoothed(batch.labels, len(batch.weight), smoothing_epsilon, label2category)
    terms = []
    for x, y, share in zip(batch.x, batch.labels, shares, strict=True):
        logits = [scale * cosine(x, w) for w in batch.weight]
        logits[y] = scale * member(angle_between(x, batch.weight[y]))
        whole = max(logits) + np.log(sum(np.exp(z - max(logits)) for z in logits))
        terms.append(sum(q * (whole - z) for q, z in zip(share, logits, strict=True)))
    return {"mean": np.mean, "sum": sum, "none": np.array}[reduction](terms)


@reference(
    LOSSES,
    "ArcFaceLoss",
    CENTRES,
    sized(
        [
            {},
            {"margin": 0.0, "scale": 4.0},
            {"margin": 1.0, "scale": 16.0},
            {"smoothing_epsilon": 0.2, "reduction": "none"},
            {"smoothing_epsilon": 0.1, "label2category": [0, 0, 1], "scale": 16.0, "reduction": "sum"},
        ]
    ),
)
def arcface_loss(batch, margin=0.5, scale=64.0, **params):
    """Two centres at a right angle, m = 0.5, s = 1. An item on its own centre: its logit is cos 0.5 = 0.87758, the
    other's 0, so log(1 + e^-0.87758) = 0.34769. An item half-way, at 45 degrees from both, with m = pi / 4 and s = 1: its
    own logit is cos(pi / 2) = 0, the other's 0.7071: log(1 + e^0.7071) = 1.1079. An item opposite to its own centre,
    m = 0.5: theta = pi is beyond pi - m, its logit is s (-2 - cos(pi + 0.5)) = s (-2 + 0.87758) = -1.12242 s.
    """

    def member(theta):
        return (
            math.nan
            if theta < 0
            else np.cos(theta + margin)
            if theta + margin <= math.pi
            else -2 - np.cos(theta + margin)
        )

    return margin_loss(batch, member, scale, **params)


@reference(
    LOSSES,
    "CosFaceLoss",
    CENTRES,
    sized(
        [
            {},
            {"margin": 0.1, "scale": 8.0, "reduction": "none"},
            {"smoothing_epsilon": 0.2, "label2category": [1, 0, 1], "scale": 16.0},
        ]
    ),
)
def cosface_loss(batch, margin=0.35, scale=64.0, **params):
    """Two centres at a right angle. An item on its own centre, m = 0.35 and s = 2: logits 2 (1 - 0.35) = 1.3 and 0, so
    log(1 + e^-1.3) = 0.24101.
    """
    return margin_loss(batch, lambda theta: np.cos(theta) - margin, scale, **params)


@reference(LOSSES, "SphereFaceLoss", CENTRES, sized([{}, *grid(margin=[1.0, 4.0], scale=[8.0])]))
def sphereface_loss(batch, margin=1.5, scale=30.0, **params):
    """Two centres at a right angle, m = 4, s = 1. An item half-way: theta = pi / 4, m theta = pi, k = 1:
    -cos(pi) - 2 = -1, the other's logit cos(pi / 4) = 0.7071: log(1 + e^1.7071) = 1.8738.
    """

    def member(theta):
        piece, start = 0, 0.0
        while margin * theta >= start + math.pi:
            piece, start = piece + 1, start + math.pi
        return (-1) ** piece * np.cos(margin * theta) - 2 * piece

    return margin_loss(batch, member, scale, **params)


class BlockInputs(dict):
    """Weights by name, told by a word."""

    __str__ = __repr__ = lambda self: "given"


PROJECTOR = BlockInputs(
    mlp_weight_0=points(5, 4, seed=6), mlp_bias_0=points(1, 5, seed=7)[0],
    mlp_weight_1=points(4, 5, seed=8), mlp_bias_1=points(1, 4, seed=9)[0],
    weight=points(3, 4, seed=10),
)  # fmt: skip


@reference(
    LOSSES,
    "ArcFaceLossWithMLP",
    {name: batch for name, batch in CENTRES.items() if "zero" not in name},
    sized([{"mlp_features": [5, 4], "weights": PROJECTOR, "scale": 8.0}]),
)
def arcface_loss_with_mlp(batch, weights, mlp_features, **params):
    """With an identity for its one layer it is ArcFace."""
    x = batch.x
    for i in range(len(mlp_features)):
        if i:
            x = np.maximum(x, 0)
        x = np.array([weights[f"mlp_weight_{i}"] @ row + weights[f"mlp_bias_{i}"] for row in x])
    return arcface_loss(batch._replace(x=x), **params)
