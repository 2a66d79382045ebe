"""Tests for Keras only: saved files, layers, kinds of models and datasets, and engines."""

import subprocess
import sys

import numpy as np
import pytest

import finetuner

from .toy import TEST, TRAIN, D, make_tuner, same_arrays, weights

pytest.importorskip("faiss")


@pytest.fixture
def ours(backend):
    """The subpackage finetuner.tuner.keras; skips other backends."""
    if backend.name != "keras":
        pytest.skip("Keras only")
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


@pytest.mark.parametrize("draws", [False, True])
def test_tensorflow_is_seeded_only_if_the_model_uses_its_generator(backend, keras, layers, tmp_path, draws):
    """Setting the TensorFlow seed discards the compiled graph, but resuming needs it for layers that use this seed."""
    if backend.engine != "tensorflow":
        pytest.skip("TensorFlow only")
    import tensorflow

    @tensorflow.function  # a graph inside the graph of the step
    def inner(x):
        return x + tensorflow.random.normal(tensorflow.shape(x))

    class Noise(layers.Layer):
        def call(self, x, training=False):
            return inner(x) if draws and training else x

    def noisy_tuner():
        keras.utils.set_random_seed(0)
        stack = [layers.Dense(16, "relu"), layers.Dropout(0.3), Noise(), layers.Dense(8)]
        return backend.Tuner(keras.Sequential([keras.Input((D,)), *stack]), callbacks=[])

    whole, first, second = noisy_tuner(), noisy_tuner(), noisy_tuner()
    whole.fit(TRAIN, epochs=3, batch_size=48)
    first.fit(TRAIN, epochs=1, batch_size=48)
    first.save(tmp_path / "run")
    second.load(tmp_path / "run").fit(TRAIN, epochs=2, batch_size=48)
    assert same_arrays(weights(whole), weights(second))
    assert whole.engine.training_model.needs_global_seed is draws


# Saved files and layers.


def test_compiled_model_is_loaded_in_safe_mode(ours, layers, keras, tmp_path):
    x, y = np.random.default_rng(0).random((16, 6, 6, 3), dtype="float32"), np.arange(16) // 4
    pooler = ours.GeM(p=2.5)
    model = keras.Sequential([keras.Input((6, 6, 3)), layers.Conv2D(4, 3), pooler, layers.Dense(4)])
    loss = ours.TripletLoss("euclidean", 0.2, ours.TripletEasyHardMiner("hard", "semihard", margin=0.1), "sum")
    model.compile("adam", loss=ours.KerasLoss(loss))
    model.fit(x, y, batch_size=16, epochs=1, verbose=0)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras", safe_mode=True)
    np.testing.assert_array_equal(loaded.predict(x, verbose=0), model.predict(x, verbose=0))
    assert (loaded.layers[1].p, loaded.layers[1].name) == (2.5, pooler.name)
    loaded_loss = loaded.loss.loss
    options = (loaded_loss.distance, loaded_loss.margin, loaded_loss.reduction, loaded_loss.miner.margin)
    assert options == ("euclidean", 0.2, "sum", 0.1)
    np.testing.assert_allclose(loaded.train_on_batch(x, y), model.train_on_batch(x, y), rtol=1e-5)


def test_pooler_uses_the_mask_of_previous_layers(ours, layers, keras, backend):
    x = np.random.default_rng(0).random((3, 5, 2), dtype="float32")
    x[0, 3:], x[1, 1:] = 0, 0
    masked = keras.Sequential([keras.Input((5, 2)), layers.Masking(), ours.GeM()])
    expected = backend.numpy(ours.GeM()(backend.tensor(x), mask=backend.tensor(x.any(axis=2))))
    np.testing.assert_allclose(masked.predict(x, verbose=0), expected, rtol=1e-6)
    assert not np.allclose(expected[0], backend.numpy(ours.GeM()(backend.tensor(x)))[0])


def test_pooler_with_channels_first(ours, keras, backend):
    x = np.random.default_rng(0).random((2, 3, 4, 5), dtype="float32")
    before = keras.config.image_data_format()
    try:
        keras.config.set_image_data_format("channels_last")
        expected = backend.numpy(ours.GeM()(backend.tensor(np.moveaxis(x, 1, -1))))
        keras.config.set_image_data_format("channels_first")
        np.testing.assert_allclose(backend.numpy(ours.GeM()(backend.tensor(x))), expected, rtol=1e-6)
    finally:
        keras.config.set_image_data_format(before)


