"""Tests for Paddle only: datasets, compilation, names of saved weights, optimizers, and TensorFlow in the process."""

import importlib.util
import json
import os
import subprocess
import sys

import numpy as np
import pytest

from .toy import TEST, TRAIN, D, make_tuner, same_arrays, weights

pytest.importorskip("faiss")


@pytest.fixture
def paddle(backend):
    if backend.name != "paddle":
        pytest.skip("Paddle only")
    import paddle

    return paddle


def test_paddle_datasets(backend, paddle):
    class Pairs(paddle.io.Dataset):
        def __init__(self, data):
            self.data = data

        def __len__(self):
            return len(self.data)

        def __getitem__(self, index):
            return self.data.x[index], int(self.data.labels[index])

    def train(*data):
        tuner = make_tuner(backend)
        tuner.fit(*data, epochs=2, batch_size=48)
        return weights(tuner), tuner.metrics

    expected_weights, expected_metrics = train(TRAIN, TEST)
    tensors = [[paddle.to_tensor(data.x), paddle.to_tensor(data.labels)] for data in (TRAIN, TEST)]
    for data in (
        map(Pairs, (TRAIN, TEST)),
        map(paddle.io.TensorDataset, tensors),
        map(tuple, tensors),
    ):
        trained_weights, metrics = train(*data)
        assert same_arrays(expected_weights, trained_weights)
        assert metrics == expected_metrics


def test_compiled_model_trains(backend, paddle):
    def train(compile):
        tuner = backend.Tuner(compile(backend.mlp(D, 32, 8)), callbacks=[], learning_rate=0.01)
        run = tuner.fit(TRAIN, TEST, epochs=3, batch_size=48)
        return run.history, tuner

    history, eager = train(lambda model: model)
    compiled_history, compiled = train(lambda model: paddle.jit.to_static(model, full_graph=True))
    assert compiled_history[-1]["loss"] < compiled_history[1]["loss"]
    np.testing.assert_allclose(
        [row["loss"] for row in compiled_history[1:]], [row["loss"] for row in history[1:]], rtol=1e-4
    )
    np.testing.assert_allclose(compiled.embed(TEST), eager.embed(TEST), rtol=1e-3, atol=1e-5)
    assert weights(compiled).keys() == weights(eager).keys()


@pytest.mark.parametrize("freeze", [None, {"^1": 2}])
def test_tuner_compiles_what_it_trains(backend, paddle, freeze):
    """A copy of the model is compiled, and again when other weights are trained."""
    calls = []

    class Model(paddle.nn.Layer):
        def __init__(self):
            super().__init__()
            paddle.seed(0)
            self.layers = paddle.nn.Sequential(
                paddle.nn.Linear(D, 16), paddle.nn.BatchNorm1D(16), paddle.nn.Dropout(0.5), paddle.nn.Linear(16, 4)
            )

        def forward(self, x):
            calls.append(1)
            return self.layers(x)

    def train(compile):
        calls.clear()
        patterns = None if freeze is None else {f"layers.{key[1:]}": epochs for key, epochs in freeze.items()}
        tuner = backend.Tuner(Model(), callbacks=[], freeze=patterns, compile=compile)
        run = tuner.fit(TRAIN, epochs=4, batch_size=16, micro_batch_size=8)
        return [row["loss"] for row in run.history], weights(tuner), len(calls)

    (losses, expected, _), (ours, compiled, count) = train(False), train(True)
    np.testing.assert_allclose(ours, losses, rtol=1e-4)
    assert compiled.keys() == expected.keys()
    np.testing.assert_allclose(compiled["layers.1._mean"], expected["layers.1._mean"], rtol=1e-3, atol=1e-5)
    assert count < 10


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
def test_loss_is_compiled_for_any_batch_size(backend, paddle, name, options):
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
def test_loss_of_pairs_is_compiled_for_any_batch_size(backend, paddle, name, shapes):
    loss, rng = backend.loss(name), np.random.default_rng(0)
    specs = [paddle.static.InputSpec([None, *shape], "float32") for shape in shapes]
    compiled = paddle.jit.to_static(backend.loss(name), full_graph=True, input_spec=specs)
    for count in (12, 30):
        tensors = [paddle.to_tensor(rng.uniform(size=[count, *shape]).astype("float32")) for shape in shapes]
        np.testing.assert_allclose(compiled(*tensors).item(), loss(*tensors).item(), rtol=1e-5)


def test_detached_values_are_not_overwritten(backend, paddle):
    """In compiled code, ``detach`` shares memory, which a later operation sometimes overwrote."""

    def function(x):
        return backend.functional.monotone_cosine(2 * x)

    angles = paddle.to_tensor(np.linspace(0, 6, 18, dtype="float32"))
    compiled = paddle.jit.to_static(function, full_graph=True)
    for _ in range(100):
        np.testing.assert_allclose(compiled(angles).numpy(), function(angles).numpy(), rtol=1e-5, atol=1e-6)


