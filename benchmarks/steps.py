"""Forward and backward pass of a PyTorch loss, compared with other implementations and a lower bound.

The contenders are ``ours``; ``whole``, the same code with one block; ``naive``, the triplet loss with a tensor
N x N x N; pytorch-metric-learning; and ``bare``, the matrix of cosine distances with its backward pass for a given
gradient, which every loss over all pairs needs. The embeddings are random. The margin is about as large as the
differences of distances, because hinges that are all active would be faster: the processor predicts them.
"""

from collections.abc import Callable, Iterable
from typing import Any
from unittest import mock

from .harness import exponent, peak, times
from .report import Table, megabytes, ratio

__all__ = ["MARGIN", "build", "growth", "warm_up"]

PEER = "pytorch-metric-learning"
MARGIN = 0.1


def build(
    contender: str, n: int, loss: str, classes: int | None = None, d: int = 128, options: Any = None
) -> Callable[[], Any]:
    """A step of ``contender`` on embeddings ``[n, d]`` with ``classes`` classes. The default is 8 items per class."""
    import torch

    generator = torch.Generator().manual_seed(0)
    x = torch.randn(n, d, generator=generator).requires_grad_()
    labels = torch.arange(n) % (classes or n // 8)
    if contender == "bare":
        upstream = torch.randn(n, n, generator=generator) / n
        return lambda: bare(x).backward(upstream)
    if contender == "naive":
        return lambda: naive(x, labels).backward()
    if contender == PEER:
        peer = peer_loss(loss)
        return lambda: peer(x, labels).backward()
    from finetuner.tuner.base.losses import blocks
    from finetuner.tuner.pytorch import losses

    options = {"margin": MARGIN, **(options or {})} if loss == "TripletLoss" else options or {}
    function = getattr(losses, loss)(**options)
    target = torch.randn(n, d, generator=generator) if loss == "CLIPLoss" else labels
    per_block = blocks.rows_per_block if contender == "ours" else lambda *_: n

    def step() -> None:
        with mock.patch.object(blocks, "rows_per_block", per_block):
            function(x, target).backward()

    return step


def warm_up(contender: str, **case: Any) -> None:
    """Run a step with 16 rows."""
    if contender != PEER:
        build(contender, **{**case, "n": 16, "classes": None})()


def bare(x: Any) -> Any:
    """The matrix of cosine distances."""
    import torch

    unit = torch.nn.functional.normalize(x)
    return 1 - unit @ unit.T


def naive(x: Any, labels: Any) -> Any:
    """The triplet loss with a tensor of all triplets."""
    import torch

    distances = bare(x)
    same = labels[:, None] == labels[None, :]
    diagonal = torch.eye(len(x), dtype=torch.bool)
    triplets = (same & ~diagonal)[:, :, None] & ~same[:, None, :]
    gap = distances[:, :, None] - distances[:, None, :]
    return (gap + MARGIN).clamp(min=0)[triplets].mean()


def peer_loss(loss: str) -> Any:
    """The equivalent loss of pytorch-metric-learning, with the same options."""
    from pytorch_metric_learning import losses
    from pytorch_metric_learning.distances import CosineSimilarity
    from pytorch_metric_learning.reducers import MeanReducer

    factories = {
        "TripletLoss": lambda: losses.TripletMarginLoss(MARGIN, distance=CosineSimilarity(), reducer=MeanReducer()),
        "NTXentLoss": lambda: losses.NTXentLoss(0.1),
        "SupConLoss": lambda: losses.SupConLoss(0.1),
        "MultiSimilarityLoss": lambda: losses.MultiSimilarityLoss(2, 50, 0.5),
    }
    return factories[loss]()


def growth(
    title: str, sizes: list[int], contenders: list[str], until: dict[str, int], note: str, **case: Any
) -> Iterable[Table]:
    """Tables of time and peak memory per size ``n``, with exponents. ``until`` limits the size of a contender."""
    costs: dict[str, list[Any]] = {name: [] for name in contenders}
    peaks: dict[str, list[Any]] = {name: [] for name in contenders}
    others = [name for name in contenders if name != "ours"]
    time_table = Table(f"{title}: time", ["N", *contenders, *(f"ours / {name}" for name in others)])
    peak_table = Table(f"{title}: peak memory", ["N", *contenders], note=note)
    for n in sizes:
        names = [name for name in contenders if n <= until.get(name, n)]
        measured = times("steps", names, n=n, **case)
        row = [measured.get(name, "-") for name in contenders]
        time_table.rows.append([n, *row, *(ratio(measured["ours"], measured.get(name)) for name in others)])
        for name in names:
            costs[name].append(measured[name])
            peaks[name].append(peak("steps", name, n=n, **case))
        peak_table.rows.append([n, *(megabytes(peaks[name][-1]) if name in names else "-" for name in contenders)])
    time_table.rows.append(
        ["~ N^k", *(fitted_exponent(sizes, costs[name]) for name in contenders), *[""] * len(others)]
    )
    peak_table.rows.append(["~ N^k", *(fitted_exponent(sizes, peaks[name]) for name in contenders)])
    yield time_table
    yield peak_table


def fitted_exponent(sizes: list[int], costs: list[Any]) -> str:
    """The exponent of the costs that were measured, or a dash."""
    pairs = [(n, getattr(cost, "median", cost)) for n, cost in zip(sizes, costs, strict=False)]
    pairs = [(n, cost) for n, cost in pairs if not isinstance(cost, str) and cost > 0]
    return f"k = {exponent(*map(list, zip(*pairs, strict=True))):.2f}" if len(pairs) > 1 else "-"
