"""How everything here is measured: in processes of their own, contenders in turn, medians with their spread."""

import gc
import importlib
import json
import os
import resource
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

__all__ = ["Times", "exponent", "peak", "times"]

THREADS = int(os.environ.get("FINETUNER_BENCHMARK_THREADS", 0)) or len(os.sched_getaffinity(0))
MEMORY = 18 * 2**30  # what a contender may take before it counts as out of memory
TIMEOUT = 1800  # seconds for one process
SLOW = 15  # seconds, from which on the first run counts, and is the only one


@dataclass
class Times:
    """Seconds of one contender: the median of its runs, and the fastest and slowest of them."""

    median: float
    low: float
    high: float
    runs: int

    def __str__(self) -> str:
        return f"{seconds(self.median)} ({seconds(self.low)} to {seconds(self.high)})"


def seconds(value: float) -> str:
    """A time with three digits and its unit."""
    for unit, size in (("s", 1.0), ("ms", 1e-3), ("us", 1e-6)):
        if value >= size or unit == "us":
            return f"{value / size:.3g} {unit}"
    raise AssertionError


def times(module: str, contenders: list[str], at_least: float = 2.0, environment: Any = None, **case: Any) -> Any:
    """Measure contenders against each other: the :class:`Times` of each, or why there are none, by name.

    Args:
        module: of this package; its ``build(contender, **case)`` returns what is to be timed, without arguments, or
            raises ``ImportError`` where a peer is not installed.
        contenders: names; they take turns in one process, so that all of them see the same machine.
        at_least: seconds that they are run for together, and each of them at least three times; one that takes longer
            than :data:`SLOW` runs once.
        environment: variables of the process, such as Keras' engine.
        case: arguments of ``build``.
    """
    found = spawned("time", module, contenders, case, environment, at_least)
    return {name: Times(**value) if isinstance(value, dict) else value for name, value in found.items()}


def peak(module: str, contender: str, environment: Any = None, **case: Any) -> Any:
    """Bytes that one run takes at its peak above what was there before it, in a fresh process; or why it failed.

    Where the module has a ``warm_up`` it goes first, so that a library's own first-time costs do not count.
    """
    return spawned("peak", module, [contender], case, environment, 0)[contender]


def spawned(task: str, module: str, contenders: list[str], case: Any, environment: Any, at_least: float) -> Any:
    """Run this file in a fresh process and read what it prints."""
    given = json.dumps([task, module, contenders, case, at_least])
    threads = dict.fromkeys(("OMP_NUM_THREADS", "TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS"), str(THREADS))
    quiet = {"TF_CPP_MIN_LOG_LEVEL": "3", "GLOG_minloglevel": "2"}
    try:
        done = subprocess.run(
            [sys.executable, "-m", "benchmarks.harness", given],
            env={**os.environ, **threads, **quiet, **(environment or {})},
            cwd=Path(__file__).parents[1],
            capture_output=True,
            text=True,
            timeout=TIMEOUT,
        )
    except subprocess.TimeoutExpired:
        return dict.fromkeys(contenders, f"more than {TIMEOUT} s")
    if done.returncode in (-9, 137):
        return dict.fromkeys(contenders, "out of memory")
    if done.returncode:
        raise RuntimeError(f"{given} failed:\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def exponent(sizes: list[float], costs: list[float]) -> float:
    """The k of ``cost ~ size^k`` that fits best, on logarithms."""
    return float(np.polyfit(np.log(sizes), np.log(costs), 1)[0])


def attempt(call: Any) -> str | None:
    """Run ``call``; why it could not be, in a word, or None."""
    try:
        call()
    except ImportError as error:
        return f"not installed ({error.name})"
    except MemoryError:
        return "out of memory"
    except RuntimeError as error:
        if "alloc" not in str(error).lower() and "memory" not in str(error).lower():
            raise
        return "out of memory"
    return None


def time_contenders(module: Any, contenders: list[str], case: Any, at_least: float) -> dict[str, Any]:
    """Each contender once to warm up, and then all of them in turn, but for those that are slow."""
    calls: dict[str, Any] = {}
    found: dict[str, Any] = {}
    runs: dict[str, list[float]] = {}
    for name in contenders:

        def first(name: str = name) -> None:
            calls[name] = module.build(name, **case)
            begun = time.perf_counter()
            calls[name]()
            runs[name] = [time.perf_counter() - begun]

        failure = attempt(first)
        if failure:
            found[name] = failure
            calls.pop(name, None)
        elif runs[name][0] > SLOW:
            calls.pop(name)
        else:
            runs[name] = []
        gc.collect()
    started = time.perf_counter()
    turn = list(calls)
    while calls and (time.perf_counter() - started < at_least or min(map(len, map(runs.get, calls))) < 3):
        for name in turn:
            if max(runs[name], default=0) < 1:
                calls[name]()  # the one before has taken the cache, and memory it gave back has to be had again
            begun = time.perf_counter()
            calls[name]()
            runs[name].append(time.perf_counter() - begun)
        turn = [*turn[1:], *turn[:1]]  # so that none always follows the same
    for name, taken in runs.items():
        found[name] = {"median": median(taken), "low": min(taken), "high": max(taken), "runs": len(taken)}
    return found


def peak_of(module: Any, contender: str, case: Any) -> int | str:
    """The rise of resident memory while one contender runs once."""
    call = None

    def build() -> None:
        nonlocal call
        call = module.build(contender, **case)
        if hasattr(module, "warm_up"):
            module.warm_up(contender, **case)

    failure = attempt(build)
    if failure:
        return failure
    gc.collect()
    Path("/proc/self/clear_refs").write_text("5")  # the high-water mark starts anew
    before = status("VmRSS")
    return attempt(call) or status("VmHWM") - before


def status(field: str) -> int:
    """Bytes of a field of ``/proc/self/status``."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(field + ":"):
            return int(line.split()[1]) * 1024
    raise KeyError(field)


def main() -> None:
    """The other end of :func:`spawned`."""
    task, name, contenders, case, at_least = json.loads(sys.argv[1])
    resource.setrlimit(resource.RLIMIT_DATA, (MEMORY, resource.RLIM_INFINITY))
    module = importlib.import_module(f"benchmarks.{name}")
    if task == "time":
        found = time_contenders(module, contenders, case, at_least)
    else:
        found = {contenders[0]: peak_of(module, contenders[0], case)}
    print(json.dumps(found))


if __name__ == "__main__":
    main()