def test_compiled_loss_ignores_autocast(backend, paddle):
    """On a CPU, only compiled code casts, and Paddle has no bfloat16 kernels for it."""
    loss = backend.loss("NTXentLoss")

    def function(x, y):
        with paddle.amp.auto_cast(dtype="bfloat16", level="O2"):
            return loss(x, y)

    x, y = paddle.to_tensor(TRAIN.x), paddle.to_tensor(TRAIN.labels)
    compiled = paddle.jit.to_static(function, full_graph=True)
    np.testing.assert_allclose(compiled(x, y).item(), loss(x, y).item(), rtol=1e-5)


@pytest.mark.parametrize("keywords", [True, False])
def test_compiled_model_gets_a_mapping_or_keywords(backend, paddle, keywords):
    class Model(paddle.nn.Layer):
        def __init__(self):
            super().__init__()
            self.linear = paddle.nn.Linear(D, 4)

    class Keywords(Model):
        def forward(self, words, mask=None):
            return self.linear(words)

    class Mapping(Model):
        def forward(self, batch):
            return self.linear(batch["words"])

    model = paddle.jit.to_static(Keywords() if keywords else Mapping(), full_graph=True)
    assert backend.Tuner(model, callbacks=[]).embed({"words": TRAIN.x}).shape == (48, 4)


def raise_key_error(item):
    raise KeyError("no such word")


def test_worker_errors_are_raised(backend, paddle):
    with pytest.raises(KeyError, match="no such word") as caught:
        make_tuner(backend).fit(TRAIN, epochs=1, batch_size=16, num_workers=2, preprocess_fn=raise_key_error)
    assert "in raise_key_error" in caught.value.__notes__[0]
    items = [np.zeros(3 + i % 2) for i in range(48)]
    with pytest.raises(ValueError, match="items must have the same shape"):
        make_tuner(backend).fit((items, TRAIN.labels), epochs=1, batch_size=16, num_workers=2)


def make_adamw(paddle, model, scheduler):
    return paddle.optimizer.AdamW(scheduler, parameters=model.parameters())


NESTED = pytest.mark.filterwarnings("ignore:There are some unused values")  # raised by Paddle for a nested schedule


@pytest.mark.parametrize("kind", ["StepDecay", "CosineAnnealingDecay", pytest.param("LinearWarmup", marks=NESTED)])
def test_learning_rate_schedule_is_resumed(backend, paddle, tmp_path, kind):
    from finetuner.tuner.base import Callback

    class Step(Callback):
        def on_epoch_end(self, state):
            state.tuner.scheduler.step()

    def create(instance):
        lr = paddle.optimizer.lr
        scheduler = {
            "StepDecay": lambda: lr.StepDecay(0.01, 2),
            "CosineAnnealingDecay": lambda: lr.CosineAnnealingDecay(0.01, 4),
            "LinearWarmup": lambda: lr.LinearWarmup(lr.StepDecay(0.01, 2), 2, 0.0, 0.01),
        }[kind]()
        model = backend.mlp(D, 32, 8)
        options = {"optimizer": make_adamw(paddle, model, scheduler)} if instance else {
            "optimizer": paddle.optimizer.AdamW, "optimizer_options": {"learning_rate": scheduler, "weight_decay": 0.01}
        }  # fmt: skip
        tuner = backend.Tuner(model, callbacks=[Step()], **options)
        tuner.scheduler = scheduler
        return tuner

    whole = create(instance=True)
    whole.fit(TRAIN, epochs=4, batch_size=48)
    first = create(instance=True)
    first.fit(TRAIN, epochs=2, batch_size=48)
    first.save(tmp_path / "run")
    second = create(instance=False).load(tmp_path / "run", keep_settings=True)
    assert second.optimizer.get_lr() == first.optimizer.get_lr() != create(True).optimizer.get_lr()
    second.fit(TRAIN, epochs=2, batch_size=48)
    assert same_arrays(weights(whole), weights(second))
    with pytest.raises(ValueError, match="optimizer must have the options of the one that was saved.* LR_Scheduler"):
        make_tuner(backend, optimizer="AdamW").load(tmp_path / "run", keep_settings=True)


def test_scheduler_of_an_optimizer_is_called_after_each_step(backend, paddle, tmp_path):
    def create():
        model, scheduler = backend.mlp(D, 32, 8), paddle.optimizer.lr.StepDecay(0.01, 4, 0.5)
        return backend.Tuner(model, optimizer=make_adamw(paddle, model, scheduler), schedule=scheduler, callbacks=[])

    whole, first = create(), create()
    run = whole.fit(TRAIN, epochs=2, batch_size=16, log_every=1)
    assert [row["learning_rate"] for row in run.log] == [0.01] * 3 + [0.005] * 3
    first.fit(TRAIN, epochs=1, batch_size=16)
    first.save(tmp_path / "run")
    second = create().load(tmp_path / "run")
    second.fit(TRAIN, epochs=1, batch_size=16)
    assert same_arrays(weights(whole), weights(second))