# Kinds of models.


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
            self.left, self.right = layers.Dense(8), layers.Dense(8)

        def call(self, first, second):
            return self.left(first) + self.right(second)

    first, second = keras.Input((D,), name="first"), keras.Input((D,), name="second")
    output = layers.add([layers.Dense(8)(first), layers.Dense(8)(second)])
    return {
        "unbuilt": lambda: keras.Sequential([layers.Dense(16, "relu"), layers.Dense(8)]),
        "subclassed": Subclassed,
        "functional": lambda: keras.Model([first, second], output),
        "keywords": Keywords,
    }


@pytest.mark.parametrize("kind", ["unbuilt", "subclassed", "functional", "keywords"])
def test_kinds_of_models(models, keras, kind):
    x = {"first": TRAIN.x, "second": -TRAIN.x} if kind in ("functional", "keywords") else TRAIN.x
    keras.utils.set_random_seed(0)
    run = finetuner.fit(models[kind](), (x, TRAIN.labels), epochs=2, batch_size=48, callbacks=[], learning_rate=0.01)
    assert run.history[-1]["loss"] < run.history[0]["loss"]
    assert finetuner.embed(run.model, x).shape == (48, 8)


def test_loading_into_an_unbuilt_model_is_an_error(ours, models, backend, tmp_path):
    ours.KerasTuner(models["unbuilt"](), callbacks=[]).fit(TRAIN, epochs=1, batch_size=48).save(tmp_path / "run")
    with pytest.raises(ValueError, match="the model must have its weights to load others: call it on a batch"):
        ours.KerasTuner(models["unbuilt"](), callbacks=[]).load(tmp_path / "run")


def test_regularizers_are_part_of_the_loss(ours, keras, layers):
    def first_loss(factor):
        keras.utils.set_random_seed(0)
        model = keras.Sequential([keras.Input((D,)), layers.Dense(8, kernel_regularizer=keras.regularizers.L2(factor))])
        penalty = factor * np.square(model.layers[0].get_weights()[0]).sum()
        tuner = ours.KerasTuner(model, callbacks=[])
        return tuner.fit(TRAIN, epochs=1, batch_size=48).history[0]["loss"] - penalty

    assert first_loss(0.1) == pytest.approx(first_loss(0.0), rel=1e-5)


