"""Retrieval metrics beside what a search by faiss alone costs."""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from .harness import Times, exponent, peak, times
from .report import Table, megabytes, ratio

__all__ = ["build", "tables", "warm_up"]

AT_100 = [
    *(f"{name}@{k}" for name in ("hit", "precision", "recall", "mAP", "MRR", "nDCG") for k in (1, 10, 100)),
    *("R-precision", "mAP@R"),
]
DIM = 128
K = 100
GOAL = 1.3


def embeddings(n: int, per_class: Any) -> tuple[np.ndarray, np.ndarray]:
    """Unit vectors ``[N, 128]`` about the centres of their classes, and the classes, of one size or of a range."""
    rng = np.random.default_rng(0)
    low, high = per_class if isinstance(per_class, list) else (per_class, per_class)
    sizes = rng.integers(low, high + 1, size=n // low + 1)
    labels = rng.permutation(np.repeat(np.arange(len(sizes)), sizes)[:n])
    x = rng.normal(size=(len(sizes), DIM)).astype(np.float32)[labels]
    x += rng.normal(size=x.shape).astype(np.float32)
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    return x, labels


def build(contender: str, n: int, per_class: Any = 20, distance: str = "cosine") -> Callable[[], Any]:
    """All metrics of ``n`` embeddings among themselves, or the search for their neighbours by faiss.

    ``faiss`` looks for ``K + 1`` neighbours, which is what it takes to leave a query's own row out; ``faiss, as
    deep`` for as many as the largest class has, where mAP@R needs more.
    """
    from finetuner.evaluation.retrieval import retrieval_metrics
    from finetuner.evaluation.search import nearest_neighbours

    x, labels = embeddings(n, per_class)
    if contender == "metrics":
        return lambda: retrieval_metrics(x, labels, metrics=AT_100, distance=distance)
    if contender == "neighbours":
        return lambda: nearest_neighbours(x, None, K, distance=distance)
    import faiss

    largest = int(np.bincount(labels).max())
    k = min(n, (K if contender == "faiss" else max(K, largest - 1)) + 1)

    def search() -> Any:
        index = faiss.IndexFlatIP(DIM) if distance == "cosine" else faiss.IndexFlatL2(DIM)
        index.add(x)
        return index.search(x, k)

    return search


def warm_up(contender: str, **case: Any) -> None:
    """A small search, so that the threads and buffers of BLAS and faiss are there."""
    build(contender, **{**case, "n": 2000})()


def tables(quick: bool) -> Iterator[Table]:
    """Cost beside faiss by distance, by size of the classes and by number of embeddings, and memory."""
    n = 6000 if quick else 60_000
    at_least = 1 if quick else 30
    note = (
        f"Hit, precision, recall, mAP, MRR and nDCG at 1, 10 and {K}, R-precision and mAP@R, among {n:,} embeddings "
        f"of {DIM} dimensions; faiss searches {K + 1} neighbours of "
        "each, exactly, and computes nothing of them. "
    )
    rows: list[list[Any]] = []
    for distance in ("cosine", "euclidean"):
        found = times("evaluation", ["metrics", "neighbours", "faiss"], at_least, n=n, distance=distance)
        rows += [
            [distance, name, found[name], ratio(found[name], found["faiss"]), lowest(found[name], found["faiss"])]
            for name in found
        ]
    yield Table(
        f"Evaluation of {n:,} embeddings, 20 a class",
        ["distance", "what", "time", "times faiss", "by the fastest"],
        rows,
        note + f"Goal: within {GOAL} times faiss.",
    )
    rows = []
    for per_class in (5, 20, 50, [5, 50], 600):
        contenders = ["metrics", "faiss", "faiss, as deep"]
        found = times("evaluation", contenders, at_least, n=n, per_class=per_class)
        memory = peak("evaluation", "metrics", n=n, per_class=per_class)
        ratios = [ratio(found["metrics"], found[name]) for name in contenders[1:]]
        size = "{} to {}".format(*per_class) if isinstance(per_class, list) else per_class
        rows.append([size, found["metrics"], found["faiss"], *ratios, megabytes(memory)])
    yield Table(
        "By the size of the classes",
        ["items a class", "metrics", "faiss", "times faiss", "times faiss as deep", "memory above the embeddings"],
        rows,
        note + "As deep: as many neighbours as the largest class has, which R-precision and mAP@R are about. "
        f"Goal: within {GOAL} times faiss, and below 1024 MiB.",
    )
    sizes = [n // 8, n // 4, n // 2, n]
    taken = [times("evaluation", ["metrics", "faiss"], at_least / 4, n=size) for size in sizes]
    growth = [
        [size, found["metrics"], found["faiss"], ratio(found["metrics"], found["faiss"])]
        for size, found in zip(sizes, taken, strict=True)
    ]
    fitted = [f"{exponent(sizes, [found[name].median for found in taken]):.2f}" for name in ("metrics", "faiss")]
    yield Table(
        "By the number of embeddings",
        ["embeddings", "metrics", "faiss", "times faiss"],
        [*growth, ["exponent", *fitted, ""]],
        "Queries and index grow alike, so that 2 is what it takes to compare all with all.",
    )


def lowest(ours: Times, other: Times) -> str:
    """The ratio of the fastest runs, which others on the machine disturb least."""
    return f"{ours.low / other.low:.3g}"
