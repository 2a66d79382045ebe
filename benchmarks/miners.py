"""Time of the miners, alone and with a triplet loss."""

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
    """A step of the triplet loss with the miner of two strategies, or only its selection, or the distance matrix."""
    if contender == "bare":
        return steps.build("bare", n, "TripletLoss")
    from finetuner.tuner.pytorch import TripletEasyHardMiner

    miner = TripletEasyHardMiner(*contender.split(", "))
    if not alone:
        return steps.build("ours", n, "TripletLoss", options={"miner": miner})
    import torch

    from finetuner.tuner.pytorch.blocks import mined_masks
    from finetuner.tuner.pytorch.relations import Relations

    x, relations = torch.randn(n, 128), Relations(torch.arange(n) % (n // 8))
    return lambda: mined_masks(miner, x, x, relations, "cosine")


def tables(quick: bool) -> Iterable[Table]:
    """All strategies per N: the selection alone, and with the loss."""
    sizes = [256, 512] if quick else [2048, 4096, 8192]
    names = [", ".join(pair) for pair in STRATEGIES]
    notes = {
        True: "Distances and selection, without a gradient. Goal: a ratio of at most 1.5.",
        False: 'Triplet loss on the selected triplets, with its backward pass. "all, all" is the loss without a miner.',
    }
    for alone, note in notes.items():
        title = (
            f"Miners (positives, negatives), {'alone' if alone else 'with the loss'}: time relative to the distances"
        )
        note = f"{note} 8 items per class, d = 128. The distance matrix includes its backward pass."
        table = Table(title, ["N", "bare", *names], note=note)
        for n in sizes:
            measured = times("miners", ["bare", *names], n=n, alone=alone)
            table.rows.append([n, measured["bare"], *(ratio(measured[name], measured["bare"]) for name in names)])
        yield table
