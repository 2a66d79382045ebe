import pytest

from .backends import BACKENDS


def pytest_addoption(parser):
    parser.addoption("--backend", choices=BACKENDS, help="run the tests of this backend too, one a process")


@pytest.fixture(scope="session")
def backend(request):
    name = request.config.getoption("--backend")
    return BACKENDS[name]() if name else pytest.skip("no --backend given")
