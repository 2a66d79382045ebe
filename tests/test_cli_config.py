"""Options of the command line: those of training, those from a file, and the code that a folder names."""

import json
import re

import numpy as np
import pytest
from typer.main import get_command

from finetuner.cli.commands import app
from finetuner.cli.inputs import parse_eval_data, parse_freeze, parse_learning_rates
from finetuner.cli.option_files import check_value, option_types, read_toml_options
from finetuner.cli.user_code import resolve_callable
from finetuner.tuner.base import Callback

from .commands import ROOT, error, fit, folder, model, run  # noqa: F401  (folder and model are fixtures)
from .toy import TEST


def config_of(folder, name="run"):
    return json.loads((folder / name / "config.json").read_text())


# Training ------------------------------------------------------------------------------------------------


def test_the_options_of_a_training(model, folder, backend):
    name = "weight|kernel"  # PyTorch and Paddle, or Keras
    schedule = ("--schedule", "cosine_with_restarts", "--schedule-option", "cycles=3", "--warmup", 0.25)
    weights = ("--weight-decay", 0.1, "--clip-norm", 1, "--layer-decay", 0.9, "--ema-decay", 0.9, "--blend", 0.5)
    rates = ("--learning-rate", 1e-2, "--learning-rate-of", f"{name}=1e-4", "--freeze", f"{name}=1")
    times = ("--max-steps", 5, "--evaluate-every", "1 step", "--log-every", 1, "--gradient-accumulation-steps", 1)
    precision = "fp32" if backend.name == "paddle" else "bf16"
    more = ("--precision", precision, "--length-groups", 2, "--optimizer", "AdamW", "--epochs", 3)
    fit(model, "--eval-data", "test.npz", *schedule, *weights, *rates, *times, *more)
    config = config_of(folder)
    expected = {
        "learning_rate": {name: 1e-4, "": 1e-2},
        "schedule": "cosine_with_restarts",
        "schedule_options": {"cycles": 3},
        "warmup": 0.25,
        "weight_decay": 0.1,
        "clip_norm": 1,
        "layer_decay": 0.9,
        "ema_decay": 0.9,
        "freeze": {name: 1},
        "precision": precision,
    }
    assert {key: config[key] for key in expected} == expected
    assert config["fit"]["max_steps"] == 5
    assert config["fit"]["length_groups"] == 2
    history = json.loads((folder / "run" / "history.json").read_text())
    assert [row["step"] for row in history] == [0, 1, 2, 3, 4, 5]
    log = json.loads((folder / "run" / "log.json").read_text())
    assert [row["step"] for row in log] == [1, 2, 3, 4, 5]


def test_the_outputs_of_frozen_layers_are_kept(model, folder, backend):
    if backend.name == "keras":
        pytest.skip("the names of Keras' weights depend on what else the process has created")
    fit(model, "--freeze", "^0", "--cache-frozen")
    assert config_of(folder)["fit"]["cache_frozen"] is True
    fit(model, "--freeze", "^0", "--cache-folder", "cache", "--output", "second")
    config = config_of(folder, "second")
    assert config["fit"]["cache_frozen"] == "cache"
    assert config["command"]["cache_folder"] == str(folder / "cache")


def test_a_precision_that_the_engine_lacks(model, folder, backend):
    if backend.name != "paddle":
        pytest.skip("PyTorch and Keras have all precisions on a CPU")
    line = error(fit(model, "--precision", "bf16", "--device", "cpu", code=1))
    assert line.endswith("Paddle has no mixed precision on a CPU")


def test_several_evaluation_sets_and_a_gallery(model, folder):
    sets = ("--eval-data", "seen=train.npz", "--eval-data", "new=test.npz", "--metric", "hit@1")
    result = fit(model, *sets, "--keep-best", "--monitor", "new/hit@1")
    metrics = json.loads((folder / "run" / "metrics.json").read_text())["after"]
    assert list(metrics) == ["seen/val_loss", "seen/hit@1", "new/val_loss", "new/hit@1"]
    assert "new/hit@1" in result.stdout
    fit(model, "--eval-data", "test.npz", "--index-data", "test.npz", "--metric", "hit@1", "--output", "search")
    assert json.loads((folder / "search" / "metrics.json").read_text())["after"] == {"hit@1": 1}  # each finds itself


