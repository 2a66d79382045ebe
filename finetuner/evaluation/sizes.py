"""Sizes of nested embeddings: the first components of embeddings, and their metrics."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from .. import checks

__all__ = ["PREFIX", "check_dimension", "check_sizes", "first_components", "metrics_by_size"]

PREFIX = "dim_"  # of the metrics of a part of the embeddings, such as dim_128/hit@1


def check_sizes(name: str, sizes: Any) -> list[int]:
    """Return sizes of embeddings as a list.

    Raises:
        TypeError: If one is not an integer.
        ValueError: If there are none, one is not positive, or one is there twice.
    """
    if isinstance(sizes, str) or not hasattr(sizes, "__iter__"):
        raise ValueError(f"{name} must be a sequence of integers, such as (384, 128, 32), got {sizes!r}")
    found = [checks.integer(name, size, 1) for size in sizes]
    if not found:
        raise ValueError(f"{name} must have at least one size, got none")
    if len(set(found)) < len(found):
        raise ValueError(f"{name} must be different sizes, got {found}")
    return found


def check_dimension(name: str, largest: int, width: int | None) -> None:
    """Raise ``ValueError`` if embeddings have fewer components than the largest size. A width of None is unknown."""
    if width is not None and width < largest:
        raise ValueError(f"{name} must be at most {width}, the size of the embeddings, got {largest}")


def first_components(embeddings: np.ndarray, dim: int | None) -> np.ndarray:
    """The first ``dim`` components of embeddings, ``[N, dim]``; all of them for None.

    Raises:
        ValueError: If the embeddings have fewer.
    """
    if dim is None:
        return embeddings
    check_dimension("dim", checks.integer("dim", dim, 1), embeddings.shape[1])
    return np.ascontiguousarray(embeddings[:, :dim])


def metrics_by_size(
    measure: Callable[..., dict[str, float]], dims: Sequence[int] | None, *embeddings: np.ndarray
) -> dict[str, float]:
    """The metrics of embeddings for each size.

    Args:
        measure: A function from embeddings, the same number as here, to their metrics.
        dims: The sizes; None for the whole embeddings.
        embeddings: ``[N, D]`` each.

    Returns:
        The metrics by name. The names begin with the size, such as ``dim_128/hit@1``, unless it is D.

    Raises:
        ValueError: If a size is above D.
    """
    if dims is None:
        return measure(*embeddings)
    width = embeddings[0].shape[1]
    check_dimension("dims", max(dims), width)
    found: dict[str, float] = {}
    for dim in dims:
        metrics = measure(*(first_components(part, dim) for part in embeddings))
        start = "" if dim == width else f"{PREFIX}{dim}/"
        found |= {f"{start}{name}": value for name, value in metrics.items()}
    return found
