"""The parts of an encoder that know batches and weights alone: embedding, and blending of two states."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from .... import checks
from ..data.batches import Batches, LengthGroups, all_finite
from ..processes import Processes
from .bad_items import NotFiniteError, describe_bad_items
from .framework import Framework
from .lora import blends_linearly, check_blend_base

__all__ = ["blended", "embed_batches", "embed_together"]


def embed_batches(
    framework: Framework, model: Any, batches: Batches, order: np.ndarray, num_workers: int = 0
) -> np.ndarray:
    """Embeddings ``[N, D]`` float32 of all rows of the batches. Their row ``i`` is row ``order[i]`` of the result.

    Raises:
        NotFiniteError: If inputs or embeddings are not finite.
    """
    embeddings, done = np.empty((0, 0), np.float32), 0
    for batch in framework.load_batches(batches, num_workers):
        if not all_finite(batch.inputs):
            raise NotFiniteError(f"inputs must be finite, and {describe_bad_items(batch)} are not")
        part = embed_batch(framework, model, batch.inputs, len(batch.indices))
        bad = np.flatnonzero(~np.isfinite(part).all(axis=1))
        if len(bad):
            items = checks.preview(np.unique(batch.indices[bad] // batch.rows_per_item))
            raise NotFiniteError(f"embeddings must be finite, and are not for items {items} of the data")
        if not done:  # D is known now, and each batch is written to its final place
            embeddings = np.empty((len(order), part.shape[1]), np.float32)
        embeddings[order[done : done + len(part)]] = part
        done += len(part)
    return embeddings


def embed_together(
    framework: Framework, model: Any, batches: Batches, order: np.ndarray, processes: Processes
) -> np.ndarray:
    """What :func:`embed_batches` returns, in all processes, each of which embeds a share of the batches.

    The shares are cut between batches, so the bits are those of one process.
    """
    batches.keep(processes.slices(len(batches))[processes.rank])
    error: Exception | None = None
    own = np.empty((0, 0), np.float32)
    try:
        own = embed_batches(framework, model, batches, np.arange(sum(map(len, batches.plan))))
    except Exception as caught:
        error = caught
    processes.exchange(error)
    whole = processes.gather_arrays(own)
    embeddings = np.empty_like(whole)
    embeddings[order] = whole
    return embeddings


def embed_batch(framework: Framework, model: Any, inputs: Any, count: int) -> np.ndarray:
    """Embeddings ``[count, D]`` of a batch, or of its groups."""
    framework.check_pooling(model, inputs, count)
    if not isinstance(inputs, LengthGroups):
        return framework.embed(model, inputs, count)
    groups = list(zip(inputs.inputs, inputs.positions, strict=True))
    parts = [framework.embed(model, part, len(positions)) for part, positions in groups]
    embeddings = np.empty((count, parts[0].shape[1]), np.float32)
    for part, (_, positions) in zip(parts, groups, strict=True):
        embeddings[positions] = part
    return embeddings


def blended(own: Mapping[str, Any], base: Mapping[str, Any], share: float) -> dict[str, Any]:
    """The state ``base + share * (own - base)`` of a model; weights that are not floats are those of ``own``.

    Of layers with LoRA the merged weights are blended.

    Raises:
        ValueError: If the two are not states of the same model, or the base has trained layers of LoRA.
    """
    if own.keys() != base.keys() or any(own[name].shape != base[name].shape for name in own):
        raise ValueError("the base of a blend must have the weights of the same model, and has others")
    check_blend_base(base)
    result = {}
    for name, value in own.items():
        moves = "float" in str(value.dtype) and share < 1 and blends_linearly(name)  # at 1, exactly this model
        result[name] = base[name] + share * (value - base[name]) if moves else value
    return result
