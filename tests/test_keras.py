"""What is Keras' own: its files, its layers, its ways to write models and data, its engines."""

import subprocess
import sys

import numpy as np
import pytest

import finetuner

from .toy import TEST, TRAIN, D, same, tuner, weights

pytest.importorskip("faiss")


@pytest.fixture
def ours(backend):
    """Our subpackage; skips where another is tested."""
    if backend.name != "keras":
        pytest.skip("of Keras alone")
    import finetuner.tuner.keras as ours

    return ours


@pytest.fixture
def keras(ours):
    import keras

    return keras


@pytest.fixture
def layers(keras):
    return keras.layers


# Random numbers.


@pytest.mark.parametrize("drawing", [False, True])
def test_tensorflow_is_seeded_each_epoch_only_where_its_own_numbers_are_drawn(
    backend, keras, layers, tmp_path, drawing
):
    """Seeding it throws the compiled graph away; without it a layer that asks TensorFlow could not go on as before."""
    if backend.engine != "tensorflow":
        pytest.skip("TensorFlow alone")
    import tensorflow

    @tensorflow.function  # whose graph lies within the step's
    def inner(x):
        return x + tensorflow.random.normal(tensorflow.shape(x))

    class Noise(layers.Layer):
        def call(self, x, training=False):
            return inner(x) if drawing and training else x

    def a_tuner():
        keras.utils.set_random_seed(0)
        inside = [layers.Dense(16, "relu"), layers.Dropout(0.3), Noise(), layers.Dense(8)]
        return backend.Tuner(keras.Sequential([keras.Input((D,)), *inside]), callbacks=[])

    whole, first, second = a_tuner(), a_tuner(), a_tuner()
    whole.fit(TRAIN, epochs=3, batch_size=48)
    first.fit(TRAIN, epochs=1, batch_size=48)
    first.save(tmp_path / "run")
    second.load(tmp_path / "run").fit(TRAIN, epochs=2, batch_size=48)
    assert same(weights(whole), weights(second))
    assert whole.training_model.needs_global_seed is drawing


# Files and layers.


def test_a_compiled_model_is_saved_and_loaded_in_safe_mode(ours, layers, keras, tmp_path):
    x, y = np.random.default_rng(0).random((16, 6, 6, 3), dtype="float32"), np.arange(16) // 4
    pooler = ours.GeM(p=2.5)
    model = keras.Sequential([keras.Input((6, 6, 3)), layers.Conv2D(4, 3), pooler, layers.Dense(4)])
    loss = ours.TripletLoss("euclidean", 0.2, ours.TripletEasyHardMiner("hard", "semihard", margin=0.1), "sum")
    model.compile("adam", loss=ours.KerasLoss(loss))
    model.fit(x, y, batch_size=16, epochs=1, verbose=0)
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras", safe_mode=True)
    np.testing.assert_array_equal(again.predict(x, verbose=0), model.predict(x, verbose=0))
    assert (again.layers[1].p, again.layers[1].name) == (2.5, pooler.name)
    kept = again.loss.loss
    assert (kept.distance, kept.margin, kept.reduction, kept.miner.margin) == ("euclidean", 0.2, "sum", 0.1)
    np.testing.assert_allclose(again.train_on_batch(x, y), model.train_on_batch(x, y), rtol=1e-5)


def test_a_pooler_heeds_the_mask_of_the_layers_before(ours, layers, keras, backend):
    x = np.random.default_rng(0).random((3, 5, 2), dtype="float32")
    x[0, 3:], x[1, 1:] = 0, 0
    masked = keras.Sequential([keras.Input((5, 2)), layers.Masking(), ours.GeM()])
    expected = backend.numpy(ours.GeM()(backend.tensor(x), mask=backend.tensor(x.any(axis=2))))
    np.testing.assert_allclose(masked.predict(x, verbose=0), expected, rtol=1e-6)
    assert not np.allclose(expected[0], backend.numpy(ours.GeM()(backend.tensor(x)))[0])


def test_a_pooler_of_channels_first(ours, keras, backend):
    x = np.random.default_rng(0).random((2, 3, 4, 5), dtype="float32")
    before = keras.config.image_data_format()
    try:
        keras.config.set_image_data_format("channels_last")
        last = backend.numpy(ours.GeM()(backend.tensor(np.moveaxis(x, 1, -1))))
        keras.config.set_image_data_format("channels_first")
        np.testing.assert_allclose(backend.numpy(ours.GeM()(backend.tensor(x))), last, rtol=1e-6)
    finally:
        keras.config.set_image_data_format(before)


# Models of every kind.


