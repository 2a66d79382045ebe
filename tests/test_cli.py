"""The commands: what they write and print."""

import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from typer.main import get_command
from typer.testing import CliRunner

import finetuner
from finetuner.cli import names
from finetuner.cli.commands import app
from finetuner.cli.examples import EMBED_EXAMPLES, EVALUATE_EXAMPLES, FIT_EXAMPLES
from finetuner.cli.inputs import first_free_folder, parse_options
from finetuner.cli.terminal import ANSI_ESCAPES
from finetuner.cli.user_code import resolve_callable

from .commands import ROOT, error, fit, folder, model, run  # noqa: F401  (folder and model are fixtures)
from .toy import TEST, TRAIN


@pytest.fixture(autouse=True)
def width(monkeypatch):
    """The width of the terminal, for the help."""
    monkeypatch.setenv("COLUMNS", "80")


def help_text(*command):
    return ANSI_ESCAPES.sub("", run(*command, "--help").stdout)


def test_version_and_help():
    assert run("--version").stdout == f"finetuner {finetuner.__version__}\n"
    for command in ("fit", "evaluate", "embed", "demo"):
        assert command in help_text()
        assert "--debug" in help_text(command)
        assert run(command, "-h").stdout == run(command, "--help").stdout


def test_python_m_is_the_same_program():
    done = subprocess.run([sys.executable, "-m", "finetuner", "--version"], capture_output=True, text=True, cwd=ROOT)
    assert done.stdout == f"finetuner {finetuner.__version__}\n"


