"""What is Paddle's own: its datasets, its compiler, its names for state, and its neighbour TensorFlow."""

import importlib.util
import json
import os
import subprocess
import sys

import numpy as np
import pytest

from .toy import TEST, TRAIN, D, same, tuner, weights

pytest.importorskip("faiss")


@pytest.fixture
def paddle(backend):
    if backend.name != "paddle":
        pytest.skip("of Paddle alone")
    import paddle

    return paddle


def test_its_own_datasets(backend, paddle):
    class Pairs(paddle.io.Dataset):
        def __init__(self, data):
            self.data = data

        def __len__(self):
            return len(self.data)

        def __getitem__(self, index):
            return self.data.x[index], int(self.data.labels[index])

    def trained(*data):
        a_tuner = tuner(backend)
        a_tuner.fit(*data, epochs=2, batch_size=48)
        return weights(a_tuner), a_tuner.metrics

    plain = trained(TRAIN, TEST)
    tensors = [[paddle.to_tensor(data.x), paddle.to_tensor(data.labels)] for data in (TRAIN, TEST)]
    for form in (
        map(Pairs, (TRAIN, TEST)),
        map(paddle.io.TensorDataset, tensors),
        map(tuple, tensors),
    ):
        there, metrics = trained(*form)
        assert same(plain[0], there)
        assert metrics == plain[1]


def test_a_compiled_model_trains(backend, paddle):
    def trained(compile):
        a_tuner = backend.Tuner(compile(backend.mlp(D, 32, 8)), callbacks=[], learning_rate=0.01)
        run = a_tuner.fit(TRAIN, TEST, epochs=3, batch_size=48)
        return run.history, a_tuner

    history, plain = trained(lambda model: model)
    there, compiled = trained(lambda model: paddle.jit.to_static(model, full_graph=True))
    assert there[-1]["loss"] < there[1]["loss"]
    np.testing.assert_allclose([row["loss"] for row in there[1:]], [row["loss"] for row in history[1:]], rtol=1e-4)
    np.testing.assert_allclose(compiled.embed(TEST), plain.embed(TEST), rtol=1e-3, atol=1e-5)
    assert weights(compiled).keys() == weights(plain).keys()


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("NTXentLoss", {}),
        ("SiameseLoss", {"distance": "euclidean"}),
        ("TripletLoss", {"margin": 0.3}),
        ("ArcFaceLoss", {"in_features": D, "num_classes": 8, "smoothing_epsilon": 0.1}),
        ("ArcFaceLossWithMLP", {"in_features": D, "num_classes": 8, "mlp_features": [6, 5]}),
        ("FocalLoss", {}),
    ],
)
def test_a_loss_compiled_for_any_batch_size(backend, paddle, name, options):
    loss, spec = backend.loss(name, **options), paddle.static.InputSpec
    specs = [spec([None, D], "float32"), spec([None], "int32")]
    compiled = paddle.jit.to_static(backend.loss(name, **options), full_graph=True, input_spec=specs)
    for count in (12, 30, 48):
        x, y = (paddle.to_tensor(array[::-1][:count].copy()) for array in (TRAIN.x, TRAIN.labels))
        np.testing.assert_allclose(compiled(x, y).item(), loss(x, y).item(), rtol=1e-5)


@pytest.mark.parametrize(
    ("name", "shapes"),
    [
        ("TripletLoss", [[D]]),
        ("TripletLoss", [[D], [D], [D]]),
        ("ContrastiveLoss", [[D], [D], []]),
        ("CLIPLoss", [[D], [D]]),
        ("DistillationLoss", [[D], [D + 1]]),
        ("ListNetLoss", [[], []]),
        ("LambdaRankLoss", [[], []]),
    ],
)
def test_a_loss_of_rows_compiled_for_any_batch_size(backend, paddle, name, shapes):
    loss, rng = backend.loss(name), np.random.default_rng(0)
    specs = [paddle.static.InputSpec([None, *shape], "float32") for shape in shapes]
    compiled = paddle.jit.to_static(backend.loss(name), full_graph=True, input_spec=specs)
    for count in (12, 30):
        tensors = [paddle.to_tensor(rng.uniform(size=[count, *shape]).astype("float32")) for shape in shapes]
        np.testing.assert_allclose(compiled(*tensors).item(), loss(*tensors).item(), rtol=1e-5)


