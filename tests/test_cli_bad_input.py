"""Bad input to the command line: the error is one line, and existing files stay as they are."""

import re
import time

import numpy as np
import pytest

import finetuner
from finetuner.cli.inputs import check_inputs
from finetuner.cli.user_code import resolve_callable

from .commands import ROOT, error, fit, folder, model, run  # noqa: F401  (folder and model are fixtures)
from .toy import TRAIN, D

BAD = np.where(np.arange(48)[:, None] == 7, np.nan, TRAIN.x)
FILES = {
    "empty.npz": {"x": TRAIN.x[:0], "y": TRAIN.labels[:0]},
    "longer.npz": {"x": TRAIN.x, "y": TRAIN.labels[:5]},
    "alone.npz": {"x": TRAIN.x, "y": np.arange(48)},
    "nan.npz": {"x": BAD, "y": TRAIN.labels},
}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--data", "no.npz"], "no.npz must be a file or a folder, and does not exist"),
        (["--data", "empty.npz"], "empty.npz must have at least one row, got none"),
        (["--data", "longer.npz"], "longer.npz: x and y must have the same length, got 48 and 5"),
        (["--data", "alone.npz"], "two classes must have two items each to learn from, got 0"),
        (["--data", "nan.npz"], "inputs must be finite, and in batch . of epoch 1 items 7 of the data are not"),
        (["--batch-size", "3"], "batch_size must hold two classes of two items"),
        (["--micro-batch-size", "0"], "micro_batch_size must be at least 1, got 0"),
        (["--label-column", "z"], "label_column must be a column of train.npz, got 'z'"),
        (["--loss", "TripletLos"], "loss must be a known name, got 'TripletLos'; did you mean 'TripletLoss'"),
        (["--loss-option", "distance=cosin"], "distance must be one of .*did you mean 'cosine'"),
        (["--loss-option", "margn=1"], "TripletLoss has no option 'margn'; did you mean 'margin'"),
        (["--miner", "TripletEasyHardMiner", "--miner-option", "neg_strategy=hrd"], "neg_strategy .* 'hard'"),
        (["--optimizer", "Adm"], "optimizer must be a known name, got 'Adm'"),
        (["--metric", "hit@0"], "metrics must .*'hit@0'"),
        (["--classes", "Z*"], "classes must .*train.npz.*'Z[*]'"),
        (["--early-stopping", "1", "--monitor", "hit@1"], "--monitor must be one of 'loss', got 'hit@1'"),
        (["--schedule", "cosin"], "schedule must be one of .*, got 'cosin'; did you mean 'cosine'"),
        (["--schedule-option", "cycles=2"], "the schedule 'constant' has no option 'cycles'"),
        (["--warmup", "4"], "warmup must be shorter than the training of 4 steps, got 4 steps"),
        (["--warmup", "1.5"], "warmup must be a whole number of steps, or a share below 1 of all steps, got 1.5"),
        (["--learning-rate", "0"], "learning_rate must be above 0, got 0"),
        (["--learning-rate-of", "haed=0.1"], "learning_rate must have patterns that match a weight, got 'haed'"),
        (["--freeze", "haed"], "freeze must have patterns that match a weight, got 'haed'; the weights are "),
        (["--freeze", "("], "freeze must have regular expressions, got '[(]'"),
        (["--freeze", "0=0"], "freeze must be at least 1, got 0"),
        (["--freeze", ""], "the model must have weights to train, and has none or all of them are frozen"),
        (["--layer-decay", "2"], "layer_decay must be above 0 and at most 1, got 2"),
        (["--clip-norm", "0"], "clip_norm must be above 0, got 0"),
        (["--weight-decay", "-1"], "weight_decay must be at least 0, got -1"),
        (["--weight-decay", "1", "--optimizer-option", "weight_decay=1"], "weight_decay must be given once"),
        (["--precision", "fp8"], "precision must be one of 'fp32', 'bf16', 'fp16', 'auto', got 'fp8'"),
        (["--blend", "2"], "blend must be from 0 to 1, got 2"),
        (["--max-steps", "0"], "max_steps must be at least 1, got 0"),
        (["--gradient-accumulation-steps", "0"], "gradient_accumulation_steps must be at least 1, got 0"),
        (["--length-groups", "0"], "length_groups must be at least 1, got 0"),
        (["--evaluate-every", "1 hour"], "evaluate_every must be like '500 steps' or '1 epoch', got '1 hour'"),
        (["--log-every", "0"], "log_every must be at least 1, got 0"),
        (["--checkpoint-every", "often"], "--checkpoint-every must be like '500 steps' or '1 epoch', got 'often'"),
        (["--keep-checkpoints", "0"], "keep must be at least 1, got 0"),
        (["--checkpoint-folder", "train.npz"], "train.npz must be a new or an empty folder, and it exists"),
        (["--track", "cvs"], "--track must be one of 'csv', 'tensorboard', 'mlflow', 'wandb', got 'cvs'; did you mean"),
        (["--eval-data", "a=no.npz"], "no.npz must be a file or a folder, and does not exist"),
        (["--index-data", "test.npz"], "--index-data must be used with --eval-data or --eval-classes"),
        (["--index-data", "no.npz"], "no.npz must be a file or a folder, and does not exist"),
        (["--device", "nonsense"], "device must be an available one, such as 'cpu', got 'nonsense'"),
        (["--threads", "0"], "--threads must be at least 1, got 0"),
        (["--output", "train.npz"], "train.npz must be a new or an empty folder, and it exists; nothing was written"),
        (["--output", "train.npz/run"], "train.npz/run must be in a writable folder"),
        (["--model", "models.py"], "--model must be package.module:name or path/to/file.py:name, got 'models.py'"),
        (["--model", "no.py:make"], "--model must name a file that exists, got no.py"),
        (["--model", "no.such:make"], "--model must name a module that exists, or a file that ends in .py, got"),
        (["--model", "models.py:mke"], "--model must name a function in models.py, got 'mke'; did you mean 'make'"),
        (["--model", "models.py:number"], "--model must name a function, got int at 'models.py:number'"),
        (["--model", "models.py:dict"], "--model must name a function in models.py, got 'dict'"),
        (["--model", "builtins:dict"], "model must be a torch.nn.Module, a keras.Model or a paddle.nn.Layer, got dict"),
        (["--model", "models.py:broken"], r"KeyError: 'x' \(.*models.py:\d+\)"),
        (["--preprocess", "models.py:wrong"], r"IndexError: .* \(.*models.py:\d+\)"),
        (["--model", "syntax.py:make"], r"SyntaxError: .* \(.*syntax.py:1\)"),
        (["--model", "imports.py:make"], r"ModuleNotFoundError: No module named 'nothing_here' \(.*imports.py:1\)"),
    ],
)
def test_bad_input_is_one_line(model, folder, arguments, message):
    for name, arrays in FILES.items():
        np.savez(folder / name, **arrays)
    (folder / "syntax.py").write_text("def make(:\n")
    (folder / "imports.py").write_text("import nothing_here\n")
    before = {path: path.stat().st_mtime_ns for path in folder.iterdir()}
    if "--metric" in arguments:
        arguments = [*arguments, "--eval-data", "test.npz"]
    assert re.match(message, error(fit(model, *arguments, code=1)))
    after = {path: path.stat().st_mtime_ns for path in folder.iterdir() if path.name != "__pycache__"}
    assert after == before


