"""Margin losses with class centres, one item at a time."""

import math

import numpy as np

from . import LOSSES, grid, reference
from .batches import CENTRES, SAMPLED_CENTRES, points

SIZES = {"in_features": 4, "num_classes": 3}
# Nine classes, of which a step sees five or all: those of the batch and others.
SAMPLED = {"in_features": 4, "num_classes": 9, "sample": 0.3, "sampled": [7, 0, 4, 2, 1]}


def with_sizes(points):
    return [{**SIZES, **point} for point in points]


def cosine(x, y):
    if not x.any() or not y.any():
        return x.dtype.type(0)
    x, y = x / np.abs(x).max(), y / np.abs(y).max()
    return min(1, max(-1, x @ y / np.sqrt((x @ x) * (y @ y))))


def angle_between(x, y):
    """The angle. It is not computed from the cosine, which is inexact for small angles."""
    if not x.any() or not y.any():
        return math.pi / 2
    x, y = x / np.abs(x).max(), y / np.abs(y).max()
    x, y = x / np.sqrt(x @ x), y / np.sqrt(y @ y)
    return 2 * np.arctan2(np.sqrt(((x - y) ** 2).sum()), np.sqrt(((x + y) ** 2).sum()))


def smoothed(y, num_classes, epsilon=0.2, categories=None):
    """Smoothed target probabilities.

    Example: three classes, the first two in one category, epsilon 0.2. Without categories, class 0 gives
    [1 - 0.2 + 0.2 / 3, 0.2 / 3, 0.2 / 3] = [0.8667, 0.0667, 0.0667]. With categories, class 0 gives [0.9, 0.1, 0], and
    class 2, which is alone in its category, gives [0, 0, 1].
    """
    probabilities = np.zeros((len(y), num_classes))
    for i, label in enumerate(y):
        others = [c for c in range(num_classes) if categories is None or categories[c] == categories[label]]
        for c in others:
            probabilities[i, c] += epsilon / len(others)
        probabilities[i, label] += 1 - epsilon
    return probabilities


def sampled_margin_loss(batch, target_logit, scale, sampled, reduction="mean", **sizes):
    """Cross-entropy over the ``sampled`` classes, each other class of which stands for several.

    Example: nine classes, of which a batch has two. Of the other seven, three are sampled, so each of them counts
    7 / 3 times.
    """
    own = set(batch.labels.tolist())
    others = [c for c in range(len(batch.weight)) if c not in own]
    drawn = [c for c in sampled if c not in own]
    terms = []
    for x, y in zip(batch.x, batch.labels, strict=True):
        target = scale * target_logit(angle_between(x, batch.weight[y]))
        total = 1.0
        for c in sampled:
            if c != y:
                count = len(others) / len(drawn) if c in drawn else 1
                total += count * np.exp(scale * cosine(x, batch.weight[c]) - target)
        terms.append(np.log(total))
    return {"mean": np.mean, "sum": sum, "none": np.array}[reduction](terms)


def margin_loss(
    batch,
    target_logit,
    scale,
    smoothing_epsilon=0.0,
    label2category=None,
    sample=1.0,
    sampled=None,
    reduction="mean",
    **sizes,
):
    """Cross-entropy of scaled cosines, with ``target_logit(theta)`` for the class of the item."""
    if sampled is not None:
        return sampled_margin_loss(batch, target_logit, scale, sampled, reduction)
    probabilities = smoothed(batch.labels, len(batch.weight), smoothing_epsilon, label2category)
    terms = []
    for x, y, target in zip(batch.x, batch.labels, probabilities, strict=True):
        logits = [scale * cosine(x, w) for w in batch.weight]
        logits[y] = scale * target_logit(angle_between(x, batch.weight[y]))
        log_denominator = max(logits) + np.log(sum(np.exp(z - max(logits)) for z in logits))
        terms.append(sum(q * (log_denominator - z) for q, z in zip(target, logits, strict=True)))
    return {"mean": np.mean, "sum": sum, "none": np.array}[reduction](terms)


