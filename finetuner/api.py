"""The library in three functions, for a model of any framework."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from . import checks
from .tuner import tuner_class
from .tuner.base import Callback, Run

__all__ = ["embed", "evaluate", "fit"]


def fit(
    model: Any,
    train_data: Any,
    eval_data: Any = None,
    *,
    loss: Any = "TripletLoss",
    loss_options: Mapping[str, Any] | None = None,
    miner: Any = None,
    miner_options: Mapping[str, Any] | None = None,
    optimizer: Any = "Adam",
    optimizer_options: Mapping[str, Any] | None = None,
    pooler: Any = None,
    pooler_options: Mapping[str, Any] | None = None,
    model_options: Mapping[str, Any] | None = None,
    learning_rate: float = 1e-3,
    loss_optimizer: Any = None,
    loss_optimizer_options: Mapping[str, Any] | None = None,
    callbacks: Sequence[Callback] | None = None,
    device: str = "auto",
    seed: int = 0,
    **fit_options: Any,
) -> Run:
    """Train ``model``, by the tuner of its framework: in place, but for a Keras model that is given a pooler.

    Args:
        model: from a batch of inputs to embeddings ``[N, D]``; for pairs of two kinds, a pair of models.
        train_data: a dataset of ours, ``(x, y)``, or the framework's own dataset of such pairs.
        eval_data: the same, to judge by, best of classes that are not trained on.
        model_options: ``{"pooler": ..., "pooler_options": ...}``, another way to give these two.
        loss, loss_options, miner, miner_options, optimizer, optimizer_options, pooler, pooler_options,
            learning_rate, loss_optimizer, loss_optimizer_options, callbacks, device, seed: see
            :class:`~finetuner.tuner.base.training.tuner.Tuner`.
        **fit_options: ``epochs``, ``batch_size`` and the rest of
            :meth:`~finetuner.tuner.base.training.tuner.Tuner.fit`.

    Returns:
        The run: its ``model``, ``history`` and ``metrics``; ``run.save(path)``, ``run.plot(path)``.
    """
    pooler, pooler_options = pooler_of(pooler, pooler_options, model_options)
    tuner = tuner_class(model)(
        model,
        loss=loss,
        optimizer=optimizer,
        learning_rate=learning_rate,
        callbacks=callbacks,
        device=device,
        seed=seed,
        loss_options=loss_options,
        miner=miner,
        miner_options=miner_options,
        optimizer_options=optimizer_options,
        loss_optimizer=loss_optimizer,
        loss_optimizer_options=loss_optimizer_options,
        pooler=pooler,
        pooler_options=pooler_options,
    )
    run: Run = tuner.fit(train_data, eval_data, **fit_options)
    return run


def pooler_of(
    pooler: Any, pooler_options: Mapping[str, Any] | None, model_options: Mapping[str, Any] | None
) -> tuple[Any, Mapping[str, Any] | None]:
    """The pooler and its options, given by themselves or as ``model_options``, but not as both."""
    if not model_options:
        return pooler, pooler_options
    for option in model_options:
        if option not in ("pooler", "pooler_options"):
            hint = checks.closest_match(option, ("pooler", "pooler_options"))
            raise TypeError(f"model_options has no option {option!r}; {hint}")
    if pooler is not None or pooler_options is not None:
        raise ValueError(
            f"the pooler must be given once, got pooler={pooler!r} and model_options={dict(model_options)}"
        )
    return model_options.get("pooler"), model_options.get("pooler_options")


def embed(model: Any, x: Any, *, device: str = "auto", **options: Any) -> np.ndarray:
    """Embeddings ``[N, D]`` float32 of the items ``x``.

    Args:
        model: from a batch of inputs to embeddings ``[N, D]``.
        x: items (an array, a sequence, a mapping of arrays) or a dataset.
        device: where to compute; ``"auto"`` takes an accelerator if there is one.
        **options: ``preprocess_fn``, ``collate_fn``, ``batch_size`` and ``num_workers`` of
            :meth:`~finetuner.tuner.base.training.tuner.Tuner.embed`.
    """
    embeddings: np.ndarray = tuner_class(model)(model, device=device).embed(x, **options)
    return embeddings


def evaluate(
    model: Any, data: Any, index_data: Any = None, *, distance: str = "cosine", device: str = "auto", **options: Any
) -> dict[str, float]:
    """Retrieval metrics of ``model``: ``data`` against itself, or against ``index_data``.

    Args:
        model: from a batch of inputs to embeddings ``[N, D]``.
        data: what to query with: a dataset of ours, ``(x, y)``, or the framework's own of such pairs.
        index_data: what to retrieve from; by default ``data``, each item without itself.
        distance: what is near: ``"cosine"``, ``"euclidean"`` or ``"sqeuclidean"``.
        device: where to compute; ``"auto"`` takes an accelerator if there is one.
        **options: ``metrics``, ``preprocess_fn``, ``collate_fn``, ``batch_size`` and ``num_workers`` of
            :meth:`~finetuner.tuner.base.training.tuner.Tuner.evaluate`.
    """
    tuner = tuner_class(model)(model, loss_options={"distance": distance}, device=device)
    metrics: dict[str, float] = tuner.evaluate(data, index_data, **options)
    return metrics
