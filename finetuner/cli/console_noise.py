"""Suppresses messages of the frameworks that do not concern the user, such as those printed during an import.

Only the program does this. As a library, finetuner leaves logging to its user. A user who sets one of the variables
below still gets the messages of that framework.

The import hook of this module also isolates Paddle if a user's file imports TensorFlow before it, which would crash
Python. The library does this for its own imports only.
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

VARIABLES = {"TF_CPP_MIN_LOG_LEVEL": "3", "GLOG_minloglevel": "2"}  # of TensorFlow and Paddle: errors only
NOISY_MODULES = {"tensorflow": "TF_CPP_MIN_LOG_LEVEL", "paddle": "GLOG_minloglevel"}  # they print in spite of it
NOISE = re.compile(
    r"\s*$|WARNING: All log messages before absl::InitializeLog|[IWE]\d{4} \d\d:\d\d:|To enable the following instr"
    r"|WARNING: OMP_NUM_THREADS set to|PLEASE USE OMP_NUM_THREADS WISELY"  # Paddle, if the number is not 1
)
WARNINGS = (
    "No ccache found",  # Paddle, during its import
    "When training, we now always track global mean and variance",  # Paddle, for any batch norm
)


def silence_frameworks() -> None:
    """Make the frameworks print errors only. Call it before any of them is imported."""
    set_by_user = {module for module, variable in NOISY_MODULES.items() if variable in os.environ}
    for variable, level in VARIABLES.items():
        os.environ.setdefault(variable, level)
    if "tensorflow" not in set_by_user:
        logging.getLogger("tensorflow").setLevel(logging.ERROR)
    sys.meta_path.insert(0, QuietImporter(NOISY_MODULES.keys() - set_by_user))


def ignore_framework_warnings() -> None:
    """Ignore warnings of the frameworks that a user of the program cannot act on."""
    for message in WARNINGS:
        warnings.filterwarnings("ignore", message=message, category=UserWarning)


class QuietImporter(importlib.abc.MetaPathFinder):
    """An import hook that wraps the loaders of TensorFlow and Paddle. It finds no modules of its own.

    Args:
        quiet: Names of the modules that are loaded without noise. Paddle is always isolated from TensorFlow.
    """

    def __init__(self, quiet: set[str]):
        self.quiet = quiet

    def find_spec(self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None) -> Any:
        """Return what the other finders find, with its loader wrapped."""
        if name not in NOISY_MODULES:
            return None
        found = (finder.find_spec(name, path, target) for finder in sys.meta_path if finder is not self)
        spec: Any = next((spec for spec in found if spec is not None), None)
        if spec is not None and spec.loader is not None:
            spec.loader.exec_module = self.wrap_loader(name, spec.loader.exec_module)
        return spec

    def wrap_loader(self, name: str, load: Callable[[ModuleType], None]) -> Callable[[ModuleType], None]:
        """Wrap ``load`` in the contexts that the module ``name`` needs."""

        def quiet_load(module: ModuleType) -> None:
            with ExitStack() as stack:
                if name in self.quiet:
                    stack.enter_context(filter_stderr())
                    stack.enter_context(preserve_root_logger())
                if name == "paddle":
                    stack.enter_context(isolate_paddle())
                load(module)

        return quiet_load


@contextmanager
def preserve_root_logger() -> Iterator[None]:
    """Restore the root logger at the end. Paddle's import makes it print the debug messages of all libraries."""
    root = logging.getLogger()
    before = root.level, root.handlers[:]
    try:
        yield
    finally:
        root.level, root.handlers[:] = before


@contextmanager
def filter_stderr() -> Iterator[None]:
    """Capture standard error, of C libraries too, and print it at the end without noise; all of it after an error."""
    sys.stderr.flush()
    with tempfile.TemporaryFile() as captured:
        stderr = os.dup(2)
        os.dup2(captured.fileno(), 2)
        failed = False
        try:
            yield
        except BaseException:
            failed = True
            raise
        finally:
            sys.stderr.flush()
            os.dup2(stderr, 2)
            os.close(stderr)
            captured.seek(0)
            for line in captured.read().decode(errors="replace").splitlines(keepends=True):
                if failed or not NOISE.match(line):
                    sys.stderr.write(line)