def test_help_loads_little():
    code = (
        "import sys; from finetuner.cli import app; app(['fit', '--help'], standalone_mode=False); print(*sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert not {"numpy", "torch", "faiss", "datasets", "matplotlib", "sklearn"} & set(done.stdout.split())


def test_help_names_miners_poolers_and_more():
    for name in (*names.MINERS, *names.POOLERS, *names.SCHEDULES, *names.TRACKERS):
        assert name in help_text("fit")


@pytest.mark.parametrize("command", ["fit", "evaluate", "embed", "demo"])
def test_help_of_80_columns_is_complete(command):
    text = help_text(command)
    assert "\N{HORIZONTAL ELLIPSIS}" not in text  # what rich writes where it cuts
    assert max(map(len, text.splitlines())) <= 80
    for option in get_command(app).commands[command].params:
        assert re.search(rf"(?m)^│ [ *] *{option.opts[0]} |^│ {option.opts[0]} ", text), option.opts
        if isinstance(option.default, int | float) and not isinstance(option.default, bool):
            assert f"[default: {option.default}]" in text


@pytest.mark.parametrize(
    ("command", "examples"), [("fit", FIT_EXAMPLES), ("evaluate", EVALUATE_EXAMPLES), ("embed", EMBED_EXAMPLES)]
)
def test_examples_in_the_help(command, examples, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("options.toml").write_text('data = "train.npz"\nmodel = "model.py:make"\n')
    Path("run-checkpoints", "epoch-1").mkdir(parents=True)
    made = {"data": "train.npz", "model": "model.py:make", "output": "run"}
    Path("run-checkpoints", "epoch-1", "config.json").write_text(json.dumps({"command": made}))
    printed = [line.strip() for line in help_text(command).splitlines()]
    for line in examples.splitlines():
        assert line.strip() in printed  # not wrapped, so it can be copied
    lines = [line for line in examples.replace("\\\n", "").splitlines() if line.startswith("$ ")]
    assert len(lines) > 1
    parser = get_command(app).commands[command]
    for line in lines:
        program, name, *arguments = shlex.split(line[2:])
        assert (program, name) == ("finetuner", command)
        parser.make_context(name, arguments)  # raises for an unknown option


def arrays(path):
    with np.load(path) as file:
        return dict(file)


# Training ----------------------------------------------------------------------------------------------


def test_fit_writes_a_run(backend, model, folder):
    pytest.importorskip("matplotlib")
    chosen = ("--loss", "TripletLoss", "--loss-option", "margin=0.3", "--miner", "TripletEasyHardMiner")
    more = ("--miner-option", "neg_strategy=hard", "--metric", "hit@1", "--metric", "mAP@R", "--num-items-per-class", 6)
    result = fit(model, "--eval-data", "test.npz", *chosen, *more, "--micro-batch-size", 7)
    files = ["config.json", "history.json", "history.png", "log.json", "metrics.json"]
    files += ["model.json"] * backend.name.startswith("keras")  # Keras' models say how they are made
    files += ["training.json", "training.safetensors", "weights.safetensors"]
    assert sorted(path.name for path in (folder / "run").iterdir()) == files
    metrics = json.loads((folder / "run" / "metrics.json").read_text())
    table = [line.split() for line in result.stdout.splitlines()]
    assert ["metric", "before", "after", "change"] in table
    for name, value in metrics["before"].items():
        after = metrics["after"][name]
        assert [name, f"{value:.4f}", f"{after:.4f}", f"{after - value:+.4f}"] in table
    config = json.loads((folder / "run" / "config.json").read_text())
    assert config["loss"]["options"]["margin"] == 0.3
    assert config["loss"]["options"]["miner"]["options"]["neg_strategy"] == "hard"
    assert config["fit"]["num_items_per_class"] == 6
    assert config["fit"]["micro_batch_size"] == 7
    assert config["command"]["model"] == f"{model}:make"
    assert config["command"]["metric"] == ["hit@1", "mAP@R"]
    assert "epoch 2/2" in result.stderr
    assert "epoch" not in result.stdout.replace("epochs", "")


def test_the_same_seed_gives_the_same_weights(model, folder):
    fit(model, "--seed", 3)
    fit(model, "--seed", 3, "--output", "again")
    fit(model, "--seed", 4, "--output", "other")
    weights = [(folder / name / "weights.safetensors").read_bytes() for name in ("run", "again", "other")]
    assert weights[0] == weights[1] != weights[2]


def test_fit_without_evaluation(model, folder):
    result = fit(model)
    assert "before" not in result.stdout
    assert json.loads((folder / "run" / "metrics.json").read_text()) == {}


def test_classes_of_one_file(model, folder):
    result = fit(model, "--classes", "0", "--classes", "[24]", "--eval-classes", "6", "--eval-classes", "4")
    assert "36 items, 3 classes" in result.stderr
    assert "24 items, 2 classes" in result.stderr
    assert "hit@1" in result.stdout


def test_callbacks(model, folder):
    arguments = (
        "--early-stopping",
        1,
        "--keep-best",
        "--monitor",
        "hit@1",
        "--checkpoint-every",
        "2 epochs",
        "--epochs",
        6,
    )
    fit(model, "--eval-data", "test.npz", *arguments)
    assert (folder / "run-checkpoints" / "epoch-2" / "weights.safetensors").is_file()
    config = json.loads((folder / "run" / "config.json").read_text())
    assert config["callbacks"] == ["ProgressBar", "BestModel", "EarlyStopping", "Checkpoint"]


def test_fit_without_matplotlib(model, folder, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    result = fit(model)
    assert re.search(r'history.png was not drawn: .* matplotlib: pip install "finetuner\[plot\]"', result.stderr)
    assert not (folder / "run" / "history.png").exists()


def test_a_warning_is_one_line(model, folder):
    y = TRAIN.labels.copy()
    y[0] = 9
    np.savez(folder / "train.npz", x=TRAIN.x, y=y)
    with pytest.warns(UserWarning, match="1 of 5 classes have a single item"):  # other warnings are errors in pytest
        run_with_warnings(model)


def run_with_warnings(model):
    import warnings

    result = fit(model)
    (line,) = [line for line in result.stderr.splitlines() if "single item" in line]
    assert line.startswith("warning: 1 of 5 classes have a single item")
    warnings.warn("1 of 5 classes have a single item", stacklevel=1)  # for pytest.warns: the program printed its own


def test_threads(model, folder, backend):
    torch = sys.modules.get("torch")
    before = torch.get_num_threads() if torch else 1
    with pytest.MonkeyPatch.context() as environment:
        for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "TF_NUM_INTRAOP_THREADS"):
            environment.setenv(name, str(before))
        fit(model, "--threads", 1)
        assert os.environ["OMP_NUM_THREADS"] == "1"
    if torch:
        torch.set_num_threads(before)
    if backend.key != "keras-jax":  # JAX has no such setting
        assert json.loads((folder / "run" / "config.json").read_text())["threads"] == 1


# Evaluation and embedding ------------------------------------------------------------------------------


def test_evaluate_gives_the_metrics_of_the_run(model, folder, monkeypatch):
    fit(model, "--eval-data", "test.npz", "--loss-option", "distance=euclidean")
    after = json.loads((folder / "run" / "metrics.json").read_text())["after"]
    (folder / "elsewhere").mkdir()
    monkeypatch.chdir(folder / "elsewhere")
    table = [
        line.split()
        for line in run("evaluate", "--data", "../test.npz", "--run", "../run", "--trust").stdout.splitlines()
    ]
    for name in ("hit@1", "mAP@R"):
        assert [name, f"{after[name]:.4f}"] in table
    cosine = run("evaluate", "--data", "../test.npz", "--run", "../run", "--trust", "--distance", "cosine").stdout
    assert f"{after['mAP@R']:.4f}" not in cosine


@pytest.mark.parametrize("trainable", ["true", "false"])
def test_a_pooler_is_restored(model, folder, trainable):
    arguments = ("--pooler", "GeM", "--pooler-option", "p=2.4", "--pooler-option", f"trainable={trainable}")
    fit(model, "--eval-data", "test.npz", *arguments, "--learning-rate", 0.01, name="pooled")
    config = json.loads((folder / "run" / "config.json").read_text())
    assert config["pooler"] == {"name": "GeM", "options": {"p": 2.4, "eps": 1e-6, "trainable": trainable == "true"}}
    after = json.loads((folder / "run" / "metrics.json").read_text())["after"]
    table = [
        line.split() for line in run("evaluate", "--data", "test.npz", "--run", "run", "--trust").stdout.splitlines()
    ]
    for name in ("hit@1", "mAP@R"):
        assert [name, f"{after[name]:.4f}"] in table
    run("embed", "--data", "test.npz", "--run", "run", "--trust", "--output", "e.npz")
    config["pooler"] = None
    (folder / "run" / "config.json").write_text(json.dumps(config))
    without = ("embed", "--data", "test.npz", "--run", "run", "--trust", "--output", "without.npz")
    if trainable == "true":
        assert "the weights must be those of the same model" in error(run(*without, code=1))
        return
    run(*without)
    assert not np.allclose(arrays("e.npz")["embeddings"], arrays("without.npz")["embeddings"])
    config["pooler"] = "my_model:MyPooler"
    (folder / "run" / "config.json").write_text(json.dumps(config))
    result = run("evaluate", "--data", "test.npz", "--run", "run", "--trust", code=1)
    assert "must be one of finetuner's poolers to be restored, got my_model:MyPooler" in error(result)


def test_evaluate_a_model_in_an_index(model, folder):
    chosen = ("--model", f"{model}:make", "--metric", "hit@1")
    result = run("evaluate", "--data", "test.npz", "--index-data", "test.npz", *chosen)
    assert re.search(r"hit@1 +1\.0000", result.stdout)  # each item finds itself


def test_embed(model, folder):
    fit(model)
    result = run(
        "embed", "--data", "test.npz", "--run", "run", "--trust", "--label-column", "y", "--output", "new/e.npz"
    )
    labelled = arrays("new/e.npz")
    assert labelled["embeddings"].shape == (48, 8)
    np.testing.assert_array_equal(labelled["labels"], TEST.classes[TEST.labels])
    assert result.stdout == "new/e.npz  embeddings [48, 8], labels [48]\n"
    run("embed", "--data", "test.npz", "--run", "run", "--trust", "--output", "e.npz")
    plain = arrays("e.npz")
    assert list(plain) == ["embeddings"]
    np.testing.assert_array_equal(plain["embeddings"], labelled["embeddings"])
    run("embed", "--data", "test.npz", "--model", f"{model}:make", "--output", "untrained.npz")
    assert not np.allclose(arrays("untrained.npz")["embeddings"], plain["embeddings"])


def test_text_in_tables(model, folder, tables):
    rows = [f"{letter * 3} {'h' * (i % 3)},{letter}" for i in range(6) for letter in "abcd"]
    (folder / "train.csv").write_text("\n".join(["text,category", *rows]))
    (folder / "new.csv").write_text("text,other\naa,1\nbcd,2\n")
    columns = ("--input-column", "text", "--label-column", "category", "--collate", f"{model}:words")
    fit(model, "--data", "train.csv", *columns, "--eval-classes", "c", "--eval-classes", "d")
    run("evaluate", "--data", "train.csv", "--run", "run", "--trust")
    run("embed", "--data", "new.csv", "--run", "run", "--trust", "--output", "e.npz")  # it has no labels
    assert arrays("e.npz")["embeddings"].shape == (2, 8)


def test_images(model, folder, pillow):
    for i in range(16):
        path = folder / "images" / f"class {i % 2}" / f"{i}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        pillow.fromarray(np.random.default_rng(i).integers(0, 255, (9, 12), np.uint8)).save(path)
    arguments = ("--image-size", "10x8", "--image-mode", "L", "--preprocess", f"{model}:grey", "--in-memory")
    fit(model, "--data", "images", *arguments, "--batch-size", 8, "--num-workers", 0)
    run("embed", "--data", "images", "--run", "run", "--trust", "--output", "e.npz")
    embedded = arrays("e.npz")
    assert embedded["embeddings"].shape == (16, 8)
    assert embedded["names"][0] == "class 0/0.png"
    last = ("--channels-last", "--preprocess", f"{model}:grey_last")
    run("embed", "--data", "images", "--run", "run", "--trust", *last, "--output", "last.npz")
    np.testing.assert_array_equal(arrays("last.npz")["embeddings"], embedded["embeddings"])


def test_parse_options():
    pairs = ["a=0.3", "b=null", "c=sum", "d=[0.9, 0.99]", "e=x=y", "f=", "g=true", "a=1"]
    expected = {"a": 1, "b": None, "c": "sum", "d": [0.9, 0.99], "e": "x=y", "f": "", "g": True}
    assert parse_options("--loss-option", pairs) == expected
    assert parse_options("--loss-option", None) == {}


def test_resolve_callable(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "random.py").write_text("import neighbour\n\ndef f():\n    return neighbour.value\n")
    (tmp_path / "neighbour.py").write_text("value = 5\n")
    path = tmp_path / "random.py"
    assert resolve_callable("--model", f"{path}:f")() == 5
    assert resolve_callable("--model", f"{path}:f") is resolve_callable("--model", f"{path}:f")  # imported once
    assert hasattr(__import__("random"), "shuffle")  # Python's own module is not replaced
    assert resolve_callable("--model", "json:JSONDecoder.decode") is json.JSONDecoder.decode
    assert resolve_callable("--collate", None) is None


def test_first_free_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert first_free_folder("demo") == Path("demo")
    Path("demo").mkdir()
    Path("demo-2").mkdir()
    assert first_free_folder("demo") == Path("demo-3")


def test_a_program_without_a_command_shows_its_commands():
    output = CliRunner().invoke(app, [], prog_name="finetuner").output
    assert all(f" {command} " in output for command in ("fit", "evaluate", "embed", "check"))
