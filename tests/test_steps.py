"""Steps, evaluations and logs; averages, blends, freezing, precision; steps that are not finite; other libraries' names."""

import math
import re

import numpy as np
import pytest

import finetuner
from finetuner import ClassDataset, Every, PairDataset, RandomSampler
from finetuner.tuner.base import BestModel, Callback, EarlyStopping, NotFiniteError
from finetuner.tuner.base.training.callbacks.monitor import Monitor

from .toy import TEST, TRAIN, D, blobs, make_tuner, same_arrays, weights

pytest.importorskip("faiss")


def test_evaluations_and_logs_by_steps(backend):
    seen = []

    class Watch(Callback):
        def on_evaluation_end(self, state):
            seen.append(("evaluation", state.history[-1]["step"]))

        def on_epoch_end(self, state):
            seen.append(("epoch", state.history[-1]["step"]))

        def on_log(self, state):
            seen.append(("log", state.log[-1]["step"]))

    run = make_tuner(backend, [Watch()]).fit(
        TRAIN, TEST, epochs=2, batch_size=8, metrics=["hit@1"], evaluate_every=4, log_every=3
    )
    assert [(row["epoch"], row["step"]) for row in run.history] == [(0, 0), (1, 4), (1, 6), (2, 8), (2, 12)]
    assert ["hit@1" in row for row in run.history] == [True, True, False, True, True]
    assert [row["step"] for row in run.log] == [3, 6, 9, 12]
    assert [pair for pair in seen if pair[0] != "log"] == [
        ("evaluation", 4),
        ("epoch", 6),
        ("evaluation", 8),
        ("epoch", 12),
    ]
    assert all(row["gradient_norm"] > 0 and row["items_per_second"] > 0 for row in run.log)
    mean_of_epoch = np.mean([row["loss"] for row in run.log[:2]])
    assert run.history[2]["loss"] == pytest.approx(mean_of_epoch)
    assert run.metrics["after"]["hit@1"] == run.history[-1]["hit@1"]


def test_max_steps(backend):
    run = make_tuner(backend).fit(TRAIN, TEST, epochs=5, max_steps=8, batch_size=8)
    assert [(row["epoch"], row["step"]) for row in run.history] == [(0, 0), (1, 6), (2, 8)]
    assert "val_loss" in run.history[-1]
    assert run.tuner.epoch == 1


def test_several_evaluation_sets(backend):
    other = ClassDataset(*blobs([1, 3, 5, 7], seed=4))
    stop = EarlyStopping("seen/mAP@R", patience=1)
    tuner = make_tuner(backend, [BestModel("unseen/mAP@R"), stop])
    run = tuner.fit(TRAIN, {"seen": TRAIN, "unseen": TEST, "searched": (TEST, other)}, epochs=2, batch_size=48)
    row = run.history[0]
    assert {"seen/val_loss", "seen/mAP@R", "unseen/val_loss", "unseen/mAP@R", "searched/mAP@R"} <= row.keys()
    assert "searched/val_loss" not in row
    assert row["unseen/mAP@R"] == make_tuner(backend).evaluate(TEST)["mAP@R"]
    assert row["searched/hit@1"] == make_tuner(backend).evaluate(TEST, other)["hit@1"]
    assert run.metrics["after"].keys() == row.keys() - {"epoch", "step"}


def test_evaluating_pairs_is_what_a_fit_does(backend):
    pairs = PairDataset(TRAIN.x[:24], TRAIN.x[24:], np.linspace(0, 1, 24))
    tuner = make_tuner(backend, loss="CosineSimilarityLoss")
    before = tuner.evaluate(pairs)
    run = tuner.fit(pairs, pairs, epochs=1, batch_size=24)
    assert before == {name: run.history[0][name] for name in before}


