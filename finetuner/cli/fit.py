"""The command ``fit``."""

from typing import Any

import typer

from . import fit_options as f
from . import options as o
from .inputs import (
    check_inputs,
    check_output,
    parse_eval_data,
    parse_freeze,
    parse_learning_rates,
    parse_options,
    read_data,
)
from .models import create_model, has_model, import_functions, model_options_of, trusted_code
from .option_files import CODE, code_of_folder
from .sizes import parse_numbers
from .terminal import (
    exit_after_signal,
    handle_errors,
    ignore_signals,
    is_first_process,
    print_message,
    print_metrics,
)
from .training import build_callbacks, command_to_record, read_eval_data, save_run, train_options
from .user_code import names_code, resolve_callable, use_threads

__all__ = ["fit"]


def flag(name: str) -> str:
    """The option of the command line with this name."""
    return f"--{name.replace('_', '-')}"


@handle_errors
def fit(
    context: typer.Context,
    *,
    data: o.Data,
    eval_data: o.EvalData = None,
    index_data: o.Gallery = None,
    input_column: o.InputColumn = None,
    image_column: o.ImageColumn = None,
    label_column: o.LabelColumn = None,
    session_column: o.SessionColumn = None,
    role_column: o.RoleColumn = None,
    anchor_column: o.AnchorColumn = None,
    positive_column: o.PositiveColumn = None,
    negative_column: o.NegativeColumn = None,
    score_column: o.ScoreColumn = None,
    target_column: o.TargetColumn = None,
    query_column: o.QueryColumn = None,
    relevance_column: o.RelevanceColumn = None,
    unlabelled: o.Unlabelled = False,
    numeric: o.Numeric = False,
    encoding: o.Encoding = None,
    separator: o.Separator = None,
    column_names: o.ColumnNames = None,
    max_bytes: o.MaxBytes = None,
    split: o.Split = None,
    eval_split: o.EvalSplit = None,
    classes: o.Classes = None,
    eval_classes: o.EvalClasses = None,
    image_size: o.ImageSize = None,
    image_mode: o.ImageMode = None,
    channels_last: o.ChannelsLast = False,
    in_memory: o.InMemory = False,
    max_pixels: o.MaxPixels = None,
    skip_broken: o.SkipBroken = False,
    num_workers: o.NumWorkers = 0,
    model: o.Model,
    model_option: o.ModelOption = None,
    preprocess: o.Preprocess = None,
    collate: o.Collate = None,
    augment: o.Augment = None,
    pooler: f.Pooler = None,
    pooler_option: f.PoolerOption = None,
    adapter: f.Adapter = None,
    lora: f.LoRA = None,
    device: o.Device = "auto",
    precision: f.Precision = "fp32",
    compile: f.Compile = False,
    trust: o.Trust = False,
    loss: f.Loss = None,
    loss_option: f.LossOption = None,
    dims: f.Dims = None,
    dim_weights: f.DimWeights = None,
    miner: f.Miner = None,
    miner_option: f.MinerOption = None,
    loss_optimizer: f.LossOptimizer = None,
    loss_optimizer_option: f.LossOptimizerOption = None,
    optimizer: f.Optimizer = None,
    optimizer_option: f.OptimizerOption = None,
    learning_rate: f.LearningRate = None,
    learning_rate_of: f.LearningRateOf = None,
    schedule: f.Schedule = None,
    schedule_option: f.ScheduleOption = None,
    warmup: f.Warmup = None,
    weight_decay: f.WeightDecay = None,
    clip_norm: f.ClipNorm = None,
    layer_decay: f.LayerDecay = None,
    freeze: f.Freeze = None,
    cache_frozen: f.CacheFrozen = False,
    cache_folder: f.CacheFolder = None,
    ema_decay: f.EmaDecay = None,
    blend: f.Blend = None,
    epochs: f.Epochs = None,
    max_steps: f.MaxSteps = None,
    batch_size: f.BatchSize = None,
    micro_batch_size: f.MicroBatchSize = None,
    gradient_accumulation_steps: f.GradientAccumulationSteps = 1,
    length_groups: f.LengthGroups = None,
    sampler: f.Sampler = "auto",
    num_items_per_class: f.NumItemsPerClass = None,
    keep_all: f.KeepAll = False,
    metric: o.Metric = None,
    evaluate_every: f.EvaluateEvery = "1 epoch",
    early_stopping: f.EarlyStopping = None,
    keep_best: f.KeepBest = False,
    monitor: f.Monitor = None,
    checkpoint_every: f.CheckpointEvery = None,
    checkpoint_folder: f.CheckpointFolder = None,
    keep_checkpoints: f.KeepCheckpoints = None,
    log_every: f.LogEvery = "50",
    track: f.Track = None,
    output: f.Output,
    config: o.Config = None,
    like: f.Like = None,
    resume: f.Resume = None,
    seed: o.Seed = 0,
    threads: o.Threads = None,
    debug: o.Debug = False,
) -> None:
    """Train a model on labelled data, and save the run in a folder.

    With --eval-data, --eval-classes or --eval-split, retrieval metrics are computed before
    the training and after each epoch.

    Ctrl-C and SIGTERM end the training and save what was trained. It can be
    resumed with --resume.
    """
    options = {name: value for name, value in locals().items() if name != "context"}
    component_options: dict[str, Any] = {
        f"{name}s": parse_options(flag(name), options[name]) for name in options if name.endswith("_option")
    }
    rates, frozen = parse_learning_rates(learning_rate, learning_rate_of), parse_freeze(freeze)
    sizes, size_weights = parse_numbers("--dims", dims, int), parse_numbers("--dim-weights", dim_weights, float)
    if like is not None and resume is not None:
        raise ValueError("--like must not be used with --resume, which takes the options of its run, too")
    check_output(output)
    check_inputs(*data, *parse_eval_data(eval_data).values(), index_data)
    use_threads(threads)
    folder, theirs = code_of_folder(context)
    resumed = None if resume is None else folder
    code = trusted_code(
        {name: options[name] for name in CODE if name not in theirs},
        {name: options[name] for name in theirs},
        folder,
        trust,
        has_model(resumed),
    )
    callbacks = build_callbacks(options, resumed)
    functions, augment_function = import_functions(code), resolve_callable("--augment", code["augment"])
    is_pretrained = code["model"] is not None and not names_code(code["model"])
    model_options = component_options.pop("model_options")
    if is_pretrained:  # the pooler is a part of the model, and not replaced in it
        model_options, pooler, component_options["pooler_options"] = model_options_of(options), None, None
    embed_model = create_model(code, model_options, seed, resumed, device, trust)
    if getattr(embed_model, "source", None) is not None:
        pooler, component_options["pooler_options"] = None, None
    train_dataset = read_data(data, train_options(options), classes, "train", augment=augment_function)
    eval_dataset = read_eval_data(options)

    from ..api import fit as train

    run = train(
        embed_model,
        train_dataset,
        eval_dataset,
        loss=loss,
        dims=sizes,
        dim_weights=size_weights,
        miner=miner,
        optimizer=optimizer,
        learning_rate=rates,
        loss_optimizer=loss_optimizer,
        schedule=schedule,
        warmup=int(warmup) if warmup is not None and warmup >= 1 and warmup.is_integer() else warmup,
        weight_decay=weight_decay,
        clip_norm=clip_norm,
        layer_decay=layer_decay,
        freeze=frozen,
        ema_decay=ema_decay,
        precision=precision,
        compile=compile,
        pooler=pooler,
        adapter=adapter,
        lora=lora,
        epochs=epochs,
        max_steps=max_steps,
        batch_size=batch_size,
        micro_batch_size=micro_batch_size,
        gradient_accumulation_steps=gradient_accumulation_steps,
        length_groups=length_groups,
        cache_frozen=cache_frozen if cache_folder is None else cache_folder,
        num_items_per_class=num_items_per_class,
        keep_all=keep_all,
        sampler=sampler,
        num_workers=num_workers,
        metrics=metric,
        evaluate_every=evaluate_every,
        log_every=log_every,
        resume=resumed,
        blend=blend,
        callbacks=callbacks,
        device=device,
        seed=seed,
        **component_options,
        **functions,
    )
    run.config["command"] = command_to_record(options)
    if not is_first_process():
        exit_after_signal(run.interrupted, run.signal)
        return
    with ignore_signals():
        output = save_run(run, output)
    print_metrics(run.metrics)
    typer.echo(f"run       {output}/  weights.safetensors, config.json, history.json, log.json, metrics.json")
    try:
        typer.echo(f"history   {run.plot(output / 'history.png')}")
    except (ImportError, OSError) as error:
        print_message(f"{output / 'history.png'} was not drawn: {error}", "note")
    exit_after_signal(run.interrupted, run.signal)
