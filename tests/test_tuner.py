"""Training as a whole: it learns, repeats itself bit for bit, and says what is wrong."""

import io
import json
import re
import subprocess
import sys
import warnings

import numpy as np
import pytest

import finetuner
from finetuner.tuner.base import (
    BestModel,
    Callback,
    Checkpoint,
    ClassDataset,
    ClassSampler,
    EarlyStopping,
    InstanceDataset,
    ProgressBar,
    RandomSampler,
    SessionDataset,
)

from .toy import TEST, TRAIN, D, blobs, same, tuner, weights

pytest.importorskip("faiss")


@pytest.mark.parametrize("loss", ["TripletLoss", "TripletMarginLoss", "SiameseLoss", "NTXentLoss"])
def test_training_separates_unseen_classes(backend, loss):
    run = tuner(backend, loss=loss, learning_rate=0.01).fit(TRAIN, TEST, epochs=15, batch_size=48)
    before, after = run.metrics["before"], run.metrics["after"]
    assert after["mAP@R"] > before["mAP@R"] + 0.15
    assert after["hit@1"] >= before["hit@1"]
    assert [row["epoch"] for row in run.history] == list(range(16))
    assert run.history[-1]["loss"] < run.history[1]["loss"]
    assert run.history[0].keys() == before.keys() | {"epoch"}
    assert {name: run.history[-1][name] for name in after} == after


@pytest.mark.parametrize("strategy", ["hard", "semihard", "easy"])
def test_training_with_a_miner(backend, strategy):
    options = {"pos_strategy": "hard" if strategy == "semihard" else "easy", "neg_strategy": strategy}
    run = finetuner.fit(
        backend.mlp(D, 32, 8),
        TRAIN,
        TEST,
        loss_options={"margin": 0.3},
        miner="TripletEasyHardMiner",
        miner_options=options,
        callbacks=[],
        epochs=3,
        batch_size=48,
    )
    assert all(np.isfinite(row["loss"]) for row in run.history[1:])
    assert run.config["loss"]["options"]["miner"]["options"]["neg_strategy"] == strategy


def test_same_seed_same_bits(backend):
    def trained(seed):
        a_tuner = tuner(backend, seed=seed, dropout=0.3)
        a_tuner.fit(TRAIN, epochs=2, batch_size=48)
        return weights(a_tuner)

    assert same(trained(0), trained(0))
    assert not same(trained(0), trained(1))


def test_stopped_and_continued_is_as_never_stopped(backend, tmp_path):
    whole = tuner(backend, optimizer="AdamW", dropout=0.3)
    whole.fit(TRAIN, TEST, epochs=4, batch_size=48)
    first = tuner(backend, optimizer="AdamW", dropout=0.3)
    first.fit(TRAIN, TEST, epochs=2, batch_size=48)
    first.save(tmp_path / "run")
    second = tuner(backend, optimizer="AdamW", dropout=0.3).load(tmp_path / "run")
    assert second.epoch == 2
    run = second.fit(TRAIN, TEST, epochs=2, batch_size=48)
    assert same(weights(whole), weights(second))
    assert [row["epoch"] for row in run.history] == [0, 1, 2, 3, 4]
    assert run.metrics == whole.metrics


def test_saved_run_embeds_the_same_bits_in_a_new_process(backend, tmp_path):
    a_tuner = tuner(backend)
    run = a_tuner.fit(TRAIN, TEST, epochs=1, batch_size=48)
    run.save(tmp_path / "run")
    np.save(tmp_path / "here.npy", a_tuner.embed(TEST.x))
    code = f"""
import numpy as np
from tests.backends import backend_of
from tests.toy import TEST, tuner
there = tuner(backend_of({backend.key!r}), seed=5).load({str(tmp_path / "run")!r})
assert np.array_equal(there.embed(TEST.x), np.load({str(tmp_path / "here.npy")!r}))
assert there.epoch == 1
"""
    subprocess.run([sys.executable, "-c", code], check=True)
    files = {path.name for path in (tmp_path / "run").iterdir()}
    assert files == {
        *("config.json", "history.json", "metrics.json", "training.json"),
        *("training.safetensors", "weights.safetensors"),
    }
    config = json.loads((tmp_path / "run" / "config.json").read_text())
    assert config["backend"] == backend.name
    assert config["threads"] >= 1
    assert config["fit"]["batch_size"] == 48
    assert json.loads((tmp_path / "run" / "metrics.json").read_text()) == run.metrics


