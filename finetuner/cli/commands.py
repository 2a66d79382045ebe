"""The commands of the command line: ``fit``, ``check``, ``evaluate``, ``embed``, ``export`` and ``demo``.

Each command imports heavy libraries itself, so ``finetuner --help`` is fast.
"""

from typing import Annotated

import typer

from .. import __version__
from . import embedded as e
from . import options as o
from . import sizes as s
from .check import check
from .console_noise import silence_frameworks
from .embed import embed
from .examples import EMBED_EXAMPLES, EVALUATE_EXAMPLES, FIT_EXAMPLES
from .export import export
from .fit import fit
from .inputs import check_inputs, check_output, first_free_folder, read_data, read_eval_set
from .models import open_encoder, run_settings
from .terminal import exit_after_signal, handle_errors, print_metrics
from .user_code import use_threads

__all__ = ["app", "main"]

app = typer.Typer(
    no_args_is_help=True,
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


app.command(epilog=FIT_EXAMPLES)(fit)
app.command()(check)


@app.command(epilog=EVALUATE_EXAMPLES)
@handle_errors
def evaluate(
    context: typer.Context,
    *,
    data: o.OptionalData = None,
    index_data: o.IndexData = None,
    embeddings: e.Embeddings = None,
    index_embeddings: e.IndexEmbeddings = None,
    sums: e.Sums = None,
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
    numeric: o.Numeric = False,
    encoding: o.Encoding = None,
    separator: o.Separator = None,
    column_names: o.ColumnNames = None,
    max_bytes: o.MaxBytes = None,
    split: o.Split = None,
    classes: o.Classes = None,
    image_size: o.ImageSize = None,
    image_mode: o.ImageMode = None,
    channels_last: o.ChannelsLast = False,
    in_memory: o.InMemory = False,
    max_pixels: o.MaxPixels = None,
    skip_broken: o.SkipBroken = False,
    num_workers: o.NumWorkers = 0,
    run: o.RunFolder = None,
    model: o.OptionalModel = None,
    model_option: o.ModelOption = None,
    preprocess: o.Preprocess = None,
    collate: o.Collate = None,
    trust: o.Trust = False,
    device: o.Device = "auto",
    distance: o.Distance = None,
    batch_size: o.BatchSize = 256,
    metric: o.Metric = None,
    dims: s.Dims = None,
    exclude_duplicates: o.ExcludeDuplicates = False,
    json: o.Json = False,
    part: e.EvaluatePart = None,
    output: e.SumsOutput = None,
    config: o.Config = None,
    seed: o.WeightSeed = None,
    threads: o.Threads = None,
    debug: o.Debug = False,
) -> None:
    """Compute retrieval metrics of a model, within the data or in an index.

    Each item of --data is a query. It is searched among the other items, or in
    --index-data. With --embeddings, items are embedded already, and no model is
    needed.
    """
    given, sizes = locals(), s.parse_numbers("--dims", dims, int)
    if sums or embeddings:
        use_threads(threads)
        e.print_measured(e.read_sums(given) if sums else e.measure_embeddings(given, sizes), given, sizes)
        return
    data = e.check_data(given)
    settings = run_settings(context, {name: value for name, value in given.items() if name not in e.OPTIONS})
    check_inputs(*data, index_data)
    use_threads(threads)
    encoder = open_encoder(settings)
    if index_data is not None:
        query_dataset = read_data(data, settings, classes, "data")
        index_dataset = read_data(index_data, settings, classes, "index")
    else:
        query_dataset, index_dataset = read_eval_set(data, settings, classes, "data"), None
        if isinstance(query_dataset, tuple):
            query_dataset, index_dataset = query_dataset
    metrics = encoder.evaluate(
        query_dataset,
        index_dataset,
        metrics=metric,
        dims=sizes,
        exclude_duplicates=exclude_duplicates,
        batch_size=batch_size,
        num_workers=num_workers,
    )
    e.print_measured(metrics, given, sizes)


app.command(epilog=EMBED_EXAMPLES)(embed)
app.command()(export)


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
    typer.echo(f"run       {output}/  weights.safetensors, config.json, history.json, log.json, metrics.json")
    typer.echo(f"history   {output / 'history.png'}")
    typer.echo(f"picture   {output / 'embeddings.png'}")
    exit_after_signal(run.interrupted, run.signal)
