"""Losses in Keras: configs, trainable weights, saved files, checks of labels, and losses of Keras."""

import numpy as np
import pytest

from .reference.batches import points
from .test_keras import keras, layers, ours  # noqa: F401

X, Y = points(6).astype("float32"), np.array([0, 1, 2, 2, 1, 0])


def json_round_trip(keras, component):
    """Serialize a component to JSON and deserialize it."""
    import json

    return keras.saving.deserialize_keras_object(json.loads(json.dumps(keras.saving.serialize_keras_object(component))))


ARGUMENTS = {
    "ArcFaceLoss": {"in_features": 4, "num_classes": 3, "smoothing_epsilon": 0.1, "label2category": {0: "a", 1: "b", 2: 3}},
    "ArcFaceLossWithMLP": {"in_features": 4, "num_classes": 3, "mlp_features": [5, 4]},
    "CosFaceLoss": {"smoothing_epsilon": 0.2, "label2category": {7: "a", "x": "b"}},
    "FocalLoss": {"weight": [0.5, 2.0, 1.0, 0.0]},
    "CLIPLoss": {"temperature": 0.2, "learnable": True},
    "LambdaRankLoss": {"k": 3},
}  # fmt: skip


def test_losses_are_created_from_their_config(ours, keras, backend):
    from finetuner.tuner.base.registry import describe

    for name in backend.losses.__all__:
        if name == "Loss":
            continue
        loss = getattr(ours, name)(**ARGUMENTS.get(name, {}), need_logs=True)
        for copy in (type(loss).from_config(loss.get_config()), json_round_trip(keras, loss)):
            assert copy.name == loss.name
            expected, actual = describe(loss), describe(copy)
            if name == "ArcFaceLoss":  # classes have numbers after the weights are created
                assert actual["options"].pop("label2category") == [1, 2, 0]
                assert expected["options"].pop("label2category") == {"0": "a", "1": "b", "2": 3}
                np.testing.assert_array_equal(copy.categories, loss.categories)
            assert actual == expected
            assert [w.shape for w in copy.weights] == [w.shape for w in loss.weights]
    assert copy.get_config() == loss.get_config()


def test_label2category_keeps_its_keys(ours, keras):
    loss = json_round_trip(keras, ours.CosFaceLoss(**ARGUMENTS["CosFaceLoss"]))
    loss.create_weights(4, 2, names=[7, "x"])
    copy = json_round_trip(keras, loss)  # its classes have numbers
    np.testing.assert_array_equal(copy.categories, loss.categories)


def test_teacher_is_not_part_of_the_config(ours, keras, backend):
    loss = ours.DistillationLoss(teacher=backend.mlp(4, 3))
    assert loss.teacher is not None
    assert (loss.weights, json_round_trip(keras, loss).teacher) == ([], None)


@pytest.mark.parametrize("name", ["ArcFaceLoss", "ArcFaceLossWithMLP"])
def test_weights_belong_to_the_layer_and_can_grow(ours, backend, name):
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


def test_loss_as_a_layer_is_trained_and_saved(ours, keras, layers, tmp_path):
    """The loss is a layer of a model that returns its own loss."""
    embedded, labels = keras.Input((4,)), keras.Input((), dtype="int32")
    model = keras.Model([embedded, labels], ours.ArcFaceLoss(4, 3, scale=8.0)(embedded, labels))
    before = model.layers[-1].weights_on_host()["weight"]
    model.compile(keras.optimizers.SGD(0.1), loss=returned_loss)
    losses = model.fit([X, Y], np.zeros(6), batch_size=6, epochs=3, verbose=0).history["loss"]
    assert losses[2] < losses[1] < losses[0]
    trained = model.layers[-1].weights_on_host()["weight"]
    assert not np.allclose(before, trained)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras", compile=False)
    np.testing.assert_array_equal(loaded.layers[-1].weights_on_host()["weight"], trained)


def returned_loss(y_true, y_pred):
    return y_pred


def test_labels_out_of_range(ours, backend):
    loss = ours.ArcFaceLoss(4, 3)
    with pytest.raises(ValueError, match=r"labels must be integers in 0\.\.2, got 3"):
        loss(X, Y + 1)
    with pytest.raises(ValueError, match=r"labels must be integers in 0\.\.2, got -1"):
        loss(backend.tensor(X), backend.tensor(Y - 1))
    if "traced" in backend.modes:  # a compiler has no values to check
        value = backend.compiled(lambda x, y: loss(x, y), "traced")(backend.tensor(X), backend.tensor(Y + 1))
        assert value.shape == ()


def test_all_label_arguments_are_checked_for_overflow(ours, backend):
    if backend.engine != "jax":
        pytest.skip("only JAX disables 64-bit types")
    with pytest.raises(ValueError, match="groups must fit the integers of Keras' jax engine"):
        ours.RankNetLoss()(X[:, 0], Y, groups=Y + 2**40)


