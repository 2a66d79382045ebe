"""Losses in tiles are the losses of the whole batch, for every size of a tile and every way to compute them."""

import gc
import importlib
import weakref

import numpy as np
import pytest

from finetuner.tuner.base.losses import blocks

LOSSES = {
    "TripletLoss": {"margin": 0.2},
    "TripletLoss:soft": {"margin": None},
    "TripletLoss:soft, euclidean": {"margin": None, "distance": "euclidean"},
    "SiameseLoss": {"margin": 0.9},
    "NTXentLoss": {},
    "NTXentLoss:cold": {"temperature": 0.005},  # exponents of a range that has to be shifted row by row
    "SupConLoss": {},
    "SupConLoss:cold": {"temperature": 0.005},
    "MultiSimilarityLoss": {},
    "MultiSimilarityLoss:steep": {"beta": 200.0},
    "LiftedStructureLoss": {"distance": "sqeuclidean"},
}
RNG = np.random.default_rng(5)
X = RNG.normal(size=(23, 4)).astype(np.float32)
LABELS = {
    "classes": RNG.integers(0, 5, 23),
    "sessions": np.stack([RNG.integers(0, 4, 23), RNG.integers(-1, 2, 23)], axis=1),
    "label sets": RNG.random((23, 5)) < 0.3,
}


KERAS = ("SiameseLoss", "NTXentLoss:cold", "SupConLoss", "LiftedStructureLoss")  # a kind each: its compilers are slow


@pytest.fixture
def whole(backend, request):
    """Value and gradient of a loss. Keras computes those of classes in tiles, but for triplets."""
    params = getattr(getattr(request.node, "callspec", None), "params", {})
    if backend.name == "keras":
        if params.get("name", KERAS[0]) not in KERAS or params.get("kind", "classes") != "classes":
            pytest.skip("one loss of each kind; others are computed in blocks of rows")
        if params.get("size") == 1 or params.get("mined"):
            pytest.skip("of many tiles; what a miner selects is computed in blocks of rows")

    def compute(loss, *arrays):
        return backend.value_and_grads(loss, arrays[:1], arrays[1:])

    return compute


def in_tiles(monkeypatch, size):
    monkeypatch.setattr(blocks, "rows_per_block", lambda *_: 1)
    monkeypatch.setattr(blocks, "tile_size", lambda *_: size)


@pytest.mark.parametrize("size", [1, 5, 100])
@pytest.mark.parametrize("kind", LABELS)
@pytest.mark.parametrize("name", LOSSES)
def test_every_size_gives_the_same(backend, whole, monkeypatch, name, kind, size):
    loss = backend.loss(name.partition(":")[0], **LOSSES[name])
    expected, gradients = whole(loss, X, LABELS[kind])
    in_tiles(monkeypatch, size)
    found, others = whole(loss, X, LABELS[kind])
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)
    scale = max(np.abs(gradients[0]).max(), 1e-3)
    np.testing.assert_allclose(others[0], gradients[0], rtol=1e-4, atol=2e-5 * scale)


@pytest.mark.parametrize("name", LOSSES)
def test_many_positives_are_computed_in_blocks_of_rows(backend, whole, monkeypatch, name):
    loss = backend.loss(name.partition(":")[0], **LOSSES[name])
    in_tiles(monkeypatch, 5)
    expected, gradients = whole(loss, X, LABELS["classes"])
    place = "tiling" if backend.name == "keras" else "tiles"
    monkeypatch.setattr(f"finetuner.tuner.{backend.name}.{place}.MAX_LISTED", 1)
    found, others = whole(loss, X, LABELS["classes"])
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)
    scale = max(np.abs(gradients[0]).max(), 1e-3)
    np.testing.assert_allclose(others[0], gradients[0], rtol=1e-4, atol=2e-5 * scale)