def test_csv_of_the_numbers(model, folder):
    fit(model, "--track", "csv", "--log-every", 1)
    lines = (folder / "run.csv").read_text().splitlines()
    assert lines[0].startswith("step,train/loss")
    assert len(lines) == 5
    (folder / "run").rename(folder / "first")
    run("fit", "--resume", "first", "--trust", "--epochs", 3)  # the output is free again, and the file is continued
    assert [line.partition(",")[0] for line in (folder / "run.csv").read_text().splitlines()] == ["step", *"123456"]


@pytest.mark.parametrize("name", ["tensorboard", "mlflow", "wandb"])
def test_other_trackers(model, folder, name, monkeypatch):
    made = {}
    for tracker in ("TensorBoard", "MLflow", "WandB"):
        monkeypatch.setattr(
            f"finetuner.tuner.base.{tracker}",
            lambda *values, tracker=tracker, **options: made.setdefault(tracker, (*values, options)) and Callback(),
        )
    fit(model, "--track", name)
    assert (
        made
        == {
            "tensorboard": {"TensorBoard": ("run-tensorboard", {})},
            "mlflow": {"MLflow": ({"run_name": "run"},)},
            "wandb": {"WandB": ({"name": "run"},)},
        }[name]
    )


def test_evaluate_prints_json(model, folder):
    result = run("evaluate", "--data", "test.npz", "--model", f"{model}:make", "--metric", "hit@1", "--json")
    metrics = json.loads(result.stdout)
    assert metrics.keys() == {"hit@1"}
    assert 0 <= metrics["hit@1"] <= 1


def test_parse_texts():
    assert parse_learning_rates(0.1, None) == 0.1
    assert parse_learning_rates(0.1, ["(?=x)=1e-3", "y=2"]) == {"(?=x)": 1e-3, "y": 2, "": 0.1}
    assert parse_freeze(None) is None
    assert parse_freeze(["a", "b=3", "c=d"]) == {"a": float("inf"), "b": 3, "c=d": float("inf")}
    assert parse_eval_data(None) == {}
    assert list(parse_eval_data(["test.npz"])) == [""]


def test_a_path_with_an_equals_sign(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "split=test").mkdir()
    assert list(parse_eval_data(["split=test"])) == [""]
    assert list(parse_eval_data(["split=other"])) == ["split"]


# --config ------------------------------------------------------------------------------------------------

OPTIONS = """
data = "train.npz"
model = "{model}:make"
output = "run"
batch-size = 24
epochs = 1
num_items_per_class = 6
keep-best = true
clip-norm = 1
metric = ["hit@1"]
eval-data = {{ new = "test.npz" }}
loss-option = {{ margin = 0.5, distance = "euclidean" }}
"""


def test_options_from_a_file(model, folder):
    (folder / "options.toml").write_text(OPTIONS.format(model=model))
    run("fit", "--config", "options.toml", "--epochs", 2)
    config = config_of(folder)
    assert config["fit"]["batch_size"] == 24
    assert config["fit"]["epochs"] == 2  # the command line comes first
    assert config["fit"]["num_items_per_class"] == 6
    assert config["clip_norm"] == 1
    assert config["loss"]["options"]["margin"] == 0.5
    assert config["loss"]["options"]["distance"] == "euclidean"
    assert config["callbacks"] == ["ProgressBar", "BestModel"]
    assert list(json.loads((folder / "run" / "metrics.json").read_text())["after"]) == ["new/val_loss", "new/hit@1"]
    (folder / "evaluate.toml").write_text(f'data = "test.npz"\nmodel = "{model}:make"\nmetric = "hit@1"\njson = true')
    assert json.loads(run("evaluate", "--config", "evaluate.toml").stdout).keys() == {"hit@1"}


