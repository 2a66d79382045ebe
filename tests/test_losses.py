"""Losses on inputs that the parity suite does not cover: bad shapes, other dtypes, large batches, extreme rows."""

import numpy as np
import pytest

from .reference import LOSSES
from .reference.batches import CLASSES, Batch, points

NAMES = [name for name, reference in LOSSES.items() if reference.batches is CLASSES]


def value(backend, loss, *arrays):
    return float(backend.numpy(loss(*map(backend.tensor, arrays))))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    ("shapes", "message"),
    [
        ([(4,), (4,)], r"embeddings must have shape \[N, D\], got \[4\]"),
        ([(4, 2), (4, 1, 1)], r"labels must be \[N\] \(classes\), .* got \[4, 1, 1\] of .*int"),
        ([(4, 2), (3,)], "embeddings and labels must have the same length, got 4 and 3"),
        ([(4, 2), (4,), (5, 2)], "references and reference_labels must be given together"),
        ([(4, 2), (4,), (5, 3), (5,)], r"must have the same dimension, got \[2, 3\]"),
        ([(4, 2), (4,), (5, 2), (6,)], "references and reference_labels must have the same length, got 5 and 6"),
    ],
)
def test_bad_shapes(backend, name, shapes, message):
    arrays = [np.zeros(shape, "float32" if i % 2 == 0 else "int64") for i, shape in enumerate(shapes)]
    with pytest.raises(ValueError, match=message):
        value(backend, backend.loss(name), *arrays)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float64"])
def test_losses_are_computed_in_float32_at_least(backend, name, dtype):
    x, y = points(6, 16), np.array([0, 0, 1, 1, 2, 2])
    if dtype == "float64" and not backend.has_float64:
        pytest.skip("JAX disables float64 by default")
    tensor = backend.tensor(x, dtype)
    rounded = backend.numpy(backend.cast(tensor, "float32")).astype("float64") if dtype != "float64" else x
    loss = backend.loss(name)(tensor, backend.tensor(y))
    np.testing.assert_allclose(backend.numpy(loss), LOSSES[name].function(Batch(rounded, y)), rtol=1e-5)


@pytest.mark.parametrize("name", NAMES)
def test_losses_ignore_autocast(backend, name):
    x, y = points(32, 16).astype("float32"), np.arange(32) // 4
    with backend.autocast():
        autocast_value = value(backend, backend.loss(name), x, y)
    assert autocast_value == value(backend, backend.loss(name), x, y)


