"""A small problem, and tuners for it."""

import numpy as np

from finetuner.tuner.base import ClassDataset

D = 8


def blobs(classes, each=12, seed=0, spread=1.0):
    """Classes that lie apart in two of the dimensions and are noise in the others."""
    rng = np.random.default_rng(seed)
    y = np.repeat(classes, each)
    x = rng.normal(size=(len(y), D)) * 3
    angle = 2 * np.pi * y / 8
    x[:, :2] = np.stack([np.cos(angle), np.sin(angle)], axis=1) * 3 + spread * 0.3 * rng.normal(size=(len(y), 2))
    return x.astype(np.float32), y


TRAIN, TEST = ClassDataset(*blobs([0, 2, 4, 6])), ClassDataset(*blobs([1, 3, 5, 7], seed=1))


def tuner(backend, callbacks=(), **options):
    dropout = options.pop("dropout", 0.0)
    return backend.Tuner(backend.mlp(D, 32, 8, dropout=dropout), callbacks=list(callbacks), **options)


def weights(a_tuner):
    return {name: np.asarray(value) for name, value in a_tuner.model_state().items()}


def same(one, two):
    return all(np.array_equal(one[name], two[name]) for name in one) and one.keys() == two.keys()