@pytest.fixture
def models(keras, layers):
    class Subclassed(keras.Model):
        def __init__(self):
            super().__init__()
            self.dense = layers.Dense(8)

        def call(self, x):
            return self.dense(x)

    class Keywords(keras.Model):
        def __init__(self):
            super().__init__()
            self.one, self.other = layers.Dense(8), layers.Dense(8)

        def call(self, first, second):
            return self.one(first) + self.other(second)

    first, second = keras.Input((D,), name="first"), keras.Input((D,), name="second")
    added = layers.add([layers.Dense(8)(first), layers.Dense(8)(second)])
    return {
        "unbuilt": lambda: keras.Sequential([layers.Dense(16, "relu"), layers.Dense(8)]),
        "subclassed": Subclassed,
        "functional": lambda: keras.Model([first, second], added),
        "keywords": Keywords,
    }


@pytest.mark.parametrize("kind", ["unbuilt", "subclassed", "functional", "keywords"])
def test_models_of_every_kind(models, keras, kind):
    x = {"first": TRAIN.x, "second": -TRAIN.x} if kind in ("functional", "keywords") else TRAIN.x
    keras.utils.set_random_seed(0)
    run = finetuner.fit(models[kind](), (x, TRAIN.labels), epochs=2, batch_size=48, callbacks=[], learning_rate=0.01)
    assert run.history[-1]["loss"] < run.history[0]["loss"]
    assert finetuner.embed(run.model, x).shape == (48, 8)


def test_a_model_without_weights_yet_takes_none_over(ours, models, backend, tmp_path):
    ours.KerasTuner(models["unbuilt"](), callbacks=[]).fit(TRAIN, epochs=1, batch_size=48).save(tmp_path / "run")
    with pytest.raises(ValueError, match="the model must have its weights to load others: call it on a batch"):
        ours.KerasTuner(models["unbuilt"](), callbacks=[]).load(tmp_path / "run")


def test_regularisers_are_part_of_the_loss(ours, keras, layers):
    def first_loss(factor):
        keras.utils.set_random_seed(0)
        model = keras.Sequential([keras.Input((D,)), layers.Dense(8, kernel_regularizer=keras.regularizers.L2(factor))])
        penalty = factor * np.square(model.layers[0].get_weights()[0]).sum()
        a_tuner = ours.KerasTuner(model, callbacks=[])
        return a_tuner.fit(TRAIN, epochs=1, batch_size=48).history[0]["loss"] - penalty

    assert first_loss(0.1) == pytest.approx(first_loss(0.0), rel=1e-5)


