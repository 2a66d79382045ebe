"""Trainable poolers, and poolers that replace the pooling of a model."""

import json

import numpy as np
import pytest

import finetuner

from .backends import weighted
from .reference import POOLERS, numerical_gradient
from .reference.poolers import INPUTS, MAPS, gem
from .toy import TRAIN, D, same_arrays, weights

TRAINED = {"p": 2.4, "eps": 1e-5, "trainable": True}


def patterns(classes, items_per_class=8, seed=0):
    """Images ``[N, 1, 8, 8]`` of stripes. The direction of the stripes is the class."""
    rng = np.random.default_rng(seed)
    y = np.repeat(classes, items_per_class)
    rows, columns = np.indices((8, 8))
    angles = np.pi * y[:, None, None] / 8
    waves = np.sin(2 * (np.cos(angles) * rows + np.sin(angles) * columns) + rng.uniform(0, 6, (len(y), 1, 1)))
    return (waves + 0.1 * rng.normal(size=waves.shape)).astype(np.float32)[:, None], y


def images(backend, classes=(0, 2, 4, 6), **options):
    x, y = patterns(classes, **options)
    return backend.layout(x), y


def run_on(backend, model, x):
    return backend.numpy(model(backend.tensor(x)))


def trained_p(backend, model):
    """The exponent p among the weights of a model."""
    (weight,) = [w for name, w in backend.named_weights(model).items() if name.rpartition(".")[2] == "p"]
    return weight


# A trainable exponent.


def test_p_is_a_weight(backend):
    pooler = backend.poolers.GeM(**TRAINED)
    (name,) = backend.named_weights(pooler)
    assert name == "p"
    value = backend.numpy(pooler.p)
    assert (value.shape, value.dtype, value) == ((), np.float32, np.float32(2.4))
    assert pooler.arguments() == TRAINED
    assert not backend.named_weights(backend.poolers.GeM())
    assert backend.poolers.GeM().arguments() == {"p": 3.0, "eps": 1e-6, "trainable": False}


@pytest.mark.parametrize("p", [0.1, 1.0, 2.4, 20.0])
@pytest.mark.parametrize("name", INPUTS)
def test_gradient_wrt_p(backend, name, p):
    x, mask = INPUTS[name]
    pooler = backend.poolers.GeM(p, trainable=True)
    left, right = numerical_gradient(lambda given: weighted(gem(x, mask, p=given[0])), np.array([p]))
    gradient = backend.gradient_wrt(pooler.p, pooler, backend.layout(x), mask)
    np.testing.assert_allclose(gradient, (left + right)[0] / 2, rtol=1e-3, atol=1e-6 * np.abs(x).max())


@pytest.mark.parametrize("p", [0.09, 0.0, -1e9])
@pytest.mark.parametrize("name", ["maps", "zeros", "steps with a mask"])
def test_exponent_below_the_minimum_is_clamped(backend, name, p):
    x, mask = INPUTS[name]
    low, minimum = (backend.poolers.GeM(0.1, trainable=True) for _ in range(2))
    backend.assign(low.p, p)
    values = [
        backend.numpy(pooler(backend.tensor(backend.layout(x), "float32"), mask=backend.tensor(mask)))
        for pooler in (low, minimum)
    ]
    np.testing.assert_array_equal(*values)
    gradients = [backend.gradient_wrt(pooler.p, pooler, backend.layout(x), mask) for pooler in (low, minimum)]
    assert gradients[0] == gradients[1]
    assert np.isfinite(gradients).all()
    assert low.arguments()["p"] == 0.1
    assert type(low)(**low.arguments()).arguments() == low.arguments()


def test_bad_arguments(backend):
    with pytest.raises(ValueError, match=r"a trained p must be at least 0\.1, got 0\.05"):
        backend.poolers.GeM(0.05, trainable=True)
    assert backend.poolers.GeM(0.05).p == 0.05
    with pytest.raises(ValueError, match="p must be above 0, got -1"):
        backend.poolers.GeM(-1, trainable=True)
    with pytest.raises(ValueError, match="trainable must be one of False, True, got 'yes'"):
        backend.poolers.GeM(trainable="yes")


# Replacement of a pooling layer.


