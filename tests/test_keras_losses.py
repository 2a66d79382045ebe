"""Keras' side of the losses: configs, weights that it trains and saves, labels on the host, its own losses."""

import numpy as np
import pytest

from .reference.batches import points
from .test_keras import keras, layers, ours  # noqa: F401

X, Y = points(6).astype("float32"), np.array([0, 1, 2, 2, 1, 0])


def in_json(keras, thing):
    """What a file would make of a thing."""
    import json

    return keras.saving.deserialize_keras_object(json.loads(json.dumps(keras.saving.serialize_keras_object(thing))))


ARGUMENTS = {
    "ArcFaceLoss": {"in_features": 4, "num_classes": 3, "smoothing_epsilon": 0.1, "label2category": {0: "a", 1: "b", 2: 3}},
    "ArcFaceLossWithMLP": {"in_features": 4, "num_classes": 3, "mlp_features": [5, 4]},
    "CosFaceLoss": {"smoothing_epsilon": 0.2, "label2category": {7: "a", "x": "b"}},
    "FocalLoss": {"weight": [0.5, 2.0, 1.0, 0.0]},
    "CLIPLoss": {"temperature": 0.2, "learnable": True},
    "LambdaRankLoss": {"k": 3},
}  # fmt: skip


def test_every_loss_is_made_again_of_its_config(ours, keras, backend):
    from finetuner.tuner.base.registry import describe

    for name in backend.losses.__all__:
        if name == "Loss":
            continue
        loss = getattr(ours, name)(**ARGUMENTS.get(name, {}), need_logs=True)
        for again in (type(loss).from_config(loss.get_config()), in_json(keras, loss)):
            assert again.name == loss.name
            told, kept = describe(loss), describe(again)
            if name == "ArcFaceLoss":  # by number, once classes are numbered
                assert kept["options"].pop("label2category") == [1, 2, 0]
                assert told["options"].pop("label2category") == {"0": "a", "1": "b", "2": 3}
                np.testing.assert_array_equal(again.categories, loss.categories)
            assert kept == told
            assert [w.shape for w in again.weights] == [w.shape for w in loss.weights]
    assert again.get_config() == loss.get_config()


def test_a_mapping_keeps_its_keys(ours, keras):
    loss = in_json(keras, ours.CosFaceLoss(**ARGUMENTS["CosFaceLoss"]))
    loss.create_weights(4, 2, names=[7, "x"])
    again = in_json(keras, loss)  # whose classes are numbered
    np.testing.assert_array_equal(again.categories, loss.categories)


def test_a_teacher_is_no_part_of_a_loss(ours, keras, backend):
    loss = ours.DistillationLoss(teacher=backend.mlp(4, 3))
    assert loss.teacher is not None
    assert (loss.weights, in_json(keras, loss).teacher) == ([], None)


@pytest.mark.parametrize("name", ["ArcFaceLoss", "ArcFaceLossWithMLP"])
def test_weights_are_the_layer_s_and_may_grow(ours, backend, name):
    loss = getattr(ours, name)()
    assert (loss.weights, loss.weights_on_host()) == ([], {})
    loss.create_weights(4, 3, seed=1)
    loss(X, Y)
    old = loss.weights_on_host()
    names = [weight.name for weight in loss.trainable_weights]
    assert set(names) == set(old)
    assert all(getattr(loss, weight.name) is weight for weight in loss.weights)
    assert all(weight.path == f"{loss.name}/{weight.name}" for weight in loss.weights)
    loss.create_weights(4, 5)
    new = loss.weights_on_host()
    assert [weight.name for weight in loss.trainable_weights] == names
    np.testing.assert_array_equal(new["weight"][:3], old["weight"])
    assert new["weight"].shape[0] == 5
    loss(X, Y + 2)
    before = new["weight"].copy()
    loss.weight.assign(np.zeros_like(before))
    np.testing.assert_array_equal(new["weight"], before)  # a copy


def test_a_loss_in_a_model_is_trained_and_saved_with_it(ours, keras, layers, tmp_path):
    """As a layer of a model that returns its loss."""
    embedded, labels = keras.Input((4,)), keras.Input((), dtype="int32")
    model = keras.Model([embedded, labels], ours.ArcFaceLoss(4, 3, scale=8.0)(embedded, labels))
    before = model.layers[-1].weights_on_host()["weight"]
    model.compile(keras.optimizers.SGD(0.1), loss=mean_of)
    losses = model.fit([X, Y], np.zeros(6), batch_size=6, epochs=3, verbose=0).history["loss"]
    assert losses[2] < losses[1] < losses[0]
    trained = model.layers[-1].weights_on_host()["weight"]
    assert not np.allclose(before, trained)
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras", compile=False)
    np.testing.assert_array_equal(again.layers[-1].weights_on_host()["weight"], trained)


def mean_of(y_true, y_pred):
    return y_pred


def test_labels_that_are_no_class(ours, backend):
    loss = ours.ArcFaceLoss(4, 3)
    with pytest.raises(ValueError, match=r"labels must lie in 0\.\.2, got 3"):
        loss(X, Y + 1)
    with pytest.raises(ValueError, match=r"labels must lie in 0\.\.2, got -1"):
        loss(backend.tensor(X), backend.tensor(Y - 1))
    if "traced" in backend.modes:  # whose values no compiler has
        value = backend.compiled(lambda x, y: loss(x, y), "traced")(backend.tensor(X), backend.tensor(Y + 1))
        assert value.shape == ()


