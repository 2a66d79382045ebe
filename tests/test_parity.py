"""Every loss, miner and pooler of every backend against its reference: value and gradient, eager and compiled."""

import functools

import numpy as np
import pytest

from .backends import weighted
from .covering import compiled_cases, eager_cases, full_cases
from .reference import LOSSES, MINERS, POOLERS, numerical_gradient
from .reference.batches import MOVING

REGISTRIES = {"test_loss": LOSSES, "test_miner": MINERS, "test_pooler": POOLERS}


def pytest_generate_tests(metafunc):
    if metafunc.function.__name__ in REGISTRIES:
        full, thin, backend = map(metafunc.config.getoption, ("--full-grid", "--thin-grid", "--backend"))
        eager = full_cases if full or (backend == "pytorch" and not thin) else eager_cases  # PyTorch is fast
        chosen = {"eager": eager, "traced": full_cases if full else compiled_cases}
        cases = cases_of(REGISTRIES[metafunc.function.__name__], chosen)
        metafunc.parametrize(("name", "point", "batch_name", "mode"), cases, indirect=["mode"])


def cases_of(registry, chosen):
    """The ``chosen`` cases of each mode; those of one point come one after another and share what is compiled."""
    return [
        pytest.param(name, i, batch, mode, id="-".join([mode, name, *(f"{k}={v}" for k, v in point.items()), batch]))
        for name, reference in registry.items()
        for cases in [[(mode, set(choose(reference))) for mode, choose in chosen.items()]]
        for i, point in enumerate(reference.grid)
        for mode, kept in cases
        for batch in reference.batches
        if (i, batch) in kept
    ]


def moving(batch):
    """The names of the tensors that a loss is differentiated by, and of those that it is not."""
    names = [name for name in MOVING[type(batch)] if getattr(batch, name) is not None]
    return names, [name for name in batch._fields if name not in (*names, "self_offset")]


@functools.cache
def truth(name, point, batch_name):
    """Value of a reference loss, and its slopes on both sides by each array of the batch."""
    function, batches, grid = LOSSES[name]
    batch = batches[batch_name]

    def slopes(field):
        return numerical_gradient(
            lambda x: weighted(function(batch._replace(**{field: x}), **grid[point])), getattr(batch, field)
        )

    return function(batch, **grid[point]), [slopes(field) for field in moving(batch)[0]]


def assert_gradient(grad, left, right, x, directional, steepness=0.0):
    """Compare a gradient with the slopes on either side, between which it must lie.

    Where the truth is smooth the two are equal and this is a comparison with the central difference. A
    ``directional`` loss knows the direction of its rows alone: its slopes grow as rows get shorter, and
    at a zero vector, which has no direction, its gradient is 0 by convention. ``steepness`` is the size
    of the terms that a gradient is a sum of, whose rounding remains where they cancel.
    """
    assert np.isfinite(grad).all()
    if x.ndim == 1:
        grad, left, right, x = (array[:, None] for array in (grad, left, right, x))
    size = np.abs(x).max(axis=1, keepdims=True)
    zero = size == 0
    if directional:
        left, right = np.where(zero, 0, left), np.where(zero, 0, right)
        size = np.where(zero, 1, size)
        floor = max(steepness, (np.abs(left) * size).max()) / size
    else:
        floor = np.abs(left).max()
    slack = 1e-3 * np.maximum(np.abs(left), np.abs(right)) + 1e-5 * floor + 1e-9
    low, high = np.minimum(left, right) - slack, np.maximum(left, right) + slack
    np.testing.assert_array_less(grad, high)
    np.testing.assert_array_less(low, grad)


@functools.lru_cache(maxsize=2)  # the batches of a point come one after another and share what is compiled
def loss_function(backend, name, point, mode, kind, names, self_offset=None):
    loss = backend.loss(name, **LOSSES[name].grid[point])
    options = {} if self_offset is None else {"self_offset": self_offset}

    def function(*given):
        arguments = dict(zip(names, given, strict=True))
        return loss(*(arguments[field] for field in kind._fields if field in arguments), **options)

    return loss, function if mode == "eager" else backend.compiled(function, mode)


def steepness(loss):
    """How much a loss magnifies a distance, and with it the rounding of one."""
    return max(getattr(loss, "scale", 1.0), *(1 / getattr(loss, name, 1.0) for name in ("temperature", "temperature2")))


