"""Adapters, one embedding at a time."""

import numpy as np

from .batches import points

X = points(5, 3, seed=1)
LINEAR = (points(3, 3, seed=2), points(1, 3, seed=3)[0])
MLP = (points(4, 3, seed=4), points(1, 4, seed=5)[0], points(3, 4, seed=6), points(1, 3, seed=7)[0])


def linear(x, weight, bias):
    """``x + W x + b``."""
    return np.array([[row[i] + sum(weight[i] * row) + bias[i] for i in range(len(row))] for row in x])


def mlp(x, weight1, bias1, weight2, bias2):
    """``x + W2 max(W1 x + b1, 0) + b2``."""
    rows = []
    for row in x:
        hidden = [max(sum(one * row) + bias, 0) for one, bias in zip(weight1, bias1, strict=True)]
        rows.append([row[i] + sum(weight2[i] * hidden) + bias2[i] for i in range(len(row))])
    return np.array(rows)
