"""Nested sizes (Matryoshka): a reference loss of the first components of embeddings, for each size."""

import numpy as np

from . import LOSSES
from .batches import Batch, Centres, Rows, Taught, Triplets, TwoTower

# What is cut: the embeddings of the model, and class centres. A teacher and labels are not.
CUT = {
    Batch: ("x",),
    Rows: ("first", "second"),
    TwoTower: ("first", "second"),
    Triplets: ("anchor", "positive", "negative"),
    Taught: ("embeddings",),
    Centres: ("x", "weight"),
}


def first_columns(matrix, dim):
    """The first ``dim`` numbers of each row."""
    return np.array([[row[column] for column in range(dim)] for row in matrix])


def nested_loss(name, batch, dims, factors, **params):
    """The sum over the sizes ``dims`` of factor x loss of the first components.

    Example: a loss of 3 for whole embeddings and of 2 for their first half, the half with factor 0.5, gives 4.
    """
    total = 0.0
    for dim, factor in zip(dims, factors, strict=True):
        options, fields = dict(params), CUT[type(batch)]
        if "mlp_weight_0" in params.get("weights", ()):
            head = params["weights"]
            options["weights"] = {**head, "mlp_weight_0": first_columns(head["mlp_weight_0"], dim)}
            fields = ("x",)  # the centres are compared with what the head returns
        cut = batch._replace(**{field: first_columns(getattr(batch, field), dim) for field in fields})
        total = total + factor * LOSSES[name].function(cut, **options)
    return total
