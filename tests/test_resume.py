"""A training that is stopped at any step and resumed ends in the bits of one that was never stopped."""

import json
import os
import shutil
import signal

import numpy as np
import pytest

from finetuner.tuner.base import BestModel, Callback, Checkpoint, EarlyStopping

from .toy import TEST, TRAIN, D, make_tuner, same_arrays, weights

pytest.importorskip("faiss")

SETTINGS = {
    "loss": "ArcFaceLoss",
    "optimizer": "AdamW",
    "schedule": "cosine",
    "warmup": 0.2,
    "clip_norm": 1.0,
    "ema_decay": 0.8,
    "dropout": 0.3,
}
FIT = {"epochs": 3, "batch_size": 12, "num_items_per_class": 3, "gradient_accumulation_steps": 2, "metrics": ["mAP@R"]}


class StopAfter(Callback):
    """Ends the training after a step: by ``state.stop``, an exception, or a signal to this process."""

    def __init__(self, step, how="stop"):
        self.step, self.how = step, how

    def on_batch_end(self, state):
        if state.step == self.step:
            if self.how == "stop":
                state.stop = True
            elif self.how == "interrupt":
                raise KeyboardInterrupt
            else:
                os.kill(os.getpid(), getattr(signal, self.how))


def tuner_of(backend, *callbacks, **changes):
    watchers = [BestModel("mAP@R"), EarlyStopping("mAP@R", patience=2)]
    return make_tuner(backend, [*watchers, *callbacks], **{**SETTINGS, **changes})


def without_times(rows):
    return [{name: value for name, value in row.items() if "second" not in name} for row in rows]


def everything(tuner):
    """Weights of model, loss and optimizers of a tuner."""
    states = [weights(tuner), {name: np.asarray(value) for name, value in tuner.loss_state().items()}]
    for optimizer in (tuner.optimizer, tuner.loss_optimizer):
        states.append({name: np.asarray(v) for name, v in tuner.engine.optimizer_state(optimizer)[0].items()})
    return states


@pytest.fixture(scope="module")
def uninterrupted(backend):
    tuner = tuner_of(backend)
    run = tuner.fit(TRAIN, TEST, **FIT)
    return tuner, run


@pytest.mark.parametrize("step", [1, 2, 3, 5])
def test_stopped_at_a_step(backend, uninterrupted, step, tmp_path):
    whole, run = uninterrupted
    first = tuner_of(backend, StopAfter(step, "interrupt"))
    interrupted = first.fit(TRAIN, TEST, **FIT)
    assert interrupted.interrupted
    assert first.step == step
    first.save(tmp_path / "run")
    second = tuner_of(backend)
    resumed = second.fit(TRAIN, TEST, resume=tmp_path / "run", **FIT)
    for ours, theirs in zip(everything(second), everything(whole), strict=True):
        assert same_arrays(ours, theirs)
    assert without_times(resumed.history) == without_times(run.history)
    assert resumed.metrics == run.metrics
    assert resumed.best_epoch == run.best_epoch


def test_an_evaluation_that_was_due_when_it_stopped_is_made_up_for(backend, tmp_path):
    fit = {**FIT, "epochs": 1, "gradient_accumulation_steps": 1, "evaluate_every": 2}
    whole = tuner_of(backend).fit(TRAIN, TEST, **fit)
    tuner_of(backend, StopAfter(2, "interrupt")).fit(TRAIN, TEST, **fit).save(tmp_path / "run")
    resumed = tuner_of(backend).fit(TRAIN, TEST, resume=tmp_path / "run", **fit)
    assert [row["step"] for row in whole.history][:2] == [0, 2]
    assert without_times(resumed.history) == without_times(whole.history)
    assert resumed.best_epoch == whole.best_epoch


