"""The command line of the benchmarks. The tables themselves are not tested."""

import importlib

import pytest

from benchmarks.__main__ import TABLES, parse_arguments


def test_all_tables_by_default():
    assert parse_arguments([]).names == TABLES
    assert parse_arguments(["loop", "--quick"]).names == ["loop"]


def test_unknown_name_is_an_error(capsys):
    with pytest.raises(SystemExit):
        parse_arguments(["lop"])
    assert "name must be one of limits, " in capsys.readouterr().err


@pytest.mark.parametrize("name", TABLES)
def test_each_name_has_a_module(name):
    assert callable(importlib.import_module(f"benchmarks.{name}").tables)
