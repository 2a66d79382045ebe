"""Adapters: values and gradients, a training on cached embeddings, saved and loaded, and what is refused."""

import numpy as np
import pytest

import finetuner
from finetuner.tuner import load_subpackage

from .backends import weighted
from .reference import numerical_gradient
from .reference.adapters import LINEAR, MLP, X, linear, mlp
from .toy import TEST, TRAIN, D, same_arrays

FUNCTIONS = {"linear": (linear, LINEAR, (3,)), "mlp": (mlp, MLP, (3, 4))}
NAMES = {"linear": "LinearAdapter", "mlp": "MLPAdapter"}
ITEMS = np.concatenate([TRAIN.x, TEST.x])
LABELS = np.concatenate([TRAIN.labels, TEST.labels])
FAST = {"epochs": 20, "learning_rate": 3e-2, "callbacks": []}


def layer(backend, kind, *sizes, **options):
    return getattr(load_subpackage(backend.name), NAMES[kind])(*sizes, **options)


def base(backend, seed=0):
    return backend.mlp(D, 16, 6, seed=seed)


def rows_of(names):
    """A tokenizer: items are numbers as text, which stand for rows."""
    return np.stack([ITEMS[int(name)] for name in names])


def named(dataset, start):
    return [str(start + number) for number in range(len(dataset))], dataset.labels


# Layers.