@reference(
    LOSSES,
    "ArcFaceLoss",
    CENTRES,
    with_sizes(
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
    """Examples with two orthogonal centres and s = 1.

    An item on its own centre, m = 0.5: its logit is cos 0.5 = 0.87758 and the other is 0, so the loss is
    log(1 + e^-0.87758) = 0.34769. An item at 45 degrees from both centres, m = pi / 4: its logit is cos(pi / 2) = 0 and
    the other is 0.7071, so the loss is log(1 + e^0.7071) = 1.1079. An item opposite to its own centre, m = 0.5:
    theta = pi is larger than pi - m, so its logit is s (-2 - cos(pi + 0.5)) = s (-2 + 0.87758) = -1.12242 s.
    """

    def target_logit(theta):
        return (
            math.nan
            if theta < 0
            else np.cos(theta + margin)
            if theta + margin <= math.pi
            else -2 - np.cos(theta + margin)
        )

    return margin_loss(batch, target_logit, scale, **params)


@reference(
    LOSSES,
    "CosFaceLoss",
    CENTRES,
    with_sizes(
        [
            {},
            {"margin": 0.1, "scale": 8.0, "reduction": "none"},
            {"smoothing_epsilon": 0.2, "label2category": [1, 0, 1], "scale": 16.0},
        ]
    ),
)
def cosface_loss(batch, margin=0.35, scale=64.0, **params):
    """Example: two orthogonal centres, m = 0.35, s = 2, and an item on its own centre.

    The logits are 2 (1 - 0.35) = 1.3 and 0, so the loss is log(1 + e^-1.3) = 0.24101.
    """
    return margin_loss(batch, lambda theta: np.cos(theta) - margin, scale, **params)


@reference(LOSSES, "SphereFaceLoss", CENTRES, with_sizes([{}, *grid(margin=[1.0, 4.0], scale=[8.0])]))
def sphereface_loss(batch, margin=1.5, scale=30.0, **params):
    """Example: two orthogonal centres, m = 4, s = 1, and an item at 45 degrees from both.

    theta = pi / 4, m theta = pi and k = 1, so its logit is -cos(pi) - 2 = -1. The other logit is cos(pi / 4) = 0.7071.
    The loss is log(1 + e^1.7071) = 1.8738.
    """

    def target_logit(theta):
        piece, start = 0, 0.0
        while margin * theta >= start + math.pi:
            piece, start = piece + 1, start + math.pi
        return (-1) ** piece * np.cos(margin * theta) - 2 * piece

    return margin_loss(batch, target_logit, scale, **params)


for name, function, points_of_grid in (
    ("ArcFaceLoss", arcface_loss, [{"scale": 8.0}, {"reduction": "none"}, {"sampled": list(range(9)), "scale": 16.0}]),
    ("CosFaceLoss", cosface_loss, [{"scale": 8.0, "reduction": "sum"}]),
    ("SphereFaceLoss", sphereface_loss, [{}]),
):
    sampled_points = [{**SAMPLED, **point} for point in points_of_grid]
    reference(LOSSES, f"{name}:sampled", SAMPLED_CENTRES, sampled_points)(function)


class NamedWeights(dict):
    """Weights by name, with a short text for test ids."""

    __str__ = __repr__ = lambda self: "given"


MLP_WEIGHTS = NamedWeights(
    mlp_weight_0=points(5, 4, seed=6), mlp_bias_0=points(1, 5, seed=7)[0],
    mlp_weight_1=points(4, 5, seed=8), mlp_bias_1=points(1, 4, seed=9)[0],
    weight=points(3, 4, seed=10),
)  # fmt: skip


@reference(
    LOSSES,
    "ArcFaceLossWithMLP",
    {name: batch for name, batch in CENTRES.items() if "zero" not in name},
    with_sizes([{"mlp_features": [5, 4], "weights": MLP_WEIGHTS, "scale": 8.0}]),
)
def arcface_loss_with_mlp(batch, weights, mlp_features, **params):
    """ArcFace after an MLP. With one identity layer, it is equal to ArcFace."""
    x = batch.x
    for i in range(len(mlp_features)):
        if i:
            x = np.maximum(x, 0)
        x = np.array([weights[f"mlp_weight_{i}"] @ row + weights[f"mlp_bias_{i}"] for row in x])
    return arcface_loss(batch._replace(x=x), **params)