def test_schedules_that_do_not_fit_the_optimizer(backend, paddle):
    model, lr = backend.mlp(D, 32, 8), paddle.optimizer.lr
    for own, schedule, message in (
        (lr.StepDecay(0.01, 2), lr.StepDecay(0.01, 2), "must be a scheduler of the optimizer instance"),
        (lr.StepDecay(0.01, 2), "cosine", "must be the scheduler of the optimizer, StepDecay, or 'constant'"),
        (plateau := lr.ReduceOnPlateau(0.01), plateau, "must be a scheduler that needs no metric"),
    ):
        with pytest.raises(ValueError, match=f"schedule {message}"):
            backend.Tuner(model, optimizer=make_adamw(paddle, model, own), schedule=schedule)


def test_rates_of_groups_leave_the_weights_as_they_are(backend, paddle):
    """Paddle reads the factor of a learning rate from the weight, where another optimizer would find it."""
    slow = paddle.ParamAttr(learning_rate=0.0)
    model = paddle.nn.Sequential(paddle.nn.Linear(D, 8, weight_attr=slow), paddle.nn.Linear(8, 4))
    tuner = backend.Tuner(model, learning_rate={"^0": 0.1, "": 0.01}, weight_decay=0.1, optimizer="SGD", callbacks=[])
    before = weights(tuner)
    tuner.fit(TRAIN, epochs=1, batch_size=16)
    assert tuner.engine.learning_rates() == pytest.approx([0.1, 0.1, 0.01, 0.01])
    assert [p.optimize_attr["learning_rate"] for p in model.parameters()] == [0.0, 1.0, 1.0, 1.0]
    assert not any(p.regularizer for p in model.parameters())
    moved = [name for name, value in weights(tuner).items() if not np.array_equal(value, before[name])]
    assert moved == ["0.bias", "1.weight", "1.bias"]


@pytest.mark.parametrize("accumulate", [1, 2])
def test_sparse_gradients_are_clipped_and_averaged(backend, paddle, accumulate):
    class Model(paddle.nn.Layer):
        def __init__(self, sparse):
            super().__init__()
            paddle.seed(0)
            self.embedding = paddle.nn.Embedding(20, 8, sparse=sparse)

        def forward(self, ids):
            return self.embedding(ids).mean(1)

    def train(sparse):
        options = {"optimizer": "SGD", "learning_rate": 0.5, "clip_norm": 0.1}
        tuner = backend.Tuner(Model(sparse), callbacks=[], **options)
        ids = np.random.default_rng(0).integers(0, 20, (48, 5))
        run = tuner.fit(
            (ids, np.arange(48) % 4), epochs=2, batch_size=16, gradient_accumulation_steps=accumulate, log_every=1
        )
        return [row["gradient_norm"] for row in run.log], weights(tuner)["embedding.weight"]

    for ours, expected in zip(train(True), train(False), strict=True):
        np.testing.assert_allclose(ours, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("optimizer", ["Adam", "SGD", "Momentum", "Lamb", "RMSProp", "Adagrad", "NAdam", "ASGD"])
def test_optimizers_are_resumed(backend, paddle, tmp_path, optimizer):
    options = {"optimizer_options": {"batch_num": 2}} if optimizer == "ASGD" else {}
    whole, first = (make_tuner(backend, optimizer=optimizer, **options) for _ in range(2))
    whole.fit(TRAIN, epochs=3, batch_size=16)
    first.fit(TRAIN, epochs=1, batch_size=16)
    first.save(tmp_path / "run")
    second = make_tuner(backend, optimizer=optimizer, **options).load(tmp_path / "run")
    second.fit(TRAIN, epochs=2, batch_size=16)
    assert same_arrays(weights(whole), weights(second))


def test_second_optimizer_of_the_same_weights_is_resumed(backend, paddle, tmp_path):
    """Its slots have other names than those of the first optimizer."""
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
    assert same_arrays(expected, weights(second))


def test_saved_names_depend_only_on_the_model(backend, paddle, tmp_path):
    from safetensors.numpy import load_file

    def names(folder):
        make_tuner(backend).fit(TRAIN, epochs=1, batch_size=48).save(folder)
        return [sorted(load_file(folder / f"{file}.safetensors")) for file in ("weights", "training")]

    first, second = names(tmp_path / "first"), names(tmp_path / "second")
    assert first == second
    assert first[0] == ["0.bias", "0.weight", "3.bias", "3.weight"]
    assert "optimizer.0.moment1" in first[1]
    assert json.loads((tmp_path / "first" / "training.json").read_text())["optimizer"]["learning_rate"] == 1e-3


def test_loading_optimizer_state_with_other_options_is_an_error(backend, paddle, tmp_path):
    make_tuner(backend).fit(TRAIN, epochs=1, batch_size=48).save(tmp_path / "run")
    other = make_tuner(backend, optimizer_options={"amsgrad": True})
    with pytest.raises(ValueError, match="optimizer must have the options of the one that was saved.*moment2_max"):
        other.load(tmp_path / "run", keep_settings=True)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda tensors: tensors.pop("optimizer.0.moment1"), "their states differ in 0.moment1"),
        (lambda tensors: tensors.update({"optimizer.99.moment1": np.zeros(2)}), "their states differ in 99.moment1"),
        (lambda tensors: tensors.update({"optimizer.0.moment1": np.zeros((2, 2))}), "0.moment1 has shape"),
    ],
)
@pytest.mark.parametrize("trained", [True, False])
def test_a_damaged_optimizer_state_changes_nothing(backend, paddle, tmp_path, damage, message, trained):
    from safetensors.numpy import load_file, save_file

    make_tuner(backend).fit(TRAIN, epochs=1, batch_size=48).save(tmp_path / "run")
    file = tmp_path / "run" / "training.safetensors"
    tensors = load_file(file)
    damage(tensors)
    save_file(tensors, file)
    tuner, other = make_tuner(backend), make_tuner(backend)
    for one in (tuner, other) if trained else ():
        one.fit(TRAIN, epochs=1, batch_size=16)
    with pytest.raises(ValueError, match=message):
        tuner.load(tmp_path / "run")
    for one in (tuner, other):
        one.fit(TRAIN, epochs=1, batch_size=16)
    assert same_arrays(weights(tuner), weights(other))


