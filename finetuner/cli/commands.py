"""The command line: ``finetuner fit | evaluate | embed | demo``.

``finetuner --help`` has to be quick, so what is heavy is imported by the command that needs it.
"""

from pathlib import Path
from typing import Annotated, Any

import typer

from .. import __version__
from . import options as o
from .console_noise import silence_frameworks
from .inputs import (
    INTERRUPTED,
    callbacks_for,
    check_inputs,
    check_output,
    free_folder,
    loaded,
    options,
    read,
    recorded,
    reported,
    say,
    show,
    uninterrupted,
)
from .user_code import absolute, use_threads

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


def show_version(wanted: bool) -> None:
    """Print the version and leave."""
    if wanted:
        typer.echo(f"finetuner {__version__}")
        raise typer.Exit


@app.callback()
def finetuner(
    version: Annotated[
        bool, typer.Option("--version", callback=show_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """Turn a PyTorch, Keras or PaddlePaddle model into a good embedding model, by metric learning."""


@app.command()
@reported
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
    num_items_per_class: o.ItemsPerClass = None,
    metric: o.Metric = None,
    early_stopping: o.EarlyStopping = None,
    keep_best: o.KeepBest = False,
    monitor: o.Monitor = None,
    checkpoint_every: o.Checkpoints = None,
    output: o.Output,
    seed: o.Seed = 0,
    threads: o.Threads = None,
    debug: o.Debug = False,
) -> None:
    """Train a model on labelled data, and write the run into a folder.

    With evaluation data, retrieval is measured before and after each epoch.

    Ctrl-C keeps what was trained.
    """
    command = {name: str(value) if isinstance(value, Path) else value for name, value in locals().items()}
    chosen = {
        "loss_options": options("--loss-option", loss_option),
        "miner_options": options("--miner-option", miner_option),
        "optimizer_options": options("--optimizer-option", optimizer_option),
        "loss_optimizer_options": options("--loss-optimizer-option", loss_optimizer_option),
        "pooler_options": options("--pooler-option", pooler_option),
    }
    check_output(output)
    check_inputs(data, eval_data)
    use_threads(threads)
    judging = eval_data is not None or bool(eval_classes)
    callbacks = callbacks_for(command, judging)
    made, functions = loaded(command)
    train_data = read(data, command, classes, "train")
    loss_and_gradients = read(eval_data or data, command, eval_classes, "eval") if judging else None

    from ..api import fit as train

    run = train(
        made,
        train_data,
        loss_and_gradients,
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
        **chosen,
        **functions,
    )
    run.config["command"] = command | {name: absolute(command[name]) for name in ("model", "preprocess", "collate")}
    with uninterrupted():
        run.save(output)
    show(run.metrics)
    typer.echo(f"run       {output}/  weights.safetensors, config.json, history.json, metrics.json")
    try:
        typer.echo(f"history   {run.plot(output / 'history.png')}")
    except ImportError as error:
        say(f"{output / 'history.png'} is not drawn: {error}", "note")
    if run.interrupted:
        raise typer.Exit(INTERRUPTED)


@app.command()
@reported
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
    seed: o.OptionalSeed = None,
    threads: o.Threads = None,
    debug: o.Debug = False,
) -> None:
    """Measure retrieval: the data in itself, or in an index."""
    settings = recorded(run, locals())
    check_inputs(data, index_data)
    use_threads(threads)
    made, functions = loaded(settings, run, device)
    sides = [read(data, settings, classes, "data")]
    if index_data is not None:
        sides.append(read(index_data, settings, classes, "index"))

    from ..api import evaluate as measure

    metrics = measure(
        made,
        *sides,
        distance=settings.get("distance") or "cosine",
        device=device,
        metrics=metric,
        batch_size=batch_size,
        num_workers=num_workers,
        **functions,
    )
    show({"value": metrics})


@app.command()
@reported
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
    output: Annotated[Path, o.told("--output", o.OTHER, "A new file to write the arrays to.", "FILE.npz")],
    seed: o.OptionalSeed = None,
    threads: o.Threads = None,
    debug: o.Debug = False,
) -> None:
    """Write the embeddings of data as the array `embeddings` of an .npz.

    With --label-column there is an array `labels` too, and of images one of their `names`.
    """
    settings = recorded(run, {name: value for name, value in locals().items() if name != "label_column"})
    check_output(output, ".npz")
    check_inputs(data)
    use_threads(threads)
    made, functions = loaded(settings, run, device)
    # Labels are read where they are asked for here, whatever the run was trained on.
    labelled = label_column is not None
    unasked: dict[str, Any] = {"session_column": None, "role_column": None, "in_memory": False}
    items = read(data, {**settings, **unasked, "label_column": label_column}, None, "data", labelled)

    import numpy as np

    from ..api import embed as embed_rows

    arrays: dict[str, Any] = {
        "embeddings": embed_rows(
            made, items, device=device, batch_size=batch_size, num_workers=num_workers, **functions
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
@reported
def demo(
    backend: Annotated[
        str,
        o.told("--backend", o.MODEL, "pytorch, keras (on the engine that KERAS_BACKEND names) or paddle.", "NAME"),
    ] = "pytorch",
    output: Annotated[
        Path | None,
        o.told("--output", o.OTHER, "A new or empty folder; by default the first free of demo, demo-2, ...", "FOLDER"),
    ] = None,
    seed: o.Seed = 0,
    debug: o.Debug = False,
) -> None:
    """Train on the digits 0 to 4, and see whether 5 to 9, never seen, are found better than before.

    It takes about a minute on two cores.
    """
    from ..demo import run_demo

    output = output or free_folder("demo")
    check_output(output)
    run = run_demo(backend, output, seed=seed)
    show(run.metrics)
    _, framework, *engine = (f"{name} {version}" for name, version in run.config["versions"].items())
    typer.echo(f"backend   {' on '.join([framework, *engine])}")
    typer.echo(f"run       {output}/  weights.safetensors, config.json, history.json, metrics.json")
    typer.echo(f"history   {output / 'history.png'}")
    typer.echo(f"picture   {output / 'embeddings.png'}")
    if run.interrupted:
        raise typer.Exit(INTERRUPTED)
