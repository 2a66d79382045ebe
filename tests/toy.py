"""A small classification problem, and tuners for it."""

import numpy as np

from finetuner import ClassDataset

D = 8


def blobs(classes, items_per_class=12, seed=0, spread=1.0):
    """Classes that are separate in the first two dimensions. The other dimensions are noise."""
    rng = np.random.default_rng(seed)
    y = np.repeat(classes, items_per_class)
    x = rng.normal(size=(len(y), D)) * 3
    angle = 2 * np.pi * y / 8
    x[:, :2] = np.stack([np.cos(angle), np.sin(angle)], axis=1) * 3 + spread * 0.3 * rng.normal(size=(len(y), 2))
    return x.astype(np.float32), y


TRAIN, TEST = ClassDataset(*blobs([0, 2, 4, 6])), ClassDataset(*blobs([1, 3, 5, 7], seed=1))


def make_tuner(backend, callbacks=(), **options):
    dropout = options.pop("dropout", 0.0)
    return backend.Tuner(backend.mlp(D, 32, 8, dropout=dropout), callbacks=list(callbacks), **options)


def weights(tuner):
    return {name: np.asarray(value) for name, value in tuner.model_state().items()}


def same_arrays(first, second):
    """Whether two mappings hold the same arrays, bit for bit."""
    return first.keys() == second.keys() and all(np.array_equal(first[name], second[name]) for name in first)