def test_what_is_detached_is_not_overwritten(backend, paddle):
    """Compiled, ``detach`` shares memory, and the cosine was at times written there before the floor was read."""

    def function(x):
        return backend.functional.monotone_cosine(2 * x)

    angles = paddle.to_tensor(np.linspace(0, 6, 18, dtype="float32"))
    compiled = paddle.jit.to_static(function, full_graph=True)
    for _ in range(100):
        np.testing.assert_allclose(compiled(angles).numpy(), function(angles).numpy(), rtol=1e-5, atol=1e-6)


def test_autocast_does_not_reach_into_a_compiled_loss(backend, paddle):
    """Eager, a CPU casts nothing; compiled, it would, and then have no kernel for bfloat16."""
    loss = backend.loss("NTXentLoss")

    def function(x, y):
        with paddle.amp.auto_cast(dtype="bfloat16", level="O2"):
            return loss(x, y)

    x, y = paddle.to_tensor(TRAIN.x), paddle.to_tensor(TRAIN.labels)
    compiled = paddle.jit.to_static(function, full_graph=True)
    np.testing.assert_allclose(compiled(x, y).item(), loss(x, y).item(), rtol=1e-5)


@pytest.mark.parametrize("keywords", [True, False])
def test_a_compiled_model_is_given_a_mapping_as_it_asks_for_it(backend, paddle, keywords):
    class Model(paddle.nn.Layer):
        def __init__(self):
            super().__init__()
            self.linear = paddle.nn.Linear(D, 4)

    class Keywords(Model):
        def forward(self, words, mask=None):
            return self.linear(words)

    class Whole(Model):
        def forward(self, batch):
            return self.linear(batch["words"])

    model = paddle.jit.to_static(Keywords() if keywords else Whole(), full_graph=True)
    assert backend.Tuner(model, callbacks=[]).embed({"words": TRAIN.x}).shape == (48, 4)


def unlucky(item):
    raise KeyError("no such word")


def test_an_error_in_a_worker_is_told(backend, paddle):
    with pytest.raises(KeyError, match="no such word") as caught:
        tuner(backend).fit(TRAIN, epochs=1, batch_size=16, num_workers=2, preprocess_fn=unlucky)
    assert "in unlucky" in caught.value.__notes__[0]
    shapes = [np.zeros(3 + i % 2) for i in range(48)]
    with pytest.raises(ValueError, match="items must be of one shape"):
        tuner(backend).fit((shapes, TRAIN.labels), epochs=1, batch_size=16, num_workers=2)


def scheduled(paddle, model, scheduler):
    return paddle.optimizer.AdamW(scheduler, parameters=model.parameters())


NESTED = pytest.mark.filterwarnings("ignore:There are some unused values")  # Paddle's, of a schedule in another


@pytest.mark.parametrize("kind", ["StepDecay", "CosineAnnealingDecay", pytest.param("LinearWarmup", marks=NESTED)])
def test_a_learning_rate_that_changes_goes_on(backend, paddle, tmp_path, kind):
    from finetuner.tuner.base import Callback

    class Step(Callback):
        def on_epoch_end(self, state):
            state.tuner.scheduler.step()

    def made(instance):
        lr = paddle.optimizer.lr
        scheduler = {
            "StepDecay": lambda: lr.StepDecay(0.01, 2),
            "CosineAnnealingDecay": lambda: lr.CosineAnnealingDecay(0.01, 4),
            "LinearWarmup": lambda: lr.LinearWarmup(lr.StepDecay(0.01, 2), 2, 0.0, 0.01),
        }[kind]()
        model = backend.mlp(D, 32, 8)
        options = {"optimizer": scheduled(paddle, model, scheduler)} if instance else {
            "optimizer": paddle.optimizer.AdamW, "optimizer_options": {"learning_rate": scheduler}
        }  # fmt: skip
        a_tuner = backend.Tuner(model, callbacks=[Step()], **options)
        a_tuner.scheduler = scheduler
        return a_tuner

    whole = made(instance=True)
    whole.fit(TRAIN, epochs=4, batch_size=48)
    first = made(instance=True)
    first.fit(TRAIN, epochs=2, batch_size=48)
    first.save(tmp_path / "run")
    second = made(instance=False).load(tmp_path / "run")
    assert second.optimizer.get_lr() == first.optimizer.get_lr() != made(True).optimizer.get_lr()
    second.fit(TRAIN, epochs=2, batch_size=48)
    assert same(weights(whole), weights(second))
    with pytest.raises(ValueError, match="optimizer must have the options of the one that was saved.* LR_Scheduler"):
        tuner(backend, optimizer="AdamW").load(tmp_path / "run")