def test_the_file_in_the_documentation(tmp_path):
    page = (ROOT / "docs" / "reference" / "command-line.md").read_text()
    (tmp_path / "options.toml").write_text(re.search(r"```toml\n(.*?)```", page, re.S)[1])
    options = read_toml_options(tmp_path / "options.toml", option_types(get_command(app).commands["fit"].callback))
    assert options["eval_data"] == ["banks=banks.csv", "news=news.csv"]
    assert options["learning_rate_of"] == ["head=0.001"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("epoch = 3", "options.toml must have options of this command, got 'epoch'; did you mean 'epochs'?"),
        ("config = 'a.toml'", "options.toml must have options of this command, got 'config'; --help lists them"),
        ("[fit]\nepochs = 3", "options.toml must have options of this command, got 'fit'; --help lists them"),
        ("batch-size = 1\nbatch_size = 2", "options.toml must have each option once, got 'batch_size' twice"),
        ("epochs = '3'", "options.toml: epochs must be a whole number, got '3'"),
        ("epochs = true", "options.toml: epochs must be a whole number, got True"),
        ("epochs = 1.5", "options.toml: epochs must be a whole number, got 1.5"),
        ("warmup = '1'", "options.toml: warmup must be a number, got '1'"),
        ("keep-best = 1", "options.toml: keep-best must be true or false, got 1"),
        ("loss = ['a']", "options.toml: loss must be a text, got ['a']"),
        ("data = {}", "options.toml: data must be a path, or a list of paths, got {}"),
        ("metric = 0.5", "options.toml: metric must be a text, or a list or a table of texts, got 0.5"),
        ("epochs = ", "options.toml must hold TOML: Invalid value (at end of document)"),
        ("loss = '\udcff'", "options.toml must hold TOML: 'utf-8' codec can't decode"),
    ],
)
def test_bad_options_in_a_file(model, folder, text, message):
    (folder / "options.toml").write_text(text, encoding="utf-8", errors="surrogateescape")
    assert error(fit(model, "--config", "options.toml", code=1)).startswith(message)
    assert not (folder / "run").exists()


def test_files_that_are_missing(model, folder):
    assert error(fit(model, "--config", "no.toml", code=1)) == "no.toml: No such file or directory"
    for option in ("--like", "--resume"):
        assert error(fit(model, option, "no", code=1)).startswith(
            "no must be the folder of a saved run or of checkpoints"
        )
    (folder / "options.toml").write_text("epochs = 3")
    assert "Missing option '--data'" in run("fit", "--config", "options.toml", code=2).stderr


def test_values_as_the_command_line_has_them():
    assert check_value("", 64, str) == "64"
    assert check_value("", 3, float) == 3.0
    assert check_value("", "a=1", list) == ["a=1"]
    assert check_value("", {"cycles": 3, "deep": {"a": [1]}, "on": True}, list) == [
        "cycles=3",
        'deep={"a": [1]}',
        "on=true",
    ]


# The code that a folder names ------------------------------------------------------------------------------


@pytest.fixture
def strange(model, folder):
    """A run whose folder names code in it, which writes a file when it is imported."""
    fit(model, "--preprocess", f"{model}:same")
    code = "from pathlib import Path\nPath('ran').touch()\nfrom models import make, same\n"
    (folder / "run" / "evil.py").write_text(code)
    config = config_of(folder)
    config["command"] |= {"model": "run/evil.py:make", "preprocess": "run/evil.py:same", "trust": True}
    (folder / "run" / "config.json").write_text(json.dumps(config))
    return folder


WAYS = {
    "evaluate": ("evaluate", "--run", "run", "--data", "test.npz"),
    "embed": ("embed", "--run", "run", "--data", "test.npz", "--output", "e.npz"),
    "like": ("fit", "--like", "run", "--output", "new"),
    "resume": ("fit", "--resume", "run", "--output", "new"),
}


@pytest.mark.parametrize("way", WAYS)
def test_code_of_a_folder_runs_only_if_it_is_trusted(model, strange, way):
    line = error(run(*WAYS[way], code=1))
    has_model = (strange / "run" / "model.json").exists() and way != "like"
    named = "--preprocess 'run/evil.py:same'" if has_model else "--model 'run/evil.py:make' and --preprocess"
    assert line.startswith(f"run names code that is not run without your consent: {named}")
    assert line.endswith("or add --trust to run this code")
    line = error(run(*WAYS[way], "--model", f"{model}:make", code=1))
    assert "--preprocess 'run/evil.py:same'; give --preprocess, or add --trust" in line
    assert not (strange / "ran").exists()
    run(*WAYS[way], "--model", f"{model}:make", "--preprocess", f"{model}:same")
    assert not (strange / "ran").exists()
    for place in ("new", "e.npz"):
        if (strange / place).exists():
            (strange / place).rename(strange / f"first-{place}")
    run(*WAYS[way], "--trust")
    assert (strange / "ran").exists()


