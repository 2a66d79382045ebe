"""A user's own subclass of ``Dataset`` trains, samples and is evaluated like one of the library."""

import numpy as np
import pytest

import finetuner
from finetuner import ClassDataset, ClassSampler, SessionSampler

from .own_dataset import Ages, ClickLog, FolderPerClass
from .toy import TEST, TRAIN, D, make_tuner


def folders_of(data):
    return FolderPerClass({f"class {label}": data.x[data.labels == label] for label in np.unique(data.labels)})


def test_own_classes_give_the_same_run_as_a_class_dataset(backend):
    ours, theirs = (folders_of(TRAIN), ClassDataset(folders_of(TRAIN).x, folders_of(TRAIN).labels))
    runs = [make_tuner(backend, loss="NTXentLoss").fit(data, TEST, epochs=2, batch_size=16) for data in (ours, theirs)]
    first, second = ([row["loss"] for row in run.history[1:]] for run in runs)
    assert first == second
    assert runs[0].metrics == runs[1].metrics
    assert type(ours.default_sampler(16)) is ClassSampler


def test_own_classes_are_evaluated(backend):
    run = make_tuner(backend, loss="SupConLoss").fit(TRAIN, folders_of(TEST), epochs=1, batch_size=16)
    expected = make_tuner(backend, loss="SupConLoss").fit(
        TRAIN, ClassDataset(TEST.x, TEST.labels), epochs=1, batch_size=16
    )
    assert run.metrics == expected.metrics
    metrics = ["hit@1", "mAP@R"]
    assert finetuner.evaluate(run.model, folders_of(TEST), metrics=metrics) == finetuner.evaluate(
        run.model, (TEST.x, TEST.labels), metrics=metrics
    )


def test_own_classes_get_centres(backend):
    run = make_tuner(backend, loss="ArcFaceLoss").fit(folders_of(TRAIN), epochs=1, batch_size=16)
    assert run.tuner.classes == [f"class {i}" for i in range(4)]
    assert tuple(run.tuner.loss.weight.shape) == (4, 8)


def test_own_sessions_train_and_are_evaluated(backend):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(24, D)).astype(np.float32)
    data = ClickLog(x, np.repeat(["shoes", "hats", "bags", "coats"], 6), np.tile([0, 1, 1, -1, -1, -1], 4))
    assert type(data.default_sampler(12)) is SessionSampler
    run = make_tuner(backend).fit(data, data, epochs=1, batch_size=12, metrics=["hit@1"])
    assert run.history[-1].keys() >= {"loss", "val_loss", "hit@1"}


def test_own_targets_and_evaluator(backend):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(48, D)).astype(np.float32)
    data = Ages(x, x[:, 0] * 3)
    name, options = backend.native["mse"]
    model = backend.mlp(D, 16, 1)
    run = backend.Tuner(model, loss=name, loss_options=options, callbacks=[]).fit(data, data, epochs=5, batch_size=16)
    error = [row["mean_absolute_error"] for row in run.history]
    assert error[-1] < error[0]
    with pytest.raises(ValueError, match="TripletLoss needs items that belong together .*, got Ages"):
        make_tuner(backend).fit(data)


def test_errors_name_the_own_class(backend):
    class Products(ClassDataset):
        """Without a ``__repr__`` of its own."""

    with pytest.raises(ValueError, match=r"ContrastiveLoss needs a score .*, got Products\(48 items, 4 classes\)"):
        make_tuner(backend, loss="ContrastiveLoss").fit(Products(TRAIN.x, TRAIN.labels), epochs=1)
