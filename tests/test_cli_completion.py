"""Completion in a shell: the names are those of the library, and no framework is imported."""

import subprocess
import sys

import pytest

from finetuner.cli import names
from finetuner.evaluation import check_metrics
from finetuner.tuner import SUBPACKAGES
from finetuner.tuner.base import losses, miner, poolers
from finetuner.tuner.base.training.schedules import SCHEDULES

from .commands import ROOT, run
from .toy import make_tuner

TITLES = {"pytorch": "PyTorch", "keras": "Keras", "paddle": "PaddlePaddle"}
NOT_OFFERED = {"LBFGS", "SparseAdam", "LossScaleOptimizer", "MultiOptimizer", "OptimizerMap"}  # for special models
NEWER = {"Adafactor", "Muon", "ScheduleFreeAdamW", "Lamb", "ASGD", "NAdam", "RAdam", "Rprop"}  # than some versions


def public(module, interface):
    """The public names of a module, without aliases."""
    return {name for name in module.__all__ if getattr(module, name).__name__ == name} - {interface}


def test_names_of_the_library():
    for listed, expected in (
        (names.LOSSES, public(losses, "Loss")),
        (names.MINERS, public(miner, "Miner")),
        (names.POOLERS, public(poolers, "Pooler")),
        (names.ADAPTERS, {"linear", "mlp"}),
        (names.SCHEDULES, set(SCHEDULES)),
        (names.BACKENDS, set(SUBPACKAGES.values())),
    ):
        assert len(listed) == len(set(listed))
        assert set(listed) == expected
    check_metrics(names.METRICS)


def test_names_of_optimizers(backend):
    known = set(make_tuner(backend).encoder.framework.registry("optimizer"))
    listed = {name for name, frameworks in names.OPTIMIZERS.items() if TITLES[backend.name] in frameworks.split(", ")}
    assert known - NOT_OFFERED <= listed
    assert listed - known <= NEWER


def complete(words, count, shell="bash"):
    """What the shell is told for a command that is not finished, and what was imported."""
    code = "import sys; from finetuner.cli import main\ntry:\n    main()\nfinally:\n    print(*sys.modules, file=sys.stderr)"
    environment = {"COMP_WORDS": words, "COMP_CWORD": str(count), "_TYPER_COMPLETE_ARGS": words}
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={"_FINETUNER_COMPLETE": f"complete_{shell}", "PYTHONPATH": str(ROOT), **environment},
        capture_output=True,
        text=True,
    )
    assert not {"numpy", "torch", "keras", "paddle", "faiss", "datasets"} & set(done.stderr.split())
    assert "error:" not in done.stderr
    return done.stdout.split("\n")


@pytest.mark.parametrize(
    ("words", "completions"),
    [
        ("finetuner f", ["fit"]),
        ("finetuner fit --loss Trip", ["TripletLoss"]),
        ("finetuner fit --miner S", ["SiameseEasyHardMiner"]),
        ("finetuner fit --optimizer RMS", ["RMSprop", "RMSProp"]),
        ("finetuner fit --loss-optimizer SG", ["SGD"]),
        ("finetuner fit --schedule cosine", ["cosine", "cosine_with_restarts"]),
        ("finetuner fit --pooler G", ["GeM"]),
        ("finetuner fit --sampler r", ["random"]),
        ("finetuner fit --precision b", ["bf16"]),
        ("finetuner fit --track m", ["mlflow"]),
        ("finetuner fit --metric MRR", ["MRR@10"]),
        ("finetuner fit --image-mode RG", ["RGB", "RGBA"]),
        ("finetuner evaluate --distance e", ["euclidean"]),
        ("finetuner embed --format j", ["jsonl", "json"]),
        ("finetuner demo --backend k", ["keras"]),
        ("finetuner fit --like nowhere --config no.toml --resume nowhere --pooler C", ["CLSPooling"]),
    ],
)
def test_completion(words, completions):
    assert complete(words, words.count(" "))[: len(completions)] == completions


def test_a_description_is_shown():
    lines = complete("finetuner fit --optimizer Ft", 3, "zsh")
    assert any('"Ftrl":"Keras"' in line for line in lines)


def test_scripts_of_shells(monkeypatch):
    monkeypatch.setenv("_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION", "1")  # a process in the background has no shell
    for shell in ("bash", "zsh", "fish"):
        assert "_FINETUNER_COMPLETE" in run("--show-completion", shell).stdout
