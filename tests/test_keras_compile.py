"""Losses with ``compile`` and ``fit`` of Keras, without a tuner."""

import numpy as np
import pytest

from .reference import LOSSES
from .reference.batches import Batch
from .test_keras import keras, ours  # noqa: F401
from .toy import D, blobs

BIG = 2**24


def class_batches(count=8, seed=0):
    """Items of ``count`` classes in class order, four per class, as a sampler plans them."""
    x, y = blobs(np.arange(count), items_per_class=4, seed=seed)
    return x, y


def test_training_with_compile_and_fit(ours, keras, backend):
    x, y = class_batches()
    model = backend.mlp(D, 32, 8)
    miner = ours.TripletEasyHardMiner("easy", "semihard")
    model.compile(keras.optimizers.Adam(0.01), loss=ours.KerasLoss(ours.TripletLoss(margin=0.3, miner=miner)))
    losses = model.fit(x, y, batch_size=32, epochs=15, verbose=0).history["loss"]
    assert losses[-1] < 0.7 * losses[0]
    assert model.evaluate(x, y, batch_size=32, verbose=0) < losses[0]


def test_sampled_gives_the_batches_of_a_tuner(ours, keras, backend):
    x, y = blobs(np.arange(8), items_per_class=5)
    names = np.array([f"{2**40 + label}" for label in y])
    batches, same_seed = (ours.Sampled((x, names), batch_size=16, num_items_per_class=4, seed=3) for _ in range(2))
    first_epoch = [same_seed[number] for number in range(len(same_seed))]
    assert all(labels.dtype == np.int32 for _, labels in first_epoch)
    assert all((np.unique(labels, return_counts=True)[1] == 4).all() for _, labels in first_epoch)
    compiled, tuned = backend.mlp(D, 8), backend.mlp(D, 8)
    compiled.compile(keras.optimizers.SGD(0.1), loss=ours.KerasLoss(ours.TripletLoss(margin=0.3)))
    compiled.fit(batches, epochs=2, shuffle=False, verbose=0)
    assert not np.array_equal(batches[0][1], first_epoch[0][1])
    options = {"optimizer": keras.optimizers.SGD(0.1), "loss": ours.TripletLoss(margin=0.3), "callbacks": [], "seed": 3}
    ours.KerasTuner(tuned, **options).fit((x, names), epochs=2, batch_size=16, num_items_per_class=4)
    for actual, expected in zip(compiled.get_weights(), tuned.get_weights(), strict=True):
        np.testing.assert_allclose(actual, expected, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("shape", [(-1,), (-1, 1)])
@pytest.mark.parametrize("step", [1, 2**8])
def test_labels_above_2_to_the_24_stay_distinct(ours, backend, shape, step):
    """``keras.losses.Loss`` would cast them to float32, where they are equal."""
    x, y = class_batches(4)
    model = backend.mlp(D, 8)
    model.compile("sgd", loss=ours.KerasLoss(ours.TripletLoss(distance="euclidean", margin=0.5)))
    expected = LOSSES["TripletLoss"].function(
        Batch(np.asarray(model.predict(x, verbose=0), dtype=float), y), distance="euclidean", margin=0.5
    )
    large = (BIG + step * y).reshape(shape)
    np.testing.assert_allclose(model.evaluate(x, large, batch_size=len(x), verbose=0), expected, rtol=1e-4)
    np.testing.assert_allclose(model.train_on_batch(x, large), expected, rtol=1e-4)


def test_labels_that_overflow_on_the_engine_are_an_error(ours, backend):
    x, y = class_batches(2)
    loss = ours.TripletLoss(margin=0.5)
    if backend.engine == "jax":
        with pytest.raises(
            ValueError, match=r"labels must fit the integers of Keras' jax engine, .* int32, got 1099511627776"
        ):
            loss(x, y + 2**40)
        with pytest.raises(ValueError, match="reference_labels must fit the integers"):
            loss(x, y, x, y + 2**40)
    else:
        assert float(loss(x, y + 2**40)) == float(loss(x, y))


@pytest.mark.parametrize("name", ["TripletLoss", "SiameseLoss", "NTXentLoss"])
def test_losses_work_with_compile(ours, backend, name):
    x, y = class_batches(4)
    model = backend.mlp(D, 8)
    model.compile("sgd", loss=ours.KerasLoss(getattr(ours, name)()))
    direct = float(getattr(ours, name)()(backend.tensor(model.predict(x, verbose=0)), backend.tensor(y)))
    np.testing.assert_allclose(model.train_on_batch(x, y), direct, rtol=1e-4)


def test_bad_input_to_compile(ours, backend, keras):
    x, y = class_batches(2)
    with pytest.raises(TypeError, match="loss must be a loss of finetuner.tuner.keras, got MeanSquaredError"):
        ours.KerasLoss(keras.losses.MeanSquaredError())
    with pytest.raises(ValueError, match="one number per batch, got reduction='none'"):
        ours.KerasLoss(ours.TripletLoss(reduction="none"))
    model = backend.mlp(D, 8)
    model.compile("sgd", loss=ours.KerasLoss(ours.TripletLoss()))
    with pytest.raises(TypeError, match="labels must be integers or booleans, got float32"):
        model.train_on_batch(x, y.astype("float32"))
    with pytest.raises(ValueError, match="sample_weight must be None"):
        model.train_on_batch(x, y, sample_weight=np.ones(len(x), "float32"))


def test_label_sets_in_compile_and_fit(ours, keras, backend):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(24, 4)).astype("float32")
    sets = rng.random((24, 3)) < 0.5
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)])
    loss = ours.SupConLoss()
    expected = float(backend.numpy(loss(model(x), backend.tensor(sets))))
    model.compile(keras.optimizers.SGD(0.0), loss=ours.KerasLoss(loss))
    history = model.fit(x, sets, batch_size=24, shuffle=False, verbose=0).history
    np.testing.assert_allclose(history["loss"], [expected], rtol=1e-5)
