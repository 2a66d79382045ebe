"""Tests of the engine for Keras only: freezing, optimizers, steps that are not taken, and models opened from folders."""

import functools
import json
import subprocess
import sys

import numpy as np
import pytest

import finetuner
from finetuner.tuner.base import Callback

from .test_keras import keras, layers, ours  # noqa: F401
from .toy import TRAIN, D, make_tuner, same_arrays, weights

pytest.importorskip("faiss")


def network(keras, layers, norm=False, built=True):
    keras.utils.set_random_seed(0)
    body = [layers.Dense(16, name="body"), *([layers.BatchNormalization(name="norm")] if norm else []), layers.ReLU()]
    return keras.Sequential([*([keras.Input((D,))] if built else []), *body, layers.Dense(8, name="head")])


def changed(tuner, before):
    """The names of the layers whose variables are not those from before."""
    pairs = zip(tuner.embed_model.weights, before, weights(tuner).values(), strict=True)
    return {variable.path.split("/")[-2] for variable, old, new in pairs if not np.array_equal(old, new)}


# Freezing.


@pytest.mark.parametrize("built", [True, False])
def test_frozen_weights_of_a_model_that_is_not_built(ours, keras, layers, built):
    tuner = ours.KerasTuner(network(keras, layers, built=built), callbacks=[], freeze=["body"])
    expected = network(keras, layers)
    tuner.fit(TRAIN, epochs=1, batch_size=16)
    assert changed(tuner, expected.get_weights()) == {"head"}


@pytest.mark.parametrize("freeze", [["body"], {"body": 1}, {"body": 2}])
def test_resuming_a_training_with_frozen_weights(ours, keras, layers, freeze, tmp_path):
    def tuner():
        return ours.KerasTuner(network(keras, layers), callbacks=[], freeze=freeze, weight_decay=0.1)

    whole, first, second = tuner(), tuner(), tuner()
    whole.fit(TRAIN, epochs=3, batch_size=16)
    first.fit(TRAIN, epochs=1, batch_size=16).save(tmp_path / "run")
    second.load(tmp_path / "run").fit(TRAIN, epochs=2, batch_size=16)
    assert same_arrays(weights(whole), weights(second))


def test_frozen_layers_keep_their_statistics(ours, keras, layers):
    tuner = ours.KerasTuner(network(keras, layers, norm=True), callbacks=[], freeze={"body|norm": 1})
    before = list(weights(tuner).values())
    tuner.fit(TRAIN, epochs=1, batch_size=16)
    assert changed(tuner, before) == {"head"}
    assert all(layer.trainable for layer in tuner.embed_model.layers)
    tuner.fit(TRAIN, epochs=1, batch_size=16)
    assert changed(tuner, before) == {"body", "norm", "head"}


@pytest.mark.parametrize("fits", [0, 1])
def test_unfrozen_weights_get_an_optimizer_of_their_own(ours, keras, layers, fits):
    model = network(keras, layers)
    model.get_layer("body").trainable = False
    tuner = ours.KerasTuner(model, callbacks=[], weight_decay=0.1)
    for _ in range(fits):
        tuner.fit(TRAIN, epochs=1, batch_size=16)
    model.get_layer("body").trainable = True
    before = list(weights(tuner).values())
    tuner.fit(TRAIN, epochs=1, batch_size=16)
    assert changed(tuner, before) == {"body", "head"}
    steps = [int(optimizer.iterations) for optimizer in tuner.optimizer.optimizers]
    assert steps == [3 * fits + 3] * 2 + [3] * 2  # kernel and bias of the head, then of the body


# Optimizers.


def test_schedules_that_are_objects(backend, ours):
    for schedule in (functools.partial(lambda factor, step: factor, 0.5), Half()):
        run = make_tuner(backend, schedule=schedule).fit(TRAIN, epochs=1, batch_size=48, log_every=1)
        assert run.log[-1]["learning_rate"] == 0.0005


class Half:
    def __call__(self, step):
        return 0.5


