"""The options that several commands have. Each is defined once.

The options of ``fit`` alone are in :mod:`finetuner.cli.fit_options`.
"""

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Annotated, Any

import typer

from .names import BACKENDS, DISTANCES, METRICS, complete
from .option_files import use_config_file
from .standard_input import FORMATS

__all__ = [
    *("DATA", "MODEL", "LOSS", "OPTIMIZATION", "TRAINING", "EVALUATION", "RECORDS", "OTHER"),
    "AnchorColumn",
    "Augment",
    "BatchSize",
    "ChannelsLast",
    "Classes",
    "Collate",
    "ColumnNames",
    "Config",
    "Data",
    "Debug",
    "DemoBackend",
    "DemoOutput",
    "Device",
    "Distance",
    "EmbedData",
    "EmbedOutput",
    "Encoding",
    "EvalClasses",
    "EvalData",
    "EvalSplit",
    "ExcludeDuplicates",
    "Format",
    "Gallery",
    "ImageColumn",
    "ImageMode",
    "ImageSize",
    "InMemory",
    "IndexData",
    "InputColumn",
    "Json",
    "LabelColumn",
    "MaxBytes",
    "MaxPixels",
    "Metric",
    "Model",
    "ModelOption",
    "NegativeColumn",
    "NumWorkers",
    "Numeric",
    "OptionalData",
    "OptionalModel",
    "PositiveColumn",
    "Preprocess",
    "QueryColumn",
    "RelevanceColumn",
    "RoleColumn",
    "RunFolder",
    "ScoreColumn",
    "Seed",
    "Separator",
    "SessionColumn",
    "SkipBroken",
    "Split",
    "TargetColumn",
    "Threads",
    "Trust",
    "Unlabelled",
    "WeightSeed",
    "option",
]

# Panels of the help.
DATA, MODEL, LOSS, OPTIMIZATION = "Data", "Model", "Loss", "Optimization"
TRAINING, EVALUATION, RECORDS, OTHER = "Training", "Evaluation", "Checkpoints and logs", "Other"


def option(
    flag: str,
    panel: str,
    text: str,
    metavar: str | None = None,
    callback: Callable[..., Any] | None = None,
    names: Iterable[str] | None = None,
) -> Any:
    """A Typer option. Its type and default come from the command's signature.

    Args:
        flag: The name, such as ``--data``.
        panel: The panel of the help that shows it.
        text: The help.
        metavar: What the help shows for the value; None for the type.
        callback: Called before the other options are read.
        names: What a shell completes.
    """
    return typer.Option(
        flag,
        help=text,
        metavar=metavar,
        rich_help_panel=panel,
        callback=callback,
        is_eager=callback is not None,
        autocompletion=None if names is None else complete(names),
    )


# Data ----------------------------------------------------------------------------------------------------

