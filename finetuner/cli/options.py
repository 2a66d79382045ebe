"""The options of the command line. Each is defined once, for all commands that have it.

The names of losses, miners and poolers are written out here, as importing them would make ``--help`` slow.
``tests/test_cli.py`` compares them with the classes.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

__all__ = [
    "MINERS",
    "POOLERS",
    "BatchSize",
    "CheckpointEvery",
    "Classes",
    "Collate",
    "Data",
    "Debug",
    "DemoBackend",
    "DemoOutput",
    "Device",
    "Distance",
    "EarlyStopping",
    "EmbedOutput",
    "Epochs",
    "EvalClasses",
    "EvalData",
    "ImageMode",
    "ImageSize",
    "InMemory",
    "IndexData",
    "InputColumn",
    "KeepBest",
    "LabelColumn",
    "LearningRate",
    "Loss",
    "LossOption",
    "LossOptimizer",
    "LossOptimizerOption",
    "Metric",
    "MicroBatchSize",
    "Miner",
    "MinerOption",
    "Model",
    "Monitor",
    "NumItemsPerClass",
    "NumWorkers",
    "Optimizer",
    "OptimizerOption",
    "Output",
    "Pooler",
    "PoolerOption",
    "Preprocess",
    "RoleColumn",
    "RunFolder",
    "Sampler",
    "Seed",
    "SessionColumn",
    "Threads",
    "WeightSeed",
]

DATA, MODEL, TRAINING, OTHER = "Data", "Model", "Training", "Other"  # panels of the help

MINERS = ("TripletEasyHardMiner", "SiameseEasyHardMiner")
POOLERS = ("GeM", "AveragePooling", "MaxPooling", "CLSPooling")


def option(flag: str, panel: str, text: str, metavar: str | None = None) -> Any:
    """A Typer option. Its type and default come from the command's signature.

    Args:
        flag: The name, such as ``--data``.
        panel: The panel of the help that shows it.
        text: The help.
        metavar: What the help shows for the value; None for the type.
    """
    return typer.Option(flag, help=text, metavar=metavar, rich_help_panel=panel)


def alternatives(names: Sequence[str]) -> str:
    """``names`` as text: ``A, B or C``."""
    return f"{', '.join(names[:-1])} or {names[-1]}"


Data = Annotated[
    Path,
    option("--data", DATA, "A table (CSV, TSV, JSON Lines, Parquet), an .npz, or a folder or .zip of images.", "PATH"),
]
EvalData = Annotated[
    Path | None,
    option("--eval-data", DATA, "Data for the evaluation, preferably of classes that --data does not have.", "PATH"),
]
IndexData = Annotated[
    Path | None, option("--index-data", DATA, "Data to search. Default: --data, without the query itself.", "PATH")
]
InputColumn = Annotated[
    list[str] | None,
    option("--input-column", DATA, "Column of the items. Repeat it to give the model a mapping.", "NAME"),
]
LabelColumn = Annotated[str | None, option("--label-column", DATA, "Column of the classes.", "NAME")]
SessionColumn = Annotated[
    str | None, option("--session-column", DATA, "Column of the sessions, instead of classes.", "NAME")
]
RoleColumn = Annotated[
    str | None,
    option("--role-column", DATA, "Column of the roles in a session: 0 anchor, 1 match, -1 no match.", "NAME"),
]
Classes = Annotated[
    list[str] | None,
    option("--classes", DATA, "Use only these classes, a name or a pattern such as 'Greek/*'. Repeatable.", "PATTERN"),
]
EvalClasses = Annotated[
    list[str] | None,
    option("--eval-classes", DATA, "Evaluate on these classes of --eval-data, or else of --data.", "PATTERN"),
]
ImageSize = Annotated[
    str | None,
    option("--image-size", DATA, "Resize images to this many pixels per side, or to HEIGHTxWIDTH.", "SIZE"),
]
ImageMode = Annotated[str | None, option("--image-mode", DATA, "RGB (default), L (grey) or RGBA.", "MODE")]
ChannelsLast = Annotated[bool, option("--channels-last", DATA, "Load images as [H, W, C] instead of [C, H, W].")]
InMemory = Annotated[bool, option("--in-memory", DATA, "Decode images once, instead of in each epoch.")]
NumWorkers = Annotated[
    int, option("--num-workers", DATA, "Processes (Keras: threads) that prepare batches; 0 for none.")
]

Model = Annotated[
    str | None,
    option(
        "--model",
        MODEL,
        "Function without arguments that creates the model: package.module:function or path/to/file.py:function.",
        "WHERE:NAME",
    ),
]
RunFolder = Annotated[
    Path | None,
    option(
        "--run", MODEL, "Folder of a saved run. Its weights are loaded, and its options are the defaults.", "FOLDER"
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
Device = Annotated[
    str, option("--device", MODEL, "The framework's name of the device. auto prefers an accelerator.", "NAME")
]
Distance = Annotated[
    str | None,
    option(
        "--distance", MODEL, "cosine, euclidean or sqeuclidean. Default: the distance of the run, or cosine.", "NAME"
    ),
]

Loss = Annotated[
    str,
    option(
        "--loss",
        TRAINING,
        "A loss of finetuner, such as SupConLoss or ArcFaceLoss, or of the framework. The documentation lists all.",
        "NAME",
    ),
]
LossOption = Annotated[
    list[str] | None,
    option("--loss-option", TRAINING, "Argument of the loss, such as margin=0.3. Repeatable.", "KEY=VALUE"),
]
Miner = Annotated[str | None, option("--miner", TRAINING, f"{alternatives(MINERS)}. Default: none.", "NAME")]
MinerOption = Annotated[
    list[str] | None,
    option("--miner-option", TRAINING, "Argument of the miner, such as neg_strategy=hard. Repeatable.", "KEY=VALUE"),
]
Optimizer = Annotated[str, option("--optimizer", TRAINING, "An optimizer of the framework.", "NAME")]
OptimizerOption = Annotated[
    list[str] | None,
    option(
        "--optimizer-option", TRAINING, "Argument of the optimizer, such as weight_decay=0.01. Repeatable.", "KEY=VALUE"
    ),
]
LossOptimizer = Annotated[
    str | None,
    option(
        "--loss-optimizer", TRAINING, "Optimizer of the loss's own weights. Default: the same as the model's.", "NAME"
    ),
]
LossOptimizerOption = Annotated[
    list[str] | None,
    option(
        "--loss-optimizer-option",
        TRAINING,
        "Argument of this optimizer, such as learning_rate=0.1. Repeatable.",
        "KEY=VALUE",
    ),
]
Pooler = Annotated[
    str | None,
    option("--pooler", TRAINING, f"Replaces the model's last pooling layer: {alternatives(POOLERS)}.", "NAME"),
]
PoolerOption = Annotated[
    list[str] | None,
    option("--pooler-option", TRAINING, "Argument of the pooler, such as p=2.4. Repeatable.", "KEY=VALUE"),
]
LearningRate = Annotated[float, option("--learning-rate", TRAINING, "Learning rate of the optimizer.")]
Epochs = Annotated[int, option("--epochs", TRAINING, "Number of passes through the data.")]
BatchSize = Annotated[int, option("--batch-size", TRAINING, "Maximal number of items in a batch.")]
MicroBatchSize = Annotated[
    int | None,
    option(
        "--micro-batch-size",
        TRAINING,
        "Rows in memory at once (gradient caching). The loss still compares the whole batch.",
    ),
]
Sampler = Annotated[
    str,
    option(
        "--sampler",
        TRAINING,
        "class puts items of a class into one batch, random draws items independently, auto is what the loss needs.",
        "NAME",
    ),
]
NumItemsPerClass = Annotated[
    int | None, option("--num-items-per-class", TRAINING, "Number of items of each class in a batch.")
]
Metric = Annotated[
    list[str] | None,
    option(
        "--metric",
        TRAINING,
        "A metric, such as hit@1, mAP@R or nDCG@10. Replaces the default ones. Repeatable.",
        "NAME",
    ),
]
EarlyStopping = Annotated[
    int | None,
    option("--early-stopping", TRAINING, "Stop after this many epochs without improvement.", "PATIENCE"),
]
KeepBest = Annotated[bool, option("--keep-best", TRAINING, "Keep the weights of the best epoch instead of the last.")]
Monitor = Annotated[
    str | None,
    option(
        "--monitor",
        TRAINING,
        "What --early-stopping and --keep-best compare: val_loss, a metric, or loss. "
        "Default: val_loss, or loss without evaluation data.",
        "NAME",
    ),
]
CheckpointEvery = Annotated[
    int | None,
    option(
        "--checkpoint-every", TRAINING, "Save a checkpoint after every EPOCHS epochs, in OUTPUT-checkpoints.", "EPOCHS"
    ),
]

Output = Annotated[Path, option("--output", OTHER, "New or empty folder for the run.", "FOLDER")]
EmbedOutput = Annotated[Path, option("--output", OTHER, "New file for the embeddings.", "FILE.npz")]
DemoBackend = Annotated[
    str, option("--backend", MODEL, "pytorch, keras (its engine is set by KERAS_BACKEND) or paddle.", "NAME")
]
DemoOutput = Annotated[
    Path | None,
    option("--output", OTHER, "New or empty folder. Default: the first of demo, demo-2, ... that is free.", "FOLDER"),
]
Seed = Annotated[int, option("--seed", OTHER, "Seed of all random numbers.")]
WeightSeed = Annotated[
    int | None,
    option("--seed", OTHER, "Seed of the weights that are not loaded. Default: the seed of the run, or 0."),
]
Threads = Annotated[int | None, option("--threads", OTHER, "Number of threads to compute with. JAX ignores it.")]
Debug = Annotated[bool, option("--debug", OTHER, "Show the traceback of an error.")]
