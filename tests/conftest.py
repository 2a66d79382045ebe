from collections import Counter

import pytest

from .backends import BACKENDS, backend_of

PARITY = pytest.StashKey[Counter]()


def pytest_addoption(parser):
    parser.addoption("--backend", choices=BACKENDS, help="run the tests of this backend too, one a process")


def pytest_configure(config):
    config.stash[PARITY] = Counter()


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


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    report = yield
    if call.when == "call" and item.path.name == "test_parity.py" and hasattr(item, "callspec"):
        params = item.callspec.params
        mode = params.get("mode", "full")
        item.config.stash[PARITY][params["name"], mode, report.outcome] += 1
    return report


def pytest_terminal_summary(terminalreporter, config):
    """What exists, and in how many cases it agrees with its reference."""
    counts = config.stash[PARITY]
    if not counts:
        return
    modes = ["eager", "traced", "full"]
    terminalreporter.section(f"parity of {config.getoption('--backend')}: cases passed of cases run")
    terminalreporter.line("".join(f"{word:>16}" if i else f"{word:<24}" for i, word in enumerate(["", *modes])))
    for name in dict.fromkeys(name for name, _, _ in counts):
        cells = [f"{name:<24}"]
        for mode in modes:
            passed, failed = counts[name, mode, "passed"], counts[name, mode, "failed"]
            cells.append(f"{f'{passed} of {passed + failed}' if passed + failed else '-':>16}")
        terminalreporter.line("".join(cells))
    terminalreporter.line(f"{sum(n for key, n in counts.items() if key[2] == 'passed')} cases passed")