def test_a_keras_run_needs_no_code(model, folder, backend):
    if backend.name != "keras":
        pytest.skip("a PyTorch or Paddle model does not say how it is made")
    fit(model, "--eval-data", "test.npz")
    after = json.loads((folder / "run" / "metrics.json").read_text())["after"]
    model.unlink()
    metrics = json.loads(run("evaluate", "--run", "run", "--data", "test.npz", "--json").stdout)
    assert metrics["hit@1"] == pytest.approx(after["hit@1"])
    run("embed", "--run", "run", "--data", "test.npz", "--output", "e.npz")
    run("fit", "--resume", "run", "--epochs", 3, "--output", "resumed")


def test_a_model_of_the_folder_is_opened_without_code(model, strange, monkeypatch):
    opened = []

    def load(path, model_of=None, *, trust_code, **options):
        from finetuner.tuner import framework_class
        from finetuner.tuner.base import Encoder

        opened.append((str(path), trust_code, sorted(options)))
        made = resolve_callable("--model", f"{model}:make")()
        return Encoder(made, framework_class(made)("cpu")).load(path)

    (strange / "run" / "model.json").write_text("{}")
    monkeypatch.setattr("finetuner.api.load", load)
    run("evaluate", "--run", "run", "--data", "test.npz", "--preprocess", f"{model}:same", "--distance", "euclidean")
    assert opened == [("run", False, ["collate_fn", "device", "preprocess_fn"])]
    assert not (strange / "ran").exists()


def test_options_of_a_command_reach_the_model_of_the_folder(model, strange, monkeypatch):
    trusted = []

    def load(path, model_of=None, *, trust_code, **options):
        from finetuner.tuner import framework_class
        from finetuner.tuner.base import Encoder

        trusted.append(trust_code)
        made = resolve_callable("--model", f"{model}:make")()
        return Encoder(made, framework_class(made)("cpu")).load(path)

    def metrics(distance, *arguments):
        command = ("evaluate", "--run", "run", "--data", "test.npz", "--preprocess", f"{model}:same", "--json")
        return run(*command, "--distance", distance, *arguments).stdout

    (strange / "run" / "model.json").write_text("{}")
    monkeypatch.setattr("finetuner.api.load", load)
    for distance in ("cosine", "euclidean"):
        assert metrics(distance) == metrics(distance, "--model", f"{model}:make")
    assert metrics("cosine") != metrics("euclidean")
    line = error(run(*WAYS["like"], code=1))  # a training from the beginning does not take the trained model
    assert "--model 'run/evil.py:make' and --preprocess" in line
    trusted.clear()
    config = config_of(strange)
    config["command"]["model"] = None
    (strange / "run" / "config.json").write_text(json.dumps(config))
    metrics("cosine", "--trust")
    metrics("cosine")
    assert trusted == [True, False]


def test_damaged_settings_of_a_run(model, folder):
    fit(model)
    sane = config_of(folder)
    way = ("evaluate", "--run", "run", "--data", "test.npz", "--model", f"{model}:make")
    for change, message in (
        ({"command": [1]}, "run/config.json must hold a JSON object as command, got list"),
        ({"command": {"seed": "0"}}, "run/config.json: seed must be a whole number, got '0'"),
        ({"command": {"image_size": {}}}, "run/config.json: image_size must be a text, got {}"),
        ({"distance": ["cosine"]}, "distance must be one of 'cosine', 'euclidean', 'sqeuclidean', got ['cosine']"),
        ({"pooler": 5}, "the pooler of run must be one of finetuner's poolers to be restored, got 5"),
        ({"pooler": {"name": "os:system", "options": {}}}, "pooler must be a known name, got 'os:system'"),
    ):
        (folder / "run" / "config.json").write_text(json.dumps({**sane, **change}))
        assert error(run(*way, code=1)).startswith(message)


def test_embeddings_do_not_need_the_loss(model, folder, monkeypatch):
    fit(model, "--loss", "ArcFaceLoss")
    monkeypatch.setattr("finetuner.tuner.base.training.tuner.create_loss", None, raising=False)
    run("embed", "--run", "run", "--trust", "--data", "test.npz", "--output", "e.npz")
    with np.load(folder / "e.npz") as file:
        assert file["embeddings"].shape == (len(TEST.labels), 8)