@pytest.mark.parametrize("scale", [1e-11, 1e-6, 1e18, 1e30])
def test_cosine_losses_are_scale_invariant(backend, scale):
    x = (points(6) * scale).astype("float32").astype("float64")
    y = np.array([0, 0, 1, 1, 2, 2])
    loss = backend.loss("TripletLoss", margin=0.3)
    actual, (grad, _) = backend.value_and_grads(lambda x, r, y: loss(x, y), [x, None], [y])
    np.testing.assert_allclose(actual, LOSSES["TripletLoss"].function(Batch(x, y), margin=0.3), rtol=1e-5)
    unscaled = points(6).astype("float32").astype("float64")
    _, (expected, _) = backend.value_and_grads(lambda x, r, y: loss(x, y), [unscaled, None], [y])
    np.testing.assert_allclose(grad * np.float64(scale), expected, rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("scale", [1.0, 3e-12])
@pytest.mark.parametrize("temperature", [1e-26, 1e-8, 1e8, 1e38])
@pytest.mark.parametrize("name", ["NTXentLoss", "SupConLoss", "CLIPLoss", "DistillationLoss"])
def test_a_softmax_is_finite_at_any_temperature(backend, name, temperature, scale):
    x, other = points(8) * scale, points(8, seed=1)
    loss = backend.loss(name, temperature=temperature)
    constant = np.arange(8) // 2 if name in ("NTXentLoss", "SupConLoss") else other
    actual, (grad, _) = backend.value_and_grads(lambda x, r, y: loss(x, y), [x, None], [constant])
    assert np.isfinite(actual)
    assert np.isfinite(grad).all()
    with pytest.raises(ValueError, match="temperature must be at least 1e-26"):
        backend.loss(name, temperature=9e-27)


@pytest.mark.parametrize("x", [[0, -1, -59, -61, -95, -120, -300], [700, 690, -700, 700, 0, 640, -3e38], [-1e30] * 7])
def test_row_logsumexp_of_extreme_values(backend, x):
    """Masked values and very small exponentials do not contribute, and the largest value always does."""
    row, mask = np.array([x], dtype="float64"), np.array([[True, True, True, True, True, False, True]])

    def logsumexp(x, r, y):
        return backend.functional.row_logsumexp(x, backend.tensor(mask, "bool"))[0, 0]

    actual, (grad, _) = backend.value_and_grads(logsumexp, [row, None], [np.arange(1)])
    terms = np.where(mask, np.exp(row - row[mask].max()), 0)
    np.testing.assert_allclose(actual, row[mask].max() + np.log(terms.sum()), rtol=1e-6)
    np.testing.assert_allclose(grad, terms / terms.sum(), rtol=1e-4, atol=1e-20)


@pytest.mark.parametrize("distance", ["cosine", "euclidean", "sqeuclidean"])
@pytest.mark.parametrize("dimension", [3, 64, 384, 1024])
def test_duplicates_have_distance_zero(backend, distance, dimension):
    x = np.tile(points(64, dimension) + 0.5, (3, 1))
    y = backend.tensor(x, "float32")
    d = backend.numpy(backend.functional.pairwise_distance(y, y, distance))
    same = np.tile(np.eye(64, dtype=bool), (3, 3))
    assert (d[same] == 0).all()
    assert (d[~same] > 0).all()


@pytest.mark.parametrize("distance", ["cosine", "euclidean"])
def test_nearly_collapsed_embeddings_have_exact_distances(backend, distance):
    """The offset is 1000 times the spread. Distances from inner products would lose almost all digits."""
    x, y = (points(8) + 1000).astype("float32").astype("float64"), np.arange(8) // 2
    loss = backend.loss("TripletLoss", distance=distance, margin=0.3)
    actual, _ = backend.value_and_grads(lambda x, r, y: loss(x, y), [x, None], [y])
    expected = LOSSES["TripletLoss"].function(Batch(x, y), distance=distance, margin=0.3)
    np.testing.assert_allclose(actual, expected, rtol=1e-5)
    z = backend.tensor(x, "float32")
    d = backend.numpy(backend.functional.pairwise_distance(z, z, distance))
    assert (d[~np.eye(8, dtype=bool)] > 0).all()


@pytest.mark.parametrize("margin", [0.0, 0.2, 1.0])
def test_triplet_loss_of_a_large_batch(backend, margin):
    """The expected value is the sum of all hinges in float64."""
    x, y = points(600, 16, seed=4), np.random.default_rng(5).integers(0, 40, 600)
    unit = x / np.linalg.norm(x, axis=1, keepdims=True)
    d = 1 - unit @ unit.T
    total = count = 0
    for a in range(len(x)):
        positive, negative = (y == y[a]) & (np.arange(600) != a), y != y[a]
        total += np.maximum(0, d[a, positive][:, None] - d[a, negative][None] + margin).sum()
        count += positive.sum() * negative.sum()
    loss = backend.loss("TripletLoss", margin=margin)
    np.testing.assert_allclose(value(backend, loss, x.astype("float32"), y), total / count, rtol=1e-5)


def test_description_of_a_loss(backend):
    from finetuner.tuner.base.registry import describe

    loss = backend.loss("TripletLoss", margin=0.5, miner={"neg_strategy": "semihard"})
    assert describe(loss) == {
        "name": "TripletLoss",
        "options": {
            "distance": "cosine",
            "margin": 0.5,
            "miner": {
                "name": "TripletEasyHardMiner",
                "options": {"pos_strategy": "hard", "neg_strategy": "semihard", "margin": None},
            },
            "reduction": "mean",
            "need_logs": False,
        },
    }


@pytest.mark.parametrize("name", ["TripletEasyHardMiner", "SiameseEasyHardMiner"])
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"pos_strategy": "semihrd"}, "pos_strategy must be one of .* got 'semihrd'; did you mean 'semihard'"),
        (
            {"pos_strategy": "semihard", "neg_strategy": "semihard"},
            "semihard must be combined with a strategy that selects one",
        ),
        (
            {"pos_strategy": "all", "neg_strategy": "semihard"},
            "semihard must be combined with a strategy that selects one",
        ),
        (
            {"pos_strategy": "semihard", "neg_strategy": "all"},
            "semihard must be combined with a strategy that selects one",
        ),
        ({"margin": 0.1}, "margin must be used with a semihard strategy"),
        ({"neg_strategy": "semihard", "margin": 0}, "margin must be above 0, got 0"),
    ],
)
def test_bad_miner_arguments(backend, name, options, message):
    with pytest.raises(ValueError, match=message):
        getattr(backend.miner, name)(**options)


def test_bad_pooler_inputs(backend):
    gem = backend.poolers.GeM()
    with pytest.raises(ValueError, match=r"x must have shape \[N, C, H, W\] or \[N, T, C\], got \[2, 3\]"):
        gem(backend.tensor(np.zeros((2, 3), "float32")))
    with pytest.raises(ValueError, match=r"mask must have shape \[N, T\]"):
        gem(backend.tensor(np.zeros((2, 3, 4), "float32")), backend.tensor(np.ones((2, 4), bool)))
    with pytest.raises(ValueError, match="p must be above 0, got 0"):
        backend.poolers.GeM(p=0)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    ("offset", "references", "message"),
    [
        (4, 6, "must leave room for 3 rows among 6"),
        (-1, 6, "at least 0, got -1"),
        (0, None, "must be used with references"),
    ],
)
def test_bad_offsets(backend, name, offset, references, message):
    x, y = np.ones((3, 2), np.float32), np.zeros(3, np.int64)
    others = () if references is None else (np.ones((references, 2), np.float32), np.zeros(references, np.int64))
    with pytest.raises(ValueError, match=message):
        backend.loss(name)(*map(backend.tensor, (x, y, *others)), self_offset=offset)


@pytest.mark.parametrize("name", ["FocalLoss"])
def test_a_classification_of_no_rows_has_a_loss_of_zero(backend, name):
    assert value(backend, backend.loss(name), np.zeros((0, 3), np.float32), np.zeros(0, np.int64)) == 0


def test_arguments_of_a_pooler(backend):
    class Own(backend.poolers.AveragePooling):
        def __init__(self, size):
            super().__init__()
            self.size = size

    assert Own(3).arguments() == {"size": 3}
    assert backend.poolers.GeM(2.5).arguments()["p"] == 2.5
