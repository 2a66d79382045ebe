"""Heads, one item at a time."""

import numpy as np

from finetuner.tuner.base.heads import EPSILON

from .batches import points

X = points(6, 5, seed=3)
OPTIONS = {"LinearHead": {}, "BNNeckHead": {}, "MLPHead": {"hidden_features": 4}}


def linear(x, weight, bias=None):
    """``W x + b`` of each item."""
    return np.stack([[sum(w * v for w, v in zip(row, item, strict=True)) for row in weight] for item in x]) + (
        0 if bias is None else bias
    )


def head(name, x, weights, running=None):
    """The embeddings of a head; with ``running``, mean and variance of the normalization in evaluation."""
    if name == "LinearHead":
        return linear(x, weights["weight"], weights["bias"])
    if name == "MLPHead":
        hidden = np.maximum(linear(x, weights["hidden_weight"], weights["hidden_bias"]), 0)
        return linear(hidden, weights["weight"], weights["bias"])
    projected = linear(x, weights["weight"])
    mean, variance = running or (projected.mean(axis=0), projected.var(axis=0))
    return (projected - mean) / np.sqrt(variance + EPSILON)