@pytest.mark.parametrize("changed", ["nothing is kept", "two limits at a time"])
@pytest.mark.parametrize("name", LOSSES)
def test_other_ways_give_the_same(backend, whole, monkeypatch, name, changed):
    if backend.name == "keras":
        pytest.skip("Keras computes each tile again, and triplets in blocks of rows")
    loss = backend.loss(name.partition(":")[0], **LOSSES[name])
    expected, gradients = whole(loss, X, LABELS["classes"])
    in_tiles(monkeypatch, 5)
    if changed == "nothing is kept":
        monkeypatch.setattr(blocks, "kept_size", lambda *_: 0)
    else:
        monkeypatch.setattr(f"finetuner.tuner.{backend.name}.tile_triplets.MAX_FACTORS", 2)
    found, others = whole(loss, X, LABELS["classes"])
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)
    scale = max(np.abs(gradients[0]).max(), 1e-3)
    np.testing.assert_allclose(others[0], gradients[0], rtol=1e-4, atol=2e-5 * scale)


@pytest.mark.parametrize("distance", ["cosine", "euclidean", "sqeuclidean"])
@pytest.mark.parametrize("strategies", [("hard", "semihard"), ("easy", "semihard"), ("semihard", "hard")])
def test_duplicates_of_a_positive_are_not_farther_than_it(backend, monkeypatch, distance, strategies):
    """A distance of a list and one of a tile differ by rounding."""
    x = np.random.default_rng(1).normal(size=(60, 16)).astype(np.float32).repeat(3, axis=0)
    labels = np.arange(180) // 6
    labels[1::3] = np.roll(labels[1::3], 2)  # of each point, a duplicate is in another class
    miner = {"pos_strategy": strategies[0], "neg_strategy": strategies[1], "margin": 1.0}
    if backend.name == "keras":
        pytest.skip("what a miner selects is computed in blocks of rows")
    loss = backend.loss("TripletLoss", miner, distance=distance, margin=1.0)
    labels = backend.tensor(labels)
    expected = float(backend.numpy(loss(backend.tensor(x, "float64"), labels)))
    in_tiles(monkeypatch, 32)
    found = float(backend.numpy(loss(backend.tensor(x), labels)))
    assert found == pytest.approx(expected, rel=1e-5, abs=1e-6)