@pytest.mark.parametrize("mode", ["eager", "traced"])
@pytest.mark.parametrize("kind", FUNCTIONS)
def test_values_and_gradients(backend, kind, mode):
    if mode not in backend.modes:
        pytest.skip("the engine is not compiled")
    reference, weights, sizes = FUNCTIONS[kind]
    model = layer(backend, kind, *sizes)

    def function(*arrays):
        return model.compute(*arrays)

    function = function if mode == "eager" else backend.compiled(function, mode)
    arrays = [X, *weights]
    value, gradients = backend.value_and_grads(function, arrays, [])
    np.testing.assert_allclose(value, reference(*arrays), rtol=1e-5, atol=1e-6)
    for place, gradient in enumerate(gradients):
        shape = arrays[place].shape

        def loss(x, place=place, shape=shape):
            return weighted(reference(*arrays[:place], x.reshape(shape), *arrays[place + 1 :]))

        left, right = numerical_gradient(loss, arrays[place].reshape(len(arrays[place]), -1))
        np.testing.assert_allclose(gradient.reshape(left.shape), (left + right) / 2, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("kind", FUNCTIONS)
def test_a_new_layer_returns_its_input(backend, kind):
    model = layer(backend, kind, 3)
    np.testing.assert_array_equal(backend.numpy(model(backend.tensor(X.astype(np.float32)))), X.astype(np.float32))
    assert model.arguments() == {"linear": {"dim": 3}, "mlp": {"dim": 3, "hidden": 3}}[kind]


def test_every_framework_draws_the_same_numbers(backend):
    expected = np.random.default_rng(5).normal(0, np.sqrt(2 / 3), (4, 3)).astype(np.float32)
    np.testing.assert_array_equal(backend.numpy(layer(backend, "mlp", 3, 4, seed=5).weight1), expected)


def test_bad_layers_and_inputs(backend):
    with pytest.raises(ValueError, match="dim must be at least 1, got 0"):
        layer(backend, "linear", 0)
    with pytest.raises(ValueError, match="hidden must be at least 1, got 0"):
        layer(backend, "mlp", 3, 0)
    for kind in FUNCTIONS:
        with pytest.raises(ValueError, match=r"embeddings must have shape \[N, 4\], got \[5, 3\]"):
            layer(backend, kind, 4)(backend.tensor(X.astype(np.float32)))
        with pytest.raises(TypeError, match="embeddings must be floats, got .*int"):
            layer(backend, kind, 3)(backend.tensor(np.ones((5, 3), "int32")))


# Training.


@pytest.mark.parametrize("kind", FUNCTIONS)
def test_fit_save_and_load(backend, kind, tmp_path):
    model = base(backend)
    before, embeddings = finetuner.evaluate(model, TEST), finetuner.embed(model, TEST.x)
    framework = load_subpackage(backend.name).Framework()
    weights = framework.state(model)
    run = finetuner.fit(model, TRAIN, {"train": TRAIN, "test": TEST}, adapter=kind, **FAST)
    assert {name: run.metrics["before"][f"test/{name}"] for name in before} == pytest.approx(before, abs=1e-6)
    assert run.metrics["after"]["train/val_loss"] < 0.95 * run.metrics["before"]["train/val_loss"]
    assert same_arrays(*({k: np.asarray(v) for k, v in one.items()} for one in (weights, framework.state(model))))
    adapted = run.encoder.embed(TEST.x)
    assert np.abs(adapted - embeddings).max() > 1e-2
    np.testing.assert_allclose(finetuner.embed(run.model, TEST.x), adapted, rtol=1e-6)
    after = {name: run.metrics["after"][f"test/{name}"] for name in before}
    assert finetuner.evaluate(run.encoder, TEST) == pytest.approx(after, abs=1e-6)
    run.save(tmp_path / "run")
    run.encoder.save(tmp_path / "encoder")
    for folder in ("run", "encoder"):
        opened = finetuner.load(tmp_path / folder, model=base(backend, seed=7))
        np.testing.assert_allclose(opened.embed(TEST.x), adapted, rtol=1e-6, atol=1e-7)
    if backend.name == "keras":  # a model that says how it is made
        np.testing.assert_allclose(finetuner.load(tmp_path / "run").embed(TEST.x), adapted, rtol=1e-6, atol=1e-7)
    else:
        with pytest.raises(ValueError, match=r"base does not say how its model .* is made, so it must be given"):
            finetuner.load(tmp_path / "run")
    run.blend(0)
    np.testing.assert_allclose(run.encoder.embed(TEST.x), embeddings, rtol=1e-5, atol=1e-6)


def test_items_with_a_collate_function(backend, tmp_path):
    model, test = base(backend), named(TEST, len(TRAIN))
    run = finetuner.fit(model, named(TRAIN, 0), (test, test), adapter="linear", collate_fn=rows_of, **FAST)
    found = run.encoder.embed(test[0])
    plain = finetuner.fit(model, TRAIN, adapter="linear", **FAST)
    np.testing.assert_allclose(found, plain.encoder.embed(TEST.x), rtol=1e-4, atol=1e-5)
    assert run.encoder.evaluate(test)["hit@1"] > 0
    run.save(tmp_path / "run")
    opened = finetuner.load(tmp_path / "run", model=base(backend), collate_fn=rows_of)
    np.testing.assert_allclose(opened.embed(test[0]), found, rtol=1e-6, atol=1e-7)


def test_text_model_opens_by_itself(backend, tmp_path):
    from .test_static_models import model2vec, open_model

    encoder = open_model(backend, model2vec(tmp_path / "model"))
    rng = np.random.default_rng(0)
    labels = np.arange(64) % 8
    texts = [" ".join(f"word{5 * label + one}" for one in rng.integers(0, 5, 3)) for label in labels]
    run = finetuner.fit(encoder, (texts, labels), (texts, labels), adapter="linear", callbacks=[], learning_rate=0.01)
    assert run.metrics["before"]["mAP@R"] == pytest.approx(encoder.evaluate((texts, labels))["mAP@R"], abs=1e-6)
    assert run.metrics["after"]["mAP@R"] > run.metrics["before"]["mAP@R"]
    assert run.config["schedule"] == "linear"
    assert run.config["fit"]["epochs"] == 6
    opened = finetuner.load(run.save(tmp_path / "run"))
    np.testing.assert_allclose(opened.embed(texts), run.encoder.embed(texts), rtol=1e-6, atol=1e-7)
    with pytest.raises(TypeError, match="items must be texts, got int"):
        opened.embed([3])
    again = finetuner.fit(opened, (texts, labels), adapter="mlp", callbacks=[])  # an adapter of an adapter
    twice = finetuner.load(again.save(tmp_path / "again"))
    np.testing.assert_allclose(twice.embed(texts), again.encoder.embed(texts), rtol=1e-6, atol=1e-7)
    with pytest.raises(ValueError, match="must be trained with another adapter"):
        finetuner.fit(opened, (texts, labels), callbacks=[])


def test_embeddings_as_an_array(backend, tmp_path):
    options = {"model_options": {"framework": backend.name}, **FAST}
    x = TRAIN.x.astype(np.float64)
    run = finetuner.fit(None, (x, TRAIN.labels), (TRAIN.x, TRAIN.labels), adapter="linear", **options)
    assert run.metrics["after"]["mAP@R"] > run.metrics["before"]["mAP@R"]
    assert run.encoder.framework.name == backend.name
    opened = finetuner.load(run.save(tmp_path / "run"))
    np.testing.assert_array_equal(opened.embed(TEST.x), run.encoder.embed(TEST.x))
    np.testing.assert_allclose(opened.embed(TEST.x.tolist()), run.encoder.embed(TEST.x), rtol=1e-6)
    given = finetuner.fit(None, TRAIN, adapter=layer(backend, "mlp", D, 5), **FAST)
    assert given.model.hidden == 5
    more = finetuner.fit(opened, TRAIN, callbacks=[], epochs=1)  # its training goes on
    assert np.abs(more.encoder.embed(TEST.x) - run.encoder.embed(TEST.x)).max() > 0
    with pytest.raises(ValueError, match=r"items must be embeddings \[N, 8\], got an array \[2, 3\]"):
        opened.embed(np.zeros((2, 3)))
    with pytest.raises(ValueError, match="an adapter of embeddings without a model, so model must be None"):
        finetuner.load(tmp_path / "run", model=base(backend))


@pytest.mark.parametrize("kind", ["pairs", "scored pairs", "triplets"])
def test_pairs_and_triplets(backend, kind):
    first, second, third = TRAIN.x[:24], TRAIN.x[24:48], TEST.x[:24]
    data = {
        "pairs": lambda: finetuner.PairDataset(first, second),
        "scored pairs": lambda: finetuner.PairDataset(first, second, score=np.arange(24) / 24),
        "triplets": lambda: finetuner.TripletDataset(first, second, third),
    }[kind]()
    model = base(backend)
    run = finetuner.fit(model, data, data, adapter="linear", **{**FAST, "epochs": 30})
    assert run.history[-1]["loss"] < run.history[1]["loss"]
    before = finetuner.evaluate(model, data)
    assert {name: run.metrics["before"][name] for name in before} == pytest.approx(before, abs=1e-5)


def test_resume(backend, tmp_path):
    options = {"adapter": "mlp", "learning_rate": 1e-2, "callbacks": [], "schedule": "constant", "warmup": 0}
    model, folder = base(backend), tmp_path / "checkpoints"
    whole = finetuner.fit(model, TRAIN, epochs=4, **options)
    finetuner.fit(model, TRAIN, epochs=2, checkpoint_folder=folder, **options)
    resumed = finetuner.fit(model, TRAIN, epochs=4, resume=folder, **options)
    assert [row["epoch"] for row in resumed.history] == [1, 2, 3, 4]
    np.testing.assert_allclose(resumed.encoder.embed(TEST.x), whole.encoder.embed(TEST.x), rtol=1e-5, atol=1e-6)


def test_refusals(backend):
    model, two = base(backend), base(backend, seed=1)
    augmented = finetuner.ClassDataset(TRAIN.x, TRAIN.labels, augment=lambda item, rng: item)
    views = finetuner.InstanceDataset(TRAIN.x, augment=lambda item, rng: item)
    for options, message in [
        ({"freeze": ["0"]}, "freeze must not be used with an adapter: the model is not trained"),
        ({"compile": True}, "compile must not be used with an adapter"),
        ({"pooler": "GeM"}, "pooler must not be used with an adapter: .* give the pooler to finetuner.load_model"),
        ({"adapter": "lora"}, "adapter must be one of 'linear', 'mlp'"),
        ({"train_data": augmented}, "train_data must have no augment with an adapter, .* computed once"),
        ({"train_data": views}, "train_data must have no augment with an adapter"),
        ({"eval_data": {"a": views}}, r"eval_data\['a'\] must have no augment with an adapter"),
        ({"model": (model, two)}, "an adapter must be used with one model, got 2"),
        ({"model": backend.two_inputs(model, two)}, "an adapter must be used with a model of one input"),
        ({"adapter": layer(backend, "linear", 3)}, "the adapter must have dim=6, the size of the embeddings, got 3"),
        ({"model": None, "collate_fn": rows_of}, "without a model, the items are embeddings"),
        ({"model": None, "model_options": {"max_length": 3}}, "without a model, the items are embeddings"),
        ({"model": None, "model_options": {"framework": "jax"}}, "framework must be one of"),
        ({"model": None, "train_data": (TRAIN.x[:, 0], TRAIN.labels)}, r"train_data must be embeddings \[N, D\]"),
        ({"model": None, "train_data": (TRAIN.x * np.nan, TRAIN.labels)}, "train_data must be finite, .* 48 rows"),
    ]:
        given = {"model": model, "train_data": TRAIN, "adapter": "linear", "callbacks": [], **options}
        with pytest.raises(ValueError, match=message):
            finetuner.fit(**given)
    with pytest.raises(TypeError, match="adapter must be 'linear' or 'mlp', or a LinearAdapter or MLPAdapter, got 3"):
        finetuner.fit(model, TRAIN, adapter=3)
    with pytest.raises(TypeError, match=r"train_data must be embeddings \[N, D\] without a model"):
        finetuner.fit(None, (["a"] * 48, TRAIN.labels), adapter="linear")


def test_damaged_folder(backend, tmp_path):
    run = finetuner.fit(None, TRAIN, adapter=layer(backend, "mlp", D), **FAST)
    text = (run.save(tmp_path / "run") / "model.json").read_text()
    for old, new, message in [
        ('"mlp"', '"lora"', "the adapter in model.json must be one of 'linear', 'mlp'"),
        ('"dim"', '"width"', "model.json of an adapter must have adapter, dim, has_base, hidden, and lacks dim"),
        ('"dim": 8', '"dim": "8"', "dim must be an integer"),
        ("false", '"no"', "has_base must be True or False"),
        ('"hidden": 8', '"hidden": 9', "cannot be loaded"),
    ]:
        assert old in text
        (tmp_path / "run" / "model.json").write_text(text.replace(old, new))
        with pytest.raises((ValueError, TypeError), match=message):
            finetuner.load(tmp_path / "run")


# The command line.


def test_command_line(backend, tmp_path, monkeypatch):
    pytest.importorskip("typer")
    from typer.testing import CliRunner

    from finetuner.cli.commands import app

    from .commands import MODELS

    monkeypatch.chdir(tmp_path)
    (tmp_path / "model.py").write_text(MODELS[backend.name])
    for name, data in (("train", TRAIN), ("test", TEST)):
        np.savez(f"{name}.npz", x=data.x, y=data.labels)
    np.savez("items.npz", x=TEST.x)

    def call(*arguments):
        result = CliRunner().invoke(app, list(arguments))
        assert result.exit_code == 0, result.output
        return result.output

    call("fit", "--data", "train.npz", "--eval-data", "test.npz", "--model", "model.py:make", "--adapter", "linear",
         "--epochs", "2", "--output", "run")  # fmt: skip
    call("embed", "--run", "run", "--data", "items.npz", "--trust", "--output", "a.npz")
    call("embed", "--run", "run", "--data", "items.npz", "--model", "model.py:make", "--output", "b.npz")
    from importlib.util import module_from_spec, spec_from_file_location

    spec = spec_from_file_location("adapted_model", tmp_path / "model.py")
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    expected = finetuner.load("run", model=module.make()).embed(TEST.x)
    for name in ("a.npz", "b.npz"):
        np.testing.assert_allclose(np.load(name)["embeddings"], expected, rtol=1e-6, atol=1e-7)
    call("evaluate", "--run", "run", "--data", "test.npz", "--trust", "--distance", "euclidean")
    call("fit", "--resume", "run", "--trust", "--epochs", "3", "--output", "more")
    assert len(finetuner.load("more", model=module.make()).base.embed(TEST.x)) == len(TEST)
    if backend.name != "keras":
        result = CliRunner().invoke(app, ["embed", "--run", "run", "--data", "items.npz", "--output", "c.npz"])
        assert result.exit_code != 0
        assert "--trust" in result.output
