"""Time and memory of batches: the sampler's plan of an epoch, batches from arrays, and images decoded from files."""

import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from .harness import exponent, peak, times
from .report import Table, megabytes, ratio

__all__ = ["build", "tables"]

BATCH = 256
GOAL = 2.0  # seconds per plan
ITEMS_PER_CLASS = 100
SAMPLERS = (
    "RandomSampler",
    "RandomSampler, triplets",
    "InstanceSampler",
    "ClassSampler",
    "GroupSampler",
    "GroupSampler, pairs",
    "SessionSampler",
)
BASELINE, OURS, PER_ITEM = "plain indexing", "finetuner", "item by item"
SIDE = 128  # pixels of an image


def build(contender: str, **case: Any) -> Callable[[], Any]:
    """An epoch plan of a sampler, an epoch of batches from an array, or an epoch of images with workers."""
    if contender in SAMPLERS:
        return build_plan(contender, **case)
    if contender in (BASELINE, OURS, PER_ITEM):
        return build_arrays(contender, **case)
    return build_images(contender, **case)


def build_plan(contender: str, n: int, batch: int = BATCH, new: bool = False) -> Callable[[], Any]:
    """The plan of the next epoch. With ``new``, the sampler is also created each time."""
    from finetuner.tuner import base

    rng = np.random.default_rng(0)
    classes = rng.integers(0, n // ITEMS_PER_CLASS, n)
    starts = np.r_[True, np.diff(np.sort(classes)) > 0]
    sessions = np.stack([np.sort(classes), np.where(starts, 0, rng.choice([1, -1], n))], axis=1)[rng.permutation(n)]

    def make() -> Any:
        name, *kind = contender.split(", ")
        if name == "RandomSampler":
            return base.RandomSampler(n // 3, batch // 3, rows_per_item=3) if kind else base.RandomSampler(n, batch)
        if name == "GroupSampler":
            return base.GroupSampler(np.arange(n) // 2 if kind else classes, batch)
        if name == "InstanceSampler":
            return base.InstanceSampler(n, batch)
        return getattr(base, name)(sessions if name == "SessionSampler" else classes, batch)

    sampler = make()

    def plan() -> Any:
        nonlocal sampler
        if new:
            sampler = make()
        sampler.set_epoch(sampler.epoch + 1)
        return sampler.batches()

    return plan


def build_arrays(contender: str, n: int, shape: list[int], dtype: str = "float32") -> Callable[[], Any]:
    """An epoch of batches as PyTorch tensors, taken from an array in the same order by all contenders."""
    import torch

    from finetuner import ClassDataset
    from finetuner.tuner.base import RandomSampler
    from finetuner.tuner.base.data.batches import Batches, all_finite
    from finetuner.tuner.pytorch.data import load_batches, to_device

    torch.set_num_threads(1)
    device = torch.device("cpu")
    x = np.zeros((n, *shape), dtype)
    x += np.ones((), dtype)  # writes the array, so that its pages are allocated
    y = np.arange(n) % ITEMS_PER_CLASS
    data, plan = ClassDataset(x, y), RandomSampler(n, BATCH).batches()

    def ours() -> None:
        for batch in load_batches(Batches(data, plan), 0):
            all_finite(batch.inputs)
            to_device(batch.inputs, device), to_device(batch.targets, device)

    def plain_indexing() -> None:
        for indices in plan:
            torch.from_numpy(x[indices]), torch.from_numpy(y[indices])

    def item_by_item() -> None:
        for indices in plan:
            torch.stack([torch.from_numpy(x[i]) for i in indices]), torch.tensor([y[i] for i in indices])

    return {OURS: ours, BASELINE: plain_indexing, PER_ITEM: item_by_item}[contender]


def build_images(contender: str, folder: str) -> Callable[[], Any]:
    """An epoch of images from a folder, with a number of workers, in finetuner or in a plain PyTorch DataLoader."""
    import torch

    from finetuner.data import load
    from finetuner.tuner.base import RandomSampler
    from finetuner.tuner.base.data.batches import Batches
    from finetuner.tuner.pytorch.data import load_batches, to_device

    torch.set_num_threads(1)
    device = torch.device("cpu")
    data: Any = load(folder, image_size=SIDE)
    plan = RandomSampler(len(data), 64).batches()
    workers = int(contender.split()[0])

    def ours() -> None:
        for batch in load_batches(Batches(data, plan), workers):
            to_device(batch.inputs, device), to_device(batch.targets, device)

    def data_loader() -> None:
        for inputs, labels in torch.utils.data.DataLoader(data, batch_sampler=plan, num_workers=workers):
            inputs.to(device), labels.to(device)

    return data_loader if "DataLoader" in contender else ours


def write_images(folder: Path, count: int) -> None:
    """Write JPEG files in ten classes, with half a megapixel each."""
    from PIL import Image

    rng = np.random.default_rng(0)
    for number in range(count):
        path = folder / str(number % 10) / f"{number}.jpg"
        path.parent.mkdir(exist_ok=True)
        coarse = rng.integers(0, 256, (12, 16, 3), np.uint8)
        Image.fromarray(coarse).resize((800, 600), Image.Resampling.BICUBIC).save(path, quality=85)


def tables(quick: bool) -> Iterator[Table]:
    """Epoch plans per number of items, batches from arrays, and images per number of workers."""
    sizes = [1000, 10_000, 100_000] if quick else [10_000, 100_000, 1_000_000]
    at_least = 0.5 if quick else 5
    measured = [times("feeding", list(SAMPLERS), at_least, n=size) for size in sizes]
    fresh = times("feeding", list(SAMPLERS), at_least, n=sizes[-1], new=True)
    rows = []
    for name in SAMPLERS:
        sampler_times = [result[name] for result in measured]
        growth = f"{exponent(sizes, [t.median for t in sampler_times]):.2f}"
        rows.append([name, *sampler_times, growth, fresh[name], f"{fresh[name].median / GOAL:.2f}"])
    yield Table(
        "Planning an epoch",
        ["sampler", *(f"{size:,} items" for size in sizes), "exponent", "with creation", f"of {GOAL:.0f} s"],
        rows,
        f"Batches of {BATCH}, {ITEMS_PER_CLASS} items per class or session on average. With creation: a new sampler of "
        f"{sizes[-1]:,} items each time, while training creates it once. Goal: the plan of an epoch with a million "
        "items in ten thousand classes takes less than 2 s.",
    )
    yield from arrays(quick, at_least)
    yield from images(quick, at_least)


def arrays(quick: bool, at_least: float) -> Iterator[Table]:
    """Batches from arrays, compared with plain indexing."""
    rows = []
    for n, shape, dtype in (
        (200_000, [128], "float32"),
        (20_000, [3, 32, 32], "float32"),
        (20_000, [3, 64, 64], "uint8"),
    ):
        case: dict[str, Any] = {"n": n // 10 if quick else n, "shape": shape, "dtype": dtype}
        measured = times("feeding", [OURS, BASELINE, PER_ITEM], at_least, **case)
        batches = -(-case["n"] // BATCH)
        extra = (measured[OURS].median - measured[BASELINE].median) / batches
        memory = peak("feeding", OURS, **case)
        size = f"{case['n']:,} x {shape} {dtype}"
        rows.append([size, *measured.values(), ratio(measured[OURS], measured[BASELINE]), f"{extra * 1e6:+.0f} us"])
        rows[-1].append(megabytes(memory))
    yield Table(
        "An epoch of batches from an array",
        ["array", OURS, BASELINE, PER_ITEM, "relative to indexing", "extra per batch", "additional memory"],
        rows,
        f"Batches of {BATCH} as PyTorch tensors, in one thread. Plain indexing: `torch.from_numpy(x[indices])`. Item "
        "by item: as in a PyTorch DataLoader. finetuner also checks that all values are finite.",
    )


def images(quick: bool, at_least: float) -> Iterator[Table]:
    """Images that workers decode."""
    count = 200 if quick else 1000
    folder = Path(tempfile.mkdtemp())
    try:
        write_images(folder, count)
        contenders = [f"{workers} workers{loader}" for loader in ("", ", DataLoader") for workers in (0, 1, 2)]
        measured = times("feeding", contenders, 3 * at_least, folder=str(folder))
    finally:
        shutil.rmtree(folder)
    rows = []
    for workers in (0, 1, 2):
        ours, other = measured[f"{workers} workers"], measured[f"{workers} workers, DataLoader"]
        speedup = measured["0 workers"].median / ours.median
        rows.append([workers, ours, f"{count / ours.median:,.0f}", f"{speedup:.2f}", other, ratio(ours, other)])
    yield Table(
        f"An epoch of {count} JPEG files",
        ["workers", OURS, "images/s", "speedup by workers", "PyTorch DataLoader", "relative to DataLoader"],
        rows,
        f"800 x 600 pixels, decoded and resized to [3, {SIDE}, {SIDE}], in batches of 64. The start of the workers is "
        "included. PyTorch DataLoader: `DataLoader(data, batch_sampler=..., num_workers=...)` on the same files.",
    )