@pytest.mark.parametrize("distance", ["cosine", "euclidean", "sqeuclidean"])
@pytest.mark.parametrize("miner", [None, {"pos_strategy": "hard", "neg_strategy": "hard"}])
def test_classes_that_are_apart(backend, whole, monkeypatch, distance, miner):
    """Most tiles have no distance below a limit, and some have only such distances."""
    centres = np.repeat(np.eye(4), 4, axis=0)
    x, labels = (centres + 0.05 * RNG.normal(size=centres.shape)).astype(np.float32), np.arange(16) // 4
    labels[4:6] = 0  # some of the second class
    loss = backend.loss("TripletLoss", miner, distance=distance, margin=0.1)
    expected, gradients = whole(loss, x, labels)
    assert expected > 0
    for size in (4, 8):
        in_tiles(monkeypatch, size)
        found, others = whole(loss, x, labels)
        np.testing.assert_allclose(found, expected, rtol=1e-5)
        np.testing.assert_allclose(others[0], gradients[0], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("mined", [False, True])
@pytest.mark.parametrize("name", LOSSES)
def test_nan_is_not_hidden(backend, whole, monkeypatch, name, mined):
    """The row that is not finite has no positive, so it counts in the loss of the others alone."""
    if mined and not name.startswith("TripletLoss"):
        pytest.skip("only triplets are mined in tiles")
    x, labels = X.copy(), np.append(LABELS["classes"][:-1], 9)
    x[-1] = np.nan
    miner = {"pos_strategy": "hard", "neg_strategy": "hard"} if mined else None
    loss = backend.loss(name.partition(":")[0], miner, **LOSSES[name])
    assert np.isnan(whole(loss, x, labels)[0])
    in_tiles(monkeypatch, 5)
    assert np.isnan(whole(loss, x, labels)[0])


def test_a_miner_with_a_rule_of_its_own_is_asked(backend, whole, monkeypatch):
    class Everything(backend.miner.TripletEasyHardMiner):
        def refine(self, distances, positive, negative):
            return positive, negative

    loss = backend.losses.TripletLoss(miner=Everything())
    expected = whole(loss, X, LABELS["classes"])[0]
    in_tiles(monkeypatch, 5)
    np.testing.assert_allclose(whole(loss, X, LABELS["classes"])[0], expected, rtol=1e-5)


@pytest.mark.parametrize("labels", ["large", "not a number"])
def test_labels_stay_apart(backend, whole, monkeypatch, labels):
    """Labels that a float would merge, and NaN, which is equal to no label."""
    y = LABELS["classes"]
    y = y + 2**60 if labels == "large" else np.where(y == 3, np.nan, y).astype(np.float32)
    expected = whole(backend.loss("NTXentLoss"), X, y)[0]
    in_tiles(monkeypatch, 5)
    np.testing.assert_allclose(whole(backend.loss("NTXentLoss"), X, y)[0], expected, rtol=1e-5)


def test_tiles_are_used(backend, whole, monkeypatch):
    """Without this, the tests above could compare blocks of rows with themselves."""
    in_tiles(monkeypatch, 5)
    if backend.name == "keras":
        pytest.skip("its compilers follow both ways, see below")
    monkeypatch.setattr(f"finetuner.tuner.{backend.name}.blocks.block_distances", None)
    for name, options in LOSSES.items():
        whole(backend.loss(name.partition(":")[0], **options), X, LABELS["classes"])


@pytest.mark.parametrize("name", [*LOSSES, "CLIPLoss"])
def test_memory_is_free_after_the_step(backend, whole, monkeypatch, name):
    """At once, and not when the garbage collector finds a circle; it cannot look into a graph."""
    if backend.name == "keras":
        pytest.skip("Keras computes each tile again, and triplets in blocks of rows")
    tiles, made = importlib.import_module(f"finetuner.tuner.{backend.name}.tiles"), []

    class Recorded(tiles.TiledComparison):
        def __init__(self, *args):
            super().__init__(*args)
            made.append(weakref.ref(self))

    monkeypatch.setattr(tiles, "TiledComparison", Recorded)
    in_tiles(monkeypatch, 5)
    loss = backend.loss(name.partition(":")[0], **LOSSES.get(name, {}))
    gc.collect()
    gc.disable()
    try:
        whole(loss, X, X[::-1].copy() if name == "CLIPLoss" else LABELS["classes"])
        assert made
        assert not [one for one in made if one() is not None]
    finally:
        gc.enable()


def test_tiles_are_used_in_keras(backend, whole, monkeypatch):
    if backend.name != "keras":
        pytest.skip("see above")
    from keras import ops

    in_tiles(monkeypatch, 5)

    def not_a_number(terms, relations, distance, size, count, given, weights):
        return ops.full((count,), np.nan, given[0].dtype), [*given[:2], *weights]

    monkeypatch.setattr(backend.blocks, "sum_blocks", not_a_number)
    for name in KERAS:
        loss = backend.loss(name.partition(":")[0], **LOSSES[name])
        assert np.isfinite(whole(loss, X, LABELS["classes"])[0])
    assert np.isnan(whole(backend.loss("TripletLoss"), X, LABELS["classes"])[0])


def test_tiles_of_few_rows_are_wide():
    assert blocks.tile_sizes(4096, 4096, square=True) == (512, 512)
    assert blocks.tile_sizes(64, 50_000, square=False) == (64, 4096)
    assert blocks.tile_sizes(64, 100, square=False) == (64, 100)
    assert blocks.tile_sizes(5000, 7000, square=False) == (512, 512)


@pytest.mark.parametrize("kinds", [("bool", "bool"), ("int64", "int32"), ("uint8", "int64"), ("float32", "int64")])
def test_labels_of_any_type(backend, whole, monkeypatch, kinds):
    loss, labels = backend.loss("NTXentLoss"), LABELS["classes"] % 2
    given = X, labels.astype(kinds[0]), X[:9], labels[:9].astype(kinds[1])

    def compute():
        return backend.value_and_grads(lambda x, y, z, t: loss(x, y, z, t), [given[0]], given[1:])

    expected, gradients = compute()
    in_tiles(monkeypatch, 5)
    found, others = compute()
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    np.testing.assert_allclose(others[0], gradients[0], rtol=1e-4, atol=1e-7)