def test_averaged_weights(backend):
    """The average is that of the weights after each step, and the model has it in the end."""
    states = []

    class Watch(Callback):
        def on_batch_end(self, state):
            states.append(state.tuner.encoder.state())

    tuner = make_tuner(backend, [Watch()], ema_decay=0.7)
    states.append(weights(tuner))
    run = tuner.fit(TRAIN, TEST, epochs=2, batch_size=16)
    average = {name: np.asarray(value, np.float64) for name, value in states[0].items()}
    for state in states[1:]:
        for name, value in state.items():
            average[name] = 0.7 * average[name] + 0.3 * np.asarray(value, np.float64)
    ours = weights(tuner)
    for name, value in average.items():
        if "float" in str(ours[name].dtype):
            np.testing.assert_allclose(ours[name], value, rtol=0, atol=1e-6 * max(1, np.abs(value).max()))
    assert tuner.evaluate(TEST)["mAP@R"] == run.history[-1]["mAP@R"]


def test_blend(backend):
    tuner = make_tuner(backend)
    before = weights(tuner)
    run = tuner.fit(TRAIN, TEST, epochs=2, batch_size=16)
    after = weights(tuner)
    run.blend(0.25)
    for name, value in weights(tuner).items():
        if "float" in str(value.dtype):
            np.testing.assert_allclose(value, before[name] + 0.25 * (after[name] - before[name]), rtol=1e-6, atol=1e-7)
    run.blend(1)
    assert same_arrays(weights(tuner), after)
    with pytest.raises(ValueError, match="share must be from 0 to 1, got 2"):
        run.blend(2)
    blended = make_tuner(backend)
    run = blended.fit(TRAIN, TEST, epochs=2, batch_size=16, blend=0.5)
    assert run.metrics["after"] == pytest.approx(
        blended.evaluate(TEST) | {"val_loss": run.metrics["after"]["val_loss"]}
    )
    assert not same_arrays(weights(blended), after)


def test_a_training_after_a_blend_goes_on_from_the_trained_weights(backend):
    def train(blend):
        tuner = make_tuner(backend)
        tuner.fit(TRAIN, epochs=1, batch_size=16, blend=blend)
        tuner.fit(TRAIN, epochs=1, batch_size=16)
        return weights(tuner)

    assert same_arrays(train(None), train(0.5))


def names_of(backend, model):
    return [weight.name for weight in backend.Tuner.framework_class("auto").weights(model)]


def test_frozen_weights_do_not_move(backend):
    model = backend.mlp(D, 32, 8)
    first = "|".join(f"^{re.escape(name)}$" for name in names_of(backend, model)[:2])
    tuner = backend.Tuner(model, freeze=[first], callbacks=[], optimizer="AdamW")
    before = list(weights(tuner).values())
    tuner.fit(TRAIN, epochs=2, batch_size=16)
    moved = [not np.array_equal(*pair) for pair in zip(before, weights(tuner).values(), strict=True)]
    assert moved == [False, False, True, True]


def test_weights_frozen_in_the_first_epochs(backend):
    model = backend.mlp(D, 32, 8)
    first = "|".join(f"^{re.escape(name)}$" for name in names_of(backend, model)[:2])
    states = []

    class Watch(Callback):
        def on_epoch_end(self, state):
            states.append(list(weights(state.tuner).values()))

    tuner = backend.Tuner(model, freeze={first: 2}, callbacks=[Watch()], optimizer="AdamW")
    states.append(list(weights(tuner).values()))
    tuner.fit(TRAIN, epochs=3, batch_size=16)
    moved = [not np.array_equal(a[0], b[0]) for a, b in zip(states, states[1:], strict=False)]
    assert moved == [False, False, True]
    assert not np.array_equal(states[0][2], states[1][2])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"freeze": ["no such layer"]}, "freeze must have patterns that match a weight, got 'no such layer'"),
        ({"learning_rate": {"no such layer": 1.0}}, "learning_rate must have patterns that match a weight"),
        ({"weight_decay": 0.1, "optimizer_options": {"weight_decay": 0.1}}, "weight_decay must be given once"),
        ({"precision": "fp8"}, "precision must be one of 'fp32', 'bf16', 'fp16', 'auto', got 'fp8'"),
        ({"freeze": [""]}, "the model must have weights to train"),
        ({"schedule": "cosinus"}, "schedule must be one of .*; did you mean 'cosine'"),
    ],
)
def test_wrong_optimization(backend, options, message):
    with pytest.raises((ValueError, TypeError), match=message):
        make_tuner(backend, **options).fit(TRAIN, epochs=1)