def test_what_is_there_is_not_overwritten(backend, tmp_path):
    run = tuner(backend).fit(TRAIN, epochs=1, batch_size=48)
    (tmp_path / "notes.txt").write_text("dear")
    with pytest.raises(FileExistsError, match="must be a new or an empty folder"):
        run.save(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]
    (tmp_path / "empty").mkdir()
    run.save(tmp_path / "empty")


def test_load_says_what_does_not_fit(backend, tmp_path):
    tuner(backend).fit(TRAIN, epochs=1, batch_size=48).save(tmp_path / "run")
    with pytest.raises(FileNotFoundError, match="must be the folder of a saved run, and has no config.json"):
        tuner(backend).load(tmp_path)
    with pytest.raises(ValueError, match="weights must be those of the same model"):
        backend.Tuner(backend.mlp(D, 16, 8), callbacks=[]).load(tmp_path / "run")
    with pytest.raises(ValueError, match="optimizer must be Adam to resume from .*, got SGD"):
        tuner(backend, optimizer="SGD").load(tmp_path / "run")
    tuner(backend, optimizer="SGD").load(tmp_path / "run", weights_only=True)
    (tmp_path / "run" / "training.safetensors").write_bytes(b"broken")
    with pytest.raises(ValueError, match="training.safetensors must be a safetensors file"):
        tuner(backend).load(tmp_path / "run")


def test_early_stopping_and_best_model(backend):
    class Scripted(Callback):
        """Overwrites what the others watch."""

        def on_epoch_end(self, state):
            state.history[-1]["val_loss"] = [3.0, 1.0, 2.0, 2.0, 0.0][state.epoch - 1]
            kept.append(weights(state.tuner))

    kept = []
    a_tuner = tuner(backend, [Scripted(), BestModel(), EarlyStopping(patience=2)])
    run = a_tuner.fit(TRAIN, TEST, epochs=5, batch_size=48)
    assert len(kept) == 4
    assert run.best_epoch == 2
    assert same(weights(a_tuner), kept[1])
    assert run.metrics["after"]["hit@1"] == run.history[2]["hit@1"]


def test_monitor_of_nothing(backend):
    with pytest.raises(ValueError, match="got 'val_los'; did you mean 'val_loss'"):
        tuner(backend, [EarlyStopping("val_los")]).fit(TRAIN, TEST, epochs=1, batch_size=48)


def test_checkpoints(backend, tmp_path):
    a_tuner = tuner(backend, [Checkpoint(tmp_path / "kept", keep=2)])
    a_tuner.fit(TRAIN, epochs=3, batch_size=48)
    assert sorted(path.name for path in (tmp_path / "kept").iterdir()) == ["epoch-2", "epoch-3"]
    again = tuner(backend).load(tmp_path / "kept" / "epoch-3")
    assert same(weights(again), weights(a_tuner))


def test_interrupt_keeps_what_was_trained(backend):
    class Interrupt(Callback):
        def on_batch_end(self, state):
            if state.epoch == 2:
                raise KeyboardInterrupt

    ended = []

    class Last(Callback):
        def on_fit_end(self, state):
            ended.append(state.interrupted)

    a_tuner = tuner(backend, [Interrupt(), Last()])
    before = weights(a_tuner)
    run = a_tuner.fit(TRAIN, TEST, epochs=5, batch_size=48)
    assert run.interrupted
    assert ended == [True]
    assert len(run.history) == 2
    assert not same(before, weights(a_tuner))
    assert run.metrics["after"].keys() == run.metrics["before"].keys()


def test_progress_bar(backend):
    from rich.console import Console

    console = Console(width=60, record=True, force_terminal=False, file=open("/dev/null", "w"))  # noqa: SIM115
    tuner(backend, [ProgressBar(console)]).fit(TRAIN, TEST, epochs=2, batch_size=48)
    console.file.close()
    lines = console.export_text().splitlines()
    assert len(lines) == 3
    assert lines[0].startswith("before")
    assert lines[2].startswith("epoch 2/2")
    assert all(word in lines[2] for word in ("loss", "val_loss", "hit@1", "mAP@R", "items/s"))


def test_progress_bar_on_a_terminal(backend, monkeypatch):
    from rich.console import Console

    from finetuner.tuner.base.training.callbacks import progress

    def shown():
        console = Console(width=100, force_terminal=True, file=io.StringIO())
        tuner(backend, [ProgressBar(console)]).fit(TRAIN, epochs=3, batch_size=8)
        return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", console.file.getvalue())

    assert all(f"epoch {epoch}/3  loss" in shown() for epoch in (1, 2, 3))
    monkeypatch.setattr(progress, "INTERVAL", 0.0)  # each batch is due
    monkeypatch.setattr(progress, "SHORT_EPOCH", 0.0)
    monkeypatch.setattr(progress, "MAX_SHARE", 1e9)
    text = shown()
    assert all(text.count(f"{batch}/6 loss") == 3 for batch in range(1, 6))


