"""All triplets of a batch, and what else looks at triples."""

from collections.abc import Iterable

from .report import Table
from .steps import PEER, growth

__all__ = ["tables"]

NOTE = (
    "8 items a class, d = 128. whole: our formula on all N x N distances at once; naive: with a tensor N x N x N. "
    "Goal: at most 2.5 times the bare matrix from N = 2048 on, and N = 16384 in less than 2 GiB."
)
TEN = "10 classes, d = 128. Goal: at least 100 times as fast as pytorch-metric-learning at N = 1024."


def tables(quick: bool) -> Iterable[Table]:
    """Triplet loss by N, with few and with many positives, its soft form, and precision by soft ranks."""
    sizes = [256, 512] if quick else [512, 1024, 2048, 4096, 8192, 16384]
    contenders = ["ours", "bare", "whole", "naive", PEER]
    until = {"naive": 512, PEER: 1024, "whole": 8192}
    yield from growth("TripletLoss, 8 a class", sizes, contenders, until, NOTE, loss="TripletLoss")
    yield from growth(
        "TripletLoss, 10 classes", sizes[:3], ["ours", "bare", PEER], until, TEN, loss="TripletLoss", classes=10
    )
    sizes = sizes[:4]
    soft = {"loss": "TripletLoss", "options": {"margin": None}}
    yield from growth("TripletLoss, soft margin, 8 a class", sizes, ["ours", "bare"], {}, "", **soft)
    yield from growth("SurrogatePrecision, 8 a class", sizes, ["ours", "bare"], {}, "", loss="SurrogatePrecision")