@pytest.mark.parametrize(
    ("fit", "message"),
    [
        ({"max_steps": 0}, "max_steps must be at least 1"),
        ({"evaluate_every": "often"}, "evaluate_every must be like '500 steps' or '1 epoch'"),
        ({"checkpoint_every": 3}, "checkpoint_every must be used with a checkpoint_folder"),
        ({"blend": 2}, "blend must be from 0 to 1"),
        ({"length_groups": 0}, "length_groups must be at least 1"),
        ({"resume": "nowhere"}, "nowhere must be the folder of a saved run or of checkpoints"),
        ({"eval_data": {}}, "eval_data must have at least one evaluation set"),
        ({"eval_data": {"bank": [TRAIN.x]}}, r"eval_data\['bank'\] must"),
    ],
)
def test_wrong_arguments_of_fit(backend, fit, message):
    with pytest.raises((ValueError, TypeError, FileNotFoundError), match=message):
        make_tuner(backend).fit(TRAIN, **fit)


def test_warm_up_longer_than_the_training(backend):
    with pytest.raises(ValueError, match="warmup must be shorter than the training of 6 steps, got 6 steps"):
        make_tuner(backend, schedule="linear", warmup=6).fit(TRAIN, epochs=1, batch_size=8)


@pytest.mark.parametrize(
    ("name", "hint"),
    [("max_grad_norm", "clip_norm"), ("warmup_steps", "warmup"), ("scheduler", "schedule"), ("epoch", "epochs")],
)
def test_names_of_other_libraries_are_answered_with_ours(backend, name, hint):
    for call in (make_tuner(backend).fit, lambda *args, **kw: finetuner.fit(backend.mlp(D, 8), *args, **kw)):
        with pytest.raises(TypeError, match=f"has no argument '{name}'; .*{hint}"):
            call(TRAIN, **{name: 1})


def exploding(backend):
    """A model whose output is finite and whose gradient is not: the root of a sum of squares that is 0."""
    if backend.name == "pytorch":
        return backend.with_output(backend.mlp(D, 8), lambda x: x + (0 * x).pow(2).sum().sqrt())
    if backend.name == "paddle":
        import paddle

        return backend.with_output(backend.mlp(D, 8), lambda x: x + paddle.sqrt(paddle.sum((0 * x) ** 2)))
    from keras import ops

    return backend.with_output(backend.mlp(D, 8), lambda x: x + ops.sqrt(ops.sum((0 * x) ** 2)))


@pytest.mark.parametrize("accumulate", [1, 2])
def test_a_gradient_that_is_not_finite_changes_nothing(backend, accumulate, tmp_path):
    tuner = backend.Tuner(exploding(backend), callbacks=[], optimizer="Adam")
    tuner.embed(TRAIN)
    before = weights(tuner)
    with pytest.raises(NotFiniteError, match=r"gradient must be finite, and is not .* batch [12] of epoch 1") as caught:
        tuner.fit(
            TRAIN,
            epochs=1,
            batch_size=16,
            gradient_accumulation_steps=accumulate,
            checkpoint_folder=tmp_path / "checkpoints",
        )
    assert same_arrays(weights(tuner), before)
    file = next((tmp_path / "checkpoints").glob("*.npz"))
    assert str(file) in str(caught.value)
    with np.load(file) as batch:
        np.testing.assert_array_equal(batch["inputs"], TRAIN.x[batch["indices"]])
        np.testing.assert_array_equal(batch["targets.0"], TRAIN.labels[batch["indices"]])


