"""Measurement of time and memory, in separate processes and with the contenders in turn."""

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
MEMORY = 18 * 2**30  # bytes per process; above it, a contender is out of memory
TIMEOUT = 1800  # seconds for one process
SLOW = 15  # seconds; a contender that takes longer runs only once


@dataclass
class Times:
    """Run times of one contender in seconds: the median, the fastest and the slowest."""

    median: float
    low: float
    high: float
    runs: int

    def __str__(self) -> str:
        return f"{seconds(self.median)} ({seconds(self.low)} to {seconds(self.high)})"


def seconds(value: float) -> str:
    """A time with three digits and a unit."""
    for unit, size in (("s", 1.0), ("ms", 1e-3), ("us", 1e-6)):
        if value >= size or unit == "us":
            return f"{value / size:.3g} {unit}"
    raise AssertionError


def times(module: str, contenders: list[str], at_least: float = 2.0, environment: Any = None, **case: Any) -> Any:
    """Measure the run times of several contenders.

    Args:
        module: A module of this package. Its ``build(contender, **case)`` returns a function without arguments, which
            is timed, or raises ``ImportError`` if a library is not installed.
        contenders: Their names. They run in turn in one process, so that other load affects all of them.
        at_least: Seconds of all runs together. Each contender also runs at least three times, or only once if it takes
            longer than :data:`SLOW`.
        environment: Environment variables of the process, such as the Keras engine.
        case: Arguments of ``build``.

    Returns:
        The :class:`Times` of each contender by name, or a text that says why it could not be measured.
    """
    results = run_process("time", module, contenders, case, environment, at_least)
    return {name: Times(**value) if isinstance(value, dict) else value for name, value in results.items()}


def peak(module: str, contender: str, environment: Any = None, **case: Any) -> Any:
    """Measure the peak memory of one run in a new process, in bytes above the memory before the run.

    If the module has a function ``warm_up``, it runs first, so that one-time costs of a library do not count. If the
    run fails, a text says why.
    """
    return run_process("peak", module, [contender], case, environment, 0)[contender]


def run_process(task: str, module: str, contenders: list[str], case: Any, environment: Any, at_least: float) -> Any:
    """Run :func:`main` in a new process and return the result that it prints."""
    request = json.dumps([task, module, contenders, case, at_least])
    threads = dict.fromkeys(("OMP_NUM_THREADS", "TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS"), str(THREADS))
    quiet = {"TF_CPP_MIN_LOG_LEVEL": "3", "GLOG_minloglevel": "2"}
    try:
        process = subprocess.run(
            [sys.executable, "-m", "benchmarks.harness", request],
            env={**os.environ, **threads, **quiet, **(environment or {})},
            cwd=Path(__file__).parents[1],
            capture_output=True,
            text=True,
            timeout=TIMEOUT,
        )
    except subprocess.TimeoutExpired:
        return dict.fromkeys(contenders, f"more than {TIMEOUT} s")
    if process.returncode in (-9, 137):
        return dict.fromkeys(contenders, "out of memory")
    if process.returncode:
        raise RuntimeError(f"{request} failed:\n{process.stdout[-2000:]}\n{process.stderr[-4000:]}")
    return json.loads(process.stdout.splitlines()[-1])


def exponent(sizes: list[float], costs: list[float]) -> float:
    """The exponent k of ``cost ~ size^k``, by least squares on the logarithms."""
    return float(np.polyfit(np.log(sizes), np.log(costs), 1)[0])


def attempt(call: Any) -> str | None:
    """Run ``call``. Returns None, or the reason if it is not installed or out of memory."""
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
    """Run each contender once to warm up, then all in turn. Slow contenders run only once."""
    calls: dict[str, Any] = {}
    results: dict[str, Any] = {}
    runs: dict[str, list[float]] = {}
    for name in contenders:

        def first(name: str = name) -> None:
            calls[name] = module.build(name, **case)
            start = time.perf_counter()
            calls[name]()
            runs[name] = [time.perf_counter() - start]

        failure = attempt(first)
        if failure:
            results[name] = failure
            calls.pop(name, None)
        elif runs[name][0] > SLOW:
            calls.pop(name)
        else:
            runs[name] = []
        gc.collect()
    started = time.perf_counter()
    order = list(calls)
    while calls and (time.perf_counter() - started < at_least or min(map(len, map(runs.get, calls))) < 3):
        for name in order:
            if max(runs[name], default=0) < 1:
                calls[name]()  # fills the caches and allocates memory again after the previous contender
            start = time.perf_counter()
            calls[name]()
            runs[name].append(time.perf_counter() - start)
        order = [*order[1:], *order[:1]]  # no contender always follows the same one
    for name, seconds_of_runs in runs.items():
        results[name] = {
            "median": median(seconds_of_runs),
            "low": min(seconds_of_runs),
            "high": max(seconds_of_runs),
            "runs": len(seconds_of_runs),
        }
    return results


def measure_peak(module: Any, contender: str, case: Any) -> int | str:
    """The increase of resident memory during one run of a contender."""
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
    Path("/proc/self/clear_refs").write_text("5")  # resets the peak
    before = status("VmRSS")
    return attempt(call) or status("VmHWM") - before


def status(field: str) -> int:
    """A field of ``/proc/self/status``, in bytes."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(field + ":"):
            return int(line.split()[1]) * 1024
    raise KeyError(field)


def main() -> None:
    """Measure what :func:`run_process` asks for in ``sys.argv``, and print the result as JSON."""
    task, name, contenders, case, at_least = json.loads(sys.argv[1])
    resource.setrlimit(resource.RLIMIT_DATA, (MEMORY, resource.RLIM_INFINITY))
    module = importlib.import_module(f"benchmarks.{name}")
    if task == "time":
        results = time_contenders(module, contenders, case, at_least)
    elif task == "measure":  # by the module itself
        results = module.measure(contenders, **case)
    else:
        results = {contenders[0]: measure_peak(module, contenders[0], case)}
    print(json.dumps(results))


if __name__ == "__main__":
    main()
