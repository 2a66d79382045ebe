"""Gradient caching: a batch in micro-batches takes the step of the whole batch, in the memory of a micro-batch."""

import functools

import numpy as np
import pytest

from finetuner.tuner.base import (
    Callback,
    ClassDataset,
    InstanceDataset,
    PairDataset,
    RandomSampler,
    RankingDataset,
    SessionDataset,
    TargetDataset,
    TripletDataset,
    losses,
)

from .test_trajectories import layers_of
from .toy import D, blobs, same, tuner, weights

pytest.importorskip("faiss")
N = 12
X, Y = blobs([0, 2, 4], each=4)
OTHER = np.random.default_rng(3).normal(size=(N, D)).astype(np.float32)
OUT = {"FocalLoss": 3}  # how wide a head is, where it is not of 4


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
# Of every loss there is, with the data that it takes; then the miners, the other labels, towers, the framework's own.
CASES = {name: (name, getattr(losses, name).target_type, {}) for name in losses.__all__ if name != "Loss"}
CASES |= {
    f"{loss} {miner}": (loss, "relations", {"miner": MINERS[miner][0], "miner_options": MINERS[miner][1]})
    for miner in MINERS
    for loss in [["TripletLoss", "SiameseLoss"][miner == "siamese"]]
}
CASES |= {f"NTXentLoss of {form}": ("NTXentLoss", form, {}) for form in ("views", "sessions", "triplets", "pairs")}
CASES["TripletLoss of triplets"] = ("TripletLoss", "triplets", {})
CASES["CLIPLoss of towers"] = ("CLIPLoss", "pairs", {"towers": True, "loss_options": {"learnable": True}})
CASES["ContrastiveLoss of towers"] = ("ContrastiveLoss", "scores", {"towers": True})
CASES |= {kind: (kind, "values", {}) for kind in ("mse", "mae", "huber")}
CASES["cross-entropy"] = ("cross-entropy", "classes", {})


def of_case(backend, name):
    """A tuner for a case, and the data."""
    loss, form, options = CASES[name]
    options = {"loss_options": {}, **options}
    if loss in backend.native:
        loss, options["loss_options"] = backend.native[loss]
    width = 1 if form == "relevance" else OUT.get(loss, 4)
    model = backend.mlp(D, 16, width)
    if options.pop("towers", False):
        model = model, backend.mlp(D, 6, width, seed=1)
    return backend.Tuner(model, loss=loss, optimizer="SGD", learning_rate=1.0, callbacks=[], **options), DATA[form]


def one_step(a_tuner, data, size, **options):
    """The loss of a step on all of the data, and what it adds to each weight of model and loss."""
    before = {}

    class Watch(Callback):
        def on_epoch_begin(self, state):
            before.update(all_weights(state.tuner))

        def on_epoch_end(self, state):
            assert state.batch == 1

    a_tuner.callbacks = [Watch()]
    run = a_tuner.fit(data, epochs=1, batch_size=N, micro_batch_size=size, **options)
    assert run.config["fit"]["micro_batch_size"] == size
    return run.history[0]["loss"], {name: (value, value - before[name]) for name, value in all_weights(a_tuner).items()}


def all_weights(a_tuner):
    """Of the model and the loss, those that are numbers."""
    of_loss = {f"loss {name}": np.asarray(value) for name, value in a_tuner.loss_state().items()}
    found = weights(a_tuner) | of_loss
    return {name: np.array(value) for name, value in found.items() if value.dtype.kind == "f"}


@functools.lru_cache(maxsize=1)  # the sizes of a case come one after another
def whole_step(backend, name):
    return one_step(*of_case(backend, name), None)


def assert_same_step(one, other):
    assert one[0] == pytest.approx(other[0], rel=1e-5)
    assert one[1].keys() == other[1].keys()
    largest = max(np.abs(added).max() for _, added in one[1].values())
    assert largest > 1e-3  # or there is nothing to compare
    for name, (weight, added) in one[1].items():
        rounding = 2e-7 * np.abs(weight).max(initial=0)
        np.testing.assert_allclose(other[1][name][1], added, rtol=0, atol=3e-5 * largest + rounding, err_msg=name)


@pytest.mark.parametrize("size", [1, 3])
@pytest.mark.parametrize("name", CASES)
def test_the_step_is_that_of_the_whole_batch(backend, name, size):
    a_tuner, data = of_case(backend, name)
    assert_same_step(whole_step(backend, name), one_step(a_tuner, data, size))


