"""A backend has what the base names: no more, no less, with the same arguments and the same documentation."""

import inspect

import pytest

from finetuner.tuner.base import losses, miner, poolers

from .reference import LOSSES, MINERS, POOLERS

INTERFACES = {"losses": "Loss", "miner": "Miner", "poolers": "Pooler"}
REFERENCES = {"losses": LOSSES, "miner": MINERS, "poolers": POOLERS}
ALIASES = {"TripletMarginLoss": "TripletLoss", "ClipLoss": "CLIPLoss"}
NAMED = [(module.__name__.rpartition(".")[2], name) for module in (losses, miner, poolers) for name in module.__all__]


@pytest.mark.parametrize(("file", "name"), NAMED)
def test_the_backend_adds_tensors_alone(backend, file, name):
    own = getattr(getattr(backend, file), name)
    shared = {"losses": losses, "miner": miner, "poolers": poolers}[file].__dict__[name]
    assert issubclass(own, shared)
    assert inspect.signature(own.__init__) == inspect.signature(shared.__init__)
    assert inspect.getdoc(own) == inspect.getdoc(shared)
    if name != INTERFACES[file]:
        assert ALIASES.get(name, name) in REFERENCES[file]


@pytest.mark.parametrize("file", INTERFACES)
def test_the_backend_has_what_the_base_has(backend, file):
    shared = {"losses": losses, "miner": miner, "poolers": poolers}[file]
    assert sorted(getattr(backend, file).__all__) == sorted(shared.__all__)


@pytest.mark.parametrize(("file", "name"), NAMED)
def test_every_argument_is_documented(file, name):
    cls = {"losses": losses, "miner": miner, "poolers": poolers}[file].__dict__[name]
    doc = inspect.getdoc(cls)
    for argument in list(inspect.signature(cls).parameters):
        assert f"\n    {argument}: " in doc
    if name != INTERFACES[file]:
        assert "Raises:" in doc


def test_an_alias_is_the_thing_itself(backend):
    for alias, name in ALIASES.items():
        assert getattr(backend.losses, alias) is getattr(backend.losses, name)
