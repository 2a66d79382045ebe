"""Losses in a user's own script: with Keras' `compile` and `fit`, and without our tuner."""

import numpy as np
import pytest

from .reference import LOSSES
from .reference.batches import Batch
from .test_keras import keras, ours  # noqa: F401
from .toy import D, blobs

BIG = 2**24


def ordered(count=8, seed=0):
    """Items in batches of ``count`` classes of four, as a sampler would have put them."""
    x, y = blobs(np.arange(count), each=4, seed=seed)
    return x, y


def test_a_user_trains_with_compile_and_fit(ours, keras, backend):
    x, y = ordered()
    model = backend.mlp(D, 32, 8)
    miner = ours.TripletEasyHardMiner("easy", "semihard")
    model.compile(keras.optimizers.Adam(0.01), loss=ours.KerasLoss(ours.TripletLoss(margin=0.3, miner=miner)))
    losses = model.fit(x, y, batch_size=32, epochs=15, verbose=0).history["loss"]
    assert losses[-1] < 0.7 * losses[0]
    assert model.evaluate(x, y, batch_size=32, verbose=0) < losses[0]


def test_fit_is_given_the_batches_of_a_tuner(ours, keras, backend):
    x, y = blobs(np.arange(8), each=5)
    names = np.array([f"{2**40 + label}" for label in y])
    batches, again = (ours.Sampled((x, names), batch_size=16, num_items_per_class=4, seed=3) for _ in range(2))
    seen = [again[number] for number in range(len(again))]
    assert all(labels.dtype == np.int32 for _, labels in seen)
    assert all((np.unique(labels, return_counts=True)[1] == 4).all() for _, labels in seen)
    one, other = backend.mlp(D, 8), backend.mlp(D, 8)
    one.compile(keras.optimizers.SGD(0.1), loss=ours.KerasLoss(ours.TripletLoss(margin=0.3)))
    one.fit(batches, epochs=2, shuffle=False, verbose=0)
    assert not np.array_equal(batches[0][1], seen[0][1])
    options = {"optimizer": keras.optimizers.SGD(0.1), "loss": ours.TripletLoss(margin=0.3), "callbacks": [], "seed": 3}
    ours.KerasTuner(other, **options).fit((x, names), epochs=2, batch_size=16, num_items_per_class=4)
    for mine, theirs in zip(one.get_weights(), other.get_weights(), strict=True):
        np.testing.assert_allclose(mine, theirs, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("shape", [(-1,), (-1, 1)])
@pytest.mark.parametrize("step", [1, 2**8])
def test_labels_above_2_to_the_24_are_told_apart(ours, backend, shape, step):
    """In float32 they would be one class, as with ``keras.losses.Loss``, and the loss 0."""
    x, y = ordered(4)
    model = backend.mlp(D, 8)
    model.compile("sgd", loss=ours.KerasLoss(ours.TripletLoss(distance="euclidean", margin=0.5)))
    expected = LOSSES["TripletLoss"].function(
        Batch(np.asarray(model.predict(x, verbose=0), dtype=float), y), distance="euclidean", margin=0.5
    )
    large = (BIG + step * y).reshape(shape)
    np.testing.assert_allclose(model.evaluate(x, large, batch_size=len(x), verbose=0), expected, rtol=1e-4)
    np.testing.assert_allclose(model.train_on_batch(x, large), expected, rtol=1e-4)


def test_labels_that_the_engine_cannot_hold_are_an_error(ours, backend):
    x, y = ordered(2)
    loss = ours.TripletLoss(margin=0.5)
    if backend.engine == "jax":
        with pytest.raises(ValueError, match=r"labels must be held by Keras' jax engine, .* int32, got 1099511627776"):
            loss(x, y + 2**40)
        with pytest.raises(ValueError, match="reference_labels must be held"):
            loss(x, y, x, y + 2**40)
    else:
        assert float(loss(x, y + 2**40)) == float(loss(x, y))


@pytest.mark.parametrize("name", ["TripletLoss", "SiameseLoss", "NTXentLoss"])
def test_every_loss_goes_with_compile(ours, backend, name):
    x, y = ordered(4)
    model = backend.mlp(D, 8)
    model.compile("sgd", loss=ours.KerasLoss(getattr(ours, name)()))
    direct = float(getattr(ours, name)()(backend.tensor(model.predict(x, verbose=0)), backend.tensor(y)))
    np.testing.assert_allclose(model.train_on_batch(x, y), direct, rtol=1e-4)


def test_bad_input_of_compile(ours, backend, keras):
    x, y = ordered(2)
    with pytest.raises(TypeError, match="loss must be a loss of finetuner.tuner.keras, got MeanSquaredError"):
        ours.KerasLoss(keras.losses.MeanSquaredError())
    with pytest.raises(ValueError, match="one number a batch, got reduction='none'"):
        ours.KerasLoss(ours.TripletLoss(reduction="none"))
    model = backend.mlp(D, 8)
    model.compile("sgd", loss=ours.KerasLoss(ours.TripletLoss()))
    with pytest.raises(TypeError, match="labels must be integers, got float32"):
        model.train_on_batch(x, y.astype("float32"))
    with pytest.raises(ValueError, match="sample_weight must be None"):
        model.train_on_batch(x, y, sample_weight=np.ones(len(x), "float32"))
