"""Time and memory of the losses over all triplets of a batch."""

from collections.abc import Iterable

from .report import Table
from .steps import PEER, growth

__all__ = ["tables"]

NOTE = (
    "8 items per class, d = 128. whole: the same code with one block of all N x N distances. naive: with a tensor "
    "N x N x N. Goal: at most 2.5 times the distance matrix for N >= 2048, and less than 2 GiB at N = 16384."
)
TEN = "10 classes, d = 128. Goal: at least 100 times as fast as pytorch-metric-learning at N = 1024."


def tables(quick: bool) -> Iterable[Table]:
    """Triplet loss per N with few and many positives and with the soft margin, and SurrogatePrecision."""
    sizes = [256, 512] if quick else [512, 1024, 2048, 4096, 8192, 16384]
    contenders = ["ours", "bare", "whole", "naive", PEER]
    until = {"naive": 512, PEER: 1024, "whole": 8192}
    yield from growth("TripletLoss, 8 per class", sizes, contenders, until, NOTE, loss="TripletLoss")
    yield from growth(
        "TripletLoss, 10 classes", sizes[:3], ["ours", "bare", PEER], until, TEN, loss="TripletLoss", classes=10
    )
    sizes = sizes[:4]
    soft = {"loss": "TripletLoss", "options": {"margin": None}}
    yield from growth("TripletLoss, soft margin, 8 per class", sizes, ["ours", "bare"], {}, "", **soft)
    yield from growth("SurrogatePrecision, 8 per class", sizes, ["ours", "bare"], {}, "", loss="SurrogatePrecision")
