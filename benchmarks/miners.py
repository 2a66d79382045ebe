"""Miners with a triplet loss on what they select."""

from collections.abc import Callable, Iterable
from typing import Any

from . import steps
from .harness import times
from .report import Table, ratio

__all__ = ["build", "tables"]

STRATEGIES = [
    ("easy", "easy"),
    ("easy", "semihard"),
    ("hard", "semihard"),
    ("semihard", "hard"),
    ("hard", "hard"),
    ("all", "hard"),
    ("all", "all"),
]


def build(contender: str, n: int) -> Callable[[], Any]:
    """A step on what ``contender``, two strategies, selects; or the bare matrix."""
    if contender == "bare":
        return steps.build("bare", n, "TripletLoss")
    from finetuner.tuner.pytorch.miner import TripletEasyHardMiner

    return steps.build("ours", n, "TripletLoss", options={"miner": TripletEasyHardMiner(*contender.split(", "))})


def tables(quick: bool) -> Iterable[Table]:
    """All strategies by N."""
    sizes = [256, 512] if quick else [2048, 4096, 8192]
    names = [", ".join(pair) for pair in STRATEGIES]
    note = (
        "Forward and backward pass of the loss on what was selected, over the bare matrix with its backward pass; "
        "8 items a class, d = 128. Goal: at most 1.5 times."
    )
    table = Table("Miners (positives, negatives): time over that of the bare matrix", ["N", "bare", *names], note=note)
    for n in sizes:
        found = times("miners", ["bare", *names], n=n)
        table.rows.append([n, found["bare"], *(ratio(found[name], found["bare"]) for name in names)])
    yield table
