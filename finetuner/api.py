"""The library in three functions, for a model of any framework."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from . import checks
from .tuner import tuner_class
from .tuner.base import Callback, Run, Sampler

__all__ = ["embed", "evaluate", "fit"]

ItemFunction = Callable[[Any], Any]
CollateFunction = Callable[[list[Any]], Any]


def fit(
    model: Any,
    train_data: Any,
    eval_data: Any = None,
    *,
    preprocess_fn: ItemFunction | None = None,
    collate_fn: CollateFunction | None = None,
    loss: Any = "TripletLoss",
    loss_options: Mapping[str, Any] | None = None,
    miner: Any = None,
    miner_options: Mapping[str, Any] | None = None,
    optimizer: Any = "Adam",
    optimizer_options: Mapping[str, Any] | None = None,
    learning_rate: float = 1e-3,
    loss_optimizer: Any = None,
    loss_optimizer_options: Mapping[str, Any] | None = None,
    pooler: Any = None,
    pooler_options: Mapping[str, Any] | None = None,
    model_options: Mapping[str, Any] | None = None,
    epochs: int = 10,
    batch_size: int = 256,
    micro_batch_size: int | None = None,
    num_items_per_class: int | None = None,
    sampler: str | Sampler = "auto",
    num_workers: int = 0,
    metrics: Iterable[str] | None = None,
    callbacks: Sequence[Callback] | None = None,
    device: str = "auto",
    seed: int = 0,
) -> Run:
    """Train ``model`` with the tuner of its framework.

    The model is trained in place, except for a Keras model with a new pooler, which is rebuilt.

    Args:
        model: A model from a batch of inputs to embeddings ``[N, D]``; for pairs of two kinds, a tuple of two models.
        train_data: A dataset, ``(x, y)``, or the framework's own dataset of such pairs.
        eval_data: The same kinds of data, for the validation loss and the metrics before training and after each
            epoch. Classes that are not in the training data are the best test.
        preprocess_fn: A function from an item to a row of the model's input.
        collate_fn: A function from a list of (preprocessed) items to the model's input, such as a tokenizer.
        loss: A name, a class or an instance.
        loss_options: Arguments of a loss given by name or class.
        miner: For the loss: a name, a class or an instance.
        miner_options: Arguments of a miner given by name or class.
        optimizer: The name of an optimizer of the framework, a class, or an instance that has the model's weights.
        optimizer_options: Arguments of an optimizer given by name or class.
        learning_rate: Of the optimizer, above 0.
        loss_optimizer: The optimizer of the loss's own weights; by default like ``optimizer``.
        loss_optimizer_options: Arguments of it.
        pooler: Replaces the model's last pooling layer: a name, a class or an instance.
        pooler_options: Arguments of a pooler given by name or class.
        model_options: ``{"pooler": ..., "pooler_options": ...}``, another way to pass these two.
        epochs: The number of epochs to train.
        batch_size: The maximal number of items in a batch.
        micro_batch_size: The rows of the model's input that are in memory at once (gradient caching).
        num_items_per_class: How many items of a class a batch contains.
        sampler: ``"auto"``, ``"class"``, ``"random"`` or an instance.
        num_workers: The number of processes (Keras: threads) that prepare batches.
        metrics: Names of metrics.
        callbacks: By default a progress bar.
        device: Where to train; ``"auto"`` uses an accelerator if there is one.
        seed: Seed of batches, views and the framework's random numbers.

    All arguments but ``model_options`` are those of :class:`~finetuner.tuner.base.training.tuner.Tuner` and its method
    ``fit``, which document them in full.

    Returns:
        The run, with the trained ``model``, the ``history`` and the ``metrics``. ``run.save(path)`` writes a folder,
        and ``run.plot(path)`` a picture.

    Raises:
        ValueError: If an argument is out of its range, or the data does not fit the loss.
        TypeError: If the model is of no known framework, an option is unknown, or the data is of an unknown kind.
    """
    pooler, pooler_options = resolve_pooler(pooler, pooler_options, model_options)
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
    return tuner.fit(
        train_data,
        eval_data,
        preprocess_fn,
        collate_fn,
        epochs=epochs,
        batch_size=batch_size,
        micro_batch_size=micro_batch_size,
        num_items_per_class=num_items_per_class,
        sampler=sampler,
        num_workers=num_workers,
        metrics=metrics,
    )


def resolve_pooler(
    pooler: Any, pooler_options: Mapping[str, Any] | None, model_options: Mapping[str, Any] | None
) -> tuple[Any, Mapping[str, Any] | None]:
    """The pooler and its options, passed as arguments or in ``model_options``.

    Raises:
        ValueError: If both are passed.
        TypeError: For an unknown option.
    """
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


def embed(
    model: Any,
    x: Any,
    *,
    preprocess_fn: ItemFunction | None = None,
    collate_fn: CollateFunction | None = None,
    batch_size: int = 256,
    num_workers: int = 0,
    device: str = "auto",
) -> np.ndarray:
    """Embed items with the model in evaluation mode.

    Args:
        model: A model from a batch of inputs to embeddings ``[N, D]``.
        x: Items (an array, a sequence, a mapping of arrays) or a dataset.
        preprocess_fn: A function from an item to a row of the model's input.
        collate_fn: A function from a list of (preprocessed) items to the model's input, such as a tokenizer.
        batch_size: Items in a batch.
        num_workers: The number of processes (Keras: threads) that prepare batches.
        device: Where to compute; ``"auto"`` uses an accelerator if there is one.

    Returns:
        ``[N, D]`` float32.

    Raises:
        ValueError: If there are no items, or inputs or embeddings are not finite.
        TypeError: If the model is of no known framework, or does not return ``[N, D]``.
    """
    tuner = tuner_class(model)(model, device=device)
    return tuner.embed(x, preprocess_fn, collate_fn, batch_size=batch_size, num_workers=num_workers)


def evaluate(
    model: Any,
    data: Any,
    index_data: Any = None,
    *,
    distance: str = "cosine",
    metrics: Iterable[str] | None = None,
    preprocess_fn: ItemFunction | None = None,
    collate_fn: CollateFunction | None = None,
    batch_size: int = 256,
    num_workers: int = 0,
    device: str = "auto",
) -> dict[str, float]:
    """Retrieval metrics of ``model``: ``data`` against itself, or against ``index_data``.

    Args:
        model: A model from a batch of inputs to embeddings ``[N, D]``.
        data: The queries: a dataset, ``(x, y)``, or the framework's own dataset of such pairs.
        index_data: What is searched. The default is ``data``, each item without itself.
        distance: ``"cosine"``, ``"euclidean"`` or ``"sqeuclidean"``.
        metrics: Names of metrics, see :func:`~finetuner.evaluation.retrieval_metrics`.
        preprocess_fn: A function from an item to a row of the model's input.
        collate_fn: A function from a list of (preprocessed) items to the model's input, such as a tokenizer.
        batch_size: Items in a batch.
        num_workers: The number of processes (Keras: threads) that prepare batches.
        device: Where to compute; ``"auto"`` uses an accelerator if there is one.

    Returns:
        The metrics, by name.

    Raises:
        ValueError: For an unknown metric, or data in which nothing can be retrieved.
        TypeError: If the model is of no known framework, or does not return ``[N, D]``.
    """
    tuner = tuner_class(model)(model, loss_options={"distance": distance}, device=device)
    options: dict[str, Any] = {"metrics": metrics, "batch_size": batch_size, "num_workers": num_workers}
    return tuner.evaluate(data, index_data, preprocess_fn, collate_fn, **options)