def test_labels_of_any_argument_must_be_held(ours, backend):
    if backend.engine != "jax":
        pytest.skip("JAX alone has no 64 bits")
    with pytest.raises(ValueError, match="groups must be held by Keras' jax engine"):
        ours.RankNetLoss()(X[:, 0], Y, groups=Y + 2**40)


def test_centres_stay_in_float32_whatever_the_policy(ours, backend):
    with backend.autocast():
        inside = ours.ArcFaceLoss(4, 3)
        assert inside.weight.dtype == "float32"
        got = backend.numpy(inside(X, Y))
    assert got == backend.numpy(ours.ArcFaceLoss(4, 3)(X, Y))


def test_float64_stays_float64(ours, backend):
    if not backend.has_float64:
        pytest.skip("JAX has no 64 bits by default")
    x = backend.tensor(X.astype("float64"))
    assert "float64" in str(ours.SupConLoss()(x, backend.tensor(Y)).dtype)
    assert "float64" in str(ours.TripletLoss()(x, backend.tensor(Y)).dtype)


def test_a_temperature_at_its_bound_is_trained(ours, backend, keras):
    """minimum and clip have half a gradient there on some engines."""
    loss = ours.CLIPLoss(temperature=0.01, learnable=True)
    slopes = []
    for temperature in (0.01, 0.0101):
        loss.log_scale.assign(-np.log(temperature))
        model = keras.Sequential([keras.Input((4,)), layers_of(keras, loss)])
        model.compile(keras.optimizers.SGD(1.0), loss=mean_of)
        before = loss.weights_on_host()["log_scale"]
        model.train_on_batch(X, np.zeros(6))
        slopes.append(loss.weights_on_host()["log_scale"] - before)
    assert slopes[0] == pytest.approx(slopes[1], rel=0.1)
    assert slopes[0] != 0


def layers_of(keras, loss):
    class Twice(keras.layers.Layer):
        def __init__(self):
            super().__init__()
            self.loss = loss
            self.built = True

        def call(self, x):
            return self.loss(x, keras.ops.flip(x, axis=0) + 0.5)

    return Twice()


# Keras' own losses.


@pytest.mark.parametrize("kind", ["MeanSquaredError", "MeanAbsoluteError", "Huber", "LogCosh", "BinaryCrossentropy"])
@pytest.mark.parametrize("column", [False, True])
def test_a_native_loss_of_a_value_each(ours, keras, backend, kind, column):
    outputs = 1 / (1 + np.exp(-X[:, 0]))
    targets, weights = (Y > 0).astype("float32"), np.arange(6, dtype="float32")
    made = getattr(keras.losses, kind)
    each = [float(made()(targets[i : i + 1], outputs[i : i + 1])) for i in range(6)]
    loss = native(backend)(made())
    given = outputs[:, None] if column else outputs
    np.testing.assert_allclose(float(loss(given, targets)), np.mean(each), rtol=1e-5)
    np.testing.assert_allclose(float(loss(given, targets, weights)), np.average(each, weights=weights), rtol=1e-5)
    summed = native(backend)(made(reduction="sum"))
    np.testing.assert_allclose(float(summed(given, targets)), np.sum(each), rtol=1e-5)


def test_a_native_loss_of_classes(ours, keras, backend):
    made, weights = keras.losses.SparseCategoricalCrossentropy(from_logits=True), np.arange(6, dtype="float32")
    each = np.log(np.exp(X).sum(axis=1)) - X[np.arange(6), Y]
    loss = native(backend)(made)
    np.testing.assert_allclose(float(loss(X, Y)), each.mean(), rtol=1e-5)
    np.testing.assert_allclose(float(loss(X, Y, weights)), np.average(each, weights=weights), rtol=1e-5)
    one_hot = native(backend)(keras.losses.CategoricalCrossentropy(from_logits=True))
    np.testing.assert_allclose(float(one_hot(X, np.eye(4)[Y])), each.mean(), rtol=1e-5)
    again = in_json(keras, loss)
    np.testing.assert_allclose(float(again(X, Y)), each.mean(), rtol=1e-5)


def test_native_losses_by_name(ours, keras, backend):
    for name in native(backend).names:
        assert native(backend).is_native(getattr(keras.losses, name)())
    with pytest.raises(TypeError, match=r"loss must be one of keras\.losses, got KerasLoss"):
        native(backend)(ours.KerasLoss(ours.TripletLoss()))


def native(backend):
    from finetuner.tuner.keras.native_loss import NativeLoss

    return NativeLoss


@pytest.mark.parametrize("name", ["ArcFaceLoss", "ContrastiveLoss", "RankNetLoss", "CLIPLoss", "DistillationLoss"])
def test_compile_takes_losses_of_labels_without_weights(ours, name):
    with pytest.raises(TypeError, match=f"without weights that takes labels alone, got {name}"):
        ours.KerasLoss(getattr(ours, name)())


def test_focal_loss_goes_with_compile(ours, keras, backend):
    model = backend.mlp(4, 3)
    model.compile("sgd", loss=ours.KerasLoss(ours.FocalLoss()))
    direct = float(ours.FocalLoss()(backend.tensor(model.predict(X, verbose=0)), backend.tensor(Y)))
    np.testing.assert_allclose(model.train_on_batch(X, Y), direct, rtol=1e-4)