def check_loss(backend, name, point, batch_name, mode):
    batch = LOSSES[name].batches[batch_name]
    fields, others = moving(batch)
    offset = getattr(batch, "self_offset", None)

    def value_and_grads(fields, others):
        loss, function = loss_function(backend, name, point, mode, type(batch), (*fields, *others), offset)
        arrays, constants = ([getattr(batch, field) for field in names] for names in (fields, others))
        return loss, *backend.value_and_grads(function, arrays, constants)

    loss, value, grads = value_and_grads(fields, others)
    if mode == "eager" and "references" in fields:  # a memory bank has no gradient
        _, value_with_bank, (grad_with_bank,) = value_and_grads(["x"], [*others, "references"])
        np.testing.assert_array_equal(value_with_bank, value)
        np.testing.assert_allclose(grad_with_bank, grads[0], rtol=1e-6, atol=1e-12)
    expected, slopes = truth(name, point, batch_name)
    assert value.shape == np.shape(expected)
    np.testing.assert_allclose(value, expected, rtol=1e-5, atol=max(1e-6, 2e-7 * getattr(loss, "scale", 1.0)))
    for field, grad, sides in zip(fields, grads, slopes, strict=True):
        directional = getattr(loss, "distance", None) == "cosine"
        assert_gradient(grad, *sides, getattr(batch, field), directional, steepness=steepness(loss))


@pytest.fixture
def mode(request, backend):
    if request.param not in backend.modes:
        pytest.skip("Keras leaves its torch engine uncompiled, which takes a quarter of a minute a shape")
    return request.param


def test_loss(backend, name, point, batch_name, mode):
    check_loss(backend, name, point, batch_name, mode)


@pytest.mark.parametrize("name", LOSSES)
def test_loss_with_all_the_compiler_has(backend, name):
    check_loss(backend, name, len(LOSSES[name].grid) - 1, next(iter(LOSSES[name].batches)), "full")


@functools.lru_cache(maxsize=1)
def miner_function(backend, name, point, mode, self_offset):
    miner = getattr(backend.miner, name)(**MINERS[name].grid[point])

    def select(x, y, labels, reference_labels):
        distances = backend.functional.pairwise_distance(x, y, "euclidean")
        return miner.select(labels, distances, reference_labels, self_offset), distances

    return miner, select if mode == "eager" else backend.compiled(select, mode)


def test_miner(backend, name, point, batch_name, mode):
    function, batches, grid = MINERS[name]
    batch = batches[batch_name]
    references = batch.x if batch.references is None else batch.references
    constants = [*map(backend.tensor, (batch.labels, batch.reference_labels))]
    x, y = backend.tensor(batch.x, "float32"), backend.tensor(references, "float32")
    miner, select = miner_function(backend, name, point, mode, batch.self_offset)
    masks, distances = select(x, y, *constants)
    found = miner.mine(constants[0], distances, constants[1], batch.self_offset)
    expected = function(batch, **grid[point])
    assert sorted(zip(*(backend.numpy(indices).tolist() for indices in found), strict=True)) == expected
    positive, negative = map(backend.numpy, masks)
    assert positive.shape == negative.shape == backend.numpy(distances).shape
    if name == "TripletEasyHardMiner":
        assert {(a, p) for a, p, _ in expected} == set(zip(*np.nonzero(positive), strict=True))
        assert {(a, n) for a, _, n in expected} == set(zip(*np.nonzero(negative), strict=True))


@functools.cache
def pooled(name, point, input_name):
    function, inputs, grid = POOLERS[name]
    x, mask = inputs[input_name]
    flat = x.reshape(len(x), -1)
    slopes = numerical_gradient(lambda x_: weighted(function(x_.reshape(x.shape), mask, **grid[point])), flat)
    return function(x, mask, **grid[point]), slopes


def check_pooler(backend, name, point, input_name, mode):
    _, inputs, grid = POOLERS[name]
    x, mask = inputs[input_name]
    pooler = getattr(backend.poolers, name)(**grid[point])

    def function(x, mask):
        return pooler(x, mask=mask)

    function = function if mode == "eager" else backend.compiled(function, mode)
    (value, (grad,)) = backend.value_and_grads(function, [backend.layout(x)], [mask])
    expected, slopes = pooled(name, point, input_name)
    np.testing.assert_allclose(value, expected, rtol=1e-5, atol=1e-12)
    flat = x.reshape(len(x), -1)
    assert_gradient(backend.layout(grad, back=True).reshape(flat.shape), *slopes, flat, directional=False)


def test_pooler(backend, name, point, batch_name, mode):
    check_pooler(backend, name, point, batch_name, mode)


@pytest.mark.parametrize("name", POOLERS)
def test_pooler_with_all_the_compiler_has(backend, name):
    check_pooler(backend, name, 0, next(iter(POOLERS[name].batches)), "full")