@pytest.mark.parametrize("optimizer", ["Adam", "SGD", "Momentum", "Lamb", "RMSProp", "Adagrad", "NAdam", "ASGD"])
def test_any_optimizer_goes_on(backend, paddle, tmp_path, optimizer):
    options = {"optimizer_options": {"batch_num": 2}} if optimizer == "ASGD" else {}
    whole, first = (tuner(backend, optimizer=optimizer, **options) for _ in range(2))
    whole.fit(TRAIN, epochs=3, batch_size=16)
    first.fit(TRAIN, epochs=1, batch_size=16)
    first.save(tmp_path / "run")
    second = tuner(backend, optimizer=optimizer, **options).load(tmp_path / "run")
    second.fit(TRAIN, epochs=2, batch_size=16)
    assert same(weights(whole), weights(second))


def test_a_second_optimizer_of_the_same_weights_goes_on(backend, paddle, tmp_path):
    """Its slots have other names than the first one's."""
    model = backend.mlp(D, 32, 8)
    first = backend.Tuner(model, callbacks=[])
    first.fit(TRAIN, epochs=2, batch_size=48)
    first.optimizer.set_lr(0.005)
    first.save(tmp_path / "run")
    first.fit(TRAIN, epochs=2, batch_size=48)
    expected = weights(first)
    second = backend.Tuner(model, callbacks=[]).load(tmp_path / "run")
    assert second.optimizer.get_lr() == 0.005
    second.fit(TRAIN, epochs=2, batch_size=48)
    assert same(expected, weights(second))


def test_names_on_disk_are_of_the_model_alone(backend, paddle, tmp_path):
    from safetensors.numpy import load_file

    def names(folder):
        tuner(backend).fit(TRAIN, epochs=1, batch_size=48).save(folder)
        return [sorted(load_file(folder / f"{file}.safetensors")) for file in ("weights", "training")]

    once, again = names(tmp_path / "once"), names(tmp_path / "again")
    assert once == again
    assert once[0] == ["0.bias", "0.weight", "3.bias", "3.weight"]
    assert "optimizer.0.moment1" in once[1]
    assert json.loads((tmp_path / "once" / "training.json").read_text())["optimizer"]["learning_rate"] == 1e-3


def test_loading_leaves_a_state_that_does_not_fit(backend, paddle, tmp_path):
    tuner(backend).fit(TRAIN, epochs=1, batch_size=48).save(tmp_path / "run")
    other = tuner(backend, optimizer_options={"amsgrad": True})
    with pytest.raises(ValueError, match="optimizer must have the options of the one that was saved.*moment2_max"):
        other.load(tmp_path / "run")


TRAINS = """
import warnings
warnings.simplefilter("ignore")
import numpy as np, finetuner.tuner.paddle, paddle
from tests.toy import TRAIN, D
tuner = finetuner.tuner.paddle.PaddleTuner(paddle.nn.Linear(D, 4), callbacks=[])
history = tuner.fit(TRAIN, TRAIN, epochs=2, batch_size=48).history
assert np.isfinite(history[-1]["val_loss"])
"""
TENSORFLOW_TOO = """
x = tensorflow.Variable(np.eye(3, dtype="float32"))
with tensorflow.GradientTape() as tape:
    y = tensorflow.reduce_sum(tensorflow.matmul(x, x))
assert np.allclose(tape.gradient(y, x), 2)
print("alive")
"""
FIRST = "import tensorflow\n"


def run_alone(code):
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", "OMP_NUM_THREADS": "1"}
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=False)


@pytest.mark.skipif(importlib.util.find_spec("tensorflow") is None, reason="no TensorFlow")
@pytest.mark.parametrize(
    "code", [FIRST + TRAINS + TENSORFLOW_TOO, TRAINS + FIRST + TENSORFLOW_TOO], ids=["first", "last"]
)
def test_tensorflow_in_the_same_process(paddle, code):
    done = run_alone(code)
    assert (done.returncode, done.stdout) == (0, "alive\n"), done.stderr[-2000:]


def test_tensorflow_where_symbols_cannot_be_kept_apart(paddle):
    code = "import os, sys; del os.RTLD_DEEPBIND; sys.modules['tensorflow'] = os; import finetuner.tuner.paddle"
    done = run_alone(code)
    assert "ImportError: paddle must be imported before tensorflow" in done.stderr
    assert done.returncode == 1


def test_threads_are_those_that_paddle_took(paddle):
    code = "import os, finetuner.tuner.paddle.tuner as t; print(t.PaddleTuner.num_threads(None), os.environ['OMP_NUM_THREADS'])"
    for given, taken in {"3": "3", "many": "1"}.items():
        environment = {**os.environ, "OMP_NUM_THREADS": given}
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=True)
        assert done.stdout == f"{taken} {taken}\n"