def test_a_nonempty_folder_is_not_touched(folder):
    file = folder / "run" / "notes.txt"
    file.parent.mkdir()
    file.write_text("important")
    started = time.perf_counter()
    result = fit("no_model.py", code=1)
    assert "run must be a new or an empty folder, and it exists" in error(result)
    assert time.perf_counter() - started < 2  # before anything is imported
    assert "error: run must be" in run("demo", "--output", "run", code=1).stderr
    assert list(file.parent.iterdir()) == [file]
    assert file.read_text() == "important"


def test_a_broken_image(model, folder, pillow):
    for i in range(8):
        (folder / "images" / str(i % 2)).mkdir(parents=True, exist_ok=True)
        pillow.new("L", (D, D)).save(folder / "images" / str(i % 2) / f"{i}.png")
    (folder / "images" / "1" / "3.png").write_bytes(b"\x89PNG\r\n\x1a\nbroken")
    line = error(fit(model, "--data", "images", "--preprocess", f"{model}:grey", "--batch-size", 8, code=1))
    assert line.startswith("images/1/3.png cannot be read: ")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["evaluate"], "--model must be given if --run is not"),
        (
            ["evaluate", "--run", "nowhere"],
            "nowhere must be the folder of a saved run or of checkpoints, and has no config.json",
        ),
        (
            ["embed", "--model", "models.py:make", "--output", "e.txt"],
            "--output must end in .npz, .npy, .parquet or .jsonl, got e.txt",
        ),
        (["embed", "--model", "models.py:make", "--output", "test.npz"], "test.npz must be a new file, and it exists"),
    ],
)
def test_bad_runs_and_files(model, folder, arguments, message):
    assert error(run(arguments[0], "--data", "test.npz", *arguments[1:], code=1)).startswith(message)


def test_weights_of_another_model(model, folder):
    fit(model)
    line = error(run("evaluate", "--data", "test.npz", "--run", "run", "--model", f"{model}:other", code=1))
    assert line.startswith("run cannot be loaded: the weights must be those of the same model")


def test_a_run_that_was_saved_in_python(model, folder, backend):
    embed_model = resolve_callable("--model", f"{model}:make")()
    finetuner.fit(embed_model, TRAIN, callbacks=[], epochs=1, batch_size=24).save("run")
    if backend.name == "keras":  # the folder says how the model is made
        run("evaluate", "--data", "test.npz", "--run", "run")
    else:
        line = error(run("evaluate", "--data", "test.npz", "--run", "run", code=1))
        assert line == "--model must be given if run was not written by `finetuner fit`"
    run("evaluate", "--data", "test.npz", "--run", "run", "--model", f"{model}:make")


def test_debug_shows_the_traceback(model, folder):
    result = fit(model, "--debug", name="broken", code=1)
    assert isinstance(result.exception, KeyError)


@pytest.mark.parametrize(
    "arguments",
    [["--loss-option", "margin"], ["--epochs", "x"], ["--image-size", "1x2x3"], ["--no"]]
    + [["--learning-rate-of", text] for text in ("head", "=0.1", "head=x")]
    + [["--eval-data", "test.npz", "--eval-data", text] for text in ("test.npz", "a=test.npz")]
    + [["--eval-data", "a=test.npz", "--eval-data", "a=train.npz"], ["--schedule-option", "cycles"]],
)
def test_usage(model, folder, arguments):
    assert "Error" in fit(model, *arguments, code=2).stderr


def test_an_error_of_the_framework_is_one_line(model, folder):
    line = error(fit(model, name="narrow", code=1))
    assert {"3", "8"} <= set(re.findall(r"\d+", line))  # the sizes that do not match
    assert line.isprintable()


def test_a_pattern_stands_for_the_files_that_it_matches(tmp_path):
    (tmp_path / "part-1.csv").touch()
    check_inputs(tmp_path / "part-*.csv", None)
    with pytest.raises(FileNotFoundError, match=r"part-\*.tsv must be a file or a folder"):
        check_inputs(tmp_path / "part-*.tsv")