def test_centres_are_float32_under_any_dtype_policy(ours, backend):
    with backend.autocast():
        loss = ours.ArcFaceLoss(4, 3)
        assert loss.weight.dtype == "float32"
        value = backend.numpy(loss(X, Y))
    assert value == backend.numpy(ours.ArcFaceLoss(4, 3)(X, Y))


def test_float64_stays_float64(ours, backend):
    if not backend.has_float64:
        pytest.skip("JAX disables float64 by default")
    x = backend.tensor(X.astype("float64"))
    assert "float64" in str(ours.SupConLoss()(x, backend.tensor(Y)).dtype)
    assert "float64" in str(ours.TripletLoss()(x, backend.tensor(Y)).dtype)


def test_temperature_at_its_bound_is_trained(ours, backend, keras):
    """On some engines, minimum and clip halve the gradient at the bound."""
    loss = ours.CLIPLoss(temperature=0.01, learnable=True)
    changes = []
    for temperature in (0.01, 0.0101):
        loss.log_scale.assign(-np.log(temperature))
        model = keras.Sequential([keras.Input((4,)), clip_layer(keras, loss)])
        model.compile(keras.optimizers.SGD(1.0), loss=returned_loss)
        before = loss.weights_on_host()["log_scale"]
        model.train_on_batch(X, np.zeros(6))
        changes.append(loss.weights_on_host()["log_scale"] - before)
    assert changes[0] == pytest.approx(changes[1], rel=0.1)
    assert changes[0] != 0


def clip_layer(keras, loss):
    class WithFlippedRows(keras.layers.Layer):
        def __init__(self):
            super().__init__()
            self.loss = loss
            self.built = True

        def call(self, x):
            return self.loss(x, keras.ops.flip(x, axis=0) + 0.5)

    return WithFlippedRows()


# Losses of Keras.


@pytest.mark.parametrize("kind", ["MeanSquaredError", "MeanAbsoluteError", "Huber", "LogCosh", "BinaryCrossentropy"])
@pytest.mark.parametrize("column", [False, True])
def test_native_regression_losses(ours, keras, backend, kind, column):
    outputs = 1 / (1 + np.exp(-X[:, 0]))
    targets, weights = (Y > 0).astype("float32"), np.arange(6, dtype="float32")
    loss_class = getattr(keras.losses, kind)
    values = [float(loss_class()(targets[i : i + 1], outputs[i : i + 1])) for i in range(6)]
    loss = native(backend)(loss_class())
    predictions = outputs[:, None] if column else outputs
    np.testing.assert_allclose(float(loss(predictions, targets)), np.mean(values), rtol=1e-5)
    np.testing.assert_allclose(
        float(loss(predictions, targets, weights)), np.average(values, weights=weights), rtol=1e-5
    )
    summed = native(backend)(loss_class(reduction="sum"))
    np.testing.assert_allclose(float(summed(predictions, targets)), np.sum(values), rtol=1e-5)


def test_native_classification_losses(ours, keras, backend):
    cross_entropy, weights = keras.losses.SparseCategoricalCrossentropy(from_logits=True), np.arange(6, dtype="float32")
    values = np.log(np.exp(X).sum(axis=1)) - X[np.arange(6), Y]
    loss = native(backend)(cross_entropy)
    np.testing.assert_allclose(float(loss(X, Y)), values.mean(), rtol=1e-5)
    np.testing.assert_allclose(float(loss(X, Y, weights)), np.average(values, weights=weights), rtol=1e-5)
    one_hot = native(backend)(keras.losses.CategoricalCrossentropy(from_logits=True))
    np.testing.assert_allclose(float(one_hot(X, np.eye(4)[Y])), values.mean(), rtol=1e-5)
    copy = json_round_trip(keras, loss)
    np.testing.assert_allclose(float(copy(X, Y)), values.mean(), rtol=1e-5)


def test_native_losses_by_name(ours, keras, backend):
    for name in native(backend).names:
        assert native(backend).is_native(getattr(keras.losses, name)())
    with pytest.raises(TypeError, match=r"loss must be one of keras\.losses, got KerasLoss"):
        native(backend)(ours.KerasLoss(ours.TripletLoss()))


def native(backend):
    from finetuner.tuner.keras.native_loss import NativeLoss

    return NativeLoss


@pytest.mark.parametrize("name", ["ArcFaceLoss", "ContrastiveLoss", "RankNetLoss", "CLIPLoss", "DistillationLoss"])
def test_keras_loss_needs_a_loss_of_labels_without_weights(ours, name):
    with pytest.raises(TypeError, match=f"must have no weights and take labels only, got {name}"):
        ours.KerasLoss(getattr(ours, name)())


def test_focal_loss_with_compile(ours, keras, backend):
    model = backend.mlp(4, 3)
    model.compile("sgd", loss=ours.KerasLoss(ours.FocalLoss()))
    direct = float(ours.FocalLoss()(backend.tensor(model.predict(X, verbose=0)), backend.tensor(Y)))
    np.testing.assert_allclose(model.train_on_batch(X, Y), direct, rtol=1e-4)
