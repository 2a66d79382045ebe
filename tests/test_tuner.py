"""Training: it learns, it is reproducible bit for bit, and errors have clear messages."""

import io
import json
import re
import subprocess
import sys
import warnings

import numpy as np
import pytest

import finetuner
from finetuner import ClassDataset, InstanceDataset, SessionDataset
from finetuner.tuner.base import (
    BestModel,
    Callback,
    Checkpoint,
    ClassSampler,
    EarlyStopping,
    ProgressBar,
    RandomSampler,
)

from .toy import TEST, TRAIN, D, blobs, make_tuner, same_arrays, weights

pytest.importorskip("faiss")


@pytest.mark.parametrize("loss", ["TripletLoss", "TripletMarginLoss", "SiameseLoss", "NTXentLoss"])
def test_training_separates_unseen_classes(backend, loss):
    run = make_tuner(backend, loss=loss, learning_rate=0.01).fit(TRAIN, TEST, epochs=15, batch_size=48)
    before, after = run.metrics["before"], run.metrics["after"]
    assert after["mAP@R"] > before["mAP@R"] + 0.15
    assert after["hit@1"] >= before["hit@1"]
    assert [row["epoch"] for row in run.history] == list(range(16))
    assert run.history[-1]["loss"] < run.history[1]["loss"]
    assert run.history[0].keys() == before.keys() | {"epoch", "step"}
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
    def train(seed):
        tuner = make_tuner(backend, seed=seed, dropout=0.3)
        tuner.fit(TRAIN, epochs=2, batch_size=48)
        return weights(tuner)

    assert same_arrays(train(0), train(0))
    assert not same_arrays(train(0), train(1))


def test_resumed_training_matches_uninterrupted(backend, tmp_path):
    whole = make_tuner(backend, optimizer="AdamW", dropout=0.3)
    whole.fit(TRAIN, TEST, epochs=4, batch_size=48)
    first = make_tuner(backend, optimizer="AdamW", dropout=0.3)
    first.fit(TRAIN, TEST, epochs=2, batch_size=48)
    first.save(tmp_path / "run")
    second = make_tuner(backend, optimizer="AdamW", dropout=0.3).load(tmp_path / "run")
    assert second.epoch == 2
    run = second.fit(TRAIN, TEST, epochs=2, batch_size=48)
    assert same_arrays(weights(whole), weights(second))
    assert [row["epoch"] for row in run.history] == [0, 1, 2, 3, 4]
    assert run.metrics == whole.metrics


def test_loaded_run_embeds_the_same_bits_in_a_new_process(backend, tmp_path):
    tuner = make_tuner(backend)
    run = tuner.fit(TRAIN, TEST, epochs=1, batch_size=48)
    run.save(tmp_path / "run")
    np.save(tmp_path / "embeddings.npy", tuner.embed(TEST.x))
    code = f"""
import numpy as np
from tests.backends import backend_of
from tests.toy import TEST, make_tuner
tuner = make_tuner(backend_of({backend.key!r}), seed=5).load({str(tmp_path / "run")!r}, keep_settings=True)
assert np.array_equal(tuner.embed(TEST.x), np.load({str(tmp_path / "embeddings.npy")!r}))
assert tuner.epoch == 1
"""
    subprocess.run([sys.executable, "-c", code], check=True)
    files = {path.name for path in (tmp_path / "run").iterdir()}
    assert files == {
        *("config.json", "history.json", "log.json", "metrics.json", "training.json"),
        *("training.safetensors", "weights.safetensors"),
        *(["model.json"] if backend.name == "keras" else []),
    }
    config = json.loads((tmp_path / "run" / "config.json").read_text())
    assert config["backend"] == backend.name
    assert config["threads"] >= 1
    assert config["fit"]["batch_size"] == 48
    assert json.loads((tmp_path / "run" / "metrics.json").read_text()) == run.metrics


def test_save_does_not_overwrite(backend, tmp_path):
    run = make_tuner(backend).fit(TRAIN, epochs=1, batch_size=48)
    (tmp_path / "notes.txt").write_text("keep")
    with pytest.raises(FileExistsError, match="must be a new or an empty folder"):
        run.save(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]
    (tmp_path / "empty").mkdir()
    run.save(tmp_path / "empty")


