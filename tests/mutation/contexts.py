"""A plugin of pytest that records which test runs which line: one coverage context for each test."""

import os
import time
from pathlib import Path

import coverage
import pytest

FOLDER = Path(os.environ.get("FINETUNER_MUTATION", ".mutation"))


class Contexts:
    """Measures the library while the tests run, and the seconds of each test."""

    def __init__(self, worker):
        FOLDER.mkdir(exist_ok=True)
        self.seconds = (FOLDER / f"seconds.{worker}").open("w")
        self.coverage = coverage.Coverage(
            data_file=FOLDER / "coverage", data_suffix=worker, source=["finetuner"], branch=False, config_file=False
        )

    def pytest_sessionstart(self):
        self.coverage.start()

    @pytest.hookimpl(hookwrapper=True)
    def pytest_runtest_protocol(self, item):
        self.coverage.switch_context(item.nodeid)
        start = time.perf_counter()
        yield
        self.seconds.write(f"{time.perf_counter() - start:.4f}\t{item.nodeid}\n")
        self.coverage.switch_context("")

    def pytest_sessionfinish(self):
        self.coverage.stop()
        self.coverage.save()
        self.seconds.close()


def pytest_configure(config):
    if not hasattr(config, "workerinput") and config.getoption("numprocesses", None):
        return  # the process that hands out the tests
    worker = config.workerinput["workerid"] if hasattr(config, "workerinput") else "main"
    config.pluginmanager.register(Contexts(worker))
