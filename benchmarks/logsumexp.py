"""Losses that take a softmax over all pairs of a batch."""

from collections.abc import Iterable

from .report import Table
from .steps import PEER, growth

__all__ = ["tables"]

NOTE = (
    "8 items a class, d = 128. whole: our formula on all N x N distances at once. Goals: no slower than that from "
    "N = 1024 on, and at least 500 times as fast as pytorch-metric-learning at N = 1024."
)
LARGE = "64 items a class, d = 128. Goal: less than 1 GiB."
LOSSES = ("NTXentLoss", "SupConLoss", "MultiSimilarityLoss", "CLIPLoss")


def tables(quick: bool) -> Iterable[Table]:
    """Each loss by N, and NT-Xent where others cannot go."""
    sizes = [256, 512] if quick else [1024, 2048, 4096, 8192]
    for loss in LOSSES:
        contenders = ["ours", "bare", "whole", *([] if loss == "CLIPLoss" else [PEER])]
        yield from growth(loss, sizes, contenders, {PEER: 1024}, NOTE, loss=loss)
    n = 2048 if quick else 65536
    yield from growth("NTXentLoss, large", [n], ["ours"], {}, LARGE, loss="NTXentLoss", classes=n // 64)