def test_how_often_the_loss_is_asked_for_changes_no_bit(backend):
    class Curious(Callback):
        def on_batch_end(self, state):
            assert np.isfinite([state.loss, *state.logs.values()]).all()

    def rows(*callbacks):
        return tuner(backend, callbacks, loss_options={"need_logs": True}).fit(TRAIN, epochs=2, batch_size=8).history

    told = [[{k: v for k, v in row.items() if "second" not in k} for row in rows(*c)] for c in ((), (Curious(),))]
    assert told[0] == told[1]


def test_views_and_sessions(backend):
    def noisy(item, rng):
        return item + 0.1 * rng.normal(size=item.shape).astype(np.float32)

    views = InstanceDataset(TRAIN.x, noisy)
    run = tuner(backend, loss="NTXentLoss").fit(views, views, epochs=2, batch_size=32)
    assert run.history[-1]["loss"] < run.history[1]["loss"]
    sessions = np.repeat(np.arange(12), 4)
    roles = np.tile([0, 1, -1, -1], 12)
    logs = SessionDataset(TRAIN.x[: len(roles)], sessions, roles)
    run = tuner(backend).fit(logs, logs, epochs=2, batch_size=16)
    assert np.isfinite(run.history[-1]["val_loss"])


def test_workers_give_the_same_batches(backend):
    def trained(workers):
        a_tuner = tuner(backend)
        a_tuner.fit(TRAIN, epochs=1, batch_size=16, num_workers=workers, preprocess_fn=np.negative)
        return weights(a_tuner)

    assert same(trained(0), trained(2))


@pytest.mark.parametrize("as_what", ["list", "mapping", "float64"])
def test_items_of_many_kinds(backend, as_what):
    x = {"list": list(TRAIN.x), "mapping": {"x": TRAIN.x}, "float64": TRAIN.x.astype(np.float64)}[as_what]
    collate = (lambda items: np.stack([item["x"] for item in items])) if as_what == "mapping" else None
    a_tuner = tuner(backend)
    a_tuner.fit((x, TRAIN.labels), epochs=1, batch_size=48, collate_fn=collate)
    embeddings = a_tuner.embed(x)
    assert embeddings.shape == (48, 8)
    assert embeddings.dtype == np.float32
    np.testing.assert_allclose(
        embeddings, a_tuner.embed(ClassDataset(x, TRAIN.labels), batch_size=7), rtol=1e-5, atol=1e-6
    )


def test_evaluate_against_an_index(backend):
    model = backend.mlp(D, 32, 8)
    alone = finetuner.evaluate(model, TEST, metrics=["hit@1", "mAP@R"])
    assert list(alone) == ["hit@1", "mAP@R"]
    x, y = blobs([1, 3, 5, 7], seed=2)
    named = ClassDataset(x, [f"class {label}" for label in y])
    queries = ClassDataset(TEST.x, [f"class {name}" for name in TEST.classes[TEST.labels]])
    against = finetuner.evaluate(model, queries, named, metrics=["hit@1", "hit@48"])
    assert against["hit@48"] == 1
    assert 0 < against["hit@1"] < 1
    embeddings = finetuner.embed(model, TEST)
    assert embeddings.shape == (48, 8)


def test_batches_that_teach_nothing_are_told_once(backend):
    y = np.arange(48)
    y[:2] = 0
    with pytest.warns(UserWarning, match="holds no triplets, so its loss is 0") as caught:
        run = tuner(backend).fit((TRAIN.x, y), sampler=RandomSampler(48, 4), epochs=2)
    assert [warning.category for warning in caught].count(UserWarning) == 1
    assert np.isfinite(run.history[-1]["loss"])


def test_seeds_of_samplers_are_those_of_the_tuner(backend):
    seen = []

    class Watch(Callback):
        def on_epoch_begin(self, state):
            seen.append(state.batches)

    tuner(backend, [Watch()], seed=3).fit(TRAIN, epochs=2, batch_size=16)
    assert seen == [len(ClassSampler(TRAIN.labels, 16, seed=3))] * 2


def test_no_warnings_in_a_quiet_run(backend):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.simplefilter("ignore", DeprecationWarning)  # a framework's own, which users are not shown
        tuner(backend).fit(TRAIN, TEST, epochs=1, batch_size=48)
