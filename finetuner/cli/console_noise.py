"""Leaves the terminal to the result: frameworks tell of themselves while they load, and of matters of their own.

Only the program does this, and not the library, whose user has a say in it. Whoever sets one of the variables
hears what it asks for.

It also keeps Paddle apart from a TensorFlow that a user's file has imported before it, which would crash Python;
the library does so for the imports of its own.
"""

import importlib.abc
import logging
import os
import re
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from types import ModuleType
from typing import Any

from ..tuner._paddle_import import isolate_paddle

__all__ = ["ignore_framework_warnings", "silence_frameworks"]

VARIABLES = {"TF_CPP_MIN_LOG_LEVEL": "3", "GLOG_minloglevel": "2"}  # of TensorFlow, of Paddle
LOUD = {"tensorflow": "TF_CPP_MIN_LOG_LEVEL", "paddle": "GLOG_minloglevel"}  # modules that print past these, too
CHATTER = re.compile(
    r"\s*$|WARNING: All log messages before absl::InitializeLog|[IWE]\d{4} \d\d:\d\d:|To enable the following instr"
    r"|WARNING: OMP_NUM_THREADS set to|PLEASE USE OMP_NUM_THREADS WISELY"  # Paddle, of any number but 1
)
WARNINGS = (
    "No ccache found",  # Paddle, when it is imported
    "When training, we now always track global mean and variance",  # Paddle, of any batch norm
)


def silence_frameworks() -> None:
    """Have the frameworks, none of which is loaded yet, tell of errors alone."""
    asked = {module for module, variable in LOUD.items() if variable in os.environ}
    for variable, level in VARIABLES.items():
        os.environ.setdefault(variable, level)
    if "tensorflow" not in asked:
        logging.getLogger("tensorflow").setLevel(logging.ERROR)
    sys.meta_path.insert(0, QuietImporter(LOUD.keys() - asked))


def ignore_framework_warnings() -> None:
    """Ignore warnings that a user of the program can do nothing about."""
    for message in WARNINGS:
        warnings.filterwarnings("ignore", message=message, category=UserWarning)


class QuietImporter(importlib.abc.MetaPathFinder):
    """Finds nothing itself, but sees to it that ``quiet`` modules are loaded without chatter, and Paddle apart."""

    def __init__(self, quiet: set[str]):
        self.quiet = quiet

    def find_spec(self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None) -> Any:
        """What the other finders find, with a loader of ours around theirs."""
        if name not in LOUD:
            return None
        found = (finder.find_spec(name, path, target) for finder in sys.meta_path if finder is not self)
        spec: Any = next((spec for spec in found if spec is not None), None)
        if spec is not None and spec.loader is not None:
            spec.loader.exec_module = self.loading(name, spec.loader.exec_module)
        return spec

    def loading(self, name: str, load: Callable[[ModuleType], None]) -> Callable[[ModuleType], None]:
        """``load``, with what this module needs around it."""

        def loaded(module: ModuleType) -> None:
            with ExitStack() as stack:
                if name in self.quiet:
                    stack.enter_context(captured())
                    stack.enter_context(logging_as_it_was())
                if name == "paddle":
                    stack.enter_context(isolate_paddle())
                load(module)

        return loaded


@contextmanager
def logging_as_it_was() -> Iterator[None]:
    """Leaves the root logger alone; Paddle would have all libraries tell of all they do."""
    root = logging.getLogger()
    before = root.level, root.handlers[:]
    try:
        yield
    finally:
        root.level, root.handlers[:] = before


@contextmanager
def captured() -> Iterator[None]:
    """Holds the standard error back, of libraries in C too; all of it comes out after an error."""
    sys.stderr.flush()
    with tempfile.TemporaryFile() as held:
        stderr = os.dup(2)
        os.dup2(held.fileno(), 2)
        keep = False
        try:
            yield
        except BaseException:
            keep = True
            raise
        finally:
            sys.stderr.flush()
            os.dup2(stderr, 2)
            os.close(stderr)
            held.seek(0)
            for line in held.read().decode(errors="replace").splitlines(keepends=True):
                if keep or not CHATTER.match(line):
                    sys.stderr.write(line)
