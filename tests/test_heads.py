"""Heads: values and gradients against a reference, on every engine."""

import importlib

import numpy as np
import pytest

from finetuner.tuner.base.registry import describe

from .backends import weighted
from .reference import numerical_gradient
from .reference.heads import OPTIONS, X, head


def heads(backend):
    return importlib.import_module(f"finetuner.tuner.{backend.name}.heads")


def make(backend, name):
    layer = getattr(heads(backend), name)(5, 3, seed=1, **OPTIONS[name])
    weights = {key: getattr(layer, key) for key in ("weight", "bias", "hidden_weight", "hidden_bias")
               if hasattr(layer, key)}  # fmt: skip
    return layer, {key: backend.numpy(value).astype(np.float64) for key, value in weights.items()}


def mode(layer, training):
    """Put a layer of PyTorch or Paddle into a mode."""
    if hasattr(layer, "eval"):
        layer.train() if training else layer.eval()


def call(backend, layer, x, training):
    mode(layer, training)
    return layer(x, training=training) if backend.name == "keras" else layer(x)


@pytest.mark.parametrize("name", OPTIONS)
def test_values_and_gradients(backend, name):
    layer, weights = make(backend, name)
    value, (gradient,) = backend.value_and_grads(lambda x: call(backend, layer, x, False), [X], [])
    running = (np.zeros(3), np.ones(3))
    np.testing.assert_allclose(value, head(name, X, weights, running), rtol=1e-5, atol=1e-6)
    left, right = numerical_gradient(lambda x: weighted(head(name, x, weights, running)), X)
    np.testing.assert_allclose(gradient, (left + right) / 2, rtol=1e-3, atol=1e-4)


def test_batch_normalization_in_training(backend):
    layer, weights = make(backend, "BNNeckHead")
    x = backend.tensor(X.astype(np.float32))
    value = backend.numpy(call(backend, layer, x, True))
    np.testing.assert_allclose(value, head("BNNeckHead", X, weights), rtol=1e-4, atol=1e-5)
    projected = X @ weights["weight"].T
    after = backend.numpy(call(backend, layer, x, False))
    mean, variance = 0.1 * projected.mean(axis=0), 0.9 + 0.1 * projected.var(axis=0)
    unbiased = 0.9 + 0.1 * projected.var(axis=0, ddof=1)  # PyTorch's running variance
    expected = [head("BNNeckHead", X, weights, (mean, one)) for one in (variance, unbiased)]
    assert any(np.allclose(after, one, rtol=1e-4, atol=1e-5) for one in expected)


def test_a_batch_normalization_has_no_shift(backend):
    layer, _ = make(backend, "BNNeckHead")
    names = list(backend.named_weights(layer))
    assert not any("beta" in name for name in names)
    if backend.name == "pytorch":
        assert not layer.norm.bias.requires_grad


@pytest.mark.parametrize("name", OPTIONS)
def test_arguments_and_initial_weights(backend, name):
    layer, weights = make(backend, name)
    again = getattr(heads(backend), name)(**describe(layer)["options"])
    np.testing.assert_array_equal(backend.numpy(again.weight), weights["weight"].astype(np.float32))
    other = getattr(heads(backend), name)(5, 3, seed=2, **OPTIONS[name])
    assert np.abs(backend.numpy(other.weight) - weights["weight"]).max() > 0.1
    first = np.random.default_rng(1).uniform(-1, 1)
    key = "hidden_weight" if name == "MLPHead" else "weight"
    rows = 4 if name == "MLPHead" else 3
    assert weights[key][0, 0] == pytest.approx(first * np.sqrt(6 / (rows + 5)), rel=1e-5)  # the same on each engine


def test_bad_arguments_and_inputs(backend):
    cls = heads(backend).MLPHead
    for options, message in [
        ({"in_features": 0, "out_features": 2}, "in_features must be at least 1, got 0"),
        ({"in_features": 2, "out_features": -1}, "out_features must be at least 1, got -1"),
        ({"in_features": 2, "out_features": 2, "hidden_features": 0}, "hidden_features must be at least 1, got 0"),
    ]:
        with pytest.raises(ValueError, match=message):
            cls(**options)
    layer = heads(backend).LinearHead(5, 2)
    for shape in ([2, 4], [5], [2, 5, 2, 2]):
        with pytest.raises(ValueError, match=r"x must have shape \[N, 5\], got"):
            layer(backend.tensor(np.zeros(shape, np.float32)))
    assert list(layer(backend.tensor(np.zeros((2, 5, 1, 1), np.float32))).shape) == [2, 2]
