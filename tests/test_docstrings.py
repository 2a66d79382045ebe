"""The examples in docstrings run: those of losses, miners, poolers and callbacks on every engine."""

import doctest
import importlib
import inspect
import pkgutil
import re
from pathlib import Path

import numpy as np
import pytest

import finetuner
from finetuner import evaluation
from finetuner.tuner import base
from finetuner.tuner.base import data, losses, miner, poolers, training

from .toy import TRAIN, make_tuner

BACKENDS = ("finetuner.tuner.pytorch", "finetuner.tuner.keras", "finetuner.tuner.paddle")
INTERFACES = {"Dataset", "Evaluator", "Loss", "Miner", "NotFiniteError", "Pooler", "Sampler", "State", "Tuner"}
INTERFACES |= {"TupleDataset", "check_metrics"}


def modules():
    for found in pkgutil.walk_packages(finetuner.__path__, "finetuner."):
        if not found.name.startswith((*BACKENDS, "finetuner.__main__")):
            yield importlib.import_module(found.name)


def documented():
    """Public classes and functions with an example, by their place."""
    found = {}
    for module in modules():
        for name, thing in vars(module).items():
            if getattr(thing, "__module__", None) == module.__name__ and ">>>" in (inspect.getdoc(thing) or ""):
                found[f"{module.__name__}.{name}"] = thing
    return found


EXAMPLES = documented()


def needs_backend(thing):
    return re.search(r"\b(tensor|train_a_model)\(", inspect.getdoc(thing)) is not None


def run(thing, names, folder, monkeypatch):
    monkeypatch.chdir(folder)
    text = inspect.getdoc(thing)
    test = doctest.DocTestParser().get_doctest(text, names, thing.__name__, None, None)
    output = []
    result = doctest.DocTestRunner(verbose=False, optionflags=doctest.ELLIPSIS).run(test, out=output.append)
    assert result.attempted > 0
    assert not result.failed, "".join(output)


def shared_names(thing):
    names = {"np": np, "Path": Path, "finetuner": finetuner}
    for module in (base, evaluation, importlib.import_module(thing.__module__)):
        names |= {name: value for name, value in vars(module).items() if not name.startswith("_")}
    return names


@pytest.mark.parametrize("place", [place for place, thing in EXAMPLES.items() if not needs_backend(thing)])
def test_example(place, tmp_path, monkeypatch):
    for library, folder in (
        ("datasets", "finetuner.data"),
        ("matplotlib", "finetuner.plotting"),
        ("faiss", "finetuner.evaluation"),
        ("PIL", "finetuner.models.images"),
    ):
        if place.startswith(folder):
            pytest.importorskip(library)
    run(EXAMPLES[place], shared_names(EXAMPLES[place]), tmp_path, monkeypatch)


@pytest.mark.parametrize("place", [place for place, thing in EXAMPLES.items() if needs_backend(thing)])
def test_example_on_a_backend(backend, place, tmp_path, monkeypatch):
    def train_a_model(callbacks=(), epochs=1):
        return make_tuner(backend, callbacks).fit(TRAIN, epochs=epochs)

    for library, name in (("tensorboard", "TensorBoard"), ("mlflow", "MLflow"), ("wandb", "WandB")):
        if place.endswith(f".{name}"):
            pytest.importorskip(library)
    native = importlib.import_module(f"finetuner.tuner.{backend.name}")
    names = {name: getattr(native, name) for name in native.__all__}
    names = {**shared_names(EXAMPLES[place]), **names, "tensor": backend.tensor, "train_a_model": train_a_model}
    run(EXAMPLES[place], names, tmp_path, monkeypatch)


@pytest.mark.parametrize("name", ["KerasLoss", "Sampled"])
def test_example_of_keras(backend, name, tmp_path, monkeypatch):
    if backend.name != "keras":
        pytest.skip("a class of Keras")
    native = importlib.import_module("finetuner.tuner.keras")
    names = {**vars(native), "np": np, "tensor": backend.tensor}
    run(getattr(native, name), names, tmp_path, monkeypatch)


@pytest.mark.parametrize(
    "name", sorted({*losses.__all__, *miner.__all__, *poolers.__all__, *data.__all__, *training.__all__} - INTERFACES)
)
def test_every_public_class_has_an_example(name):
    assert ">>>" in inspect.getdoc(getattr(base, name))


@pytest.mark.parametrize("name", sorted(set(evaluation.__all__) - INTERFACES))
def test_every_metric_has_an_example(name):
    thing = getattr(evaluation, name)
    assert not callable(thing) or ">>>" in inspect.getdoc(thing)
