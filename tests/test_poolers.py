"""Poolers that are trained."""

import numpy as np
import pytest

from .backends import weighted
from .reference import numerical_gradient
from .reference.poolers import INPUTS, gem

TRAINED = {"p": 2.4, "eps": 1e-5, "trainable": True}


# A trained exponent.


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
def test_gradient_by_p(backend, name, p):
    x, mask = INPUTS[name]
    pooler = backend.poolers.GeM(p, trainable=True)
    left, right = numerical_gradient(lambda given: weighted(gem(x, mask, p=given[0])), np.array([p]))
    found = backend.gradient_by(pooler.p, pooler, backend.layout(x), mask)
    np.testing.assert_allclose(found, (left + right)[0] / 2, rtol=1e-3, atol=1e-6 * np.abs(x).max())


@pytest.mark.parametrize("p", [0.09, 0.0, -1e9])
@pytest.mark.parametrize("name", ["maps", "zeros", "steps with a mask"])
def test_an_exponent_that_is_too_low_is_that_of_the_bound(backend, name, p):
    x, mask = INPUTS[name]
    low, least = (backend.poolers.GeM(0.1, trainable=True) for _ in range(2))
    backend.assign(low.p, p)
    values = [
        backend.numpy(pooler(backend.tensor(backend.layout(x), "float32"), mask=backend.tensor(mask)))
        for pooler in (low, least)
    ]
    np.testing.assert_array_equal(*values)
    gradients = [backend.gradient_by(pooler.p, pooler, backend.layout(x), mask) for pooler in (low, least)]
    assert gradients[0] == gradients[1]
    assert np.isfinite(gradients).all()
    assert low.arguments()["p"] == 0.1
    assert type(low)(**low.arguments()).arguments() == low.arguments()


def test_arguments_that_do_not_do(backend):
    with pytest.raises(ValueError, match=r"a trained p must be at least 0\.1, got 0\.05"):
        backend.poolers.GeM(0.05, trainable=True)
    assert backend.poolers.GeM(0.05).p == 0.05
    with pytest.raises(ValueError, match="p must be above 0, got -1"):
        backend.poolers.GeM(-1, trainable=True)
    with pytest.raises(ValueError, match="trainable must be one of False, True, got 'yes'"):
        backend.poolers.GeM(trainable="yes")