def pad(items):
    return np.array([list(item) + [0.0] * (D - len(item)) for item in items], np.float32)


@pytest.mark.filterwarnings("ignore:4 of 24 items are left out")
@pytest.mark.parametrize("micro_batch_size", [None, 5])
def test_length_groups_take_the_step_of_the_whole_batch(backend, micro_batch_size):
    rng = np.random.default_rng(0)
    items = [list(rng.normal(size=length)) for length in rng.integers(1, D + 1, size=24)]
    y = np.arange(24) % 4

    def train(groups, micro):
        tuner = make_tuner(backend, loss="NTXentLoss", optimizer="SGD", learning_rate=0.5)
        run = tuner.fit(
            (items, y), epochs=2, batch_size=12, collate_fn=pad, length_groups=groups, micro_batch_size=micro
        )
        return run.history[-1]["loss"], weights(tuner)

    loss, expected = train(1, None)
    grouped_loss, ours = train(3, micro_batch_size)
    assert grouped_loss == pytest.approx(loss, rel=1e-5)
    for name, value in ours.items():
        if "float" in str(value.dtype):
            np.testing.assert_allclose(value, expected[name], rtol=1e-4, atol=1e-5)


def test_items_are_embedded_in_order_of_length(backend):
    rng = np.random.default_rng(0)
    items = [list(rng.normal(size=length)) for length in rng.integers(1, D + 1, size=20)]
    widths = []

    def collate(batch):
        widths.append([len(item) for item in batch])
        return pad(batch)

    tuner = make_tuner(backend)
    embeddings = tuner.embed(items, collate_fn=collate, batch_size=6)
    assert [length for batch in widths for length in batch] == sorted(map(len, items), reverse=True)
    np.testing.assert_allclose(embeddings, tuner.embed(pad(items)), rtol=1e-5, atol=1e-6)


def test_any_iterable_samples(backend):
    batches = [np.arange(0, 48, 2), list(range(1, 48, 2))]
    run = make_tuner(backend).fit(TRAIN, sampler=batches, epochs=2)
    assert run.history[-1]["step"] == 4
    with pytest.raises(ValueError, match="sampler must give batches of row numbers"):
        make_tuner(backend).fit(TRAIN, sampler=[[99]], epochs=1)


def test_unfrozen_weights_are_trained(backend):
    """Weights that the user unfreezes between two fits are trained in the second."""
    model = backend.frozen(backend.mlp(D, 32, 8))
    if backend.name == "keras":
        model.trainable = True
        model.layers[0].trainable = False
    else:
        for p in list(model.parameters())[2:]:
            set_trainable(backend, p)
    tuner = backend.Tuner(model, callbacks=[])
    before = list(weights(tuner).values())
    tuner.fit(TRAIN, epochs=1, batch_size=16)
    middle = list(weights(tuner).values())
    assert np.array_equal(before[0], middle[0])
    if backend.name == "keras":
        model.layers[0].trainable = True
    else:
        for p in model.parameters():
            set_trainable(backend, p)
    tuner.fit(TRAIN, epochs=1, batch_size=16)
    assert not np.array_equal(middle[0], list(weights(tuner).values())[0])


def set_trainable(backend, parameter):
    if backend.name == "paddle":
        parameter.stop_gradient = False
    else:
        parameter.requires_grad_(True)


def test_nan_is_never_the_best():
    monitor = Monitor("hit@1")
    assert [monitor.is_better(value) for value in (math.nan, 0.5, math.nan, 0.7)] == [False, True, False, True]


