"""Poolers in Keras models: masks, saved files, functional models and wrapper layers."""

import numpy as np
import pytest

import finetuner

from .reference.poolers import gem
from .test_poolers import cases, images

RNG = np.random.default_rng(0)
X, STEPS = RNG.random((4, 6, 6, 3), dtype=np.float32), RNG.random((3, 5, 2), dtype=np.float32)


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


def output(model, x):
    return model.predict(x, verbose=0)


@pytest.fixture
def functional(keras, layers):
    """A functional model for images of any size, with an operation and average pooling."""
    x = keras.Input((None, None, 3), name="image")
    maps = layers.Conv2D(4, 3, activation="relu", name="maps")(x / 2.0)
    pooled = layers.GlobalAveragePooling2D(name="pool")(maps)
    return keras.Model({"image": x}, layers.Dense(4, name="head")(pooled))


def expected_output(keras, model, p):
    maps = keras.Model(model.input, model.get_layer("maps").output)
    kernel, bias = model.get_layer("head").get_weights()
    return gem(np.moveaxis(output(maps, {"image": X}), -1, 1), None, p=p) @ kernel + bias


def test_functional_model_is_rebuilt_with_the_same_layers(ours, keras, functional, backend):
    before = output(functional, {"image": X})
    model = backend.replace_pooling(functional, ours.GeM(2.4))
    assert model is not functional
    assert [layer.name for layer in model.layers] == [layer.name for layer in functional.layers]
    assert all(model.get_layer(name) is functional.get_layer(name) for name in ("maps", "head"))
    np.testing.assert_allclose(
        output(model, {"image": X}), expected_output(keras, functional, 2.4), rtol=1e-4, atol=1e-6
    )
    np.testing.assert_allclose(output(model, {"image": X}), expected_output(keras, model, 2.4), rtol=1e-4, atol=1e-6)
    np.testing.assert_array_equal(output(functional, {"image": X}), before)
    run = finetuner.fit(model, ({"image": X}, [0, 0, 1, 1]), epochs=1, callbacks=[])
    assert not np.allclose(output(functional, {"image": X}), before)  # both models share the trained weights
    assert run.model is model


@pytest.mark.parametrize("mean", [False, True])
def test_pooler_uses_the_mask_of_previous_layers(ours, layers, keras, backend, mean):
    x = STEPS.copy()
    x[0, 3:], x[1, 1:] = 0, 0
    model = keras.Sequential([keras.Input((5, 2)), layers.Masking(), layers.GlobalAveragePooling1D()])
    pooler = ours.AveragePooling() if mean else ours.GeM(2.4, trainable=True)
    expected = output(model, x) if mean else gem(x, x.any(axis=2), p=2.4)
    np.testing.assert_allclose(output(backend.replace_pooling(model, pooler), x), expected, rtol=1e-5)


@pytest.mark.parametrize("first", [False, True])
def test_mask_as_an_input(ours, layers, keras, backend, first):
    steps, mask = keras.Input((2, 5) if first else (5, 2)), keras.Input((5,), dtype="bool")
    pool = layers.GlobalAveragePooling1D(data_format="channels_first" if first else "channels_last")
    model = keras.Model([steps, mask], pool(steps, mask=mask))
    valid = STEPS.any(axis=2) & (np.arange(5) < np.array([[3], [1], [0]]))
    pooled = output(
        backend.replace_pooling(model, ours.GeM(2.4)), [np.moveaxis(STEPS, 1, 2) if first else STEPS, valid]
    )
    np.testing.assert_allclose(pooled, gem(STEPS, valid, p=2.4), rtol=1e-5)


def test_cls_pooling_takes_the_first_step(ours, layers, keras, backend):
    model = keras.Sequential([keras.Input((5, 2)), layers.GlobalMaxPooling1D()])
    np.testing.assert_allclose(output(backend.replace_pooling(model, ours.CLSPooling()), STEPS), STEPS[:, 0])


@pytest.mark.parametrize("first", [False, True])
def test_data_format_of_the_layer_is_used(ours, layers, keras, backend, first):
    before = keras.config.image_data_format()
    model = keras.Sequential([layers.GlobalAveragePooling2D(data_format="channels_last")])
    try:
        keras.config.set_image_data_format("channels_first" if first else "channels_last")
        pooled = output(backend.replace_pooling(model, ours.GeM(2.4)), X)
    finally:
        keras.config.set_image_data_format(before)
    np.testing.assert_allclose(pooled, gem(np.moveaxis(X, -1, 1), None, p=2.4), rtol=1e-5)


def test_saved_files(ours, keras, functional, backend, tmp_path):
    run = finetuner.fit(
        functional,
        ({"image": X}, [0, 0, 1, 1]),
        pooler="GeM",
        pooler_options={"p": 2.4, "trainable": True},
        epochs=2,
        callbacks=[],
        learning_rate=0.1,
    )
    p = float(backend.numpy(run.model.get_layer("pool").pooler.p.value))
    assert p != pytest.approx(2.4)
    run.model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras", safe_mode=True)
    assert float(backend.numpy(loaded.get_layer("pool").pooler.p.value)) == p
    np.testing.assert_array_equal(output(loaded, {"image": X}), output(run.model, {"image": X}))


def test_config_keeps_p_and_trainable(ours, backend):
    pooler = ours.GeM(2.4, trainable=True)
    pooler.p.assign(5.5)
    pooler.trainable = False
    copy = ours.GeM.from_config(pooler.get_config())
    assert copy.arguments() == {"p": 5.5, "eps": 1e-6, "trainable": True}
    assert copy.name == pooler.name
    assert len(copy.trainable_variables) == 1
    fixed = ours.GeM(2.4)
    fixed.trainable = True  # an outer model may set it
    assert ours.GeM.from_config(fixed.get_config()).arguments() == fixed.arguments()
    assert not fixed.variables


