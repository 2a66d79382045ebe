"""What it costs to draw batches: their plan, their arrays, and images that are decoded on the way."""

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
GOAL = 2.0  # seconds of a plan
ITEMS_A_CLASS = 100
SAMPLERS = (
    "RandomSampler",
    "RandomSampler of triplets",
    "InstanceSampler",
    "ClassSampler",
    "GroupSampler",
    "GroupSampler of pairs",
    "SessionSampler",
)
BY_HAND, OURS, ONE_BY_ONE = "by hand", "finetuner", "item by item"
SIDE = 128  # pixels of an image


def build(contender: str, **case: Any) -> Callable[[], Any]:
    """A plan of an epoch by a sampler, an epoch of batches from arrays, or one of images by so many workers."""
    if contender in SAMPLERS:
        return build_plan(contender, **case)
    if contender in (BY_HAND, OURS, ONE_BY_ONE):
        return build_arrays(contender, **case)
    return build_images(contender, **case)


def build_plan(contender: str, n: int, batch: int = BATCH, made: bool = False) -> Callable[[], Any]:
    """The plan of one epoch after the other; with ``made`` the sampler is made each time, too."""
    from finetuner.tuner import base

    rng = np.random.default_rng(0)
    classes = rng.integers(0, n // ITEMS_A_CLASS, n)
    starts = np.r_[True, np.diff(np.sort(classes)) > 0]
    sessions = np.stack([np.sort(classes), np.where(starts, 0, rng.choice([1, -1], n))], axis=1)[rng.permutation(n)]

    def make() -> Any:
        name, *kind = contender.split(" of ")
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
        if made:
            sampler = make()
        sampler.set_epoch(sampler.epoch + 1)
        return sampler.batches()

    return plan


def build_arrays(contender: str, n: int, shape: list[int], dtype: str = "float32") -> Callable[[], Any]:
    """An epoch of batches as tensors of PyTorch, drawn from an array in the same order."""
    import torch

    from finetuner.tuner.base import ClassDataset, RandomSampler
    from finetuner.tuner.base.data.batches import Batches, all_finite
    from finetuner.tuner.pytorch.data import load_batches, to_device

    torch.set_num_threads(1)
    device = torch.device("cpu")
    x = np.zeros((n, *shape), dtype)
    x += np.ones((), dtype)  # or the pages of the array would not be there
    y = np.arange(n) % ITEMS_A_CLASS
    data, plan = ClassDataset(x, y), RandomSampler(n, BATCH).batches()

    def ours() -> None:
        for batch in load_batches(Batches(data, plan), 0):
            all_finite(batch.inputs)
            to_device(batch.inputs, device), to_device(batch.targets, device)

    def by_hand() -> None:
        for indices in plan:
            torch.from_numpy(x[indices]), torch.from_numpy(y[indices])

    def as_list() -> None:
        for indices in plan:
            torch.stack([torch.from_numpy(x[i]) for i in indices]), torch.tensor([y[i] for i in indices])

    return {OURS: ours, BY_HAND: by_hand, ONE_BY_ONE: as_list}[contender]


def build_images(contender: str, folder: str) -> Callable[[], Any]:
    """An epoch of batches of a folder's images, decoded here or by so many workers, or by PyTorch's own loader."""
    import torch

    from finetuner.data.reading import load
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

    def by_hand() -> None:
        for inputs, labels in torch.utils.data.DataLoader(data, batch_sampler=plan, num_workers=workers):
            inputs.to(device), labels.to(device)

    return by_hand if "by hand" in contender else ours


def write_images(folder: Path, count: int) -> None:
    """JPEG files of ten classes, as large as small photographs: half a megapixel."""
    from PIL import Image

    rng = np.random.default_rng(0)
    for number in range(count):
        place = folder / str(number % 10) / f"{number}.jpg"
        place.parent.mkdir(exist_ok=True)
        coarse = rng.integers(0, 256, (12, 16, 3), np.uint8)
        Image.fromarray(coarse).resize((800, 600), Image.Resampling.BICUBIC).save(place, quality=85)


def tables(quick: bool) -> Iterator[Table]:
    """Plans and their growth, batches from arrays, and images by workers."""
    sizes = [1000, 10_000, 100_000] if quick else [10_000, 100_000, 1_000_000]
    at_least = 0.5 if quick else 5
    found = [times("feeding", list(SAMPLERS), at_least, n=size) for size in sizes]
    fresh = times("feeding", list(SAMPLERS), at_least, n=sizes[-1], made=True)
    rows = []
    for name in SAMPLERS:
        taken = [one[name] for one in found]
        fits = f"{exponent(sizes, [one.median for one in taken]):.2f}"
        rows.append([name, *taken, fits, fresh[name], f"{fresh[name].median / GOAL:.2f}"])
    yield Table(
        "Planning an epoch",
        ["sampler", *(f"{size:,} items" for size in sizes), "exponent", "and making it", f"of {GOAL:.0f} s"],
        rows,
        f"Batches of {BATCH}, {ITEMS_A_CLASS} items a class or session on average. Making it: with what is looked at "
        f"once a training, of {sizes[-1]:,} items. Goal: an epoch of a million items in ten thousand classes is "
        "planned in under 2 s.",
    )
    yield from arrays(quick, at_least)
    yield from images(quick, at_least)


def arrays(quick: bool, at_least: float) -> Iterator[Table]:
    """Batches from arrays beside the same by hand."""
    rows = []
    for n, shape, dtype in (
        (200_000, [128], "float32"),
        (20_000, [3, 32, 32], "float32"),
        (20_000, [3, 64, 64], "uint8"),
    ):
        case: dict[str, Any] = {"n": n // 10 if quick else n, "shape": shape, "dtype": dtype}
        found = times("feeding", [OURS, BY_HAND, ONE_BY_ONE], at_least, **case)
        batches = -(-case["n"] // BATCH)
        extra = (found[OURS].median - found[BY_HAND].median) / batches
        memory = peak("feeding", OURS, **case)
        size = f"{case['n']:,} x {shape} {dtype}"
        rows.append([size, *found.values(), ratio(found[OURS], found[BY_HAND]), f"{extra * 1e6:+.0f} us"])
        rows[-1].append(megabytes(memory))
    yield Table(
        "An epoch of batches from an array",
        ["array", OURS, BY_HAND, ONE_BY_ONE, "times by hand", "more a batch", "memory above the array"],
        rows,
        f"Batches of {BATCH} as PyTorch's tensors, in one thread. By hand: `torch.from_numpy(x[indices])`. Item by "
        "item: as PyTorch's own loader collates them. Ours looks at each value, too, lest there be NaN.",
    )


def images(quick: bool, at_least: float) -> Iterator[Table]:
    """Images that are decoded by workers."""
    count = 200 if quick else 1000
    folder = Path(tempfile.mkdtemp())
    try:
        write_images(folder, count)
        contenders = [f"{workers} workers{by}" for by in ("", ", by hand") for workers in (0, 1, 2)]
        found = times("feeding", contenders, 3 * at_least, folder=str(folder))
    finally:
        shutil.rmtree(folder)
    rows = []
    for workers in (0, 1, 2):
        ours, other = found[f"{workers} workers"], found[f"{workers} workers, by hand"]
        speedup = found["0 workers"].median / ours.median
        rows.append([workers, ours, f"{count / ours.median:,.0f}", f"{speedup:.2f}", other, ratio(ours, other)])
    yield Table(
        f"An epoch of {count} JPEG files",
        ["workers", OURS, "images/s", "times without workers", "PyTorch's loader, by hand", "times by hand"],
        rows,
        f"800 x 600 pixels, decoded and made [3, {SIDE}, {SIDE}], in batches of 64, the workers' start included. By "
        "hand: `DataLoader(data, batch_sampler=..., num_workers=...)` on the same files.",
    )