Data = Annotated[
    list[Path],
    option(
        "--data",
        DATA,
        "A table (CSV, TSV, JSON Lines, Parquet), an .npz, or a folder or .zip of images. Several files of one table: "
        "repeat it, or give a folder or a pattern such as 'train-*.parquet'.",
        "PATH",
    ),
]
OptionalData = Annotated[
    list[Path] | None,
    option(
        "--data",
        DATA,
        "A table (CSV, TSV, JSON Lines, Parquet), an .npz, or a folder or .zip of images. Several files of one table: "
        "repeat it, or give a folder or a pattern such as 'test-*.parquet'.",
        "PATH",
    ),
]
IndexData = Annotated[
    Path | None, option("--index-data", DATA, "Data to search. Default: --data, without the query itself.", "PATH")
]
EvalData = Annotated[
    list[str] | None,
    option(
        "--eval-data",
        DATA,
        "Data for the evaluation, preferably of classes that --data does not have. Several sets: repeat NAME=PATH.",
        "PATH",
    ),
]
EvalClasses = Annotated[
    list[str] | None,
    option("--eval-classes", DATA, "Evaluate on these classes of --eval-data, or else of --data.", "PATTERN"),
]
Gallery = Annotated[
    Path | None,
    option(
        "--index-data",
        DATA,
        "Data that the evaluation searches. Default: the evaluation data, without the query itself.",
        "PATH",
    ),
]
EmbedData = Annotated[
    list[Path],
    option(
        "--data",
        DATA,
        "A table (CSV, TSV, JSON Lines, Parquet), a .txt, an .npz, an .npy, or a folder or .zip of images. Several "
        "files of one table: repeat it, or give a folder or a pattern such as 'new-*.parquet'. - is standard input.",
        "PATH",
    ),
]
Format = Annotated[
    str | None, option("--format", DATA, f"Format of --data -: {', '.join(FORMATS)}.", "NAME", names=FORMATS)
]
InputColumn = Annotated[
    list[str] | None,
    option("--input-column", DATA, "Column of the items. Repeat it to give the model a mapping.", "NAME"),
]
ImageColumn = Annotated[
    list[str] | None,
    option("--image-column", DATA, "Column with paths of images, relative to the folder of the table.", "NAME"),
]
LabelColumn = Annotated[str | None, option("--label-column", DATA, "Column of the classes.", "NAME")]
SessionColumn = Annotated[
    str | None, option("--session-column", DATA, "Column of the sessions, instead of classes.", "NAME")
]
RoleColumn = Annotated[
    str | None,
    option("--role-column", DATA, "Column of the roles in a session: 0 anchor, 1 match, -1 no match.", "NAME"),
]
AnchorColumn = Annotated[
    str | None,
    option("--anchor-column", DATA, "Column of the first items of pairs or triplets. Default: --input-column.", "NAME"),
]
PositiveColumn = Annotated[
    str | None,
    option("--positive-column", DATA, "Column of the items that belong to the anchors: the data is pairs.", "NAME"),
]
NegativeColumn = Annotated[
    str | None,
    option("--negative-column", DATA, "Column of items that do not belong to the anchors: it is triplets.", "NAME"),
]
ScoreColumn = Annotated[
    str | None,
    option("--score-column", DATA, "Column of how similar the two items of each pair are, a number.", "NAME"),
]
TargetColumn = Annotated[
    list[str] | None,
    option("--target-column", DATA, "Column of a number or a vector for each item, instead of classes.", "NAME"),
]
QueryColumn = Annotated[
    str | None, option("--query-column", DATA, "Column of the query of each item, with --relevance-column.", "NAME")
]
RelevanceColumn = Annotated[
    str | None, option("--relevance-column", DATA, "Column of the relevance of each item to its query.", "NAME")
]
Unlabelled = Annotated[
    bool,
    option(
        "--unlabelled",
        DATA,
        "Train on items without labels: two views of an item, made by --augment or by the model's dropout, belong "
        "together. Columns of labels are for the evaluation data.",
    ),
]
Numeric = Annotated[bool, option("--numeric", DATA, "Read text in columns of items as numbers.")]
Encoding = Annotated[
    str | None, option("--encoding", DATA, "Encoding of text files, such as cp1252 or gbk. Default: UTF-8.", "NAME")
]
Separator = Annotated[
    str | None,
    option("--separator", DATA, "Character between two cells of a CSV, or 'tab'. Default: found out.", "CHARACTER"),
]
ColumnNames = Annotated[
    list[str] | None,
    option("--column-names", DATA, "Names of all columns of a CSV or TSV without a header: a,b,c.", "NAMES"),
]
MaxBytes = Annotated[
    int | None,
    option("--max-bytes", DATA, "Bytes that a packed file may unpack to. Default: 200 times its size.", "BYTES"),
]
Split = Annotated[
    str | None, option("--split", DATA, "Use only the rows of a table with this value in its column 'split'.", "NAME")
]
EvalSplit = Annotated[
    str | None, option("--eval-split", DATA, "Evaluate on this split of --eval-data, or else of --data.", "NAME")
]
Classes = Annotated[
    list[str] | None,
    option("--classes", DATA, "Use only these classes, a name or a pattern such as 'Greek/*'. Repeatable.", "PATTERN"),
]
ImageSize = Annotated[
    str | None,
    option("--image-size", DATA, "Resize images to this many pixels per side, or to HEIGHTxWIDTH.", "SIZE"),
]
ImageMode = Annotated[
    str | None, option("--image-mode", DATA, "RGB (default), L (grey) or RGBA.", "MODE", names=("RGB", "L", "RGBA"))
]
ChannelsLast = Annotated[bool, option("--channels-last", DATA, "Load images as [H, W, C] instead of [C, H, W].")]
InMemory = Annotated[bool, option("--in-memory", DATA, "Decode images once, instead of in each epoch.")]
MaxPixels = Annotated[
    int | None,
    option("--max-pixels", DATA, "The largest number of pixels of an image. Default: 89 million.", "PIXELS"),
]
SkipBroken = Annotated[
    bool, option("--skip-broken", DATA, "Look through all images first, and leave out those that cannot be read.")
]
NumWorkers = Annotated[
    int, option("--num-workers", DATA, "Processes (Keras: threads) that prepare batches; 0 for none.")
]