def test_p_is_float32_in_mixed_precision(ours, layers, keras, backend):
    before = keras.config.dtype_policy()
    try:
        keras.config.set_dtype_policy("mixed_bfloat16")
        model = keras.Sequential([keras.Input((6, 6, 3)), layers.Conv2D(4, 3), layers.GlobalAveragePooling2D()])
        model = backend.replace_pooling(model, ours.GeM(2.4, trainable=True))
        assert keras.backend.standardize_dtype(model(X).dtype) == "bfloat16" == model.outputs[0].dtype
        assert model.layers[-1].pooler.p.dtype == "float32"
    finally:
        keras.config.set_dtype_policy(before)


def test_replacement_after_predict(ours, layers, keras, backend):
    class Subclassed(keras.Model):
        def __init__(self):
            super().__init__()
            self.pool = layers.GlobalAveragePooling2D()

        def call(self, x):
            return self.pool(x)

    model = Subclassed()
    np.testing.assert_allclose(output(model, X), X.mean(axis=(1, 2)), rtol=1e-5)
    assert backend.replace_pooling(model, ours.MaxPooling()) is model
    np.testing.assert_allclose(output(model, X), X.max(axis=(1, 2)))
    assert [type(layer).__name__ for layer in model.layers] == ["PooledLayer"]


def test_pooling_inside_a_wrapper_layer(ours, layers, keras, backend):
    video = np.stack([X, 2 * X], axis=1)
    model = keras.Sequential([keras.Input((2, 6, 6, 3)), layers.TimeDistributed(layers.GlobalMaxPooling2D())])
    pooled = output(backend.replace_pooling(model, ours.GeM(2.4)), video)
    maps = np.moveaxis(video.reshape(8, 6, 6, 3), -1, 1)
    np.testing.assert_allclose(pooled, gem(maps, None, p=2.4).reshape(4, 2, 3), rtol=1e-5)


def test_functional_model_that_overrides_call(ours, layers, keras, backend):
    class Scaled(keras.Model):
        def __init__(self):
            x = keras.Input((6, 6, 3))
            super().__init__(x, layers.GlobalAveragePooling2D()(x))

        def call(self, x):
            return 2 * super().call(x)

    with pytest.raises(ValueError, match="must not override call to be rebuilt, as Scaled does"):
        backend.replace_pooling(Scaled(), ours.GeM())


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("a pool in the end", None),
        ("a pool after a block", None),
        ("a pool of two scales", None),
        ("a stem", "that pools globally"),
        ("a stem of small maps", "comes after it"),
        ("a block", "that pools globally"),
        ("a block that shares the pool", "that pools globally"),
        ("a residual path", "that pools globally"),
        ("a pool that is not called", "that pools globally"),
    ],
)
@pytest.mark.parametrize("nested", [False, True])
def test_the_graph_tells_which_layer_is_the_only_path(ours, keras, backend, name, reason, nested):
    from finetuner.tuner.keras.surgery import layers_of

    layers, forward, right, _ = cases(backend)[name]
    x = keras.Input((8, 8, 1))
    model = keras.Model(x, forward(layers, x))
    if nested:
        outer = keras.Input((8, 8, 1))
        model = keras.Model(outer, model(outer) * 2.0)
    if reason is not None:
        with pytest.raises(ValueError, match=reason):
            backend.Tuner(model, pooler="GeM", callbacks=[]).embed(images(backend)[0])
        return
    tuner = backend.Tuner(model, pooler="GeM", callbacks=[])
    assert tuner.encoder.framework.unchecked is None  # as no forward pass is needed
    tuner.embed(images(backend)[0])
    kinds = {layer.name: type(layer).__name__ for layer in layers_of(tuner.model)}
    assert [name for name, kind in kinds.items() if kind == "PooledLayer"] == [layers[right].name]


def test_windows_in_a_graph(ours, layers, keras, backend):
    """A pooling with a window is global for some sizes, which a graph for images of any size does not tell."""
    x = np.random.default_rng(0).random((4, 8, 8, 1), dtype=np.float32)
    for size, window, refused in (
        (8, 8, None),
        (8, 4, "that pools globally"),
        (None, 8, None),
        (None, 4, r"has the shape \[4, 2, 2, 1\]"),
    ):
        image = keras.Input((size, size, 1))
        pooled = layers.AveragePooling2D(window)(layers.Conv2D(1, 3, padding="same")(image))
        model = keras.Model(image, layers.Dense(3)(keras.ops.mean(pooled, (1, 2))))
        if refused is None:
            assert backend.Tuner(model, pooler="GeM", callbacks=[]).embed(x).shape == (4, 3)
        else:
            with pytest.raises(ValueError, match=refused):
                backend.Tuner(model, pooler="GeM", callbacks=[]).embed(x)


@pytest.mark.parametrize("pooling", ["avg", None])
def test_an_application_with_squeeze_and_excitation(ours, keras, backend, pooling):
    model = keras.applications.MobileNetV3Small((32, 32, 3), weights=None, include_top=False, pooling=pooling)
    if pooling is None:
        with pytest.raises(ValueError, match="that pools globally, to be replaced by GeM"):
            backend.replace_pooling(model, ours.GeM())
        return
    new = backend.replace_pooling(model, ours.GeM())
    assert [layer.name for layer in new.layers if type(layer).__name__ == "PooledLayer"] == [model.layers[-1].name]
