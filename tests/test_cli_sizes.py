"""Sizes and dtypes of embeddings on the command line."""

import inspect
import json

import numpy as np
import pytest

import finetuner
from finetuner.cli import names
from finetuner.cli.sizes import rows_by_size
from finetuner.quantization import DTYPES, quantize

from .commands import error, fit, folder, model, run  # noqa: F401  (folder and model are fixtures)
from .toy import TEST, D


@pytest.fixture(autouse=True)
def width(monkeypatch):
    """The width of the terminal, for tables."""
    monkeypatch.setenv("COLUMNS", "200")


def test_the_course_of_a_run(model, folder, monkeypatch):
    fit(model, "--dims", "8,2", "--dim-weights", "1,0.5")
    options = json.loads((folder / "run" / "config.json").read_text())["loss"]["options"]
    assert (options["dims"], options["weights"]) == ([8, 2], [1.0, 0.5])
    evaluate = ("evaluate", "--data", "test.npz", "--run", "run", "--trust")
    metrics = json.loads(run(*evaluate, "--dims", "8,2", "--metric", "hit@1", "--json").stdout)
    assert list(metrics) == ["hit@1", "dim_2/hit@1"]
    lines = [line.split() for line in run(*evaluate, "--dims", "8", "--dims", "2").stdout.splitlines() if line]
    assert lines[0][:3] == ["size", "hit@1", "mAP@R"]
    assert [line[:2] for line in lines[1:]] == [
        ["8", f"{metrics['hit@1']:.4f}"],
        ["2", f"{metrics['dim_2/hit@1']:.4f}"],
    ]
    assert [line.split()[0] for line in run(*evaluate, "--dims", "4").stdout.splitlines() if line] == ["size", "4"]
    monkeypatch.setenv("COLUMNS", "40")
    narrow = " ".join(run(*evaluate, "--dims", "8,2").stdout.split())
    assert f"dim_2/hit@1 {metrics['dim_2/hit@1']:.4f}" in narrow
    embed = ("embed", "--data", "test.npz", "--run", "run", "--trust")
    run(*embed, "--dim", 2, "--dtype", "int8", "--output", "out.npz")
    embeddings = np.load("out.npz")["embeddings"]
    assert (embeddings.dtype, embeddings.shape) == (np.int8, (48, 2))


@pytest.mark.parametrize("suffix", [".parquet", ".jsonl"])
def test_bytes_in_a_table(model, folder, suffix):
    parquet = pytest.importorskip("pyarrow.parquet")
    rows = [{"x": row, "name": f"item {i}"} for i, row in enumerate(TEST.x.tolist())]
    (folder / "items.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    output = folder / f"out{suffix}"
    data = ("--data", "items.jsonl", "--input-column", "x")
    run("embed", *data, "--model", f"{model}:make", "--dtype", "ubinary", "--output", output)
    if suffix == ".jsonl":
        found = [json.loads(line)["embedding"] for line in output.read_text().splitlines()]
    else:
        found = parquet.read_table(output)["embedding"].to_pylist()
    expected = quantize(plain(model, data), "ubinary").tolist()
    assert found == expected
    assert all(isinstance(number, int) for row in found for number in row)


def plain(model, data):
    run("embed", *data, "--model", f"{model}:make", "--output", "plain.npz")
    return np.load("plain.npz")["embeddings"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--dims", "8,two"), "--dims must be whole numbers, such as 384,128, got 'two'"),
        (("--dims", "8", "--dim-weights", "x"), "--dim-weights must be numbers, such as 1,0.5, got 'x'"),
        (("--dims", "16,8"), f"dims must be at most {D}, the size of the embeddings, got 16"),
        (("--dims", "8,8"), "dims must be different sizes, got [8, 8]"),
        (("--dim-weights", "1"), "dim_weights must be used with dims, got [1.0] and no dims"),
    ],
)
def test_wrong_options(model, folder, options, message):
    assert error(fit(model, *options, code=1)) == message
    assert not (folder / "run").exists()


def test_wrong_options_of_other_commands(model, folder):
    common = ("--data", "test.npz", "--model", f"{model}:make")
    assert "--dims must be whole numbers" in error(run("evaluate", *common, "--dims", "x", code=1))
    assert "dims must be at most 8" in error(run("evaluate", *common, "--dims", "16", code=1))
    assert "dtype must be one of" in error(run("embed", *common, "--dtype", "int4", "--output", "e.npz", code=1))
    assert "dim must be at most 8" in error(run("embed", *common, "--dim", "16", "--output", "e.npz", code=1))


def test_rows_by_size():
    metrics = {"hit@1": 0.5, "mAP": 0.25, "dim_2/hit@1": 0.125, "dim_2/mAP": 0.0}
    assert rows_by_size(metrics, [8, 2]) == {"8": {"hit@1": 0.5, "mAP": 0.25}, "2": {"hit@1": 0.125, "mAP": 0.0}}
    assert rows_by_size({"dim_2/hit@1": 0.5}, [2]) == {"2": {"hit@1": 0.5}}


def test_names_of_dtypes():
    assert names.DTYPES == DTYPES
    assert inspect.signature(finetuner.embed).parameters["dtype"].default == DTYPES[0]
