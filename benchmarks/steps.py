"""Forward and backward pass of a PyTorch loss: ours, the same formula seen as a whole, peers', and the bare limit.

The bare limit is the matrix of cosine distances with its backward pass, given a gradient: what no loss that looks at
all pairs can do without. The embeddings are random. The margin is about what distances differ by: were
all hinges active, a processor would guess the outcome of each comparison.
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
    """One step of ``contender`` on ``n`` embeddings ``[n, d]`` of ``classes``, by default of 8 items each."""
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
        theirs = peer(loss)
        return lambda: theirs(x, labels).backward()
    import finetuner.tuner.pytorch.losses as losses
    from finetuner.tuner.base import blocks

    options = {"margin": MARGIN, **(options or {})} if loss == "TripletLoss" else options or {}
    function = getattr(losses, loss)(**options)
    against = torch.randn(n, d, generator=generator) if loss == "CLIPLoss" else labels
    per_block = blocks.rows_per_block if contender == "ours" else lambda *_: n

    def step() -> None:
        with mock.patch.object(blocks, "rows_per_block", per_block):
            function(x, against).backward()

    return step


def warm_up(contender: str, **case: Any) -> None:
    """A step of 16 rows."""
    if contender != PEER:
        build(contender, **{**case, "n": 16, "classes": None})()


def bare(x: Any) -> Any:
    """The matrix of cosine distances."""
    import torch

    unit = torch.nn.functional.normalize(x)
    return 1 - unit @ unit.T


def naive(x: Any, labels: Any) -> Any:
    """The triplet loss as its formula is written, with a tensor of all triplets."""
    import torch

    distances = bare(x)
    same = labels[:, None] == labels[None, :]
    itself = torch.eye(len(x), dtype=torch.bool)
    triplets = (same & ~itself)[:, :, None] & ~same[:, None, :]
    gap = distances[:, :, None] - distances[:, None, :]
    return (gap + MARGIN).clamp(min=0)[triplets].mean()


def peer(loss: str) -> Any:
    """The loss of pytorch-metric-learning that is ours, in its settings."""
    from pytorch_metric_learning import losses
    from pytorch_metric_learning.distances import CosineSimilarity
    from pytorch_metric_learning.reducers import MeanReducer

    made = {
        "TripletLoss": lambda: losses.TripletMarginLoss(MARGIN, distance=CosineSimilarity(), reducer=MeanReducer()),
        "NTXentLoss": lambda: losses.NTXentLoss(0.1),
        "SupConLoss": lambda: losses.SupConLoss(0.1),
        "MultiSimilarityLoss": lambda: losses.MultiSimilarityLoss(2, 50, 0.5),
    }
    return made[loss]()


def growth(
    title: str, sizes: list[int], contenders: list[str], until: dict[str, int], note: str, **case: Any
) -> Iterable[Table]:
    """Times and peaks of contenders over sizes ``n``, up to each one's own last, with the exponents of both."""
    taken: dict[str, list[Any]] = {name: [] for name in contenders}
    peaks: dict[str, list[Any]] = {name: [] for name in contenders}
    others = [name for name in contenders if name != "ours"]
    time_table = Table(f"{title}: time", ["N", *contenders, *(f"ours / {name}" for name in others)])
    peak_table = Table(f"{title}: peak memory above the start", ["N", *contenders], note=note)
    for n in sizes:
        able = [name for name in contenders if n <= until.get(name, n)]
        found = times("steps", able, n=n, **case)
        row = [found.get(name, "-") for name in contenders]
        time_table.rows.append([n, *row, *(ratio(found["ours"], found.get(name)) for name in others)])
        for name in able:
            taken[name].append(found[name])
            peaks[name].append(peak("steps", name, n=n, **case))
        peak_table.rows.append([n, *(megabytes(peaks[name][-1]) if name in able else "-" for name in contenders)])
    time_table.rows.append(["~ N^k", *(grown(sizes, taken[name]) for name in contenders), *[""] * len(others)])
    peak_table.rows.append(["~ N^k", *(grown(sizes, peaks[name]) for name in contenders)])
    yield time_table
    yield peak_table


def grown(sizes: list[int], costs: list[Any]) -> str:
    """The exponent over the sizes that there are costs of."""
    pairs = [(n, getattr(cost, "median", cost)) for n, cost in zip(sizes, costs, strict=False)]
    pairs = [(n, cost) for n, cost in pairs if not isinstance(cost, str) and cost > 0]
    return f"k = {exponent(*map(list, zip(*pairs, strict=True))):.2f}" if len(pairs) > 1 else "-"