def test_every_pooling_layer_of_the_framework_is_replaced(backend):
    x = np.abs(np.random.default_rng(0).normal(size=(2, 3, 4, 4, 4))).astype(np.float32)
    cases = backend.pooling_layers()
    assert {axes for _, axes, _, _ in cases.values()} == {1, 2, 3}
    for name, (layer, axes, channels_last, keepdims) in cases.items():
        maps = x[(..., *[0] * (3 - axes))]
        pooled = pool_with_gem(backend, layer, np.moveaxis(maps, 1, -1) if channels_last else maps)
        expected = gem(np.moveaxis(maps.reshape(2, 3, -1), 1, 2), None, p=2.4)
        ones = [1] * axes if keepdims else []
        shape = (2, *ones, 3) if channels_last else (2, 3, *ones)
        assert pooled.shape == shape, name
        np.testing.assert_allclose(pooled.reshape(2, 3), expected, rtol=1e-5, err_msg=name)


def pool_with_gem(backend, layer, x):
    """The output for ``x`` of a model with only ``layer``, after GeM replaced the layer."""
    return run_on(backend, backend.replace_pooling(backend.single_layer_model(layer), backend.poolers.GeM(2.4)), x)


KINDS = ["sequential", "nested", "subclassed", "around another", "inside another", "ours"]