def test_early_stopping_by_a_made_up_evaluation_takes_no_further_step(backend, tmp_path):
    fit = {**FIT, "epochs": 2, "gradient_accumulation_steps": 1, "evaluate_every": 2, "metrics": ["hit@1"]}

    def train(*callbacks, **options):
        tuner = make_tuner(backend, [EarlyStopping("hit@1", patience=1, min_delta=2.0), *callbacks], **SETTINGS)
        return tuner, tuner.fit(TRAIN, TEST, **fit, **options)

    whole, run = train()
    assert whole.step == 4  # the first evaluation is taken as an improvement, the second is not
    train(StopAfter(4, "interrupt"))[1].save(tmp_path / "run")
    second, resumed = train(resume=tmp_path / "run")
    assert second.step == 4
    assert same_arrays(weights(second), weights(whole))
    assert without_times(resumed.history) == without_times(run.history)
    run.save(tmp_path / "stopped")
    third, again = train(resume=tmp_path / "stopped")
    assert third.step == 4  # a run that early stopping has ended is at its end
    assert without_times(again.history) == without_times(run.history)


def test_callbacks_begin_anew_with_another_tuner(backend):
    callbacks = [BestModel("hit@1"), EarlyStopping("hit@1", patience=2)]
    fit = {**FIT, "metrics": ["hit@1"], "epochs": 2}
    make_tuner(backend, callbacks, **SETTINGS).fit(TRAIN, TEST, **fit)
    callbacks[0].best = callbacks[1].best = 2.0  # better than anything that the next training can reach
    callbacks[0].weights = {name: np.zeros_like(value) for name, value in callbacks[0].weights.items()}
    second = make_tuner(backend, callbacks, **SETTINGS)
    run = second.fit(TRAIN, TEST, **fit)
    assert run.best_epoch in (1, 2)
    assert any(np.any(value) for value in weights(second).values())
    assert run.metrics["after"]["hit@1"] == max(row["hit@1"] for row in run.history[1:])


def test_a_callback_stops_at_once(backend):
    run = tuner_of(backend, StopAfter(3)).fit(TRAIN, TEST, **FIT)
    assert run.log[-1]["step"] == 3
    assert run.history[-1]["step"] == 3
    assert not run.interrupted


@pytest.fixture
def default_handlers():
    """The handlers of a program in a terminal. In the background, SIGINT is ignored."""
    handlers = {
        signal.SIGINT: signal.default_int_handler,
        signal.SIGTERM: signal.SIG_DFL,
        signal.SIGHUP: signal.SIG_DFL,
    }
    before = {number: signal.signal(number, handler) for number, handler in handlers.items()}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.usefixtures("default_handlers")
@pytest.mark.parametrize("name", ["SIGTERM", "SIGHUP", "SIGINT"])
def test_signals_end_a_training_after_the_step(backend, uninterrupted, name, tmp_path):
    whole, _ = uninterrupted
    before = signal.getsignal(signal.SIGTERM)
    run = tuner_of(backend, StopAfter(3, name)).fit(TRAIN, TEST, **FIT)
    assert run.interrupted
    assert run.signal == getattr(signal, name)
    assert signal.getsignal(signal.SIGTERM) is before
    run.save(tmp_path / "run")
    second = tuner_of(backend)
    second.fit(TRAIN, TEST, resume=tmp_path / "run", **FIT)
    assert same_arrays(weights(second), weights(whole))


def test_resumed_from_checkpoints_of_steps(backend, uninterrupted, tmp_path):
    whole, run = uninterrupted
    folder = tmp_path / "checkpoints"
    with pytest.raises(RuntimeError, match="power cut"):
        tuner_of(backend, PowerCut(4)).fit(TRAIN, TEST, checkpoint_folder=folder, checkpoint_every=1, **FIT)
    assert {path.name for path in folder.iterdir()} == {f"step-{step}" for step in (1, 2, 3, 4)}
    second = tuner_of(backend)
    resumed = second.fit(TRAIN, TEST, resume=folder, checkpoint_folder=folder, checkpoint_every=1, **FIT)
    assert same_arrays(weights(second), weights(whole))
    assert without_times(resumed.history) == without_times(run.history)


class PowerCut(Callback):
    """Ends the training by an error, in the middle of what follows a step."""

    def __init__(self, step):
        self.step = step

    def on_epoch_begin(self, state):
        if state.step >= self.step:
            raise RuntimeError("power cut")

    def on_log(self, state):
        if state.step > self.step:
            raise RuntimeError("power cut")


def test_workers_do_not_change_the_bits(backend):
    if backend.name == "keras":
        pytest.skip("Keras' workers are threads, which share Python's random numbers")

    def noisy(item):
        return item + np.random.normal(size=D).astype(np.float32)  # noqa: NPY002

    states = [train_without_validation(backend, noisy, workers) for workers in (0, 1, 2)]
    assert same_arrays(states[0], states[1])
    assert same_arrays(states[0], states[2])