def test_load_errors(backend, tmp_path):
    make_tuner(backend).fit(TRAIN, epochs=1, batch_size=48).save(tmp_path / "run")
    with pytest.raises(FileNotFoundError, match="must be the folder of a saved run, and has no config.json"):
        make_tuner(backend).load(tmp_path)
    with pytest.raises(ValueError, match="weights must be those of the same model"):
        backend.Tuner(backend.mlp(D, 16, 8), callbacks=[]).load(tmp_path / "run")
    with pytest.raises(ValueError, match="optimizer must be Adam to resume from .*, got SGD"):
        make_tuner(backend, optimizer="SGD").load(tmp_path / "run")
    make_tuner(backend, optimizer="SGD").load(tmp_path / "run", weights_only=True)
    (tmp_path / "run" / "training.safetensors").write_bytes(b"broken")
    with pytest.raises(ValueError, match="training.safetensors must be a safetensors file"):
        make_tuner(backend).load(tmp_path / "run")


def test_early_stopping_and_best_model(backend):
    class Scripted(Callback):
        """Overwrites the value that the other callbacks monitor."""

        def on_epoch_end(self, state):
            state.history[-1]["val_loss"] = [3.0, 1.0, 2.0, 2.0, 0.0][state.epoch - 1]
            epoch_weights.append(weights(state.tuner))

    epoch_weights = []
    tuner = make_tuner(backend, [Scripted(), BestModel(), EarlyStopping(patience=2)])
    run = tuner.fit(TRAIN, TEST, epochs=5, batch_size=48)
    assert len(epoch_weights) == 4
    assert run.best_epoch == 2
    assert same_arrays(weights(tuner), epoch_weights[1])
    assert run.metrics["after"]["hit@1"] == run.history[2]["hit@1"]


def test_unknown_monitor(backend):
    with pytest.raises(ValueError, match="got 'val_los'; did you mean 'val_loss'"):
        make_tuner(backend, [EarlyStopping("val_los")]).fit(TRAIN, TEST, epochs=1, batch_size=48)


def test_checkpoints(backend, tmp_path):
    tuner = make_tuner(backend, [Checkpoint(tmp_path / "checkpoints", keep=2)])
    tuner.fit(TRAIN, epochs=3, batch_size=48)
    assert sorted(path.name for path in (tmp_path / "checkpoints").iterdir()) == ["epoch-2", "epoch-3"]
    loaded = make_tuner(backend).load(tmp_path / "checkpoints" / "epoch-3")
    assert same_arrays(weights(loaded), weights(tuner))


def test_interrupt_keeps_the_trained_weights(backend):
    class Interrupt(Callback):
        def on_batch_end(self, state):
            if state.epoch == 2:
                raise KeyboardInterrupt

    interrupted = []

    class FitEnd(Callback):
        def on_fit_end(self, state):
            interrupted.append(state.interrupted)

    tuner = make_tuner(backend, [Interrupt(), FitEnd()])
    before = weights(tuner)
    run = tuner.fit(TRAIN, TEST, epochs=5, batch_size=48)
    assert run.interrupted
    assert interrupted == [True]
    assert len(run.history) == 2
    assert not same_arrays(before, weights(tuner))
    assert run.metrics["after"].keys() == run.metrics["before"].keys()


def test_progress_bar(backend):
    from rich.console import Console

    console = Console(width=60, record=True, force_terminal=False, file=open("/dev/null", "w"))  # noqa: SIM115
    make_tuner(backend, [ProgressBar(console)]).fit(TRAIN, TEST, epochs=2, batch_size=48)
    console.file.close()
    lines = console.export_text().splitlines()
    assert len(lines) == 3
    assert lines[0].startswith("before")
    assert lines[2].startswith("epoch 2/2")
    assert all(word in lines[2] for word in ("loss", "val_loss", "hit@1", "mAP@R", "items/s"))


def test_progress_bar_on_a_terminal(backend, monkeypatch):
    from rich.console import Console

    from finetuner.tuner.base.training.callbacks import progress

    def render():
        console = Console(width=100, force_terminal=True, file=io.StringIO())
        make_tuner(backend, [ProgressBar(console)]).fit(TRAIN, epochs=3, batch_size=8)
        return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", console.file.getvalue())

    assert all(f"epoch {epoch}/3  loss" in render() for epoch in (1, 2, 3))
    monkeypatch.setattr(progress, "INTERVAL", 0.0)  # updates after every batch
    monkeypatch.setattr(progress, "SHORT_EPOCH", 0.0)
    monkeypatch.setattr(progress, "MAX_SHARE", 1e9)
    text = render()
    assert all(text.count(f"{batch}/6 loss") == 3 for batch in range(1, 6))