def test_schedules_of_keras(ours, keras, backend, tmp_path):
    def optimizer(rate=0.01):
        return keras.optimizers.SGD(keras.optimizers.schedules.ExponentialDecay(rate, 1, 0.5), momentum=0.9)

    with pytest.raises(ValueError, match="schedule and warmup must be left out with an optimizer whose learning rate"):
        make_tuner(backend, optimizer=optimizer(), warmup=3)
    with pytest.raises(ValueError, match="a schedule of Keras is the learning rate of an optimizer"):
        make_tuner(backend, schedule=optimizer()._learning_rate)
    make_tuner(backend, optimizer=optimizer()).fit(TRAIN, epochs=1, batch_size=16).save(tmp_path / "run")
    tuner = make_tuner(backend, optimizer=optimizer(0.08), seed=3).load(tmp_path / "run", keep_settings=True)
    tuner.fit(TRAIN, epochs=1, batch_size=48, log_every=1)
    assert tuner.log[-1]["learning_rate"] == pytest.approx(0.08 / 2**4)


def test_the_log_has_the_rate_that_a_callback_has_set(ours, backend):
    class Rate(Callback):
        def on_epoch_begin(self, state):
            state.tuner.optimizer.learning_rate = 0.5

    assert make_tuner(backend, [Rate()]).fit(TRAIN, epochs=1, batch_size=48).log[-1]["learning_rate"] == 0.5


def test_optimizers_around_others(ours, keras, backend):
    optimizer = keras.optimizers.LossScaleOptimizer(keras.optimizers.SGD(0.1))
    with pytest.raises(ValueError, match="optimizer must be a plain optimizer of Keras, got LossScaleOptimizer"):
        make_tuner(backend, optimizer=optimizer)


def test_patterns_of_the_weights_of_losses(ours, backend):
    tuner = make_tuner(
        backend, loss={"ArcFaceLoss": 1.0, "NTXentLoss": 1.0}, learning_rate={r"loss\..*weight": 0.1, "": 0.01}
    )
    tuner.fit(TRAIN, epochs=1, batch_size=48)
    assert tuner.engine.base_learning_rates() == [0.01, 0.1]


# Steps that are not taken.


def not_finite_for_large_inputs(keras, layers):
    """A model whose gradient is not finite if an input is above 50, and whose output is always finite."""

    class Model(keras.Model):
        def __init__(self):
            super().__init__()
            self.dense, self.norm = layers.Dense(8, name="first"), layers.BatchNormalization()

        def call(self, x, training=False):
            ops = keras.ops
            y = self.dense(ops.clip(x, -5, 5))
            zero = ops.sqrt(ops.sum(ops.where(ops.max(ops.abs(x)) > 50, 0.0, 1.0) * ops.square(y)))
            return self.norm(y + 1e-12 * zero, training=training)

    keras.utils.set_random_seed(0)
    model = Model()
    model(TRAIN.x[:2])
    return model


@pytest.mark.parametrize("fit", [{}, {"gradient_accumulation_steps": 2}, {"micro_batch_size": 9}])
def test_a_step_that_is_not_taken_changes_no_statistics(ours, keras, layers, fit, backend, request):
    """In the third batch of three, which is a step by itself if two are accumulated."""
    if backend.engine == "tensorflow" and "gradient_accumulation_steps" in fit:
        # On an AMD EPYC, the gradient of the third batch is finite if that batch is the first that Keras' own step gets.
        # It is not known why; on another processor it is NaN.
        request.applymarker(pytest.mark.xfail(strict=False))

    class Watch(Callback):
        def on_batch_end(self, state):
            states.append(weights(state.tuner))

    states = []
    x = TRAIN.x.copy()
    x[40] = 100
    tuner = ours.KerasTuner(not_finite_for_large_inputs(keras, layers), callbacks=[Watch()])
    batches = np.arange(48).reshape(3, 16)
    with pytest.raises(ValueError, match=r"the gradient must be finite, and is not for .*first/kernel"):
        tuner.fit((x, TRAIN.labels), epochs=1, sampler=list(batches), **fit)
    assert len(states) == 2
    assert same_arrays(states[1], weights(tuner))


