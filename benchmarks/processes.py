"""Losses that two processes share, compared with the whole loss in each of them."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from typing import Any

from .report import Table

__all__ = ["main", "tables"]

LOSSES = ("NTXentLoss", "SupConLoss", "MultiSimilarityLoss", "LiftedStructureLoss", "TripletLoss", "SurrogatePrecision")
D, ITEMS_PER_CLASS, RUNS, GOAL = 128, 8, 7, 1.6


def tables(quick: bool) -> Iterator[Table]:
    """The time of a loss and its gradient by all embeddings, whole and shared, in two processes with a thread each."""
    n = 1024 if quick else 4096
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "-m", "benchmarks.processes"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    process = subprocess.run(
        [*command, str(n), str(2 if quick else RUNS)],
        cwd=Path(__file__).parents[1], env=environment, capture_output=True, text=True
    )  # fmt: skip
    if process.returncode:
        raise RuntimeError(f"{command} failed:\n{process.stderr[-4000:]}")
    rows: list[Any] = json.loads(process.stdout.splitlines()[-1])
    yield Table(
        f"Losses that two processes share, N = {n}, d = {D}",
        ["loss", "whole in each", "shared", "whole / shared"],
        [[name, *(f"{1e3 * t:.0f} ms" for t in pair), f"{pair[0] / pair[1]:.2f}"] for name, *pair in rows],
        "PyTorch under torchrun with gloo, one thread a process. Loss and gradient by all embeddings, of the gathered "
        f"batch; in turn, medians of {RUNS}, of the slower process. Goal: a ratio of at least {GOAL}.",
    )  # fmt: skip


def main() -> None:
    """Measure in a process of two, and print the times of the slower one."""
    import torch
    import torch.distributed as dist

    from finetuner.tuner.base.processes import ALONE, sharing
    from finetuner.tuner.pytorch import losses
    from finetuner.tuner.pytorch.processes import join_processes

    n, runs = map(int, sys.argv[1:])
    processes = join_processes()
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(n, D, generator=generator)
    y = torch.arange(n, dtype=torch.int32) // ITEMS_PER_CLASS

    def measure(loss: Any, sharers: Any) -> float:
        embeddings = x.clone().requires_grad_()
        dist.barrier()
        start = time.perf_counter()
        with sharing(sharers):
            loss(embeddings, y).backward()
        return float(processes.largest(torch.tensor(time.perf_counter() - start, dtype=torch.float64)))

    rows = []
    for name in LOSSES:
        loss = getattr(losses, name)()
        times = [(measure(loss, ALONE), measure(loss, processes)) for _ in range(runs + 1)][1:]
        rows.append([name, *(median(column) for column in zip(*times, strict=True))])
    if processes.is_first:
        print(json.dumps(rows), flush=True)


if __name__ == "__main__":
    main()