def train_without_validation(backend, preprocess, workers):
    tuner = make_tuner(backend, **SETTINGS)
    tuner.fit(TRAIN, preprocess_fn=preprocess, num_workers=workers, epochs=2, batch_size=12)
    return weights(tuner)


def test_an_interrupted_fit_with_other_settings_begins_the_epoch_again(backend):
    tuner = make_tuner(backend, [StopAfter(2, "interrupt")])
    tuner.fit(TRAIN, epochs=1, batch_size=12)
    tuner.callbacks.clear()
    with pytest.warns(UserWarning, match="epoch 1, which was interrupted, is begun again: batch_size is 12 there"):
        run = tuner.fit(TRAIN, epochs=1, batch_size=16)
    assert [row["step"] for row in run.history] == [2 + 3]


CHANGES = {
    "learning rate": ({"learning_rate": 0.5}, "learning_rate is 0.001 there and 0.5 here"),
    "schedule": ({"schedule": "linear"}, "schedule is 'cosine' there and 'linear' here"),
    "seed": ({"seed": 3}, "seed is 0 there and 3 here"),
    "loss": ({"loss_options": {"margin": 0.1}}, "loss is .* there and .*0.1.* here"),
    "average": ({"ema_decay": None}, "ema_decay is 0.8 there and None here"),
}


@pytest.fixture(scope="module")
def saved(backend, tmp_path_factory):
    folder = tmp_path_factory.mktemp("saved") / "run"
    tuner_of(backend, StopAfter(3, "interrupt")).fit(TRAIN, TEST, **FIT).save(folder)
    return folder


@pytest.mark.parametrize("name", CHANGES)
def test_other_settings_are_refused_by_name(backend, saved, name):
    changes, message = CHANGES[name]
    tuner = tuner_of(backend, **changes)
    before = weights(tuner)
    with pytest.raises(ValueError, match=message):
        tuner.fit(TRAIN, TEST, resume=saved, **FIT)
    assert same_arrays(weights(tuner), before)


def test_settings_can_be_kept(backend, saved):
    tuner = tuner_of(backend, learning_rate=0.5).load(saved, keep_settings=True)
    assert set(tuner.engine.base_learning_rates()) == {0.5}


@pytest.mark.parametrize(
    ("data", "fit", "message"),
    [
        ((TRAIN.x, TRAIN.labels[::-1].copy()), {}, "the same settings and data, and labels is"),
        (TRAIN, {"batch_size": 9}, "batch_size is 12 there and 9 here"),
        (TRAIN, {"gradient_accumulation_steps": 1}, "gradient_accumulation_steps is 2 there and 1 here"),
    ],
)
def test_other_data_is_refused(backend, saved, data, fit, message):
    with pytest.raises(ValueError, match=message):
        tuner_of(backend).fit(data, TEST, resume=saved, **{**FIT, **fit})


def test_another_model_is_refused(backend, saved):
    tuner = backend.Tuner(backend.mlp(D, 16, 8), callbacks=[], **{k: v for k, v in SETTINGS.items() if k != "dropout"})
    before = weights(tuner)
    with pytest.raises(ValueError, match="the weights must be those of the same model"):
        tuner.load(saved)
    assert same_arrays(weights(tuner), before)


DAMAGE = {
    "no progress": lambda state: state.pop("progress"),
    "a negative epoch": lambda state: state["progress"].update(epoch=-5),
    "a word as a step": lambda state: state["progress"].update(step="two"),
    "a giant loss": lambda state: state.update(loss_built_shape=[10**6, 10**9]),
    "negative sizes": lambda state: state.update(loss_built_shape=[-1, 5]),
    "classes that are a number": lambda state: state.update(classes=7),
    "an unknown key": lambda state: state.update(code="os.system"),
    "an optimizer that is a list": lambda state: state.update(optimizer=[1]),
    "callbacks without state": lambda state: state.update(callbacks=[{"name": "BestModel"}]),
}