def test_reading_the_loss_does_not_change_training(backend):
    class ReadLoss(Callback):
        def on_batch_end(self, state):
            assert np.isfinite([state.loss, *state.logs.values()]).all()

    def history(*callbacks):
        tuner = make_tuner(backend, callbacks, loss_options={"need_logs": True})
        run = tuner.fit(TRAIN, epochs=2, batch_size=8)
        return [{name: value for name, value in row.items() if "second" not in name} for row in run.history]

    assert history() == history(ReadLoss())


def test_instance_and_session_datasets(backend):
    def noisy(item, rng):
        return item + 0.1 * rng.normal(size=item.shape).astype(np.float32)

    views = InstanceDataset(TRAIN.x, noisy)
    run = make_tuner(backend, loss="NTXentLoss").fit(views, views, epochs=2, batch_size=32)
    assert run.history[-1]["loss"] < run.history[1]["loss"]
    sessions = np.repeat(np.arange(12), 4)
    roles = np.tile([0, 1, -1, -1], 12)
    logs = SessionDataset(TRAIN.x[: len(roles)], sessions, roles)
    run = make_tuner(backend).fit(logs, logs, epochs=2, batch_size=16)
    assert np.isfinite(run.history[-1]["val_loss"])


def test_workers_give_the_same_batches(backend):
    def train(workers):
        tuner = make_tuner(backend)
        tuner.fit(TRAIN, epochs=1, batch_size=16, num_workers=workers, preprocess_fn=np.negative)
        return weights(tuner)

    assert same_arrays(train(0), train(2))


@pytest.mark.parametrize("kind", ["list", "mapping", "float64"])
def test_kinds_of_items(backend, kind):
    x = {"list": list(TRAIN.x), "mapping": {"x": TRAIN.x}, "float64": TRAIN.x.astype(np.float64)}[kind]
    collate = (lambda items: np.stack([item["x"] for item in items])) if kind == "mapping" else None
    tuner = make_tuner(backend)
    tuner.fit((x, TRAIN.labels), epochs=1, batch_size=48, collate_fn=collate)
    embeddings = tuner.embed(x)
    assert embeddings.shape == (48, 8)
    assert embeddings.dtype == np.float32
    np.testing.assert_allclose(
        embeddings, tuner.embed(ClassDataset(x, TRAIN.labels), batch_size=7), rtol=1e-5, atol=1e-6
    )


def test_evaluate_against_an_index(backend):
    model = backend.mlp(D, 32, 8)
    scores = finetuner.evaluate(model, TEST, metrics=["hit@1", "mAP@R"])
    assert list(scores) == ["hit@1", "mAP@R"]
    x, y = blobs([1, 3, 5, 7], seed=2)
    index = ClassDataset(x, [f"class {label}" for label in y])
    queries = ClassDataset(TEST.x, [f"class {name}" for name in TEST.classes[TEST.labels]])
    scores = finetuner.evaluate(model, queries, index, metrics=["hit@1", "hit@48"])
    assert scores["hit@48"] == 1
    assert 0 < scores["hit@1"] < 1
    embeddings = finetuner.embed(model, TEST)
    assert embeddings.shape == (48, 8)


def test_batches_without_triplets_warn_once(backend):
    y = np.arange(48)
    y[:2] = 0
    with pytest.warns(UserWarning, match="holds no triplets, so its loss is 0") as caught:
        run = make_tuner(backend).fit((TRAIN.x, y), sampler=RandomSampler(48, 4), epochs=2)
    assert [warning.category for warning in caught].count(UserWarning) == 1
    assert np.isfinite(run.history[-1]["loss"])


def test_sampler_uses_the_seed_of_the_tuner(backend):
    batches = []

    class Watch(Callback):
        def on_epoch_begin(self, state):
            batches.append(state.batches)

    make_tuner(backend, [Watch()], seed=3).fit(TRAIN, epochs=2, batch_size=16)
    assert batches == [len(ClassSampler(TRAIN.labels, 16, seed=3))] * 2


def test_training_does_not_warn(backend):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.simplefilter("ignore", DeprecationWarning)  # of a framework; hidden from users by default
        make_tuner(backend).fit(TRAIN, TEST, epochs=1, batch_size=48)