def test_micro_batches_of_models_that_add_to_the_loss_or_hold_tables(ours, keras, layers):
    """Keras' regularisers of activities are means over rows; the gradients of a table are of the rows looked up."""

    def trained(size):
        keras.utils.set_random_seed(0)
        penalty = keras.regularizers.L2(0.05)
        model = keras.Sequential(
            [
                keras.Input((6,), dtype="int32"),
                layers.Embedding(20, 8),
                layers.Flatten(),
                layers.Dense(8, "tanh", kernel_regularizer=penalty, activity_regularizer=penalty),
                layers.Dense(4),
            ]
        )
        x = np.random.default_rng(0).integers(0, 20, (48, 6)).astype(np.int32)
        a_tuner = ours.KerasTuner(model, loss="NTXentLoss", optimizer="SGD", learning_rate=0.1, callbacks=[])
        run = a_tuner.fit((x, TRAIN.labels), epochs=3, batch_size=48, micro_batch_size=size)
        return [row["loss"] for row in run.history], weights(a_tuner)

    (losses, one), (others, other) = trained(None), trained(20)
    assert others == pytest.approx(losses, rel=1e-5)
    for name in one:
        np.testing.assert_allclose(other[name], one[name], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16"])
def test_micro_batches_of_narrow_types(ours, keras, backend, policy):
    def losses(size):
        a_tuner = tuner(backend, loss="NTXentLoss", learning_rate=0.01)
        run = a_tuner.fit(TRAIN, epochs=4, batch_size=48, micro_batch_size=size)
        return [row["loss"] for row in run.history]

    before = keras.config.dtype_policy()
    try:
        keras.config.set_dtype_policy(policy)
        assert losses(20) == pytest.approx(losses(None), rel=1e-2)
    finally:
        keras.config.set_dtype_policy(before)


def test_narrow_types(ours, keras, backend):
    before = keras.config.dtype_policy()
    try:
        keras.config.set_dtype_policy("mixed_bfloat16")
        run = tuner(backend, learning_rate=0.01).fit(TRAIN, TEST, epochs=3, batch_size=48)
    finally:
        keras.config.set_dtype_policy(before)
    assert run.history[-1]["loss"] < run.history[1]["loss"]
    assert finetuner.embed(run.model, TRAIN).dtype == np.float32


def test_a_step_that_went_wrong_is_undone(ours, backend):
    a_tuner = tuner(backend)
    a_tuner.fit(TRAIN, epochs=1, batch_size=48)
    kept, slots = weights(a_tuner), a_tuner.optimizer_state(a_tuner.optimizer)[0]
    huge = TRAIN.x.copy()
    huge[3] = 3e38  # finite, and overflows in the network
    with pytest.raises(ValueError, match="the model has the weights from before this epoch"):
        a_tuner.fit((huge, TRAIN.labels), epochs=1, batch_size=48)
    assert same(kept, weights(a_tuner))
    assert same(slots, a_tuner.optimizer_state(a_tuner.optimizer)[0])


@pytest.mark.parametrize("kind", ["instance", "schedule", "class"])
def test_optimizers_of_every_kind(ours, keras, backend, tmp_path, kind):
    def made():
        optimizer = {
            "instance": lambda: keras.optimizers.SGD(0.01, momentum=0.9),
            "schedule": lambda: keras.optimizers.Adam(keras.optimizers.schedules.ExponentialDecay(0.01, 5, 0.9)),
            "class": lambda: keras.optimizers.AdamW,
        }[kind]()
        return tuner(backend, optimizer=optimizer)

    whole, first, second = made(), made(), made()
    whole.fit(TRAIN, epochs=2, batch_size=16)
    first.fit(TRAIN, epochs=1, batch_size=16).save(tmp_path / "run")
    second.load(tmp_path / "run").fit(TRAIN, epochs=1, batch_size=16)
    assert same(weights(whole), weights(second))
    other = tuner(backend, optimizer=keras.optimizers.SGD(0.01))
    if kind == "instance":
        with pytest.raises(ValueError, match="the optimizer must have the options of the one that was saved"):
            other.load(tmp_path / "run")


# Data of every kind.


@pytest.mark.parametrize("as_what", ["PyDataset", "tf.data of batches", "tf.data of items"])
def test_keras_own_datasets(ours, keras, backend, as_what):
    if as_what == "PyDataset":

        class Batched(keras.utils.PyDataset):
            def __len__(self):
                return 3

            def __getitem__(self, number):
                rows = slice(16 * number, 16 * number + 16)
                return TRAIN.x[rows], TRAIN.labels[rows]

        data = Batched()
    else:
        if backend.engine != "tensorflow":
            pytest.skip("TensorFlow is not what is tested here")
        import tensorflow

        data = tensorflow.data.Dataset.from_tensor_slices((TRAIN.x, TRAIN.labels))
        data = data.batch(20) if as_what.endswith("batches") else data
    one, other = tuner(backend), tuner(backend)
    one.fit(data, data, epochs=1, batch_size=16)
    other.fit(TRAIN, TRAIN, epochs=1, batch_size=16)
    assert same(weights(one), weights(other))
    np.testing.assert_array_equal(one.embed(data), one.embed(TRAIN))


def test_datasets_without_an_end(ours, keras, backend):
    class Endless(keras.utils.PyDataset):
        num_batches = None

        def __getitem__(self, number):
            return TRAIN.x, TRAIN.labels

    with pytest.raises(TypeError, match="a dataset must have a length, got a Endless without one"):
        tuner(backend).fit(Endless())
    if backend.engine == "tensorflow":
        import tensorflow

        endless = tensorflow.data.Dataset.from_tensors((TRAIN.x, TRAIN.labels)).repeat()
        with pytest.raises(TypeError, match="a dataset must have an end"):
            tuner(backend).fit(endless)


# Engines.


def test_the_run_says_what_it_was_computed_with(ours, keras, backend):
    config = tuner(backend, device="cpu").fit(TRAIN, epochs=1, batch_size=48).config
    assert config["versions"]["keras"] == keras.__version__
    assert backend.engine in config["versions"]
    assert (config["device"], config["threads"] >= 1) == ("cpu", True)


def test_no_other_engine_is_imported(ours, backend):
    code = """
import sys
import keras
import finetuner
from tests.toy import TRAIN, D
model = keras.Sequential([keras.Input((D,)), keras.layers.Dropout(0.5), keras.layers.Dense(8)])
finetuner.fit(model, TRAIN, TRAIN, epochs=1, batch_size=48, callbacks=[])
print(*sys.modules)
"""
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    needed = {backend.engine, *({"jax"} if backend.engine != "jax" else ())}  # which the two others import themselves
    assert not ({"tensorflow", "jax", "torch"} - needed) & set(loaded)


def test_an_engine_that_cannot_train_is_told(ours, keras, backend, monkeypatch):
    model = backend.mlp(D, 8)
    monkeypatch.setattr(keras.backend, "backend", lambda: "openvino")
    message = r"Keras must run on one of tensorflow, jax, torch \(KERAS_BACKEND\), and runs on openvino"
    with pytest.raises(ValueError, match=message):
        ours.KerasTuner(model)
