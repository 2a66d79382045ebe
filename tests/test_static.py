"""Static embeddings: values, gradients, bad input, and the same training on every engine.

``static.json`` holds PyTorch's losses and last embeddings. ``python -m tests.test_static`` writes it. See
``test_trajectories.py`` for what the frameworks' optimizers do differently.
"""

import importlib
import json
from pathlib import Path

import numpy as np
import pytest

import finetuner

from .backends import backend_of, weighted
from .reference import numerical_gradient
from .reference.static import IDS, INPUTS, MASK, TABLE, static_embedding

STORED = Path(__file__).with_name("static.json")
OPTIMIZERS = {"SGD": {"learning_rate": 0.5}, "Adam": {"learning_rate": 3e-2}}


def static(backend):
    return importlib.import_module(f"finetuner.tuner.{backend.name}.static").StaticEmbedding


def embed(backend, model, ids, mask):
    ids, mask = (None if x is None else backend.tensor(x) for x in (ids, mask))
    return backend.numpy(model(ids) if mask is None else model(ids, mask))


@pytest.mark.parametrize("mode", ["eager", "traced"])
@pytest.mark.parametrize("normalize", [False, True])
@pytest.mark.parametrize("name", INPUTS)
def test_values_and_gradients(backend, name, normalize, mode):
    if mode not in backend.modes:
        pytest.skip("the engine is not compiled")
    ids, mask = INPUTS[name]
    model = static(backend)(TABLE, normalize)

    def function(table, ids, mask=None):
        return model.compute(table, ids, mask)

    function = function if mode == "eager" else backend.compiled(function, mode)
    value, (gradient,) = backend.value_and_grads(function, [TABLE], [ids] if mask is None else [ids, mask])
    np.testing.assert_allclose(value, static_embedding(TABLE, ids, mask, normalize), rtol=1e-5, atol=1e-7)
    left, right = numerical_gradient(lambda table: weighted(static_embedding(table, ids, mask, normalize)), TABLE)
    np.testing.assert_allclose(gradient, (left + right) / 2, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(embed(backend, model, ids, mask), value, rtol=1e-6, atol=1e-7)


def test_every_compiler_option(backend):
    model = static(backend)(TABLE, normalize=True)
    function = backend.compiled(lambda table, ids, mask: model.compute(table, ids, mask), "full")
    value, _ = backend.value_and_grads(function, [TABLE], [IDS, MASK])
    np.testing.assert_allclose(value, static_embedding(TABLE, IDS, MASK, True), rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("shape", [(0, 4), (3, 0), (0, 0)])
def test_no_texts_or_no_positions(backend, shape):
    for normalize in (False, True):
        value = embed(backend, static(backend)(TABLE, normalize), np.zeros(shape, int), np.zeros(shape, int))
        np.testing.assert_array_equal(value, np.zeros((shape[0], 3)))


def test_the_table_is_the_only_weight(backend):
    given = TABLE.astype(np.float16)
    model = static(backend)(given)
    (name,) = backend.named_weights(model)
    assert name == "table"
    values = backend.numpy(model.table)
    assert values.dtype == np.float32
    np.testing.assert_array_equal(values, given.astype(np.float32))
    given[:] = 0
    assert backend.numpy(model.table).any()
    assert model.arguments() == {"table": [7, 3], "normalize": False}
    empty = static(backend)(**static(backend)(TABLE, True).arguments())
    assert empty.normalize
    np.testing.assert_array_equal(backend.numpy(empty.table), np.zeros((7, 3)))


def test_bad_tables(backend):
    cls = static(backend)
    with pytest.raises(ValueError, match=r"table must have shape \[V, D\] with at least one row .* got \[3\]"):
        cls(np.zeros(3))
    with pytest.raises(ValueError, match=r"table must have shape .* got \[0, 3\]"):
        cls(np.zeros((0, 3)))
    with pytest.raises(ValueError, match="the size of a table must be at least 1, got 0"):
        cls([0, 3])
    with pytest.raises(ValueError, match="table must be finite, and is not in 2 rows"):
        cls([[1.0, np.nan], [np.inf, np.inf], [0.0, 0.0]])
    with pytest.raises(TypeError, match="normalize must be True or False, got 'yes'"):
        cls(TABLE, "yes")


def test_bad_inputs(backend):
    model = static(backend)(TABLE)
    with pytest.raises(ValueError, match=r"input_ids must have shape \[N, T\], got \[4\]"):
        embed(backend, model, IDS[0], None)
    with pytest.raises(ValueError, match=r"attention_mask must have the shape of input_ids, got \[4, 2\] and \[4, 4\]"):
        embed(backend, model, IDS, MASK[:, :2])
    with pytest.raises(TypeError, match="input_ids must be integers, got .*float32"):
        embed(backend, model, IDS.astype(np.float32), MASK)


# With encoder and tuner.


def texts(count, seed=0):
    """Token ids of texts of two kinds, with a mask: 30 tokens, those of a class among ten of them."""
    rng = np.random.default_rng(seed)
    y = np.arange(count) % 4
    lengths = rng.integers(2, 9, count)
    mask = (np.arange(8) < lengths[:, None]).astype("int32")
    ids = np.where(
        rng.random((count, 8)) < 0.5, 5 * y[:, None] + rng.integers(0, 8, (count, 8)), rng.integers(0, 30, (count, 8))
    )
    return {"input_ids": ids.astype("int32") * mask, "attention_mask": mask}, y.astype("int32")


def small(backend):
    return static(backend)(np.random.default_rng(3).normal(size=(30, 6)), normalize=True)


def trajectory(backend, optimizer):
    """The loss of each step, and embeddings of other texts afterwards."""
    tuner = backend.Tuner(
        small(backend),
        loss="NTXentLoss",
        optimizer=optimizer,
        callbacks=[],
        **OPTIMIZERS[optimizer],
    )
    engine = tuner.engine
    engine.begin_training()
    engine.begin_epoch(0)
    steps = []
    for step in range(20):
        x, y = texts(16, seed=step)
        steps.append(engine.step(x, (y,)).loss)
    engine.end_training()
    return engine.to_floats(steps), tuner.embed(texts(12, seed=99)[0])


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_every_engine_takes_the_same_path(backend, optimizer):
    stored = json.loads(STORED.read_text())[optimizer]
    losses, embeddings = trajectory(backend, optimizer)
    off = np.abs(np.divide(losses, stored["losses"]) - 1).max(), np.abs(embeddings - stored["embeddings"]).max()
    print(f"{optimizer}: losses {losses[0]:.3f} to {losses[-1]:.3f}, off by {off[0]:.1e}; embeddings by {off[1]:.1e}")
    assert min(losses[-5:]) < 0.97 * losses[0]
    np.testing.assert_allclose(losses, stored["losses"], rtol=1e-5)
    np.testing.assert_allclose(embeddings, stored["embeddings"], rtol=0, atol=1e-4)


def test_one_input_of_a_pair(backend):
    """A table with two arguments is no pair of towers: each side of a pair is embedded by itself."""
    assert not backend.Tuner(small(backend), callbacks=[]).encoder.framework.has_two_inputs(small(backend))
    (first, _), (second, _) = texts(12), texts(12, seed=1)
    data = finetuner.PairDataset(first, second)
    run = backend.Tuner(small(backend), loss="CLIPLoss", callbacks=[]).fit(data, data, epochs=1, batch_size=8)
    assert np.isfinite(run.history[-1]["loss"])


def test_save_and_load(backend, tmp_path):
    x, y = texts(16)
    run = finetuner.fit(small(backend), (x, y), epochs=1, callbacks=[])
    expected = run.encoder.embed(x)
    assert np.abs(expected - finetuner.embed(small(backend), x)).max() > 1e-4  # it was trained
    run.save(tmp_path / "run")
    other = static(backend)([30, 6], normalize=True)
    np.testing.assert_array_equal(finetuner.load(tmp_path / "run", model=other).embed(x), expected)


def test_keras_file(backend, tmp_path):
    if backend.name != "keras":
        pytest.skip("a file of Keras")
    import keras

    model = small(backend)
    ids, mask = (keras.Input((None,), dtype="int32", name=name) for name in ("input_ids", "attention_mask"))
    functional = keras.Model([ids, mask], model(ids, mask) * 2.0)
    x, _ = texts(5)
    expected = backend.numpy(model(**x))
    for number, one in enumerate([model, functional]):
        one.save(tmp_path / f"{number}.keras")
        opened = keras.models.load_model(tmp_path / f"{number}.keras")  # in safe mode
        given = x if one is functional else list(x.values())
        value = opened(given) if one is functional else opened(*given)
        np.testing.assert_allclose(backend.numpy(value), expected * (1 + number), rtol=1e-6)
    finetuner.fit(functional, texts(16), epochs=1, callbacks=[]).save(tmp_path / "run")
    assert finetuner.load(tmp_path / "run").embed(x).shape == (5, 6)


def test_float32_under_every_policy(backend):
    x, _ = texts(5)
    expected = embed(backend, small(backend), *x.values())
    with backend.autocast():
        found = small(backend)(*map(backend.tensor, x.values()))
    assert "float32" in str(found.dtype)
    np.testing.assert_array_equal(backend.numpy(found), expected)


if __name__ == "__main__":
    paths = {}
    for optimizer in OPTIMIZERS:
        losses, embeddings = trajectory(backend_of("pytorch"), optimizer)
        rounded = np.round(embeddings.astype(float), 6).tolist()
        paths[optimizer] = {"losses": [float(f"{loss:.8g}") for loss in losses], "embeddings": rounded}
    lines = ",\n".join(f"{json.dumps(key)}: {json.dumps(path)}" for key, path in paths.items())
    STORED.write_text(f"{{\n{lines}\n}}\n")
