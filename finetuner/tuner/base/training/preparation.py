"""What a fit prepares: loss, callbacks, the length of its schedule, and the metrics of its result."""

import hashlib
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..data.datasets import Dataset
from ..registry import create
from .callbacks import Callback, Checkpoint
from .engine import Engine
from .framework import Framework
from .state import State
from .triggers import Every
from .validation import SearchValidation, Validation, Validations

__all__ = [
    "callbacks_of_fit",
    "create_loss",
    "fingerprint",
    "metrics_before_and_after",
    "nested_loss",
    "replay_folder",
    "resolve_loss_optimizer",
    "steps_of_fit",
]


def callbacks_of_fit(own: Sequence[Callback], folder: str | Path | None, every: Any) -> list[Callback]:
    """The callbacks; those that save the run are the last, so that they save what the others know."""
    if every is not None and folder is None:
        raise ValueError("checkpoint_every must be used with a checkpoint_folder")
    callbacks = [*own]
    if folder is not None:
        callbacks.append(Checkpoint(folder, Every(epochs=1) if every is None else Every.of(every, "checkpoint_every")))
    return sorted(callbacks, key=lambda callback: isinstance(callback, Checkpoint))


def replay_folder(callbacks: Sequence[Callback]) -> str:
    """Where the batch of a step that failed is saved: beside the checkpoints, or in a temporary folder."""
    folders = [callback.folder for callback in callbacks if isinstance(callback, Checkpoint)]
    return str(folders[0] if folders else Path(tempfile.gettempdir()) / "finetuner-batches")


def nested_loss(framework: Framework, loss: Any, dims: Any, dim_weights: Any) -> Any:
    """The loss of a training over several sizes of the embeddings, if there are ``dims``."""
    if dims is None:
        if dim_weights is not None:
            raise ValueError(f"dim_weights must be used with dims, got {dim_weights!r} and no dims")
        return loss
    if dim_weights is not None and (isinstance(dim_weights, str) or not hasattr(dim_weights, "__iter__")):
        raise ValueError(f"dim_weights must be a sequence of numbers, one for each of dims, got {dim_weights!r}")
    return framework.nest_loss(loss, dims, dim_weights)


def create_loss(framework: Framework, loss: Any, options: Any, miner: Any, miner_options: Any) -> Any:
    """The loss of a training, with its miner; of a mapping from losses to their weights, a weighted sum."""
    if isinstance(loss, Mapping):
        if miner is not None or miner_options:
            raise ValueError("miner must be an option of one of the losses, where loss is a mapping")
        # An instance has its options already.
        names = {one: one if isinstance(one, str) else getattr(one, "__name__", None) for one in loss}
        unknown = [name for name in options or {} if name not in names.values()]
        if unknown:
            known = ", ".join(name for name in names.values() if name) or "which are instances and have none"
            raise ValueError(f"loss_options must have the names of the losses, {known}, got {unknown[0]!r}")
        parts = [create_loss(framework, one, (options or {}).get(name), None, None) for one, name in names.items()]
        return framework.combine_losses(parts, list(loss.values()))
    if miner is not None:
        miner = create("miner", miner, framework.registry("miner"), miner_options)
        options = {**(options or {}), "miner": miner}
    elif miner_options:
        raise ValueError(f"miner_options must be used with a miner, got {dict(miner_options)} and no miner")
    loss = framework.wrap_native_loss(create("loss", loss, framework.registry("loss"), options))
    inner_loss = getattr(loss, "loss", loss)  # one of the framework's own is wrapped
    if getattr(inner_loss, "reduction", None) == "none":
        raise ValueError("loss must give one number for a batch, got one with reduction='none'")
    return loss


def resolve_loss_optimizer(
    engine: Engine,
    optimizer: Any,
    options: Mapping[str, Any] | None,
    loss_optimizer: Any,
    loss_options: Mapping[str, Any] | None,
) -> tuple[Any, dict[str, Any]]:
    """The loss's optimizer and its options: as given, or the class and settings of the model's optimizer."""
    if loss_optimizer is not None:
        return loss_optimizer, dict(loss_options or {})
    if not isinstance(optimizer, str | type):
        optimizer, options = engine.clone_config(optimizer)
    return optimizer, {**(options or {}), **(loss_options or {})}


def steps_of_fit(batches: int, accumulate: int, epochs: int, max_steps: int | None) -> int:
    """The number of steps of a fit, for its schedule."""
    steps = -(-batches // accumulate) * epochs
    return max(1, steps if max_steps is None else min(steps, max_steps))


def fingerprint(dataset: Dataset) -> str:
    """A short text that tells the labels of two data sets apart."""
    digest = hashlib.sha256(repr((len(dataset), dataset.labels.shape, str(dataset.labels.dtype))).encode())
    digest.update(np.ascontiguousarray(dataset.labels).tobytes())
    return digest.hexdigest()[:16]


def metrics_before_and_after(
    state: State, validation: Validation | SearchValidation | Validations, changed: bool
) -> dict[str, dict[str, float]]:
    """The metrics before and after the training; fewer if Ctrl-C left no time for them.

    Args:
        state: The state at the end of the training.
        validation: Computes the metrics.
        changed: Whether the model has other weights than at the end of the training.
    """
    names = validation.names
    rows = [{name: row[name] for name in names} for row in state.history if row.keys() >= set(names)]
    if not rows:
        return {}
    if not changed and not state.interrupted and state.history[-1].keys() >= set(names):
        return {"before": rows[0], "after": rows[-1]}
    try:
        return {"before": rows[0], "after": validation()}  # the history has no row of these weights
    except KeyboardInterrupt:
        return {"before": rows[0]}