@pytest.mark.parametrize("used", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_replacement_in_kinds_of_models(backend, kind, used):
    x = backend.layout(MAPS[:, :, :, :4].repeat(2, axis=2).repeat(2, axis=3).astype(np.float32))
    model, body = backend.pooling_model(kind)
    before = run_on(backend, model, x) if used else None
    maps = backend.layout(run_on(backend, body, x), back=True)
    average = backend.replace_pooling(model, backend.poolers.AveragePooling())
    if used:
        np.testing.assert_allclose(run_on(backend, average, x), before, rtol=1e-5)
    for pooler, expected in [
        (backend.poolers.GeM(2.4), gem(maps, None, p=2.4)),
        (backend.poolers.MaxPooling(), POOLERS["MaxPooling"].function(maps, None)),
    ]:
        average = backend.replace_pooling(average, pooler)  # replaces a pooler of ours
        np.testing.assert_allclose(run_on(backend, average, x), expected, rtol=1e-5)


def test_average_pooling_replaces_average_pooling_exactly(backend):
    x, _ = images(backend)
    model = backend.conv()
    before = finetuner.embed(model, x)
    after = backend.Tuner(model, callbacks=[], pooler="AveragePooling").embed(x)
    np.testing.assert_allclose(after, before, rtol=1e-4, atol=1e-6)


def test_a_model_without_pooling(backend):
    model = backend.mlp(D, 16, 8)
    with pytest.raises(
        ValueError, match=r"must have a pooling layer .* to be replaced by GeM, and has none among .*: "
    ):
        finetuner.fit(model, TRAIN, pooler="GeM")


# Which layer is replaced: the global pooling whose output is the only path to the embeddings.


def squeezed(backend, x, pooled, layers):
    """A squeeze-and-excitation block."""
    return x * backend.sigmoid(layers["gate"](pooled))


def cases(backend):
    """Of each model: its layers in order, its function, the name of the right layer or None, the reason to refuse."""
    layer, mean = backend.layer, backend.spatial_mean
    body, head, gate = lambda: layer("conv", 1, 6, 3), lambda: layer("linear", 6, 5), lambda: layer("conv", 6, 6, 1)

    def stem_and_function(m, x):
        return m["head"](mean(m["body"](m["stem"](x))))

    def stem_and_pool(m, x):
        return m["head"](mean(m["pool"](m["body"](m["stem"](x)))))

    def block_and_function(m, x):
        x = m["body"](x)
        return m["head"](mean(squeezed(backend, x, m["block pool"](x), m)))

    def block_and_pool(m, x):
        x = m["body"](x)
        return m["head"](mean(m["pool"](squeezed(backend, x, m["block pool"](x), m))))

    def shared(m, x):
        x = m["body"](x)
        return m["head"](mean(m["pool"](squeezed(backend, x, m["pool"](x), m))))

    def residual(m, x):
        x = m["body"](x)
        return m["head"](mean(m["pool"](x))) + 1e-4 * m["other"](mean(x))

    def scales(m, x):
        return m["head"](mean(m["pool"](m["body"](x))) + mean(m["pool"](m["body"](m["stem"](x)))))

    def unused(m, x):
        return m["head"](mean(m["body"](x)))

    def pool(**options):
        return layer("global pool")

    def named(**layers):
        return {name.replace("_", " "): made() for name, made in layers.items()}

    def stem():
        return layer("max pool", 2)

    return {
        "a pool in the end": (named(body=body, pool=pool, stem=stem, head=head), stem_and_pool, "pool", None),
        "a pool of the whole map": (
            named(stem=stem, body=body, pool=lambda: layer("average pool", 4), head=head),
            stem_and_pool,
            "pool",
            None,
        ),
        "a pool after a block": (
            named(body=body, block_pool=pool, gate=gate, pool=pool, head=head),
            block_and_pool,
            "pool",
            None,
        ),
        "a pool of two scales": (named(stem=stem, body=body, pool=pool, head=head), scales, "pool", None),
        "a stem": (named(stem=stem, body=body, head=head), stem_and_function, None, "is not one vector per item, but "),
        "a stem of small maps": (
            named(stem=lambda: layer("max pool", 8), body=body, head=head),
            stem_and_function,
            None,
            "comes after it",
        ),
        "a stem before a pool of several positions": (
            named(
                stem=lambda: layer("max pool", 8),
                body=lambda: layer("conv", 1, 6, 1),
                pool=lambda: layer("pool to", 2),
                head=head,
            ),
            lambda m, x: m["head"](mean(m["pool"](backend.twice(m["body"](m["stem"](x)))))),
            None,
            "comes after it",
        ),
        "a block": (
            named(body=body, block_pool=pool, gate=gate, head=head),
            block_and_function,
            None,
            "there is another path",
        ),
        "a block that shares the pool": (
            named(body=body, gate=gate, pool=pool, head=head),
            shared,
            None,
            "is a part of its next input",
        ),
        "a residual path": (
            named(body=body, pool=pool, head=head, other=head),
            residual,
            None,
            "there is another path",
        ),
        "a pool that is not called": (
            named(body=body, pool=pool, head=head),
            unused,
            None,
            "the forward pass does not reach it",
        ),
    }


CASES = [
    "a pool in the end",
    "a pool of the whole map",
    "a pool after a block",
    "a pool of two scales",
    "a stem",
    "a stem of small maps",
    "a stem before a pool of several positions",
    "a block",
    "a block that shares the pool",
    "a residual path",
    "a pool that is not called",
]


@pytest.mark.parametrize("trained", [False, True])
@pytest.mark.parametrize("name", CASES)
def test_the_only_path_is_replaced_or_nothing(backend, name, trained):
    x, y = images(backend)
    backend.mlp(1, 1)  # sets the seed
    layers, forward, right, reason = cases(backend)[name]
    model = backend.program(layers, forward)
    before = run_on(backend, model, x)
    options = {"pooler": "GeM", "pooler_options": {"p": 2.4}, "callbacks": []}

    def use():
        if trained:
            return finetuner.fit(model, (x, y), epochs=1, learning_rate=1e-12, **options).model
        tuner = backend.Tuner(model, **options)
        tuner.embed(x)
        return tuner.model

    if right is None:
        with pytest.raises(ValueError, match=f"pooler must replace a global pooling .*{reason}"):
            use()
        np.testing.assert_array_equal(run_on(backend, model, x), before)  # the layer has been put back
        return
    after = use()
    body, maps = {**layers}, []
    expected_layers = body | {right: lambda x: maps.append(backend.numpy(x)) or backend.tensor(pool_map(backend, x))}
    np.testing.assert_allclose(
        run_on(backend, after, x), backend.numpy(forward(expected_layers, backend.tensor(x))), rtol=1e-4, atol=1e-5
    )
    assert maps


def pool_map(backend, x):
    """Maps pooled by the reference's GeM, each axis of length 1."""
    maps = backend.layout(backend.numpy(x), back=True)
    pooled = gem(maps, None, p=2.4).astype(np.float32)
    return backend.layout(pooled[:, :, None, None])


def test_a_pool_that_is_never_global(backend):
    layers = {"body": backend.layer("conv", 1, 6, 3), "pool": backend.layer("pool to", 2)}
    model = backend.program(layers, lambda m, x: backend.spatial_mean(m["pool"](m["body"](x))))
    with pytest.raises(ValueError, match=r"must have a pooling layer .* that pools globally, to be replaced by GeM"):
        backend.Tuner(model, pooler="GeM")


def test_the_check_waits_for_items_that_differ(backend):
    x, _ = images(backend)
    layers, forward, _, _ = cases(backend)["a block"]
    tuner = backend.Tuner(backend.program(layers, forward), pooler="GeM", callbacks=[])
    for same in (x[:1], x[[0, 0, 0]], x[[0] * 16]):
        assert len(tuner.embed(same)) == len(same)
    for _ in range(2):
        with pytest.raises(ValueError, match="there is another path"):
            tuner.embed(x)
    layers, forward, _, _ = cases(backend)["a stem"]
    with pytest.raises(ValueError, match="is not one vector per item"):  # which one item tells
        backend.Tuner(backend.program(layers, forward), pooler="GeM", callbacks=[]).embed(x[:1])


def test_the_check_is_done_once(backend):
    x, _ = images(backend)
    layers, forward, _, _ = cases(backend)["a pool after a block"]
    sizes = []

    def counted(m, x):
        sizes.append(x.shape[0])
        return forward(m, x)

    tuner = backend.Tuner(backend.program(layers, counted), pooler="GeM", callbacks=[])
    tuner.embed(x)
    assert 2 <= sizes.count(4) <= 2 + 2 * (backend.name == "keras")  # which creates the weights in between
    sizes.clear()
    tuner.embed(x)
    assert 4 not in sizes


def test_equal_items_tell_nothing_even_if_rounding_differs():
    """A framework may add up in another order at another position of the batch."""
    from finetuner.tuner.base.training.pooling import same_values

    x = np.ones((4, 2))
    assert same_values({"a": (x, ["b", "c"])}, {"a": (x.copy(), ["b", "c"])})
    assert not same_values({"a": (x, ["b", "c"])}, {"a": (x, ["c", "b"])})
    assert not same_values([x], [2 * x])


@pytest.mark.parametrize("kind", ["a pool after a block", "a block"])
def test_the_check_of_a_model_with_two_inputs(backend, kind):
    (x, _), (layers, forward, right, _) = images(backend), cases(backend)[kind]
    tower = backend.single_layer_model(backend.program(layers, forward))
    run_on(backend, tower, x)
    pairs = finetuner.PairDataset(x[::2], x[1::2], np.ones(len(x) // 2))
    tuner = backend.Tuner(backend.two_inputs(tower, tower), pooler="GeM", callbacks=[])
    if right is None:
        with pytest.raises(ValueError, match="there is another path"):
            tuner.embed(pairs)
    else:
        assert tuner.embed(pairs).shape == (len(x), 5)


def test_the_check_leaves_no_trace(backend):
    """Random numbers, statistics, modes and results are those of a model that holds the pooler from the beginning."""
    (x, y), results = images(backend), []
    for given in (False, True):
        backend.mlp(1, 1)  # sets the seed
        pool = backend.layer("global pool") if given else backend.poolers.AveragePooling()
        layers = {
            "body": backend.layer("conv", 1, 6, 3),
            "norm": backend.layer("norm", 6),
            "dropout": backend.layer("dropout", 0.5),
            "pool": pool,
            "head": backend.layer("linear", 6, 5),
        }

        def forward(m, x, given=given):
            x = m["pool"](m["dropout"](m["norm"](m["body"](x))))
            return m["head"](backend.spatial_mean(x) if given else x)

        model = backend.program(layers, forward)
        run_on(backend, model, x)
        options = {"pooler": "AveragePooling"} if given else {}
        tuner = backend.Tuner(model, callbacks=[], learning_rate=0.01, seed=3, **options)
        tuner.fit((x, y), epochs=2, batch_size=16)
        results.append((weights(tuner), tuner.embed(x)))
    names = [sorted(one[0]) for one in results]
    assert names[0] == names[1]
    for name in names[0]:
        np.testing.assert_allclose(results[0][0][name], results[1][0][name], rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(results[0][1], results[1][1], rtol=1e-4, atol=1e-5)


def test_a_run_opened_with_a_plain_model_pools_as_it_was_trained(backend, tmp_path):
    """An untrained pooler is not in the weights, so the weights alone cannot tell that it is missing."""
    data = images(backend)
    run = finetuner.fit(backend.conv(), data, epochs=1, batch_size=32, callbacks=[], pooler="GeM")
    run.save(tmp_path / "run")
    for model in (backend.conv(), run.model):
        encoder = finetuner.load(tmp_path / "run", model=model)
        np.testing.assert_array_equal(encoder.embed(data[0]), run.encoder.embed(data[0]))


def test_bad_poolers(backend):
    with pytest.raises(ValueError, match="pooler must be a known name, got 'gem'; did you mean 'GeM'"):
        finetuner.fit(backend.conv(), images(backend), pooler="gem")
    with pytest.raises(TypeError, match=r"pooler must be one of finetuner\.tuner\..*\.poolers, got int"):
        finetuner.fit(backend.conv(), images(backend), pooler=3)
    with pytest.raises(TypeError, match="GeM has no option 'q'; known are 'p', 'eps', 'trainable'"):
        finetuner.fit(backend.conv(), images(backend), pooler="GeM", pooler_options={"q": 3})
    with pytest.raises(ValueError, match="p must be above 0, got 0"):
        finetuner.fit(backend.conv(), images(backend), pooler="GeM", pooler_options={"p": 0})
    with pytest.raises(ValueError, match="pooler must be a name or a class where options are given"):
        finetuner.fit(backend.conv(), images(backend), pooler=backend.poolers.GeM(), pooler_options={"p": 3})
    with pytest.raises(ValueError, match="pooler_options must be used with a pooler, got {'p': 3} and no pooler"):
        finetuner.fit(backend.conv(), images(backend), pooler_options={"p": 3})
    with pytest.raises(ValueError, match=r"x must have shape \[N, T, C\], got"):
        finetuner.fit(backend.conv(), images(backend), pooler="CLSPooling", callbacks=[])


# Training.


def fit(backend, **options):
    common = {"epochs": 2, "batch_size": 16, "callbacks": [], "learning_rate": 0.01}
    return finetuner.fit(seeded_conv(backend), images(backend), **{**common, **options})


def seeded_conv(backend):
    backend.mlp(1, 1)  # sets the seed
    return backend.conv()


def test_p_is_trained_saved_and_loaded(backend, tmp_path):
    options = {"pooler": "GeM", "pooler_options": TRAINED}
    run = fit(backend, eval_data=images(backend, (1, 3, 5, 7)), **options)
    p = float(backend.numpy(trained_p(backend, run.model)))
    assert abs(p - 2.4) > 1e-3
    assert run.config["pooler"] == {"name": "GeM", "options": TRAINED}
    assert run.history[-1]["loss"] < run.history[1]["loss"]
    run.save(tmp_path / "run")
    assert json.loads((tmp_path / "run" / "config.json").read_text())["pooler"] == run.config["pooler"]
    loaded = backend.Tuner(backend.conv(), callbacks=[], **options).load(tmp_path / "run", weights_only=True)
    assert float(backend.numpy(trained_p(backend, loaded.embed_model))) == p
    x, _ = images(backend)
    np.testing.assert_array_equal(loaded.embed(x), finetuner.embed(run.model, x))
    with pytest.raises(ValueError, match="the weights must be those of the same model"):
        backend.Tuner(backend.conv(), callbacks=[]).load(tmp_path / "run", weights_only=True)


def test_resumed_training_matches_uninterrupted(backend, tmp_path):
    options = {"pooler": "GeM", "pooler_options": TRAINED, "optimizer": "AdamW"}
    whole, first = fit(backend, **options), fit(backend, **options, epochs=1)
    first.save(tmp_path / "run")
    second = backend.Tuner(backend.conv(), callbacks=[], learning_rate=0.01, **options).load(tmp_path / "run")
    second.fit(images(backend), epochs=1, batch_size=16)
    assert same_arrays(weights(whole.tuner), weights(second))


def test_pooler_and_model_options_are_equivalent(backend):
    options = {"pooler": "GeM", "pooler_options": TRAINED}
    by_name, nested = fit(backend, **options), fit(backend, model_options=options)
    assert same_arrays(weights(by_name.tuner), weights(nested.tuner))
    instance = fit(backend, pooler=backend.poolers.GeM(**TRAINED))
    assert same_arrays(weights(by_name.tuner), weights(instance.tuner))
    by_class = fit(backend, pooler=backend.poolers.GeM, pooler_options=TRAINED)
    assert same_arrays(weights(by_name.tuner), weights(by_class.tuner))
    assert by_name.config == nested.config == instance.config == by_class.config
    with pytest.raises(ValueError, match="the pooler must be given once, got pooler='GeM' and model_options="):
        fit(backend, pooler="GeM", model_options=options)
    with pytest.raises(TypeError, match="model_options has no option 'poolers'; did you mean 'pooler'"):
        fit(backend, model_options={"poolers": "GeM"})


def test_optimizer_instance_must_cover_p(backend):
    model = backend.conv()
    options = {"pooler": "GeM", "pooler_options": TRAINED, "optimizer": backend.sgd(model)}
    if backend.name == "keras":  # its optimizers get the weights when they are built
        run = finetuner.fit(model, images(backend), epochs=1, callbacks=[], **options)
        assert abs(float(backend.numpy(trained_p(backend, run.model))) - 2.4) > 1e-6
        return
    with pytest.raises(ValueError, match="optimizer must hold the weights of GeM, which is trained, and does not"):
        finetuner.fit(model, images(backend), **options)