def test_micro_batches_with_regularizers_and_embedding_layers(ours, keras, layers):
    """Activity regularizers are means over rows, and an embedding layer has sparse gradients."""

    def train(size):
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
        tuner = ours.KerasTuner(model, loss="NTXentLoss", optimizer="SGD", learning_rate=0.1, callbacks=[])
        run = tuner.fit((x, TRAIN.labels), epochs=3, batch_size=48, micro_batch_size=size)
        return [row["loss"] for row in run.history], weights(tuner)

    (whole_losses, whole), (cached_losses, cached) = train(None), train(20)
    assert cached_losses == pytest.approx(whole_losses, rel=1e-5)
    for name in whole:
        np.testing.assert_allclose(cached[name], whole[name], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16"])
def test_micro_batches_in_mixed_precision(ours, keras, backend, policy):
    def losses(size):
        tuner = make_tuner(backend, loss="NTXentLoss", learning_rate=0.01)
        run = tuner.fit(TRAIN, epochs=4, batch_size=48, micro_batch_size=size)
        return [row["loss"] for row in run.history]

    before = keras.config.dtype_policy()
    try:
        keras.config.set_dtype_policy(policy)
        assert losses(20) == pytest.approx(losses(None), rel=1e-2)
    finally:
        keras.config.set_dtype_policy(before)


def test_mixed_precision(ours, keras, backend):
    before = keras.config.dtype_policy()
    try:
        keras.config.set_dtype_policy("mixed_bfloat16")
        run = make_tuner(backend, learning_rate=0.01).fit(TRAIN, TEST, epochs=3, batch_size=48)
    finally:
        keras.config.set_dtype_policy(before)
    assert run.history[-1]["loss"] < run.history[1]["loss"]
    assert finetuner.embed(run.model, TRAIN).dtype == np.float32


def test_failed_step_is_rolled_back(ours, backend):
    tuner = make_tuner(backend)
    tuner.fit(TRAIN, epochs=1, batch_size=48)
    saved, slots = weights(tuner), tuner.engine.optimizer_state(tuner.optimizer)[0]
    huge = TRAIN.x.copy()
    huge[3] = 3e38  # finite, but overflows in the network
    with pytest.raises(ValueError, match="the model has the weights from before this batch"):
        tuner.fit((huge, TRAIN.labels), epochs=1, batch_size=48)
    assert same_arrays(saved, weights(tuner))
    assert same_arrays(slots, tuner.engine.optimizer_state(tuner.optimizer)[0])


@pytest.mark.parametrize("kind", ["instance", "schedule", "class"])
def test_kinds_of_optimizers(ours, keras, backend, tmp_path, kind):
    def create():
        optimizer = {
            "instance": lambda: keras.optimizers.SGD(0.01, momentum=0.9),
            "schedule": lambda: keras.optimizers.Adam(keras.optimizers.schedules.ExponentialDecay(0.01, 5, 0.9)),
            "class": lambda: keras.optimizers.AdamW,
        }[kind]()
        return make_tuner(backend, optimizer=optimizer)

    whole, first, second = create(), create(), create()
    whole.fit(TRAIN, epochs=2, batch_size=16)
    first.fit(TRAIN, epochs=1, batch_size=16).save(tmp_path / "run")
    second.load(tmp_path / "run").fit(TRAIN, epochs=1, batch_size=16)
    assert same_arrays(weights(whole), weights(second))
    other = make_tuner(backend, optimizer=keras.optimizers.SGD(0.01))
    if kind == "instance":
        with pytest.raises(ValueError, match="the optimizer must have the options of the one that was saved"):
            other.load(tmp_path / "run")


# Kinds of datasets.


@pytest.mark.parametrize("kind", ["PyDataset", "tf.data of batches", "tf.data of items"])
def test_keras_datasets(ours, keras, backend, kind):
    if kind == "PyDataset":

        class Batched(keras.utils.PyDataset):
            def __len__(self):
                return 3

            def __getitem__(self, number):
                rows = slice(16 * number, 16 * number + 16)
                return TRAIN.x[rows], TRAIN.labels[rows]

        data = Batched()
    else:
        if backend.engine != "tensorflow":
            pytest.skip("TensorFlow only")
        import tensorflow

        data = tensorflow.data.Dataset.from_tensor_slices((TRAIN.x, TRAIN.labels))
        data = data.batch(20) if kind.endswith("batches") else data
    tuner, expected = make_tuner(backend), make_tuner(backend)
    tuner.fit(data, data, epochs=1, batch_size=16)
    expected.fit(TRAIN, TRAIN, epochs=1, batch_size=16)
    assert same_arrays(weights(tuner), weights(expected))
    np.testing.assert_array_equal(tuner.embed(data), tuner.embed(TRAIN))


def test_infinite_datasets(ours, keras, backend):
    class Endless(keras.utils.PyDataset):
        num_batches = None

        def __getitem__(self, number):
            return TRAIN.x, TRAIN.labels

    with pytest.raises(TypeError, match="a dataset must have a length, got a Endless without one"):
        make_tuner(backend).fit(Endless())
    if backend.engine == "tensorflow":
        import tensorflow

        endless = tensorflow.data.Dataset.from_tensors((TRAIN.x, TRAIN.labels)).repeat()
        with pytest.raises(TypeError, match="a dataset must have an end"):
            make_tuner(backend).fit(endless)


# Engines.


def test_config_has_versions_and_device(ours, keras, backend):
    config = make_tuner(backend, device="cpu").fit(TRAIN, epochs=1, batch_size=48).config
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
    needed = {backend.engine, *({"jax"} if backend.engine != "jax" else ())}  # the other engines import JAX themselves
    assert not ({"tensorflow", "jax", "torch"} - needed) & set(loaded)


def test_unsupported_engine(ours, keras, backend, monkeypatch):
    model = backend.mlp(D, 8)
    monkeypatch.setattr(keras.backend, "backend", lambda: "openvino")
    message = r"Keras must run on one of tensorflow, jax, torch \(KERAS_BACKEND\), and runs on openvino"
    with pytest.raises(ValueError, match=message):
        ours.KerasTuner(model)
