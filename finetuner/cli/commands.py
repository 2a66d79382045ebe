"""The commands of the command line: ``fit``, ``evaluate``, ``embed`` and ``demo``.

Each command imports heavy libraries itself, so ``finetuner --help`` is fast.
"""

from pathlib import Path
from typing import Annotated, Any

import typer

from .. import __version__
from . import options as o
from .console_noise import silence_frameworks
from .examples import EMBED_EXAMPLES, EVALUATE_EXAMPLES, FIT_EXAMPLES
from .inputs import (
    build_callbacks,
    check_inputs,
    check_output,
    first_free_folder,
    load_model_and_functions,
    parse_options,
    read_data,
    run_settings,
)
from .terminal import INTERRUPTED, handle_errors, ignore_interrupts, print_message, print_metrics
from .user_code import absolute_spec, use_threads

__all__ = ["app", "main"]

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def main() -> None:
    """Run the command line."""
    silence_frameworks()
    app(prog_name="finetuner")


def show_version(requested: bool) -> None:
    """Print the version and exit."""
    if requested:
        typer.echo(f"finetuner {__version__}")
        raise typer.Exit


@app.callback()
def finetuner(
    version: Annotated[
        bool, typer.Option("--version", callback=show_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """Train a PyTorch, Keras or PaddlePaddle model to give good embeddings, by metric learning."""


@app.command(epilog=FIT_EXAMPLES)
@handle_errors
def fit(
    *,
    data: o.Data,
    eval_data: o.EvalData = None,
    input_column: o.InputColumn = None,
    label_column: o.LabelColumn = None,
    session_column: o.SessionColumn = None,
    role_column: o.RoleColumn = None,
    classes: o.Classes = None,
    eval_classes: o.EvalClasses = None,
    image_size: o.ImageSize = None,
    image_mode: o.ImageMode = None,
    channels_last: o.ChannelsLast = False,
    in_memory: o.InMemory = False,
    num_workers: o.NumWorkers = 0,
    model: o.Model,
    preprocess: o.Preprocess = None,
    collate: o.Collate = None,
    device: o.Device = "auto",
    loss: o.Loss = "TripletLoss",
    loss_option: o.LossOption = None,
    miner: o.Miner = None,
    miner_option: o.MinerOption = None,
    optimizer: o.Optimizer = "Adam",
    optimizer_option: o.OptimizerOption = None,
    pooler: o.Pooler = None,
    pooler_option: o.PoolerOption = None,
    learning_rate: o.LearningRate = 1e-3,
    loss_optimizer: o.LossOptimizer = None,
    loss_optimizer_option: o.LossOptimizerOption = None,
    epochs: o.Epochs = 10,
    batch_size: o.BatchSize = 256,
    micro_batch_size: o.MicroBatchSize = None,
    sampler: o.Sampler = "auto",
    num_items_per_class: o.NumItemsPerClass = None,
    metric: o.Metric = None,
    early_stopping: o.EarlyStopping = None,
    keep_best: o.KeepBest = False,
    monitor: o.Monitor = None,
    checkpoint_every: o.CheckpointEvery = None,
    output: o.Output,
    seed: o.Seed = 0,
    threads: o.Threads = None,
    debug: o.Debug = False,
) -> None:
    """Train a model on labelled data, and save the run in a folder.

    With --eval-data or --eval-classes, retrieval metrics are computed before
    the training and after each epoch.

    Ctrl-C ends the training and saves what was trained.
    """
    command = {name: str(value) if isinstance(value, Path) else value for name, value in locals().items()}
    component_options: dict[str, Any] = {
        "loss_options": parse_options("--loss-option", loss_option),
        "miner_options": parse_options("--miner-option", miner_option),
        "optimizer_options": parse_options("--optimizer-option", optimizer_option),
        "loss_optimizer_options": parse_options("--loss-optimizer-option", loss_optimizer_option),
        "pooler_options": parse_options("--pooler-option", pooler_option),
    }
    check_output(output)
    check_inputs(data, eval_data)
    use_threads(threads)
    has_eval_data = eval_data is not None or bool(eval_classes)
    callbacks = build_callbacks(command, has_eval_data)
    embed_model, functions = load_model_and_functions(command)
    train_dataset = read_data(data, command, classes, "train")
    eval_dataset = read_data(eval_data or data, command, eval_classes, "eval") if has_eval_data else None

    from ..api import fit as train

    run = train(
        embed_model,
        train_dataset,
        eval_dataset,
        loss=loss,
        miner=miner,
        optimizer=optimizer,
        pooler=pooler,
        learning_rate=learning_rate,
        loss_optimizer=loss_optimizer,
        callbacks=callbacks,
        device=device,
        seed=seed,
        epochs=epochs,
        batch_size=batch_size,
        micro_batch_size=micro_batch_size,
        sampler=sampler,
        num_items_per_class=num_items_per_class,
        num_workers=num_workers,
        metrics=metric,
        **(component_options | functions),
    )
    run.config["command"] = command | {
        name: absolute_spec(command[name]) for name in ("model", "preprocess", "collate")
    }
    with ignore_interrupts():
        run.save(output)
    print_metrics(run.metrics)
    typer.echo(f"run       {output}/  weights.safetensors, config.json, history.json, metrics.json")
    try:
        typer.echo(f"history   {run.plot(output / 'history.png')}")
    except ImportError as error:
        print_message(f"{output / 'history.png'} was not drawn: {error}", "note")
    if run.interrupted:
        raise typer.Exit(INTERRUPTED)


@app.command(epilog=EVALUATE_EXAMPLES)
@handle_errors
def evaluate(
    *,
    data: o.Data,
    index_data: o.IndexData = None,
    input_column: o.InputColumn = None,
    label_column: o.LabelColumn = None,
    session_column: o.SessionColumn = None,
    role_column: o.RoleColumn = None,
    classes: o.Classes = None,
    image_size: o.ImageSize = None,
    image_mode: o.ImageMode = None,
    channels_last: o.ChannelsLast = False,
    in_memory: o.InMemory = False,
    num_workers: o.NumWorkers = 0,
    run: o.RunFolder = None,
    model: o.Model = None,
    preprocess: o.Preprocess = None,
    collate: o.Collate = None,
    device: o.Device = "auto",
    distance: o.Distance = None,
    metric: o.Metric = None,
    batch_size: o.BatchSize = 256,
    seed: o.WeightSeed = None,
    threads: o.Threads = None,
    debug: o.Debug = False,
) -> None:
    """Compute retrieval metrics of a model, within the data or in an index.

    Each item of --data is a query. It is searched among the other items, or in
    --index-data.
    """
    settings = run_settings(run, locals())
    check_inputs(data, index_data)
    use_threads(threads)
    embed_model, functions = load_model_and_functions(settings, run, device)
    query_dataset = read_data(data, settings, classes, "data")
    index_dataset = None if index_data is None else read_data(index_data, settings, classes, "index")

    from ..api import evaluate as compute_metrics

    metrics = compute_metrics(
        embed_model,
        query_dataset,
        index_dataset,
        distance=settings.get("distance") or "cosine",
        device=device,
        metrics=metric,
        batch_size=batch_size,
        num_workers=num_workers,
        **functions,
    )
    print_metrics({"value": metrics})


@app.command(epilog=EMBED_EXAMPLES)
@handle_errors
def embed(
    *,
    data: o.Data,
    input_column: o.InputColumn = None,
    label_column: o.LabelColumn = None,
    image_size: o.ImageSize = None,
    image_mode: o.ImageMode = None,
    channels_last: o.ChannelsLast = False,
    num_workers: o.NumWorkers = 0,
    run: o.RunFolder = None,
    model: o.Model = None,
    preprocess: o.Preprocess = None,
    collate: o.Collate = None,
    device: o.Device = "auto",
    batch_size: o.BatchSize = 256,
    output: o.EmbedOutput,
    seed: o.WeightSeed = None,
    threads: o.Threads = None,
    debug: o.Debug = False,
) -> None:
    """Write embeddings of data to an .npz file.

    The file has an array `embeddings`, with one row per item. With
    --label-column it also has `labels`, and for images it also has `names`.
    """
    settings = run_settings(run, {name: value for name, value in locals().items() if name != "label_column"})
    check_output(output, ".npz")
    check_inputs(data)
    use_threads(threads)
    embed_model, functions = load_model_and_functions(settings, run, device)
    labelled = label_column is not None  # the run's own label column does not count
    data_settings = {
        **settings,
        "label_column": label_column,
        "session_column": None,
        "role_column": None,
        "in_memory": False,
    }
    items = read_data(data, data_settings, None, "data", labelled)

    import numpy as np

    from ..api import embed as compute_embeddings

    arrays: dict[str, Any] = {
        "embeddings": compute_embeddings(
            embed_model, items, device=device, batch_size=batch_size, num_workers=num_workers, **functions
        )
    }
    if labelled:
        arrays["labels"] = items.classes[items.labels]
    if hasattr(items, "names"):
        arrays["names"] = np.array(items.names)
    output.parent.mkdir(parents=True, exist_ok=True)
    unfinished = output.with_name(f".{output.stem}.unfinished.npz")
    np.savez(unfinished, **arrays)
    unfinished.rename(output)
    typer.echo(f"{output}  " + ", ".join(f"{name} {list(array.shape)}" for name, array in arrays.items()))


@app.command()
@handle_errors
def demo(
    backend: o.DemoBackend = "pytorch",
    output: o.DemoOutput = None,
    seed: o.Seed = 0,
    debug: o.Debug = False,
) -> None:
    """Train on images of the digits 0 to 4, and evaluate on the digits 5 to 9.

    It takes about a minute on two cores.
    """
    from ..demo import run_demo

    output = output or first_free_folder("demo")
    check_output(output)
    run = run_demo(backend, output, seed=seed)
    print_metrics(run.metrics)
    _, framework, *engine = (f"{name} {version}" for name, version in run.config["versions"].items())
    typer.echo(f"backend   {' on '.join([framework, *engine])}")
    typer.echo(f"run       {output}/  weights.safetensors, config.json, history.json, metrics.json")
    typer.echo(f"history   {output / 'history.png'}")
    typer.echo(f"picture   {output / 'embeddings.png'}")
    if run.interrupted:
        raise typer.Exit(INTERRUPTED)