@pytest.mark.parametrize("name", DAMAGE)
def test_a_damaged_run_is_refused_whole(backend, saved, name, tmp_path):
    shutil.copytree(saved, tmp_path / "run")
    file = tmp_path / "run" / "training.json"
    state = json.loads(file.read_text())
    DAMAGE[name](state)
    file.write_text(json.dumps(state))
    tuner = tuner_of(backend)
    before = weights(tuner)
    with pytest.raises(ValueError, match=r"training\.json|must have the weights of") as caught:
        tuner.load(tmp_path / "run")
    assert "\n" not in str(caught.value)
    assert same_arrays(weights(tuner), before)


@pytest.mark.parametrize(
    ("file", "text", "message"),
    [
        ("config.json", b"[" * 100_000, "must hold JSON"),
        ("config.json", b"\xff\xfe{}", "must hold JSON"),
        ("config.json", b"[]", "must hold an object, got list"),
        ("history.json", b"3", "must hold a list, got int"),
        ("history.json", b"[1, 2]", "must hold rows with an epoch and a step, got 1"),
        ("log.json", b'[{"epoch": "x"}]', "must hold rows with an epoch and a step"),
        ("weights.safetensors", b"broken", "must be a safetensors file"),
        ("training.safetensors", b"", "must be a safetensors file"),
    ],
)
def test_a_damaged_file_is_named(backend, saved, file, text, message, tmp_path):
    shutil.copytree(saved, tmp_path / "run")
    (tmp_path / "run" / file).write_bytes(text)
    with pytest.raises(ValueError, match=message) as caught:
        tuner_of(backend).load(tmp_path / "run")
    assert file in str(caught.value)
    assert "\n" not in str(caught.value)


def test_weights_that_are_not_finite_are_refused(backend, tmp_path):
    tuner = make_tuner(backend)
    tuner.fit(TRAIN, epochs=1, batch_size=48)
    state = tuner.model_state()
    name = next(name for name, value in state.items() if "float" in str(value.dtype))
    tuner.encoder.load_state({**state, name: state[name] * float("nan")})
    tuner.save(tmp_path / "run")
    for load in (make_tuner(backend).load, make_tuner(backend).encoder.load):
        with pytest.raises(ValueError, match="must contain finite weights, and does not in"):
            load(tmp_path / "run")


def test_a_lost_callback_is_named(backend, saved):
    with pytest.warns(UserWarning, match="callbacks that this tuner does not have: BestModel, EarlyStopping"):
        make_tuner(backend, **SETTINGS).load(saved).fit(TRAIN, TEST, **FIT)


def test_checkpoints_keep_count_over_processes(backend, tmp_path):
    folder = tmp_path / "checkpoints"
    make_tuner(backend, [Checkpoint(folder, keep=2)]).fit(TRAIN, epochs=3, batch_size=48)
    tuner = make_tuner(backend, [Checkpoint(folder, keep=2, best="loss")]).load(folder / "epoch-2")
    tuner.fit(TRAIN, epochs=2, batch_size=48)  # epoch-3 is there and is replaced
    assert {path.name for path in folder.iterdir()} == {"epoch-3", "epoch-4", "best"}
    losses = {row["epoch"]: row["loss"] for row in tuner.history}
    best = make_tuner(backend).load(folder / "best")
    assert losses[best.epoch] == min(losses[epoch] for epoch in (3, 4))


def test_unfinished_folders_of_killed_processes_are_removed(backend, tmp_path):
    stale = tmp_path / ".run.4194304.unfinished"  # no process has this number
    stale.mkdir()
    alive = tmp_path / f".other.{os.getppid()}.unfinished"
    alive.mkdir()
    make_tuner(backend).fit(TRAIN, epochs=1, batch_size=48).save(tmp_path / "run")
    assert not stale.exists()
    assert alive.exists()
    for file in (tmp_path / "run").iterdir():
        assert file.stat().st_mode & 0o777 == 0o666 & ~umask()


def umask():
    mask = os.umask(0)
    os.umask(mask)
    return mask


def test_a_loaded_run_is_saved_as_it_was(backend, saved, tmp_path):
    tuner_of(backend).load(saved).save(tmp_path / "again")
    names = ["history.json", "log.json", "metrics.json"]
    first, second = (
        [json.loads((folder / name).read_text()) for name in names] for folder in (saved, tmp_path / "again")
    )
    assert first == second
    assert first[2]["after"]
