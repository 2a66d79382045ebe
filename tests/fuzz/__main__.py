"""Runs random cases of all kinds, and prints what became of them.

    python -m tests.fuzz pytorch --cases 10000 --seed 0
    python -m tests.fuzz pytorch --seed 0 --number 1234

Each case is drawn from its seed and number, so ``--number`` repeats one, with a traceback. A case is compared with a
reference, or runs and gives finite numbers, or is refused by an error of the library in one line. All else is a
failure: a wrong number, a foreign exception, a crash of the interpreter, a case that does not end. The cases run in a
process of their own, which is replaced after a crash. Exit code 1 if there are failures.
"""

import argparse
import collections
import json
import os
import re
import select
import shutil
import signal
import sys
import tempfile
import time
import traceback
import warnings
from pathlib import Path

import numpy as np

from ..backends import BACKENDS, backend_of

SHARES = {
    "batch loss": 40,
    "row loss": 17,
    "miner": 10,
    "pooler": 6,
    "metrics": 8,
    "sampler": 8,
    "tuner": 4,
    "run": 4,
    "table": 3,
}
SHOWN = 3  # failures of one kind that are printed in full
START = 240  # seconds that a process may take to import its framework and run its first case


def draw(seed, number):
    """The kind of a case, and the generator of its inputs."""
    rng = np.random.default_rng([seed, number])
    names = list(SHARES)
    return names[np.searchsorted(np.cumsum(list(SHARES.values())), rng.integers(sum(SHARES.values())), "right")], rng


def kinds():
    """The functions of all kinds by name. They import the library, so only processes with a backend call this."""
    from . import losses, metrics, runs, samplers, tables, tuners

    modules = (losses, metrics, runs, samplers, tables, tuners)
    return {name: function for module in modules for name, function in module.KINDS.items()}


def run_case(functions, backend, seed, number, folder):
    """The outcome of a case, and a line if it is a refusal or a failure."""
    kind, rng = draw(seed, number)
    from .outcome import LAST_REFUSAL, REFUSED, Failure, one_line

    try:
        outcome = functions[kind](rng, backend, folder)
        return outcome, LAST_REFUSAL[0] if outcome == REFUSED else ""
    except Exception as error:
        if isinstance(error, Failure):
            return "failed", one_line(error, 700)
        last = traceback.extract_tb(error.__traceback__)[-1]
        return "failed", f"{one_line(error, 400)}, at {last.filename}:{last.lineno}"


def work(name, seed, numbers, folder, pipe):
    """Run cases, and write a line to the pipe before and after each."""
    warnings.simplefilter("ignore")
    np.seterr(all="ignore")
    with os.fdopen(pipe, "w", buffering=1) as out:
        backend = backend_of(name)
        functions = kinds()
        for number in numbers:
            out.write(json.dumps([number]) + "\n")
            outcome, line = run_case(functions, backend, seed, number, folder)
            out.write(json.dumps([number, outcome, line]) + "\n")


def start(name, seed, numbers, folder):
    """A process that runs cases. Returns its id, and the file to read from."""
    read, write = os.pipe()
    process = os.fork()
    if process == 0:
        os.close(read)
        code = 1
        try:
            work(name, seed, numbers, folder, write)
            code = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(code)
    os.close(write)
    return process, read


def lines_of(read, seconds_of):
    """The lines of a process, until its end. None if it gives no line within the time."""
    rest = b""
    while True:
        if not select.select([read], [], [], seconds_of())[0]:
            yield None
            return
        content = os.read(read, 1 << 16)
        if not content:
            return
        *lines, rest = (rest + content).split(b"\n")
        yield from map(json.loads, lines)


def run_all(arguments, numbers, folder):
    """Yield number, outcome and line of all cases."""
    began = time.time()
    while numbers and time.time() - began < arguments.seconds:
        process, read = start(arguments.backend, arguments.seed, numbers, folder)
        current, is_first, hangs, late = None, True, False, False
        for line in lines_of(read, lambda: START if is_first else arguments.limit):  # noqa: B023
            if line is None:
                hangs = True
                break
            if len(line) == 1:
                current = line[0]
                continue
            is_first, current = False, None
            numbers = numbers[numbers.index(line[0]) + 1 :]
            yield line
            if late := time.time() - began > arguments.seconds:
                break
        os.close(read)
        if hangs or late:
            os.kill(process, signal.SIGKILL)
        status = os.waitpid(process, 0)[1]
        if current is None and not late and (hangs or status):
            sys.exit(f"the process ended before a case, with status {status}")
        if current is not None and not late:
            numbers = numbers[numbers.index(current) + 1 :]
            yield current, "failed", "does not end" if hangs else f"the interpreter ended with status {status}"


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("backend", choices=BACKENDS)
    parser.add_argument("--cases", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--first", type=int, default=0, help="the number of the first case")
    parser.add_argument("--kinds", nargs="+", choices=SHARES, help="only cases of these kinds")
    parser.add_argument("--seconds", type=float, default=float("inf"), help="stop after this time")
    parser.add_argument("--limit", type=float, default=90, help="seconds that a case may take")
    parser.add_argument("--refusals", action="store_true", help="print the messages of refusals with their counts")
    parser.add_argument("--number", type=int, help="run this case only, with a traceback")
    arguments = parser.parse_args()
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    folder = Path(tempfile.mkdtemp())
    try:
        if arguments.number is not None:
            backend = backend_of(arguments.backend)
            kind, rng = draw(arguments.seed, arguments.number)
            print(kind, kinds()[kind](rng, backend, folder))
            return
        numbers = range(arguments.first, arguments.first + arguments.cases)
        numbers = [i for i in numbers if arguments.kinds is None or draw(arguments.seed, i)[0] in arguments.kinds]
        counts, failures = collections.defaultdict(collections.Counter), collections.defaultdict(list)
        began = time.time()
        messages = collections.Counter()
        for number, outcome, line in run_all(arguments, numbers, folder):
            kind = draw(arguments.seed, number)[0]
            counts[kind][outcome] += 1
            if outcome == "refused":
                messages[f"{kind}: {re.sub(r'[0-9.]+', '#', line)[:150]}"] += 1
            if outcome == "failed":
                key = f"{kind}: {re.sub(r'[0-9.]+', '#', line.rpartition(': ')[2])}"
                failures[key].append(number)
                if len(failures[key]) <= SHOWN:
                    print(f"seed {arguments.seed} number {number}, {kind}: {line}", flush=True)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    for key, those in failures.items():
        if len(those) > SHOWN:
            print(f"{len(those)} failures of {key}: numbers {those[:20]}")
    for message, count in messages.most_common() if arguments.refusals else ():
        print(f"{count:>6} {message}")
    outcomes = ("compared", "ran", "refused", "failed")
    print(f"{arguments.backend}, seed {arguments.seed}, {time.time() - began:.0f} s")
    print("".join(f"{word:>12}" for word in ("kind", "cases", *outcomes)))
    counts["all"] = sum(counts.values(), collections.Counter())
    for kind in (*SHARES, "all"):
        if counts[kind]:
            row = (kind, counts[kind].total(), *(counts[kind][outcome] for outcome in outcomes))
            print("".join(f"{value:>12}" for value in row))
    sys.exit(bool(failures))


if __name__ == "__main__":
    main()