@pytest.mark.parametrize("size", [N, 50])
def test_a_batch_that_fits_takes_one_pass(backend, size):
    def trained(size):
        a_tuner = tuner(backend, dropout=0.3)
        a_tuner.fit(DATA["relations"], epochs=2, batch_size=N, micro_batch_size=size)
        return weights(a_tuner)

    assert same(trained(size), trained(None))


@pytest.mark.parametrize(("size", "most"), [(None, N), (1, 1), (4, 4)])
def test_the_model_sees_no_more_rows_at_once(backend, size, most):
    seen = []

    def seeing(embeddings):
        seen.append(int(embeddings.shape[0]))
        return embeddings

    model = backend.with_output(backend.mlp(D, 4), seeing)
    backend.Tuner(model, callbacks=[]).fit(DATA["relations"], epochs=2, batch_size=N, micro_batch_size=size)
    assert max(seen) == most


def test_rows_of_pairs_are_two_unless_the_model_has_two_inputs(backend):
    def rows_seen(*models):
        seen = []

        def seeing(embeddings):
            seen.append(int(embeddings.shape[0]))
            return embeddings

        model = [backend.with_output(one, seeing) for one in models]
        a_tuner = backend.Tuner(model if len(model) == 2 else model[0], loss="CLIPLoss", callbacks=[])
        a_tuner.fit(DATA["pairs"], epochs=1, batch_size=N, micro_batch_size=4)
        return max(seen)

    assert rows_seen(backend.mlp(D, 4)) == 4
    assert rows_seen(backend.mlp(D, 4), backend.mlp(D, 4)) == 4


@pytest.mark.parametrize("size", [None, 1, 20])
def test_dropout_drops_the_same_in_both_passes(backend, size):
    """From the step of a network of one hidden unit each item's mask can be read, and from masks the step.

    Items are the axes, so that each has a weight of its own to the hidden unit, which moves unless the item is dropped:
    then a mask tells of the second pass. The loss is of the first.
    """
    count = 50
    targets = np.random.default_rng(1).normal(size=count).astype(np.float32)
    name, options = backend.native["mse"]
    model = backend.mlp(count, 1, 1, dropout=0.5)
    a_tuner = backend.Tuner(model, loss=name, loss_options=options, optimizer="SGD", learning_rate=1.0, callbacks=[])
    data = TargetDataset(np.eye(count, dtype=np.float32), targets)
    before = [value.ravel().astype(np.float64) for value in all_weights(a_tuner).values()]
    sampler = RandomSampler(count, count, shuffle=False)
    run = a_tuner.fit(data, epochs=1, sampler=sampler, micro_batch_size=size)
    after = [value.ravel() for value in all_weights(a_tuner).values()]
    first, shift, second, last = before
    steps = [new - old for new, old in zip(after, before, strict=True)]

    hidden = np.maximum(first + shift, 0)
    kept = 2.0 * (np.abs(steps[0]) > 1e-7)
    active = hidden > 0
    assert 5 < (kept[active] > 0).sum() < active.sum() - 5
    if size == 20:
        each = [(kept[place : place + 20] > 0)[active[place : place + 20]][:7].tolist() for place in (0, 20)]
        assert each[0] != each[1]  # or every micro-batch would take the same numbers
    slopes = 2 * (kept * hidden * second + last - targets) / count
    assert run.history[0]["loss"] == pytest.approx(np.mean((kept * hidden * second + last - targets) ** 2), rel=1e-5)
    wanted = slopes * kept * second * active, (slopes * kept * second)[active].sum(), (slopes * kept * hidden).sum()
    for step, want in zip(steps, (*wanted, slopes.sum()), strict=True):
        np.testing.assert_allclose(step, -np.atleast_1d(want), rtol=1e-4, atol=3e-7)


def test_the_next_batch_is_dropped_other_units(backend):
    losses_seen = []

    class Watch(Callback):
        def on_batch_end(self, state):
            losses_seen.append(state.last_loss)

    a_tuner = tuner(backend, [Watch()], dropout=0.5, optimizer="SGD", learning_rate=1e-30)
    twice = ClassDataset(np.concatenate([X, X]), np.concatenate([Y, Y]))
    a_tuner.fit(twice, epochs=1, sampler=RandomSampler(2 * N, N, shuffle=False), micro_batch_size=5)
    assert len(losses_seen) == 2
    assert losses_seen[0] != losses_seen[1]


