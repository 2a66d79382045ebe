import os
from pathlib import Path

import pytest

from .backends import BACKENDS, backend_of
from .table import Table

for cache in ("FX_GRAPH", "AUTOGRAD"):
    os.environ[f"TORCHINDUCTOR_{cache}_CACHE"] = "0"  # what was compiled before does not warn again

TABLE = pytest.StashKey[Table]()


def pytest_addoption(parser):
    parser.addoption("--backend", choices=BACKENDS, help="run the tests of this backend too, one a process")
    parser.addoption("--rows-per-block", type=int, metavar="N", help="have losses take so many rows at a time")
    parser.addoption("--full-grid", action="store_true", help="run every case of the parity suite, see covering.py")
    parser.addoption("--thin-grid", action="store_true", help="thin out the eager cases of PyTorch too")
    parser.addoption("--parity-table", metavar="FILE", help="keep the counts of all backends there, in one table")


def pytest_configure(config):
    backend, path, full = map(config.getoption, ("--backend", "--parity-table", "--full-grid"))
    if path and full:
        path = Path(path).with_stem(f"{Path(path).stem}-full")  # not mixed with the counts of a thinned grid
    table = config.stash[TABLE] = Table(backend, path)
    config.pluginmanager.register(Counting(table))


class Counting:
    """Counts the cases of the parity suite, where workers report to."""

    def __init__(self, table):
        self.table = table

    def pytest_runtest_logreport(self, report):
        if report.when == "call" and not report.skipped:
            for name, value in report.user_properties:
                if name == "parity":
                    self.table.add(*value, report.outcome)


@pytest.fixture(scope="session", autouse=True)
def rows_per_block(request):
    """Blocks of as many rows as the command line says, in place of what a cache holds."""
    with pytest.MonkeyPatch.context() as patch:
        rows = request.config.getoption("--rows-per-block")
        if rows is not None:
            patch.setattr("finetuner.tuner.base.losses.blocks.rows_per_block", lambda *_: rows)
        yield rows


@pytest.fixture(scope="session")
def backend(request):
    name = request.config.getoption("--backend")
    return backend_of(name) if name else pytest.skip("no --backend given")


@pytest.fixture
def tables():
    """Skips where tables cannot be read."""
    pytest.importorskip("datasets")


@pytest.fixture
def pillow():
    """Pillow's ``Image``; skips where there is none."""
    return pytest.importorskip("PIL.Image")


@pytest.fixture(autouse=True)
def counted(request, record_property):
    if request.path.name == "test_parity.py" and hasattr(request.node, "callspec"):
        params = request.node.callspec.params
        record_property("parity", (params["name"], params.get("mode", "full")))


def pytest_terminal_summary(terminalreporter, config):
    table = config.stash[TABLE]
    if table.counts and not hasattr(config, "workerinput"):
        grid = "on the full grid" if config.getoption("--full-grid") else "on a thinned grid"
        terminalreporter.section(f"parity of {table.engine} {grid}: cases passed of cases run")
        for line in table.lines():
            terminalreporter.line(line)
