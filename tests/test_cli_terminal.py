"""Terminals of any width: a number is never cut or broken."""

import io
import re
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from rich.console import Console

from finetuner.cli.terminal import print_metrics
from finetuner.tuner.base import ProgressBar
from finetuner.tuner.base.processes import ALONE

from .commands import fit, folder, model, run  # noqa: F401  (folder and model are fixtures)

WIDTHS = (20, 30, 40, 60, 80, 120)
BEFORE = {"val_loss": 12345.678912, "hit@1": 0.25, "a-set-with-a-long-name/precision@10": 0.123449, "mAP": float("nan")}
AFTER = {"val_loss": 0.5, "hit@1": 0.75, "a-set-with-a-long-name/precision@10": 0.5, "mAP": 1.0}


def words(text):
    return re.findall(r"\S+", text)


@pytest.mark.parametrize("width", WIDTHS)
def test_metrics(capsys, monkeypatch, width):
    monkeypatch.setenv("COLUMNS", str(width))
    print_metrics({"before": BEFORE, "after": AFTER})
    text = capsys.readouterr().out
    numbers = ["12345.6789", "0.5000", "-12345.1789", "0.2500", "0.7500", "+0.5000", "0.1234", "0.5000", "+0.3766"]
    numbers += ["nan", "1.0000", "+nan"]
    assert [word for word in words(text) if word in numbers] == numbers
    assert "\N{HORIZONTAL ELLIPSIS}" not in text
    print_metrics({"value": BEFORE})
    text = capsys.readouterr().out
    assert [word for word in words(text) if word in numbers] == ["12345.6789", "0.2500", "0.1234", "nan"]
    assert ("a-set-with-a-long-name/precision@10" in text) == (width in (20, 60, 80, 120))  # folded, but whole in lines
    print_metrics({})
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("sets", [1, 2, 5])
def test_check(folder, monkeypatch, width, sets):
    monkeypatch.setenv("COLUMNS", str(width))
    names = [f"a-rather-long-name-{number}.npz" for number in range(sets)]
    for number, name in enumerate(names):
        np.savez(
            name, x=np.arange(1234 + number, dtype=np.float32)[:, None] + 10_000 * number, y=np.arange(1234 + number)
        )
    result = run("check", *names, "--input-column", "x", "--label-column", "y")
    table = result.stdout.split("classes with one item\n")[0]
    for number in range(sets):
        assert table.count(f" {1234 + number:,}") >= 3  # items, classes, and classes with one item
    assert "\N{HORIZONTAL ELLIPSIS}" not in table


@pytest.mark.parametrize("width", [40, 60, 80])
def test_fit_and_evaluate(model, folder, monkeypatch, width):
    pytest.importorskip("matplotlib")
    monkeypatch.setenv("COLUMNS", str(width))
    result = fit(model, "--eval-data", "a=test.npz", "--eval-data", "another=test.npz", "--metric", "precision@10")
    table = result.stdout.split("run  ")[0]
    assert (
        len(re.findall(r"(?<![\w.])\d\.\d{4}(?![\w.])", table)) == 12
    )  # two sets, two metrics, before, after and change
    assert "\N{HORIZONTAL ELLIPSIS}" not in result.output
    assert "..." not in result.output
    result = run("evaluate", "--run", "run", "--trust", "--data", "test.npz", "--metric", "precision@10")
    assert len(re.findall(r"(?<![\w.])\d\.\d{4}(?![\w.])", result.stdout)) == 1
    assert Path("run", "history.json").is_file()


def show_progress(width):
    """The lines that a bar of this width writes in an epoch, and the row of the epoch."""
    console = Console(file=io.StringIO(), width=width, force_terminal=True)
    bar = ProgressBar(console)
    engine = SimpleNamespace(learning_rates=lambda: [1e-3], processes=ALONE)
    state = SimpleNamespace(
        history=[{"val_loss": 0.99315}],
        **{"step": 0, "epochs": 10, "epoch": 1, "batch": 0, "batches": 1234, "batch_items": 256, "loss": 0.93691},
        logs={"active": 0.51234, "positive_distance": 0.12341, "negative_distance": 0.98761, "spread": 0.11111},
        tuner=SimpleNamespace(engine=engine, defaults_line="", prefix_line=""),
    )
    bar.on_fit_begin(state)
    bar.on_epoch_begin(state)
    state.batch, bar.next_update = 500, 0
    bar.on_batch_end(state)
    numbers = {"loss": 0.93691, "val_loss": 0.99315, "hit@1": 0.27083, "mAP@R": 0.11461, **state.logs}
    state.history.append({**numbers, "seconds": 123.4, "items_per_second": 12345.6})
    bar.on_epoch_end(state)
    text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", console.file.getvalue())
    return text.replace("\r", "\n").split("\n"), state.history[-1]


@pytest.mark.parametrize("width", [*WIDTHS, 100, 160, 200])
def test_progress(width):
    lines, row = show_progress(width)
    assert not any("\N{HORIZONTAL ELLIPSIS}" in line for line in lines)
    bars = [line for line in lines if "500/1234" in line]
    assert bars
    for line in bars:
        assert len(line) <= width
        assert "loss 0.9369" in line or width < 40
        assert set(re.findall(r"\d\.\d+", line)) <= {"0.9369", "0.5123", "0.1234", "0.9876", "0.1111", "0.001"}
        assert ("items/s" in line) == (width >= 60)
        assert ("\N{BOX DRAWINGS HEAVY HORIZONTAL}" in line) == (width >= 80)
    text = "\n".join(lines)
    for name in ("loss", "val_loss", "hit@1", "mAP@R", "active", "negative_distance"):
        assert re.search(rf"(^|  ){name} {row[name]:.4f}($|  )", text, re.MULTILINE)
    if width >= 40:
        assert max(map(len, lines)) <= width


def test_a_file_has_one_line_for_an_epoch():
    console = Console(file=io.StringIO(), width=40, force_terminal=False)
    state = SimpleNamespace(
        tuner=SimpleNamespace(engine=SimpleNamespace(processes=ALONE), defaults_line="", prefix_line=""),
        history=[dict.fromkeys(("val_loss", "hit@1", "mAP@R", "active", "spread"), 0.5)],
    )
    ProgressBar(console).on_fit_begin(SimpleNamespace(**vars(state), step=0, epochs=1))
    assert console.file.getvalue().count("\n") == 1
