"""Changes the library at random, one place at a time, and counts the changes that no test notices.

    pytest -n 2 --backend pytorch -p tests.mutation.contexts tests    # once: which test runs which line
    python -m tests.mutation --mutants 400 --seed 0

Needs mutmut (its operators) and coverage. Each mutant is tried against the tests that run its line, at most
``--budget`` seconds of them, so that a survivor may still be caught by a test that is not run. Text for people (messages,
docstrings, help) is not changed. The results are in ``.mutation/results.jsonl``, and mutants that are there are not
tried again. Leave out the tests that look at the source, such as ``test_alike.py``, when the coverage is measured.
"""

import argparse
import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

from .contexts import FOLDER
from .mutants import SOURCES, draw
from .trial import CAUGHT, TIMEOUT, Coverage, Tree, try_mutant

OPTIONS = ["--backend", "pytorch"]


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--mutants", type=int, default=400)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--budget", type=float, default=30, help="seconds of tests for a mutant")
    parser.add_argument("--limit", type=float, default=300, help="seconds after which a mutant counts as caught")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--sources", nargs="*", default=SOURCES, help="globs of the files to change")
    parser.add_argument("--again", action="store_true", help="try those that survived again, such as with more tests")
    parser.add_argument("--worker", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    results = FOLDER / "results.jsonl"
    if options.worker is None:
        command = [sys.executable, "-m", "tests.mutation", *(sys.argv[1:] if arguments is None else arguments)]
        workers = [subprocess.Popen([*command, "--worker", str(k)]) for k in range(options.workers)]
        failed = [worker.wait() for worker in workers]
        report(results)
        return max(failed)
    for name in ("torch", "pytest", "typer", "rich", "safetensors.torch"):  # slow to import, and not what is tested
        __import__(name)
    import torch

    torch.set_num_threads(1)
    done = {number for number, row in rows_of(results).items() if not options.again or is_caught(row)}
    coverage, tree = Coverage(), Tree(".", options.worker)
    for number, mutant in enumerate(draw(options.mutants, options.seed, sources=options.sources)):
        if number % options.workers != options.worker or number in done:
            continue
        tests = coverage.of(mutant.path, mutant.run, options.budget)
        outcome, test, seconds = try_mutant(tree, mutant, tests, OPTIONS, options.limit)
        row = {"number": number, "outcome": outcome, "mutant": str(mutant), "test": test}
        row |= {"tests": len(tests), "seconds": round(seconds, 1)}
        with results.open("a") as file:
            file.write(json.dumps(row) + "\n")
    return 0


def rows_of(path):
    """The last result of each mutant, by its number."""
    lines = Path(path).read_text().splitlines() if Path(path).exists() else []
    return {row["number"]: row for row in sorted(map(json.loads, lines), key=lambda row: row["number"])}


def is_caught(row):
    """Whether a test noticed the mutant."""
    return row["outcome"] in (CAUGHT, TIMEOUT)


def report(path):
    """Print the counts and the survivors."""
    rows = list(rows_of(path).values())
    counts = Counter(row["outcome"] for row in rows)
    caught = sum(map(is_caught, rows))
    for row in rows:
        if not is_caught(row):
            print(f"{row['number']:4}  {row['outcome']:12}  {row['mutant']}")
    print(f"{len(rows)} mutants: {', '.join(f'{count} {what}' for what, count in counts.most_common())}")
    print(f"caught: {caught / max(1, len(rows)):.1%}")


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    sys.exit(main())