def test_a_step_left_out_in_float16_changes_no_statistics(ours, keras, layers):
    tuner = ours.KerasTuner(network(keras, layers, norm=True), loss="NTXentLoss", precision="fp16", callbacks=[])
    engine, batch = tuner.engine, (TRAIN.x[:16], (TRAIN.labels[:16],))
    engine.scale.value = 2.0**60
    engine.begin_training()
    engine.begin_epoch(0)
    before = weights(tuner)
    for updates in ([True], [False, True]):
        for update in updates:
            engine.step(*batch, update=update)
        assert same_arrays(before, weights(tuner))
    assert engine.scale.value == 2.0**58


# Models opened from folders.


def test_a_saved_model_is_opened_in_another_process(ours, keras, layers, tmp_path):
    x = keras.Input((D,))
    hidden = keras.ops.relu(layers.BatchNormalization()(layers.Dense(8, "gelu")(x))) + x
    model = keras.Model(x, layers.UnitNormalization()(layers.Dropout(0.3)(hidden)))
    run = finetuner.fit(model, TRAIN, epochs=1, batch_size=16, callbacks=[], precision="bf16")
    run.save(tmp_path / "run")
    np.save(tmp_path / "x.npy", TRAIN.x)
    code = (
        "import sys, numpy as np, finetuner; folder = sys.argv[1]; "
        "np.save(folder + '/y.npy', finetuner.load(folder + '/run').embed(np.load(folder + '/x.npy')))"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=True, capture_output=True)
    np.testing.assert_array_equal(np.load(tmp_path / "y.npy"), finetuner.embed(run.model, TRAIN.x))


BAD = {
    "a module": {"module": "os", "class_name": "Popen", "registered_name": None},
    "a function": {
        "module": "os",
        "class_name": "function",
        "config": "system",
        "registered_name": "finetuner>TwoTower",
    },
    "a lambda": {"module": "keras.layers", "class_name": "Lambda", "registered_name": None},
    "code": {"module": None, "class_name": "__lambda__", "config": {"value": "4wEAAAA="}},
    "a class of the user": {"module": None, "class_name": "Mine", "registered_name": "mine>Mine"},
    "another package": {"module": "keras_of_mine.layers", "class_name": "Dense", "registered_name": None},
    "types that are wrong": {"module": 3, "class_name": ["Dense"], "registered_name": {}},
}


@pytest.mark.parametrize("name", BAD)
def test_a_saved_model_that_names_code_is_refused(ours, backend, name, tmp_path):
    make_tuner(backend).fit(TRAIN, epochs=1, batch_size=48).save(tmp_path / "run")
    file = tmp_path / "run" / "model.json"
    description = json.loads(file.read_text())
    description["keras"]["config"]["layers"][1] = {"config": {}, **BAD[name]}
    file.write_text(json.dumps(description))
    with pytest.raises(ValueError, match=r"the model in this folder names code, .*trust_code=True"):
        finetuner.load(tmp_path / "run")


def test_a_class_that_is_registered_is_not_code_of_the_folder(ours, keras, layers, tmp_path):
    @keras.saving.register_keras_serializable("tests")
    class Twice(layers.Layer):
        def call(self, x):
            return 2 * x

    model = keras.Sequential([keras.Input((D,)), layers.Dense(8), Twice()])
    run = finetuner.fit(model, TRAIN, epochs=1, batch_size=48, callbacks=[])
    run.save(tmp_path / "run")
    ours_again = finetuner.load(tmp_path / "run").embed(TRAIN.x)
    np.testing.assert_array_equal(ours_again, finetuner.embed(run.model, TRAIN.x))
    del keras.saving.get_custom_objects()["tests>Twice"]
    with pytest.raises(ValueError, match="the model in this folder names code, .*Twice"):
        finetuner.load(tmp_path / "run")
