"""Gradient caching: a step with micro-batches is equal to the step with the whole batch."""

import functools

import numpy as np
import pytest

from finetuner import (
    ClassDataset,
    InstanceDataset,
    PairDataset,
    RankingDataset,
    SessionDataset,
    TargetDataset,
    TripletDataset,
)
from finetuner.tuner.base import Callback, RandomSampler, losses

from .test_trajectories import layers_of
from .toy import D, blobs, make_tuner, same_arrays, weights

pytest.importorskip("faiss")
N = 12
X, Y = blobs([0, 2, 4], items_per_class=4)
OTHER = np.random.default_rng(3).normal(size=(N, D)).astype(np.float32)
OUT_FEATURES = {"FocalLoss": 3}  # the default is 4


def noisy(item, rng):
    return item + 0.1 * rng.normal(size=item.shape).astype(np.float32)


DATA = {
    "relations": ClassDataset(X, Y),
    "classes": ClassDataset(X, Y),
    "pairs": PairDataset(X, OTHER),
    "scores": PairDataset(X, OTHER, np.linspace(0, 1, N)),
    "vectors": TargetDataset(X, OTHER[:, :5]),
    "relevance": RankingDataset(X, np.arange(N) % 4, np.arange(N) // 4),
    "views": InstanceDataset(X[:6], noisy),
    "sessions": SessionDataset(X, np.arange(N) // 4, np.tile([0, 1, -1, -1], 3)),
    "triplets": TripletDataset(X, OTHER, X[::-1].copy()),
    "values": TargetDataset(X, OTHER[:, :4]),
}
MINERS = {
    "easy-hard": ("TripletEasyHardMiner", {"pos_strategy": "easy", "neg_strategy": "hard"}),
    "hard-semihard": ("TripletEasyHardMiner", {"pos_strategy": "hard", "neg_strategy": "semihard"}),
    "hard-easy": ("TripletEasyHardMiner", {"pos_strategy": "hard", "neg_strategy": "easy"}),
    "all-hard": ("TripletEasyHardMiner", {"pos_strategy": "all", "neg_strategy": "hard"}),
    "siamese": ("SiameseEasyHardMiner", {}),
}
# All losses with matching data, then miners, other kinds of labels, two models, and losses of the framework.
CASES = {name: (name, getattr(losses, name).target_type, {}) for name in losses.__all__ if name != "Loss"}
CASES |= {
    f"{loss} {miner}": (loss, "relations", {"miner": MINERS[miner][0], "miner_options": MINERS[miner][1]})
    for miner in MINERS
    for loss in [["TripletLoss", "SiameseLoss"][miner == "siamese"]]
}
CASES |= {f"NTXentLoss {data}": ("NTXentLoss", data, {}) for data in ("views", "sessions", "triplets", "pairs")}
CASES["TripletLoss triplets"] = ("TripletLoss", "triplets", {})
CASES["CLIPLoss towers"] = ("CLIPLoss", "pairs", {"towers": True, "loss_options": {"learnable": True}})
CASES["ContrastiveLoss towers"] = ("ContrastiveLoss", "scores", {"towers": True})
CASES |= {kind: (kind, "values", {}) for kind in ("mse", "mae", "huber")}
CASES["cross-entropy"] = ("cross-entropy", "classes", {})


def create_case(backend, name):
    """The tuner and the data of a case."""
    loss, data, options = CASES[name]
    options = {"loss_options": {}, **options}
    if loss in backend.native:
        loss, options["loss_options"] = backend.native[loss]
    width = 1 if data == "relevance" else OUT_FEATURES.get(loss, 4)
    model = backend.mlp(D, 16, width)
    if options.pop("towers", False):
        model = model, backend.mlp(D, 6, width, seed=1)
    return backend.Tuner(model, loss=loss, optimizer="SGD", learning_rate=1.0, callbacks=[], **options), DATA[data]


def one_step(tuner, data, size, **options):
    """The loss of one step with all data, and each weight of model and loss with its change."""
    before = {}

    class Watch(Callback):
        def on_epoch_begin(self, state):
            before.update(all_weights(state.tuner))

        def on_epoch_end(self, state):
            assert state.batch == 1

    tuner.callbacks = [Watch()]
    run = tuner.fit(data, epochs=1, batch_size=N, micro_batch_size=size, **options)
    assert run.config["fit"]["micro_batch_size"] == size
    return run.history[0]["loss"], {name: (value, value - before[name]) for name, value in all_weights(tuner).items()}


def all_weights(tuner):
    """The floating point weights of the model and the loss."""
    loss_weights = {f"loss {name}": np.asarray(value) for name, value in tuner.loss_state().items()}
    arrays = weights(tuner) | loss_weights
    return {name: np.array(value) for name, value in arrays.items() if value.dtype.kind == "f"}


@functools.lru_cache(maxsize=1)  # the sizes of a case run one after another
def whole_step(backend, name):
    return one_step(*create_case(backend, name), None)


def assert_same_step(expected, actual):
    assert expected[0] == pytest.approx(actual[0], rel=1e-5)
    assert expected[1].keys() == actual[1].keys()
    largest = max(np.abs(change).max() for _, change in expected[1].values())
    assert largest > 1e-3  # the step must change the weights
    for name, (weight, change) in expected[1].items():
        rounding = 2e-7 * np.abs(weight).max(initial=0)
        np.testing.assert_allclose(actual[1][name][1], change, rtol=0, atol=3e-5 * largest + rounding, err_msg=name)


def pytest_generate_tests(metafunc):
    """Every loss with micro-batches of 1 and of 3 rows; on slow engines one size each, in turn."""
    if metafunc.function is test_step_matches_the_whole_batch:
        full, backend = (metafunc.config.getoption(option) for option in ("--full-grid", "--backend"))
        both = full or backend == "pytorch"
        cases = [(name, size) for i, name in enumerate(CASES) for size in ([1, 3] if both else [(1, 3)[i % 2]])]
        metafunc.parametrize(("name", "size"), cases)


def test_step_matches_the_whole_batch(backend, name, size):
    tuner, data = create_case(backend, name)
    assert_same_step(whole_step(backend, name), one_step(tuner, data, size))


@pytest.mark.parametrize("size", [N, 50])
def test_small_batches_use_one_pass(backend, size):
    def train(size):
        tuner = make_tuner(backend, dropout=0.3)
        tuner.fit(DATA["relations"], epochs=2, batch_size=N, micro_batch_size=size)
        return weights(tuner)

    assert same_arrays(train(size), train(None))


@pytest.mark.parametrize(("size", "maximum"), [(None, N), (1, 1), (4, 4)])
def test_model_inputs_are_at_most_a_micro_batch(backend, size, maximum):
    counts = []

    def record(embeddings):
        counts.append(int(embeddings.shape[0]))
        return embeddings

    model = backend.with_output(backend.mlp(D, 4), record)
    backend.Tuner(model, callbacks=[]).fit(DATA["relations"], epochs=2, batch_size=N, micro_batch_size=size)
    assert max(counts) == maximum


def test_micro_batches_of_pairs(backend):
    def max_rows(*models):
        counts = []

        def record(embeddings):
            counts.append(int(embeddings.shape[0]))
            return embeddings

        recorded = [backend.with_output(model, record) for model in models]
        tuner = backend.Tuner(recorded if len(recorded) == 2 else recorded[0], loss="CLIPLoss", callbacks=[])
        tuner.fit(DATA["pairs"], epochs=1, batch_size=N, micro_batch_size=4)
        return max(counts)

    assert max_rows(backend.mlp(D, 4)) == 4
    assert max_rows(backend.mlp(D, 4), backend.mlp(D, 4)) == 4


@pytest.mark.parametrize("size", [None, 1, 20])
def test_both_passes_use_the_same_dropout_masks(backend, size):
    """The dropout masks are computed from the step of a network with one hidden unit, and the step from the masks.

    The inputs are one-hot, so each item has its own weight to the hidden unit. This weight changes unless dropout drops
    the unit for the item. The changes show the masks of the second pass, and the loss depends on the first pass.
    """
    count = 50
    targets = np.random.default_rng(1).normal(size=count).astype(np.float32)
    name, options = backend.native["mse"]
    model = backend.mlp(count, 1, 1, dropout=0.5)
    tuner = backend.Tuner(model, loss=name, loss_options=options, optimizer="SGD", learning_rate=1.0, callbacks=[])
    data = TargetDataset(np.eye(count, dtype=np.float32), targets)
    before = [value.ravel().astype(np.float64) for value in all_weights(tuner).values()]
    sampler = RandomSampler(count, count, shuffle=False)
    run = tuner.fit(data, epochs=1, sampler=sampler, micro_batch_size=size)
    after = [value.ravel() for value in all_weights(tuner).values()]
    first, shift, second, last = before
    steps = [new - old for new, old in zip(after, before, strict=True)]

    hidden = np.maximum(first + shift, 0)
    kept = 2.0 * (np.abs(steps[0]) > 1e-7)
    active = hidden > 0
    assert 5 < (kept[active] > 0).sum() < active.sum() - 5
    if size == 20:
        masks = [(kept[start : start + 20] > 0)[active[start : start + 20]][:7].tolist() for start in (0, 20)]
        assert masks[0] != masks[1]  # micro-batches must not share random numbers
    gradient = 2 * (kept * hidden * second + last - targets) / count
    assert run.history[0]["loss"] == pytest.approx(np.mean((kept * hidden * second + last - targets) ** 2), rel=1e-5)
    hidden_gradient = gradient * kept * second
    expected = hidden_gradient * active, hidden_gradient[active].sum(), (gradient * kept * hidden).sum(), gradient.sum()
    for step, value in zip(steps, expected, strict=True):
        np.testing.assert_allclose(step, -np.atleast_1d(value), rtol=1e-4, atol=3e-7)


def test_dropout_differs_between_batches(backend):
    batch_losses = []

    class Watch(Callback):
        def on_batch_end(self, state):
            batch_losses.append(state.last_loss)

    tuner = make_tuner(backend, [Watch()], dropout=0.5, optimizer="SGD", learning_rate=1e-30)
    repeated = ClassDataset(np.concatenate([X, X]), np.concatenate([Y, Y]))
    tuner.fit(repeated, epochs=1, sampler=RandomSampler(2 * N, N, shuffle=False), micro_batch_size=5)
    assert len(batch_losses) == 2
    assert batch_losses[0] != batch_losses[1]


def test_running_statistics_are_updated_once_per_micro_batch(backend):
    x = backend.layout(np.random.default_rng(0).normal(size=(N, 1, 8, 8)).astype(np.float32))

    def statistics(batch_size, micro_batch_size):
        model = backend.conv()
        backend.carry(model, layers_of("conv"))
        tuner = backend.Tuner(model, optimizer="SGD", learning_rate=1e-30, callbacks=[])
        sampler = RandomSampler(N, batch_size, shuffle=False)
        tuner.fit((x, np.tile([0, 1], N // 2)), epochs=1, sampler=sampler, micro_batch_size=micro_batch_size)
        return weights(tuner)

    cached, by_batches, whole = statistics(N, 4), statistics(4, None), statistics(N, None)
    floats = [name for name, value in cached.items() if value.dtype.kind == "f"]
    for name in floats:
        np.testing.assert_allclose(cached[name], by_batches[name], rtol=1e-5, atol=1e-7, err_msg=name)
    assert any(np.abs(cached[name] - whole[name]).max() > 1e-3 for name in floats)


def test_logs_are_of_the_whole_batch(backend):
    def history(size):
        tuner = make_tuner(backend, loss="SupConLoss", loss_options={"need_logs": True})
        return tuner.fit(DATA["relations"], epochs=2, batch_size=N, micro_batch_size=size).history

    for expected, actual in zip(history(None), history(5), strict=True):
        assert expected.keys() == actual.keys() >= {"active", "positive_distance", "negative_distance", "spread"}
        for name in expected.keys() - {"seconds", "items_per_second"}:
            assert actual[name] == pytest.approx(expected[name], rel=1e-4)


def test_mappings_are_split_along_the_first_axis(backend):
    name = "inputs" if backend.name == "keras" else "input"  # the argument of a Sequential

    def train(size, collate_fn=None):
        tuner = make_tuner(backend)
        tuner.fit(DATA["relations"], epochs=1, batch_size=N, micro_batch_size=size, collate_fn=collate_fn)
        return weights(tuner)

    plain, mapped = train(5), train(5, lambda items: {name: np.stack(items)})
    assert same_arrays(plain, mapped)


def test_inputs_that_cannot_be_split(backend):
    with pytest.raises(
        ValueError, match="micro_batch_size must be used with inputs of one entry per row, here 12, got one of 96"
    ):
        make_tuner(backend).fit(
            DATA["relations"], batch_size=N, micro_batch_size=5, collate_fn=lambda items: {"x": np.concatenate(items)}
        )


def test_non_finite_loss_restores_the_weights(backend):
    class Broken(backend.losses.TripletLoss):
        def compute(self, *args):
            return super().compute(*args) / 0.0

    model = backend.conv()
    tuner = backend.Tuner(model, loss=Broken, callbacks=[])
    before = weights(tuner)
    x = backend.layout(np.random.default_rng(0).normal(size=(N, 1, 8, 8)).astype(np.float32))
    with pytest.raises(
        ValueError, match="loss must be finite, and is (?:inf|nan) in batch 1 of epoch 1 .* weights from before"
    ):
        tuner.fit((x, Y), epochs=1, batch_size=N, micro_batch_size=5)
    assert same_arrays(before, weights(tuner))  # including running statistics


def test_model_must_return_embeddings(backend):
    model = backend.with_output(backend.mlp(D, 8), lambda x: {"pooled": x})
    with pytest.raises(TypeError, match=r"the model must return a tensor \[N, D\], got dict with pooled"):
        backend.Tuner(model, callbacks=[]).fit(DATA["relations"], batch_size=N, micro_batch_size=5)


def test_batch_without_triplets(backend):
    def train(size):
        tuner = make_tuner(backend, loss="TripletLoss", loss_options={"margin": 0.0}, optimizer="SGD")
        with pytest.warns(UserWarning, match="holds no triplets"):
            run = tuner.fit((X, np.arange(N)), epochs=1, sampler=RandomSampler(N, N), micro_batch_size=size)
        return run.history[0]["loss"], weights(tuner)

    (whole_loss, whole), (cached_loss, cached) = train(None), train(5)
    assert whole_loss == cached_loss == 0
    assert same_arrays(whole, cached)


def test_both_optimizers_step(backend):
    def train(size):
        options = {"loss_optimizer": "SGD", "loss_optimizer_options": {"learning_rate": 0.1}}
        tuner = make_tuner(backend, loss="ArcFaceLoss", loss_options={"scale": 8.0}, learning_rate=1e-2, **options)
        tuner.fit(DATA["classes"], epochs=3, batch_size=9, micro_batch_size=size)  # the last batch has 3 items
        return all_weights(tuner)

    whole, cached = train(None), train(5)
    for name in whole:
        np.testing.assert_allclose(cached[name], whole[name], rtol=1e-3, atol=1e-4, err_msg=name)
