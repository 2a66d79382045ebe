"""The command line of the benchmarks; what they print is read by people."""

import importlib

import pytest

from benchmarks.__main__ import TABLES, parsed


def test_all_tables_are_printed_unless_some_are_named():
    assert parsed([]).names == TABLES
    assert parsed(["loop", "--quick"]).names == ["loop"]


def test_a_name_that_is_none_is_told(capsys):
    with pytest.raises(SystemExit):
        parsed(["lop"])
    assert "name must be one of triplets, " in capsys.readouterr().err


@pytest.mark.parametrize("name", TABLES)
def test_there_is_a_module_for_each_name(name):
    assert callable(importlib.import_module(f"benchmarks.{name}").tables)