PADDLE_FIT = """
import warnings
warnings.simplefilter("ignore")
import numpy as np, finetuner.tuner.paddle, paddle
from tests.toy import TRAIN, D
tuner = finetuner.tuner.paddle.PaddleTuner(paddle.nn.Linear(D, 4), callbacks=[])
history = tuner.fit(TRAIN, TRAIN, epochs=2, batch_size=48).history
assert np.isfinite(history[-1]["val_loss"])
"""
TENSORFLOW_STEP = """
x = tensorflow.Variable(np.eye(3, dtype="float32"))
with tensorflow.GradientTape() as tape:
    y = tensorflow.reduce_sum(tensorflow.matmul(x, x))
assert np.allclose(tape.gradient(y, x), 2)
print("done")
"""
IMPORT_TENSORFLOW = "import tensorflow\n"


def run_python(code):
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", "OMP_NUM_THREADS": "1"}
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=False)


@pytest.mark.skipif(importlib.util.find_spec("tensorflow") is None, reason="TensorFlow is not installed")
@pytest.mark.parametrize(
    "code",
    [IMPORT_TENSORFLOW + PADDLE_FIT + TENSORFLOW_STEP, PADDLE_FIT + IMPORT_TENSORFLOW + TENSORFLOW_STEP],
    ids=["first", "last"],
)
def test_tensorflow_in_the_same_process(paddle, code):
    process = run_python(code)
    assert (process.returncode, process.stdout) == (0, "done\n"), process.stderr[-2000:]


def test_import_order_without_rtld_deepbind(paddle):
    code = "import os, sys; del os.RTLD_DEEPBIND; sys.modules['tensorflow'] = os; import finetuner.tuner.paddle"
    process = run_python(code)
    assert "ImportError: paddle must be imported before tensorflow" in process.stderr
    assert process.returncode == 1


def test_num_threads_of_paddle(paddle):
    code = "import os; from finetuner.tuner.paddle import Framework as F; print(F.num_threads(None), os.environ['OMP_NUM_THREADS'])"
    for variable, threads in {"3": "3", "many": "1"}.items():
        environment = {**os.environ, "OMP_NUM_THREADS": variable}
        process = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=True
        )
        assert process.stdout == f"{threads} {threads}\n"


@pytest.mark.parametrize(
    "name", ["TripletLoss", "SiameseLoss", "NTXentLoss", "SupConLoss", "MultiSimilarityLoss", "SurrogatePrecision"]
)
def test_losses_in_to_static_as_it_is_by_default(backend, paddle, name):
    """The compiler that follows Python's byte code gives the eager number, as the one with a full graph does."""
    loss = backend.loss(name)
    x, y = paddle.to_tensor(np.random.default_rng(0).normal(size=(8, 4)).astype("float32")), paddle.arange(8) // 2
    compiled = paddle.jit.to_static(lambda x, y: loss(x, y))
    assert float(compiled(x, y)) == pytest.approx(float(loss(x, y)), rel=1e-5)
