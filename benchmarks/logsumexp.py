"""Time and memory of the losses with a log-sum-exp over all pairs of a batch."""

from collections.abc import Iterable

from .report import Table
from .steps import PEER, growth

__all__ = ["tables"]

NOTE = (
    "8 items per class, d = 128. whole: the same code with one block of all N x N distances. Goals: not slower than "
    "that for N >= 1024, and at least 500 times as fast as pytorch-metric-learning at N = 1024."
)
LARGE = "64 items per class, d = 128. Goal: less than 1 GiB."
LOSSES = ("NTXentLoss", "SupConLoss", "MultiSimilarityLoss", "CLIPLoss")


def tables(quick: bool) -> Iterable[Table]:
    """Each loss per N, and NT-Xent with an N that other implementations cannot compute."""
    sizes = [256, 512] if quick else [1024, 2048, 4096, 8192]
    for loss in LOSSES:
        contenders = ["ours", "bare", "whole", *([] if loss == "CLIPLoss" else [PEER])]
        yield from growth(loss, sizes, contenders, {PEER: 1024}, NOTE, loss=loss)
    n = 2048 if quick else 65536
    yield from growth("NTXentLoss, large", [n], ["ours"], {}, LARGE, loss="NTXentLoss", classes=n // 64)
