"""Startup times of imports and of the command line, each in a new process."""

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from .harness import Times, times
from .report import Table

__all__ = ["build", "tables"]

IMPORTS = {
    "nothing": "pass",
    "numpy": "import numpy",
    "finetuner": "import finetuner",
    "finetuner.ClassDataset": "from finetuner import ClassDataset",
    "finetuner.fit": "from finetuner import fit",
    "finetuner.evaluation": "import finetuner.evaluation",
}
COMMANDS = {
    "--help": ["--help"],
    "--version": ["--version"],
    "fit --help": ["fit", "--help"],
    "an unknown command": ["fitt"],
    "an unknown option": ["fit", "--dat", "x"],
    "a missing file": ["embed", "--data", "absent.csv", "--model", "absent.py:make", "--output", "absent.npz"],
}
GOAL = 0.3  # seconds per command
MARGIN = 0.05  # seconds per import, in addition to the import of numpy


def build(contender: str) -> Callable[[], None]:
    """Run Python with the import or the command of the contender, and wait until it exits."""
    if contender in IMPORTS:
        command, expected = ["-c", IMPORTS[contender]], {0}
    else:
        command, expected = ["-m", "finetuner", *COMMANDS[contender]], {0} if "-" in contender else {1, 2}

    def run() -> None:
        process = subprocess.run(
            [sys.executable, *command], capture_output=True, text=True, cwd=Path(__file__).parents[1]
        )
        if process.returncode not in expected:
            raise AssertionError(f"{command} exited with {process.returncode}: {process.stderr}")

    return run


def tables(quick: bool) -> Iterator[Table]:
    """Imports, compared with the import of numpy, and the command line."""
    at_least = 4 if quick else 30
    measured = times("starting", list(IMPORTS), at_least=at_least)
    yield Table(
        "Import times",
        ["import", "time", "more than numpy, medians", "more than numpy, fastest", "within 50 ms"],
        [[name, measured[name], *extra_time(measured[name], measured["numpy"])] for name in IMPORTS],
        "New processes in turn. Goal: `import finetuner` takes at most 50 ms more than `import numpy`.",
    )
    measured = times("starting", list(COMMANDS), at_least=at_least)
    yield Table(
        "The command line",
        ["finetuner ...", "time", "relative to 0.3 s", "under 0.3 s"],
        [[name, t, f"{t.median / GOAL:.2f}", "yes" if t.median < GOAL else "no"] for name, t in measured.items()],
        "`python -m finetuner ...` in new processes in turn. Goal: under 0.3 s, including the start of Python.",
    )


def extra_time(ours: Times, numpy: Times) -> list[Any]:
    """Milliseconds more than numpy, by median and minimum, and whether the median is within the margin."""
    extra = ours.median - numpy.median
    return [f"{extra * 1e3:+.0f} ms", f"{(ours.low - numpy.low) * 1e3:+.0f} ms", "yes" if extra < MARGIN else "no"]