# Model ---------------------------------------------------------------------------------------------------

MODEL_HELP = (
    "A pre-trained model by its name or folder, such as all-MiniLM-L6-v2; or a function without arguments that creates "
    "the model: package.module:function or path/to/file.py:function."
)

Model = Annotated[str, option("--model", MODEL, MODEL_HELP, "MODEL")]
OptionalModel = Annotated[str | None, option("--model", MODEL, MODEL_HELP, "MODEL")]
ModelOption = Annotated[
    list[str] | None,
    option(
        "--model-option",
        MODEL,
        "Argument of finetuner.load_model for a model by name or folder, such as max_length=64. Repeatable.",
        "KEY=VALUE",
    ),
]
RunFolder = Annotated[
    Path | None,
    option(
        "--run",
        MODEL,
        "Folder of a saved run, or of checkpoints, of which the newest is used. Its weights are loaded, and its "
        "options for data are the defaults.",
        "FOLDER",
    ),
]
Preprocess = Annotated[
    str | None, option("--preprocess", MODEL, "Function from an item to a row of the model's input.", "WHERE:NAME")
]
Collate = Annotated[
    str | None,
    option(
        "--collate", MODEL, "Function from a list of items to the model's input, such as a tokenizer.", "WHERE:NAME"
    ),
]
Augment = Annotated[
    str | None,
    option("--augment", MODEL, "Function that varies an item in training: augment(item, rng).", "WHERE:NAME"),
]
Trust = Annotated[
    bool,
    option(
        "--trust",
        MODEL,
        "Run the code that the folder of the run names: its --model, --preprocess and --collate. Do not trust the "
        "folder of somebody you do not know.",
    ),
]
Device = Annotated[
    str, option("--device", MODEL, "The framework's name of the device. auto prefers an accelerator.", "NAME")
]
Distance = Annotated[
    str | None,
    option(
        "--distance",
        MODEL,
        "cosine, euclidean or sqeuclidean. Default: the distance of the run, or cosine.",
        "NAME",
        names=DISTANCES,
    ),
]

# Training and evaluation ---------------------------------------------------------------------------------

BatchSize = Annotated[int, option("--batch-size", TRAINING, "Maximal number of items in a batch.")]
Metric = Annotated[
    list[str] | None,
    option(
        "--metric",
        EVALUATION,
        "A metric, such as hit@1, mAP@R or nDCG@10. Replaces the default ones. Repeatable.",
        "NAME",
        names=METRICS,
    ),
]
ExcludeDuplicates = Annotated[
    bool,
    option("--exclude-duplicates", EVALUATION, "Leave items with exactly the embedding of a query out of its search."),
]
Json = Annotated[bool, option("--json", EVALUATION, "Print the metrics as one JSON object instead of a table.")]

# Other ---------------------------------------------------------------------------------------------------

EmbedOutput = Annotated[
    Path,
    option(
        "--output",
        OTHER,
        "New file: .npz or .npy, or .parquet or .jsonl, which have the other columns of --data too.",
        "FILE",
    ),
]
DemoBackend = Annotated[
    str,
    option(
        "--backend", MODEL, "pytorch, keras (its engine is set by KERAS_BACKEND) or paddle.", "NAME", names=BACKENDS
    ),
]
DemoOutput = Annotated[
    Path | None,
    option("--output", OTHER, "New or empty folder. Default: the first of demo, demo-2, ... that is free.", "FOLDER"),
]
Config = Annotated[
    Path | None,
    option(
        "--config",
        OTHER,
        "File with options, such as batch-size = 64. Options of the command line come first.",
        "FILE.toml",
        use_config_file,
    ),
]
Seed = Annotated[int, option("--seed", OTHER, "Seed of all random numbers.")]
WeightSeed = Annotated[
    int | None,
    option("--seed", OTHER, "Seed of the weights that are not loaded. Default: the seed of the run, or 0."),
]
Threads = Annotated[int | None, option("--threads", OTHER, "Number of threads to compute with. JAX ignores it.")]
Debug = Annotated[bool, option("--debug", OTHER, "Show the traceback of an error.")]
