"""The signature of a training stands three times, and the three agree: ``finetuner.fit``, the tuner, the command line."""

import inspect

import pytest

import finetuner
from finetuner.tuner import base

TUNER = dict(inspect.signature(base.Tuner.__init__).parameters)
FIT = dict(inspect.signature(base.Tuner.fit).parameters)
API = dict(inspect.signature(finetuner.fit).parameters)
# What the command line calls an argument, where it is not the same word.
FLAGS = {"train_data": "data", "preprocess_fn": "preprocess", "collate_fn": "collate", "metrics": "metric"}
FLAGS |= {name: name.removesuffix("s") for name in API if name.endswith("_options")}
NOT_ON_THE_COMMAND_LINE = {
    "callbacks",
    "model_options",
    "processes",
}  # --early-stopping, --keep-best and --checkpoint-every; the pooler; the launcher


def shared(parameters):
    return {
        name: p
        for name, p in parameters.items()
        if name not in ("self", "embed_model", "model", "model_options", "adapter")
    }


def test_fit_has_the_arguments_of_the_tuner():
    theirs = shared(TUNER) | shared(FIT)
    assert shared(API).keys() == theirs.keys()
    for name, parameter in shared(API).items():
        assert parameter.default == theirs[name].default, name
        assert documented_type(parameter) == documented_type(theirs[name]), name


def documented_type(parameter):
    return str(parameter.annotation).replace("typing.", "").replace("collections.abc.", "")


@pytest.mark.parametrize("name", ["embed", "evaluate"])
def test_functions_have_the_arguments_of_the_methods(name):
    ours = inspect.signature(getattr(finetuner, name)).parameters
    theirs = inspect.signature(getattr(base.Tuner, name)).parameters
    assert set(ours) - {"model", "device", "distance"} == set(theirs) - {"self"}
    for argument in set(ours) & set(theirs):
        assert ours[argument].default == theirs[argument].default
        assert documented_type(ours[argument]) == documented_type(theirs[argument])


def test_nothing_is_hidden_in_options():
    for function in (finetuner.fit, finetuner.embed, finetuner.evaluate):
        kinds = {parameter.kind for parameter in inspect.signature(function).parameters.values()}
        assert inspect.Parameter.VAR_KEYWORD not in kinds


def test_the_command_line_has_the_arguments_of_fit():
    pytest.importorskip("typer")
    from finetuner.cli.commands import fit

    flags = inspect.signature(fit).parameters
    for name, parameter in API.items():
        if name in NOT_ON_THE_COMMAND_LINE:
            continue
        flag = flags[FLAGS.get(name, name)]
        if parameter.default not in (inspect.Parameter.empty, None):
            assert str(flag.default) == str(parameter.default), name  # text such as 50 or '1 epoch'


@pytest.mark.parametrize("function", [finetuner.fit, finetuner.embed, finetuner.evaluate, base.Tuner, base.Tuner.fit])
def test_every_argument_is_documented(function):
    doc = inspect.getdoc(function)
    for name in inspect.signature(function).parameters:
        if name != "self":
            assert f"\n    {name}: " in doc, name


def test_fit_passes_every_argument_on(monkeypatch):
    received = {}

    class Receiver:
        def __init__(self, model, **options):
            received.update(options)

        def fit(self, train_data, eval_data, preprocess_fn, collate_fn, **options):
            received.update(options, train_data=train_data, eval_data=eval_data)
            received.update(preprocess_fn=preprocess_fn, collate_fn=collate_fn)

    monkeypatch.setattr("finetuner.api.tuner_class", lambda model: Receiver)
    monkeypatch.setattr(
        "finetuner.api.open_model", lambda model, device, *pooler_and_options: (model, *pooler_and_options[:2])
    )
    given = {name: object() for name in API if name != "adapter"}
    finetuner.fit(**given)
    assert received == {
        name: value for name, value in given.items() if name not in ("model", "embed_model", "model_options")
    }


def test_options_are_called_as_their_arguments():
    pytest.importorskip("typer")
    from typer.main import get_command

    from finetuner.cli.commands import app

    for command in get_command(app).commands.values():
        for option in command.params:
            if option.param_type_name != "option":
                continue
            if option.name not in ("help", "show_all", "as_json"):
                assert f"--{option.name.replace('_', '-')}" in [*option.opts, *option.secondary_opts], option.name
            if option.name in ("data", "input_column", "column_names", "metric", "loss_option"):
                assert option.multiple, option.name
