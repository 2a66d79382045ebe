"""The library in three functions, for a model of any framework."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from .argument_names import explain_unknown_arguments
from .containers import is_table
from .parts import Part
from .saved_runs import load
from .tuner import framework_class, tuner_class
from .tuner.base import Callback, Encoder, Run
from .tuner.base.data.conversion import as_dataset
from .tuner.base.data.frames import items_of_table, read_tables
from .tuner.base.training.defaults import default_loss, kind_of
from .tuner.base.training.model_source import is_source
from .tuner.base.training.opening import as_encoder, fit_adapter, open_model, open_source

__all__ = ["embed", "evaluate", "fit", "load"]

ItemFunction = Callable[[Any], Any]
CollateFunction = Callable[[list[Any]], Any]


@explain_unknown_arguments
def fit(
    model: Any,
    train_data: Any,
    eval_data: Any = None,
    *,
    input_column: str | Sequence[str] | None = None,
    label_column: str | None = None,
    score_column: str | None = None,
    preprocess_fn: ItemFunction | None = None,
    collate_fn: CollateFunction | None = None,
    loss: Any = None,
    loss_options: Mapping[str, Any] | None = None,
    dims: Sequence[int] | None = None,
    dim_weights: Sequence[float] | None = None,
    miner: Any = None,
    miner_options: Mapping[str, Any] | None = None,
    optimizer: Any = None,
    optimizer_options: Mapping[str, Any] | None = None,
    learning_rate: float | Mapping[str, float | None] | None = None,
    loss_optimizer: Any = None,
    loss_optimizer_options: Mapping[str, Any] | None = None,
    schedule: Any = None,
    schedule_options: Mapping[str, Any] | None = None,
    warmup: float | None = None,
    weight_decay: float | None = None,
    clip_norm: float | None = None,
    layer_decay: float | None = None,
    freeze: Any = None,
    ema_decay: float | None = None,
    precision: str = "fp32",
    compile: bool = False,
    pooler: Any = None,
    pooler_options: Mapping[str, Any] | None = None,
    model_options: Mapping[str, Any] | None = None,
    adapter: Any = None,
    lora: Any = None,
    processes: str | bool = "auto",
    epochs: int | None = None,
    max_steps: int | None = None,
    batch_size: int | None = None,
    micro_batch_size: int | None = None,
    gradient_accumulation_steps: int = 1,
    length_groups: int | None = None,
    cache_frozen: bool | str | Path = False,
    num_items_per_class: int | None = None,
    keep_all: bool = False,
    sampler: Any = "auto",
    num_workers: int = 0,
    metrics: Iterable[str] | None = None,
    evaluate_every: Any = "1 epoch",
    log_every: Any = 50,
    checkpoint_folder: str | Path | None = None,
    checkpoint_every: Any = None,
    resume: str | Path | None = None,
    blend: float | None = None,
    callbacks: Sequence[Callback] | None = None,
    device: str = "auto",
    seed: int = 0,
) -> Run:
    """Train ``model`` with the tuner of its framework.

    The model is trained in place, except for a Keras model with a new pooler, which is rebuilt.

    Args:
        model: A pre-trained model by name or folder, or another source of :func:`finetuner.load_model`; or a model
            from a batch of inputs to embeddings ``[N, D]``; for pairs of two kinds, a tuple of two models.
        train_data: A dataset, ``(x, y)``, or the framework's own dataset of such pairs.
        eval_data: The same kinds of data, for the validation loss and the metrics before training and after each
            epoch. Classes that are not in the training data are the best test. A pair of datasets is a pair of queries
            and gallery, and a mapping has several evaluation sets.
        input_column: The column with the items of a ``datasets.Dataset`` or a frame. Two columns without labels are
            pairs, and three are triplets. The default is ``text``, or the only column beside the labels.
        label_column: The column with the classes. The default is ``label``.
        score_column: The column with the similarity of each pair.
        preprocess_fn: A function from an item to a row of the model's input.
        collate_fn: A function from a list of (preprocessed) items to the model's input, such as a tokenizer.
        loss: A name, a class or an instance.
        loss_options: Arguments of a loss given by name or class.
        dims: Sizes of the embeddings, such as ``(384, 128, 32)``, of which the first components are to be good
            embeddings by themselves (Matryoshka).
        dim_weights: The weight of each size in the loss.
        miner: For the loss: a name, a class or an instance.
        miner_options: Arguments of a miner given by name or class.
        optimizer: The name of an optimizer of the framework, a class, or an instance that has the model's weights.
        optimizer_options: Arguments of an optimizer given by name or class.
        learning_rate: Of the optimizer, above 0; or a mapping from patterns of names of weights to their rates.
        loss_optimizer: The optimizer of the loss's own weights; by default like ``optimizer``.
        loss_optimizer_options: Arguments of it.
        schedule: How the learning rate changes: ``"constant"``, ``"linear"``, ``"cosine"``, ``"cosine_with_restarts"``,
            ``"polynomial"``, ``"warmup_stable_decay"``, a function, or the framework's own scheduler.
        schedule_options: Arguments of a schedule given by name.
        warmup: The number of steps in which the learning rate rises, or as a float below 1 their share of all steps.
        weight_decay: Decoupled weight decay of all weights but biases, norms and other vectors.
        clip_norm: The largest norm of the gradient of all weights; infinity for no limit.
        layer_decay: Multiplies the learning rate once per layer from the output to the input.
        freeze: Patterns of the weights that are not trained, or a mapping from patterns to the number of epochs after
            which they are.
        ema_decay: The decay of an exponential moving average of the weights, which is evaluated and returned.
        precision: ``"fp32"``, ``"bf16"``, ``"fp16"`` or ``"auto"``.
        compile: Whether to compile the model, for PyTorch and Paddle.
        pooler: Replaces the model's global pooling: a name, a class or an instance.
        pooler_options: Arguments of a pooler given by name or class.
        model_options: Arguments of :func:`finetuner.load_model`, such as ``max_length`` and ``prompts``; also
            ``pooler`` and ``pooler_options``.
        adapter: ``"linear"`` or ``"mlp"`` to train a small layer on the embeddings of the model, which are computed
            once, and not the model. Without a model (None) the items are embeddings.
        lora: The rank of LoRA for a PyTorch model, such as 8; or the arguments of ``peft.LoraConfig`` as a mapping; or
            a ``LoraConfig``. Small matrices in the layers are trained and saved, and the model's own weights are not.
        processes: ``"auto"``: the processes that torchrun, the launcher of Paddle or ``keras.distribution`` (JAX) has
            started train one model together. False: this process trains by itself.
        epochs: The number of epochs to train.
        max_steps: The number of steps after which the training ends.
        batch_size: The maximal number of items in a batch.
        micro_batch_size: The rows of the model's input that are in memory at once (gradient caching).
        gradient_accumulation_steps: The number of batches whose mean gradient is one step.
        length_groups: The number of groups of similar length that a batch is split into, so that less of it is padding.
        cache_frozen: Whether to run the layers at the input that are never trained once, and to keep their outputs in
            memory, or in a file of this folder.
        num_items_per_class: How many items of a class a batch contains.
        keep_all: Whether each item occurs at least once in an epoch.
        sampler: ``"auto"``, ``"class"``, ``"random"``, an instance, or an iterable over the batches of an epoch.
        num_workers: The number of processes (Keras: threads) that prepare batches.
        metrics: Names of metrics.
        evaluate_every: When to evaluate: an ``Every``, a number of steps, or a text such as ``"2 epochs"``.
        log_every: When to add a row to the log, in the same forms.
        checkpoint_folder: A folder for checkpoints.
        checkpoint_every: When to save one, in the same forms. The default is each epoch.
        resume: The folder of a run that was interrupted, or of its checkpoints: the training goes on from there.
        blend: Moves the trained model towards what it was before, from 0 (as before) to 1 (as trained).
        callbacks: By default a progress bar.
        device: Where to train; ``"auto"`` uses an accelerator if there is one.
        seed: Seed of batches, views and the framework's random numbers.

    All arguments but ``model_options`` and ``adapter`` are those of
    :class:`~finetuner.tuner.base.training.tuner.Tuner` and its method ``fit``, which document them in full.

    Returns:
        The run, with the trained ``model``, the ``history`` and the ``metrics``. ``run.save(path)`` writes a folder,
        and ``run.plot(path)`` a picture.

    Raises:
        ValueError: If an argument is out of its range, or the data does not fit the loss.
        TypeError: If the model is of no known framework, an option is unknown, or the data is of an unknown kind.
    """
    if is_table(train_data) or adapter is not None:
        train_data, eval_data = read_tables(train_data, eval_data, input_column, label_column, score_column)
        input_column = label_column = score_column = None
    if adapter is not None:
        return fit_adapter(fit, dict(locals()))
    model, pooler, pooler_options = open_model(model, device, pooler, pooler_options, model_options)
    if loss is None and kind_of(model) is not None:
        train_data = as_dataset(model.framework.convert_dataset(train_data), "train_data")
        loss, options = default_loss(train_data)
        loss_options = {**(options or {}), **(loss_options or {})} or None
    tuner = tuner_class(model)(
        model,
        loss=loss,
        optimizer=optimizer,
        learning_rate=learning_rate,
        callbacks=callbacks,
        device=device,
        seed=seed,
        loss_options=loss_options,
        dims=dims,
        dim_weights=dim_weights,
        miner=miner,
        miner_options=miner_options,
        optimizer_options=optimizer_options,
        loss_optimizer=loss_optimizer,
        loss_optimizer_options=loss_optimizer_options,
        schedule=schedule,
        schedule_options=schedule_options,
        warmup=warmup,
        weight_decay=weight_decay,
        clip_norm=clip_norm,
        layer_decay=layer_decay,
        freeze=freeze,
        ema_decay=ema_decay,
        precision=precision,
        compile=compile,
        pooler=pooler,
        pooler_options=pooler_options,
        lora=lora,
        processes=processes,
    )
    return tuner.fit(
        train_data,
        eval_data,
        preprocess_fn,
        collate_fn,
        input_column=input_column,
        label_column=label_column,
        score_column=score_column,
        epochs=epochs,
        max_steps=max_steps,
        batch_size=batch_size,
        micro_batch_size=micro_batch_size,
        gradient_accumulation_steps=gradient_accumulation_steps,
        length_groups=length_groups,
        cache_frozen=cache_frozen,
        num_items_per_class=num_items_per_class,
        keep_all=keep_all,
        sampler=sampler,
        num_workers=num_workers,
        metrics=metrics,
        evaluate_every=evaluate_every,
        log_every=log_every,
        checkpoint_folder=checkpoint_folder,
        checkpoint_every=checkpoint_every,
        resume=resume,
        blend=blend,
    )


def embed(
    model: Any,
    x: Any,
    *,
    input_column: str | Sequence[str] | None = None,
    preprocess_fn: ItemFunction | None = None,
    collate_fn: CollateFunction | None = None,
    batch_size: int = 256,
    num_workers: int = 0,
    dim: int | None = None,
    dtype: str = "float32",
    calibration: Any = None,
    part: Part | None = None,
    device: str = "auto",
) -> np.ndarray:
    """Embed items with the model in evaluation mode.

    Args:
        model: A source of :func:`finetuner.load_model`, or a model from a batch of inputs to embeddings ``[N, D]``.
        x: Items (an array, a sequence, a mapping of arrays) or a dataset.
        input_column: The column with the items of a ``datasets.Dataset`` or a frame; or several columns, for a mapping.
        preprocess_fn: A function from an item to a row of the model's input.
        collate_fn: A function from a list of (preprocessed) items to the model's input, such as a tokenizer.
        batch_size: Items in a batch.
        num_workers: The number of processes (Keras: threads) that prepare batches.
        dim: The number of components to return, the first of each embedding. The default is all.
        dtype: ``"float32"``, ``"int8"``, ``"uint8"``, ``"binary"`` or ``"ubinary"``.
        calibration: Embeddings that give the ranges for bytes, see :func:`~finetuner.quantization.quantize`.
        part: The number of a part, from 1, and the number of parts: ``(3, 8)`` embeds only the third of eight parts of
            the items, see :meth:`Encoder.embed`.
        device: Where to compute; ``"auto"`` uses an accelerator if there is one.

    Returns:
        ``[N, D]`` float32, or another dtype.

    Raises:
        ValueError: If there are no items, inputs or embeddings are not finite, ``dim`` is above D, or ``part`` is out
            of its range.
        TypeError: If the model is of no known framework, or does not return ``[N, D]``, or ``part`` is not two
            integers.
    """
    encoder = open_encoder(model, None, device)
    x = items_of_table(x, input_column)
    form: dict[str, Any] = {"dim": dim, "dtype": dtype, "calibration": calibration, "part": part}
    return encoder.embed(x, preprocess_fn, collate_fn, batch_size=batch_size, num_workers=num_workers, **form)


def evaluate(
    model: Any,
    data: Any,
    index_data: Any = None,
    *,
    input_column: str | Sequence[str] | None = None,
    label_column: str | None = None,
    score_column: str | None = None,
    distance: str | None = None,
    metrics: Iterable[str] | None = None,
    dims: Sequence[int] | None = None,
    exclude_duplicates: bool = False,
    preprocess_fn: ItemFunction | None = None,
    collate_fn: CollateFunction | None = None,
    batch_size: int = 256,
    num_workers: int = 0,
    device: str = "auto",
) -> dict[str, float]:
    """Retrieval metrics of ``model``: ``data`` against itself, or against ``index_data``.

    Args:
        model: A source of :func:`finetuner.load_model`, or a model from a batch of inputs to embeddings ``[N, D]``.
        data: The queries: a dataset, ``(x, y)``, or the framework's own dataset of such pairs.
        index_data: What is searched. The default is ``data``, each item without itself.
        input_column: The column with the items of a ``datasets.Dataset`` or a frame. Two columns without labels are
            pairs, and three are triplets. The default is ``text``, or the only column beside the labels.
        label_column: The column with the classes. The default is ``label``.
        score_column: The column with the similarity of each pair.
        distance: ``"cosine"``, ``"euclidean"`` or ``"sqeuclidean"``; by default that of an encoder or a saved run, and
            else the cosine.
        metrics: Names of metrics, see :func:`~finetuner.evaluation.retrieval_metrics`.
        dims: Sizes of embeddings, such as ``(384, 128, 32)``: metrics of the first components are ``dim_128/hit@1``.
        exclude_duplicates: Whether items with exactly the embedding of a query are left out of its search.
        preprocess_fn: A function from an item to a row of the model's input.
        collate_fn: A function from a list of (preprocessed) items to the model's input, such as a tokenizer.
        batch_size: Items in a batch.
        num_workers: The number of processes (Keras: threads) that prepare batches.
        device: Where to compute; ``"auto"`` uses an accelerator if there is one.

    Returns:
        The metrics, by name.

    Raises:
        ValueError: For an unknown metric, data in which nothing can be retrieved, a size that is above D, or duplicates
            to exclude from data that is not searched.
        TypeError: If the model is of no known framework, or does not return ``[N, D]``.
    """
    encoder = open_encoder(model, distance, device)
    data, index_data = read_tables(data, index_data, input_column, label_column, score_column, ("data", "index_data"))
    return encoder.evaluate(
        data,
        index_data,
        preprocess_fn,
        collate_fn,
        metrics=metrics,
        dims=dims,
        exclude_duplicates=exclude_duplicates,
        batch_size=batch_size,
        num_workers=num_workers,
    )


def open_encoder(model: Any, distance: str | None, device: str) -> Encoder:
    """The encoder of a model in all forms that :func:`embed` and :func:`evaluate` take."""
    if is_source(model):
        model = open_source(model, device=device)
    is_encoder = isinstance(model, Encoder)
    framework = model.framework if is_encoder else framework_class(model)(device)
    return as_encoder(model, framework, distance or (model.distance if is_encoder else "cosine"))
