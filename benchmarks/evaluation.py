"""Retrieval metrics, compared with a faiss search alone."""

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
    """Unit vectors ``[N, 128]`` around class centres, and their classes. ``per_class``: a size or a range."""
    rng = np.random.default_rng(0)
    low, high = per_class if isinstance(per_class, list) else (per_class, per_class)
    sizes = rng.integers(low, high + 1, size=n // low + 1)
    labels = rng.permutation(np.repeat(np.arange(len(sizes)), sizes)[:n])
    x = rng.normal(size=(len(sizes), DIM)).astype(np.float32)[labels]
    x += rng.normal(size=x.shape).astype(np.float32)
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    return x, labels


def build(contender: str, n: int, per_class: Any = 20, distance: str = "cosine") -> Callable[[], Any]:
    """All metrics of ``n`` embeddings among themselves, or the search for their neighbours with faiss.

    ``faiss`` searches ``K + 1`` neighbours, because the first one is the query itself. ``faiss, same depth`` searches
    as many as the metrics need: mAP@R needs the size of the largest class.
    """
    from finetuner.evaluation import nearest_neighbours, retrieval_metrics

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
    """Run a small search, which creates the threads and buffers of BLAS and faiss."""
    build(contender, **{**case, "n": 2000})()


def tables(quick: bool) -> Iterator[Table]:
    """Time relative to faiss per distance, class size and number of embeddings, and peak memory."""
    n = 6000 if quick else 60_000
    at_least = 1 if quick else 30
    note = (
        f"Hit, precision, recall, mAP, MRR and nDCG at 1, 10 and {K}, R-precision and mAP@R, among {n:,} embeddings "
        f"with {DIM} dimensions. faiss only searches {K + 1} exact "
        "neighbours per query. "
    )
    rows: list[list[Any]] = []
    for distance in ("cosine", "euclidean"):
        result = times("evaluation", ["metrics", "neighbours", "faiss"], at_least, n=n, distance=distance)
        rows += [
            [
                distance,
                name,
                result[name],
                ratio(result[name], result["faiss"]),
                fastest_ratio(result[name], result["faiss"]),
            ]
            for name in result
        ]
    yield Table(
        f"Evaluation of {n:,} embeddings, 20 per class",
        ["distance", "task", "time", "relative to faiss", "fastest runs"],
        rows,
        note + f"Goal: within {GOAL} times faiss.",
    )
    rows = []
    for per_class in (5, 20, 50, [5, 50], 600):
        contenders = ["metrics", "faiss", "faiss, same depth"]
        result = times("evaluation", contenders, at_least, n=n, per_class=per_class)
        memory = peak("evaluation", "metrics", n=n, per_class=per_class)
        ratios = [ratio(result["metrics"], result[name]) for name in contenders[1:]]
        size = "{} to {}".format(*per_class) if isinstance(per_class, list) else per_class
        rows.append([size, result["metrics"], result["faiss"], *ratios, megabytes(memory)])
    yield Table(
        "Evaluation per class size",
        ["items per class", "metrics", "faiss", "relative to faiss", "relative to same depth", "additional memory"],
        rows,
        note + "Same depth: as many neighbours as the largest class has, which R-precision and mAP@R need. "
        f"Goal: within {GOAL} times faiss, and below 1024 MiB.",
    )
    sizes = [n // 8, n // 4, n // 2, n]
    measured = [times("evaluation", ["metrics", "faiss"], at_least / 4, n=size) for size in sizes]
    growth = [
        [size, result["metrics"], result["faiss"], ratio(result["metrics"], result["faiss"])]
        for size, result in zip(sizes, measured, strict=True)
    ]
    exponents = [
        f"{exponent(sizes, [result[name].median for result in measured]):.2f}" for name in ("metrics", "faiss")
    ]
    yield Table(
        "Evaluation per number of embeddings",
        ["embeddings", "metrics", "faiss", "relative to faiss"],
        [*growth, ["exponent", *exponents, ""]],
        "Queries and index have the same size, so comparing all pairs has the exponent 2.",
    )


def fastest_ratio(ours: Times, other: Times) -> str:
    """The ratio of the fastest runs, which other processes disturb least."""
    return f"{ours.low / other.low:.3g}"
