"""Margin losses on a sample of the classes (Partial FC): what is drawn, what it stands for, and who trains on it.

The losses on a given sample are in the parity suite.
"""

import numpy as np
import pytest

from finetuner.tuner.base.losses import blocks
from finetuner.tuner.base.losses.loss import in_evaluation

from .backends import weighted
from .reference import LOSSES
from .reference.batches import Centres, points
from .toy import TEST, TRAIN, make_tuner

NAMES = ["ArcFaceLoss", "CosFaceLoss", "SphereFaceLoss"]
X, W = points(8), points(50, seed=1)
LABELS = np.array([3, 3, 7, 7, 7, 20, 49, 0])
BATCH = Centres(X, LABELS, W)


def draws(backend, loss, count, labels=LABELS, num_classes=50):
    """The classes of some steps, one row for each."""
    classes = backend.tensor(labels, "int32" if backend.name == "keras" else "int64")
    in_batch = backend.tensor(np.isin(np.arange(num_classes), labels))
    return [np.sort(backend.numpy(loss.sampled_classes(classes, in_batch))) for _ in range(count)]


def value_and_grads(backend, loss, batch=BATCH):
    return backend.value_and_grads(lambda x, w, y: loss(x, y, w), [batch.x, batch.weight], [batch.labels])


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"sample": 0}, ValueError, "sample must be above 0, got 0"),
        ({"sample": -0.1}, ValueError, "sample must be above 0, got -0.1"),
        ({"sample": 1.1}, ValueError, "sample must be at most 1, got 1.1"),
        ({"sample": float("nan")}, ValueError, "sample must be finite, got nan"),
        ({"sample": True}, TypeError, "sample must be a number, got True"),
        ({"sample": "0.1"}, TypeError, "sample must be a number, got '0.1'"),
        (
            {"sample": 0.5, "smoothing_epsilon": 0.1},
            ValueError,
            "smoothing_epsilon must be 0 with a sample below 1, got 0.1",
        ),
    ],
)
def test_bad_samples(backend, name, options, error, message):
    with pytest.raises(error, match=message):
        backend.loss(name, **options)


@pytest.mark.parametrize(
    ("sample", "labels", "size"),
    [(0.2, LABELS, 18), (1e-9, LABELS, 9), (0.99, LABELS, 50), (0.1, np.arange(50), 50), (0.1, LABELS[:1], 6)],
)
def test_a_step_sees_the_classes_of_its_batch_and_others(backend, sample, labels, size):
    for drawn in draws(backend, backend.loss("ArcFaceLoss", sample=sample), 3, labels):
        assert len(drawn) == len(set(drawn)) == size
        assert set(labels) <= set(drawn) <= set(range(50))


def test_every_other_class_is_drawn_equally_often(backend):
    drawn = draws(backend, backend.loss("ArcFaceLoss", sample=0.2), 300)
    counts = np.bincount(np.concatenate(drawn), minlength=50)
    others = np.setdiff1d(np.arange(50), LABELS)
    share = (18 - 5) / 45  # 18 classes, of which five are those of the batch
    assert (counts[np.unique(LABELS)] == 300).all()
    assert np.abs(counts[others] / 300 - share).max() < 4.5 * np.sqrt(share * (1 - share) / 300)


def test_the_sum_over_a_sample_is_on_average_that_of_all_classes(backend):
    """The reference, whose values on a sample the parity suite compares, on the draws of each backend."""
    function = LOSSES["CosFaceLoss:sampled"].function
    options = {"scale": 4.0, "reduction": "none"}
    drawn = draws(backend, backend.loss("CosFaceLoss", sample=0.2), 400)
    sums = np.array([np.expm1(function(BATCH, sampled=classes.tolist(), **options)) for classes in drawn])
    expected = np.expm1(function(BATCH, **options))
    errors = (sums.mean(axis=0) - expected) / (sums.std(axis=0) / 20)
    assert np.abs(errors).max() < 4.5
    unweighted = [
        np.expm1(function(BATCH._replace(weight=W[c], labels=np.searchsorted(c, LABELS)), **options)) for c in drawn
    ]
    assert (np.mean(unweighted, axis=0) < 0.8 * expected).all()


@pytest.mark.parametrize("name", NAMES)
def test_gradients_reach_the_classes_of_the_step_only(backend, name):
    loss = backend.loss(name, sample=0.2, scale=4.0)
    (drawn,) = draws(backend, loss, 1)
    loss.sampled_classes = lambda classes, in_batch: backend.tensor(drawn)
    value, (_, by_centres) = value_and_grads(backend, loss)
    assert set(np.nonzero(by_centres.any(axis=1))[0]) == set(drawn)
    expected = LOSSES[f"{name}:sampled"].function(BATCH, sampled=drawn.tolist(), scale=4.0)
    np.testing.assert_allclose(value, weighted(expected), rtol=1e-5)