def test_the_end_of_a_training_by_steps_is_kept_by_best_model(backend):
    values = iter([3.0, 1.0, 2.0])

    class Scripted(Callback):
        def on_evaluation_end(self, state):
            state.history[-1]["val_loss"] = next(values)
            kept.append((state.step, weights(state.tuner)))

        on_epoch_end = on_evaluation_end

    kept = []
    tuner = make_tuner(backend, [Scripted(), BestModel()])
    run = tuner.fit(TRAIN, TEST, epochs=1, batch_size=8, evaluate_every=Every(steps=2))
    assert [step for step, _ in kept] == [2, 4, 6]
    assert same_arrays(weights(tuner), kept[1][1])
    assert run.best_epoch == 1


@pytest.mark.filterwarnings("ignore:48 of 48 items are left out")
def test_a_sampler_of_no_batches(backend):
    class Empty(RandomSampler):
        def plan(self, rng):
            return []

    with pytest.raises(ValueError, match="an epoch must have at least one batch, and the sampler gave none"):
        make_tuner(backend).fit(TRAIN, sampler=Empty(48, 8), epochs=1)


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_precision(backend, precision):
    options = {"precision": precision, "optimizer": "AdamW"}
    if backend.name == "paddle":
        with pytest.raises(ValueError, match=f"precision '{precision}' must be one of the device cpu"):
            make_tuner(backend, **options)
        return
    exact = make_tuner(backend, optimizer="AdamW").fit(TRAIN, TEST, epochs=2, batch_size=16)
    run = make_tuner(backend, **options).fit(TRAIN, TEST, epochs=2, batch_size=16)
    off = abs(run.history[-1]["loss"] - exact.history[-1]["loss"]) / exact.history[-1]["loss"]
    assert 0 < off < 0.05
    assert run.config["precision"] == precision
    assert all("float32" in str(value.dtype) for value in weights(run.tuner).values() if "float" in str(value.dtype))
    assert make_tuner(backend, precision="auto").config["precision"] == "fp32"


def test_the_initial_weights_are_saved_for_a_blend_only(backend, tmp_path):
    def train(name, **options):
        tuner = make_tuner(backend)
        folder = {} if name is None else {"checkpoint_folder": tmp_path / name, "checkpoint_every": "1 epoch"}
        tuner.fit(TRAIN, epochs=2, batch_size=24, **folder, **options)
        return tuner

    whole = train("blend", blend=0.5)
    resumed = train(None, blend=0.5, resume=tmp_path / "blend" / "epoch-1")
    assert same_arrays(weights(resumed), weights(whole))
    train("plain")
    files = [tmp_path / name / "epoch-1" / "training.safetensors" for name in ("plain", "blend")]
    assert files[0].stat().st_size < files[1].stat().st_size


def test_dropout_is_another_in_each_step_and_epoch(backend):
    """The same batches, with weights that do not move."""
    tuner = make_tuner(backend, dropout=0.5, learning_rate=1e-30)
    batches = [list(range(0, 24)), list(range(24, 48)), list(range(0, 24))]
    losses = [row["loss"] for row in tuner.fit(TRAIN, epochs=3, sampler=batches, log_every=1).log]
    assert len(losses) == len(set(losses)) == 9


def test_data_is_not_augmented_for_an_evaluation(backend):
    calls = []

    def augment(item, rng):
        calls.append(item)
        return item + 100

    tuner, data = make_tuner(backend), ClassDataset(TEST.x, TEST.labels, augment=augment)
    expected = tuner.evaluate(TEST)
    assert tuner.evaluate(data) == expected
    run = tuner.fit(TRAIN, data, epochs=1, batch_size=24)
    assert {name: run.metrics["before"][name] for name in expected} == expected
    assert calls == []
    tuner.fit(data, epochs=1, batch_size=24)
    assert calls


def test_embed_calls_both_functions(backend):
    model = backend.mlp(D, 8)
    x = TRAIN.x[:6]
    found = finetuner.embed(
        model, list(x), preprocess_fn=lambda item: item * 2, collate_fn=lambda items: np.stack(items) * 4
    )
    np.testing.assert_array_equal(found, finetuner.embed(model, x * 8))
