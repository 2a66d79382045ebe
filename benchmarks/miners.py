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


def build(contender: str, n: int, alone: bool = False) -> Callable[[], Any]:
    """A step on what ``contender``, two strategies, selects, or the selection ``alone``; or the bare matrix."""
    if contender == "bare":
        return steps.build("bare", n, "TripletLoss")
    from finetuner.tuner.pytorch.miner import TripletEasyHardMiner

    miner = TripletEasyHardMiner(*contender.split(", "))
    if not alone:
        return steps.build("ours", n, "TripletLoss", options={"miner": miner})
    import torch

    from finetuner.tuner.pytorch.blocks import selected
    from finetuner.tuner.pytorch.relations import Relations

    x, relations = torch.randn(n, 128), Relations(torch.arange(n) % (n // 8))
    return lambda: selected(miner, x, x, relations, "cosine")


def tables(quick: bool) -> Iterable[Table]:
    """All strategies by N: the selection by itself, and the loss on it."""
    sizes = [256, 512] if quick else [2048, 4096, 8192]
    names = [", ".join(pair) for pair in STRATEGIES]
    notes = {
        True: "Distances and selection, without a gradient. Goal: at most 1.5 times.",
        False: "Triplet loss on what was selected, with its backward pass; all, all is the loss without a miner.",
    }
    for alone, note in notes.items():
        title = (
            f"Miners (positives, negatives), {'alone' if alone else 'with the loss'}: time over that of the bare matrix"
        )
        note = f"{note} 8 items a class, d = 128; the bare matrix with its backward pass."
        table = Table(title, ["N", "bare", *names], note=note)
        for n in sizes:
            found = times("miners", ["bare", *names], n=n, alone=alone)
            table.rows.append([n, found["bare"], *(ratio(found[name], found["bare"]) for name in names)])
        yield table