def test_a_full_sample_is_exact(backend):
    exact = value_and_grads(backend, backend.loss("ArcFaceLoss"))
    for sample in (1.0, 1):
        value, grads = value_and_grads(backend, backend.loss("ArcFaceLoss", sample=sample))
        np.testing.assert_array_equal(value, exact[0])
        for ours, theirs in zip(grads, exact[1], strict=True):
            np.testing.assert_array_equal(ours, theirs)


def test_evaluation_uses_all_classes(backend):
    loss, exact = (backend.loss("ArcFaceLoss", scale=8.0, sample=sample) for sample in (0.1, 1.0))
    arguments = [backend.constant(array) for array in BATCH]
    expected = float(backend.numpy(exact(*arguments)))
    assert float(backend.numpy(loss(*arguments))) != expected
    loss.training = False
    assert float(backend.numpy(loss(*arguments))) == expected


@pytest.mark.parametrize("size", [1, 7, 100])
@pytest.mark.parametrize("scale", [8.0, 64.0])
def test_a_sample_in_parts_is_that_of_the_whole(backend, monkeypatch, size, scale):
    """In tiles of PyTorch and Paddle, and in blocks of rows of Keras."""
    loss = backend.loss("CosFaceLoss", sample=0.2, scale=scale, sampled=[0, 49, 3, 7, 20, 11, 12, 30])
    expected, gradients = value_and_grads(backend, loss)
    if backend.name == "keras":
        monkeypatch.setattr(blocks, "BLOCK_SIZE", 8 * size)
    else:
        monkeypatch.setattr(blocks, "rows_per_block", lambda *_: 1)
        monkeypatch.setattr(blocks, "tile_size", lambda *_: size)
    found, others = value_and_grads(backend, loss)
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    for ours, theirs in zip(others, gradients, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=2e-5 * np.abs(theirs).max())


@pytest.mark.parametrize("given", ["nested", "combined"])
def test_losses_inside_others_evaluate_with_all_classes(backend, given):
    loss = {"ArcFaceLoss": 1.0, "NTXentLoss": 1.0} if given == "combined" else "ArcFaceLoss"
    options = {"ArcFaceLoss": {"sample": 0.1}} if given == "combined" else {"sample": 0.1}
    tuner = make_tuner(backend, loss=loss, loss_options=options, dims=(8, 4) if given == "nested" else None)
    part = tuner.loss.parts[0]
    assert part.sample == 0.1
    with in_evaluation(tuner.loss):
        assert not part.training
    assert part.training


OPTIONS = {"loss": "ArcFaceLoss", "loss_options": {"sample": 0.3, "scale": 16.0}, "dropout": 0.2}


@pytest.mark.parametrize("micro_batch_size", [None, 1], ids=["one pass", "two passes"])
def test_the_seed_decides_what_is_drawn(backend, micro_batch_size):
    def trained(**options):
        tuner = make_tuner(backend, **{**OPTIONS, **options})
        run = tuner.fit(TRAIN, epochs=2, batch_size=2, micro_batch_size=micro_batch_size)
        return [row["loss"] for row in run.history], tuner.loss.weights_on_host()["weight"]

    (losses, centres), (other_losses, other_centres) = trained(), trained()
    assert losses == other_losses
    np.testing.assert_array_equal(centres, other_centres)
    assert trained(loss_options={"scale": 16.0})[0] != losses


def test_a_tuner_evaluates_with_all_classes(backend):
    tuner = make_tuner(backend, **OPTIONS)
    tuner.fit(TRAIN, TRAIN, epochs=1, batch_size=2)
    exact = backend.loss("ArcFaceLoss", scale=16.0)
    x, y = np.eye(8, dtype="float32")[:2], np.array([0, 3], "int32")
    found = [tuner.engine.evaluate_loss(x, (y,)) for _ in range(2)]
    expected = exact(backend.tensor(x), backend.tensor(y), backend.tensor(tuner.loss.weights_on_host()["weight"]))
    np.testing.assert_allclose(found, float(backend.numpy(expected)), rtol=1e-5)
    assert tuner.loss.training


def test_a_stopped_training_goes_on_with_the_same_draws(backend, tmp_path):
    whole, first, second = (make_tuner(backend, **OPTIONS) for _ in range(3))
    expected = whole.fit(TRAIN, epochs=2, batch_size=2)
    first.fit(TRAIN, epochs=2, batch_size=2, max_steps=7)
    first.save(tmp_path / "run")
    found = second.fit(TRAIN, epochs=2, batch_size=2, resume=tmp_path / "run")
    assert found.history[-1]["loss"] == expected.history[-1]["loss"]
    np.testing.assert_array_equal(*(one.loss.weights_on_host()["weight"] for one in (second, whole)))


def test_sample_is_saved_with_the_run(backend, tmp_path):
    tuner = make_tuner(backend, **OPTIONS)
    run = tuner.fit(TRAIN, TEST, epochs=1)
    assert run.config["loss"]["options"]["sample"] == 0.3
    run.save(tmp_path / "run")
    loaded = make_tuner(backend, **OPTIONS)
    loaded.load(tmp_path / "run")
    np.testing.assert_array_equal(*(one.loss.weights_on_host()["weight"] for one in (loaded, tuner)))
