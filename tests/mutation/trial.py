"""One mutant against the tests that run its line, in a process forked from one that has imported the framework."""

import contextlib
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections import Counter, defaultdict
from pathlib import Path

from coverage.numbits import numbits_to_nums

from .contexts import FOLDER

COPIED = ("finetuner", "tests", "examples", "benchmarks", "docs", "README.md", "CHANGELOG.md", "pyproject.toml")
COPIED += ("setup.cfg", "tox.ini", "constraints.txt")
CAUGHT, SURVIVED, UNCOVERED, TIMEOUT = "caught", "survived", "not covered", "caught by the time limit"


class Coverage:
    """Which tests run a line, from the files that ``tests.mutation.contexts`` wrote."""

    def __init__(self, folder=FOLDER):
        self.tests = defaultdict(lambda: defaultdict(set))  # path -> line -> tests
        self.seconds = {}
        for path in folder.glob("seconds.*"):
            for row in path.read_text().splitlines():
                seconds, _, test = row.partition("\t")
                self.seconds[test] = float(seconds)
        for path in folder.glob("coverage.*"):
            with contextlib.closing(sqlite3.connect(path)) as database:
                rows = database.execute(
                    "select file.path, context.context, line_bits.numbits from line_bits "
                    "join file on file.id = line_bits.file_id join context on context.id = line_bits.context_id"
                )
                for name, test, bits in rows:
                    name = name[name.rindex("finetuner/") if "/finetuner/tuner" not in name else 0 :]
                    name = "finetuner/" + name.rpartition("/finetuner/")[2].removeprefix("finetuner/")
                    for line in numbits_to_nums(bits) if test else ():
                        self.tests[name][line].add(test)

    def of(self, path, line, budget):
        """Tests of a line, of its file for line 0; one of each function first, up to ``budget`` seconds."""
        lines = self.tests[path]
        tests = lines[line] if line else set().union(*lines.values())
        taken, order = Counter(), []
        for test in sorted(tests, key=self.seconds.__getitem__):
            function = test.partition("[")[0]
            order.append((taken[function], self.seconds[test], test))
            taken[function] += 1
        chosen, spent = [], 0.0
        for _, seconds, test in sorted(order):
            spent += seconds
            if spent > budget and chosen:
                break
            chosen.append(test)
        return chosen


class Tree:
    """A copy of the project in which one file at a time is changed."""

    def __init__(self, root, number):
        self.folder = Path(FOLDER).absolute() / f"tree-{number}"
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir(parents=True)
        for name in COPIED:
            copy = shutil.copytree if (Path(root) / name).is_dir() else shutil.copy
            copy(Path(root) / name, self.folder / name)
        subprocess.run([sys.executable, "-m", "compileall", "-q", self.folder / "finetuner"], check=True)

    @contextlib.contextmanager
    def holding(self, mutant):
        """The mutant in place of its file. No compiled file can be taken for it."""
        path = self.folder / mutant.path
        before = path.read_text()
        for compiled in (path.parent / "__pycache__").glob(f"{path.stem}.*.pyc"):
            compiled.unlink()
        path.write_text(mutant.code)
        try:
            yield
        finally:
            path.write_text(before)


class Chosen:
    """A plugin of pytest: keeps the chosen tests, in their order."""

    def __init__(self, tests):
        self.place = {test: place for place, test in enumerate(tests)}
        self.failed = None

    def pytest_collection_modifyitems(self, items):
        items[:] = sorted((item for item in items if item.nodeid in self.place), key=lambda i: self.place[i.nodeid])

    def pytest_runtest_logreport(self, report):
        if report.failed:
            self.failed = self.failed or report.nodeid

    def pytest_collectreport(self, report):
        if report.failed:
            self.failed = self.failed or report.nodeid


def run_tests(folder, tests, options, log):
    """Run the tests of a tree in this process; write the first that failed into ``log``; return pytest's exit code."""
    import pytest

    os.chdir(folder)
    os.environ["PYTHONPATH"] = str(folder)
    sys.path.insert(0, str(folder))
    sys.dont_write_bytecode = True
    for name in [name for name in sys.modules if name.partition(".")[0] in ("finetuner", "tests")]:
        del sys.modules[name]  # of the checkout, from which this driver runs
    plugin = Chosen(tests)
    files = sorted({test.partition("::")[0] for test in tests})
    output = os.open(os.devnull, os.O_WRONLY)
    os.dup2(output, 1)
    os.dup2(output, 2)
    code = pytest.main(["-x", "-q", "-p", "no:cacheprovider", "-p", "no:xdist", *options, *files], [plugin])
    Path(log).write_text(plugin.failed or "")
    return int(code)


def try_mutant(tree, mutant, tests, options, limit):
    """(what became of the mutant, the test that caught it, seconds)."""
    if not tests:
        return UNCOVERED, "", 0.0
    start = time.perf_counter()
    with tree.holding(mutant), tempfile.NamedTemporaryFile() as log:
        child = os.fork()
        if not child:
            code = 70
            try:
                os.setsid()
                code = run_tests(tree.folder, tests, options, log.name)
            finally:
                os._exit(code)
        code = wait(child, limit)
        test = Path(log.name).read_text()
    if code is None:
        return TIMEOUT, "", time.perf_counter() - start
    return (SURVIVED if code in (0, 5) else CAUGHT), test, time.perf_counter() - start


def wait(child, limit):
    """The exit code of a child, or None if it is killed after ``limit`` seconds."""
    end = time.monotonic() + limit
    while time.monotonic() < end:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(child, signal.SIGKILL)  # what it has left behind
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.05)
    os.killpg(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return None