def test_running_statistics_are_those_of_one_pass_over_the_micro_batches(backend):
    x = backend.layout(np.random.default_rng(0).normal(size=(N, 1, 8, 8)).astype(np.float32))

    def statistics(batch_size, micro_batch_size):
        model = backend.conv()
        backend.carry(model, layers_of("conv"))
        a_tuner = backend.Tuner(model, optimizer="SGD", learning_rate=1e-30, callbacks=[])
        sampler = RandomSampler(N, batch_size, shuffle=False)
        a_tuner.fit((x, np.tile([0, 1], N // 2)), epochs=1, sampler=sampler, micro_batch_size=micro_batch_size)
        return weights(a_tuner)

    cached, by_batches, whole = statistics(N, 4), statistics(4, None), statistics(N, None)
    floats = [name for name, value in cached.items() if value.dtype.kind == "f"]
    for name in floats:
        np.testing.assert_allclose(cached[name], by_batches[name], rtol=1e-5, atol=1e-7, err_msg=name)
    assert any(np.abs(cached[name] - whole[name]).max() > 1e-3 for name in floats)


def test_what_the_loss_tells_is_of_the_whole_batch(backend):
    def told(size):
        a_tuner = tuner(backend, loss="SupConLoss", loss_options={"need_logs": True})
        return a_tuner.fit(DATA["relations"], epochs=2, batch_size=N, micro_batch_size=size).history

    for one, other in zip(told(None), told(5), strict=True):
        assert one.keys() == other.keys() >= {"active", "positive_distance", "negative_distance", "spread"}
        for name in one.keys() - {"seconds", "items_per_second"}:
            assert other[name] == pytest.approx(one[name], rel=1e-4)


def test_mappings_are_cut_along_their_first_axis(backend):
    name = "inputs" if backend.name == "keras" else "input"  # what a Sequential calls its argument

    def trained(size, collate_fn=None):
        a_tuner = tuner(backend)
        a_tuner.fit(DATA["relations"], epochs=1, batch_size=N, micro_batch_size=size, collate_fn=collate_fn)
        return weights(a_tuner)

    plain, mapped = trained(5), trained(5, lambda items: {name: np.stack(items)})
    assert same(plain, mapped)


def test_inputs_that_cannot_be_cut_are_told(backend):
    with pytest.raises(
        ValueError, match="micro_batch_size must go with inputs of one entry per row, here 12, got one of 96"
    ):
        tuner(backend).fit(
            DATA["relations"], batch_size=N, micro_batch_size=5, collate_fn=lambda items: {"x": np.concatenate(items)}
        )


def test_a_loss_that_is_not_finite_leaves_the_model_as_it_was(backend):
    class Broken(backend.losses.TripletLoss):
        def compute(self, *args):
            return super().compute(*args) / 0.0

    model = backend.conv()
    a_tuner = backend.Tuner(model, loss=Broken, callbacks=[])
    before = weights(a_tuner)
    x = backend.layout(np.random.default_rng(0).normal(size=(N, 1, 8, 8)).astype(np.float32))
    with pytest.raises(
        ValueError, match="loss must be finite, and is inf in batch 1 of epoch 1 .* weights from before"
    ):
        a_tuner.fit((x, Y), epochs=1, batch_size=N, micro_batch_size=5)
    assert same(before, weights(a_tuner))  # running statistics, too


def test_a_model_that_returns_no_embeddings(backend):
    model = backend.with_output(backend.mlp(D, 8), lambda x: {"pooled": x})
    with pytest.raises(TypeError, match=r"the model must return a tensor \[N, D\], got dict with pooled"):
        backend.Tuner(model, callbacks=[]).fit(DATA["relations"], batch_size=N, micro_batch_size=5)


def test_a_batch_that_teaches_nothing(backend):
    def trained(size):
        a_tuner = tuner(backend, loss="TripletLoss", loss_options={"margin": 0.0}, optimizer="SGD")
        with pytest.warns(UserWarning, match="holds no triplets"):
            run = a_tuner.fit((X, np.arange(N)), epochs=1, sampler=RandomSampler(N, N), micro_batch_size=size)
        return run.history[0]["loss"], weights(a_tuner)

    (loss, one), (other_loss, other) = trained(None), trained(5)
    assert loss == other_loss == 0
    assert same(one, other)


def test_both_optimizers_step(backend):
    def trained(size):
        options = {"loss_optimizer": "SGD", "loss_optimizer_options": {"learning_rate": 0.1}}
        a_tuner = tuner(backend, loss="ArcFaceLoss", loss_options={"scale": 8.0}, learning_rate=1e-2, **options)
        a_tuner.fit(DATA["classes"], epochs=3, batch_size=9, micro_batch_size=size)  # and 3, in one pass
        return all_weights(a_tuner)

    one, other = trained(None), trained(5)
    for name in one:
        np.testing.assert_allclose(other[name], one[name], rtol=1e-3, atol=1e-4, err_msg=name)
