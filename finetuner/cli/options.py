"""The options of the command line, each written once, for the commands that share them."""

from pathlib import Path
from typing import Annotated, Any

import typer

__all__ = [
    "BatchSize",
    "Checkpoints",
    "Classes",
    "Collate",
    "Data",
    "Debug",
    "Device",
    "Distance",
    "EarlyStopping",
    "Epochs",
    "EvalClasses",
    "EvalData",
    "ImageMode",
    "ImageSize",
    "InMemory",
    "IndexData",
    "InputColumn",
    "ItemsPerClass",
    "KeepBest",
    "LabelColumn",
    "LearningRate",
    "Loss",
    "LossOptimizer",
    "LossOptimizerOption",
    "LossOption",
    "Metric",
    "MicroBatchSize",
    "Miner",
    "MinerOption",
    "Model",
    "Monitor",
    "NumWorkers",
    "OptionalSeed",
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
]


def told(name: str, panel: str, text: str, metavar: str | None = None) -> Any:
    """All that Typer is told of an option but its type and default."""
    return typer.Option(name, help=text, metavar=metavar, rich_help_panel=panel)


DATA, MODEL, TRAINING, OTHER = "Data", "Model", "Training", "Other"

Data = Annotated[
    Path,
    told("--data", DATA, "A table (CSV, TSV, JSON Lines, Parquet), an .npz, or images in a folder or .zip.", "PATH"),
]
EvalData = Annotated[
    Path | None, told("--eval-data", DATA, "The same, to judge by; best of classes not trained on.", "PATH")
]
IndexData = Annotated[Path | None, told("--index-data", DATA, "What to retrieve from, if not the data itself.", "PATH")]
InputColumn = Annotated[
    list[str] | None, told("--input-column", DATA, "Column of the items; several give the model a mapping.", "NAME")
]
LabelColumn = Annotated[str | None, told("--label-column", DATA, "Column of the classes.", "NAME")]
SessionColumn = Annotated[
    str | None, told("--session-column", DATA, "Column of the sessions, instead of classes.", "NAME")
]
RoleColumn = Annotated[
    str | None, told("--role-column", DATA, "Column of the roles: 0 anchor, 1 match, -1 no match.", "NAME")
]
Classes = Annotated[list[str] | None, told("--classes", DATA, "Keep these classes alone; repeatable.", "PATTERN")]
EvalClasses = Annotated[
    list[str] | None,
    told("--eval-classes", DATA, "The same for the evaluation, of --eval-data or else of --data.", "PATTERN"),
]
ImageSize = Annotated[str | None, told("--image-size", DATA, "Pixels of a side, or HEIGHTxWIDTH.", "SIZE")]
ImageMode = Annotated[str | None, told("--image-mode", DATA, "RGB (default), L (grey) or RGBA.", "MODE")]
ChannelsLast = Annotated[bool, told("--channels-last", DATA, "Images as [H, W, C], and not as [C, H, W].")]
InMemory = Annotated[bool, told("--in-memory", DATA, "Decode images once, and not in each epoch.")]
NumWorkers = Annotated[
    int, told("--num-workers", DATA, "Processes, for Keras threads, that prepare batches; 0 for none.")
]

Model = Annotated[
    str | None,
    told(
        "--model",
        MODEL,
        "What makes the model: package.module:function or path/to/file.py:function, called without arguments.",
        "WHERE:NAME",
    ),
]
RunFolder = Annotated[
    Path | None, told("--run", MODEL, "Folder of a saved run: its weights, and what is not said otherwise.", "FOLDER")
]
Preprocess = Annotated[
    str | None, told("--preprocess", MODEL, "Function of an item, before it meets others.", "WHERE:NAME")
]
Collate = Annotated[
    str | None,
    told("--collate", MODEL, "Function from a list of items to the model's input, as a tokenizer.", "WHERE:NAME"),
]
Device = Annotated[str, told("--device", MODEL, "Where to compute, by the framework's name.", "NAME")]
Distance = Annotated[str | None, told("--distance", MODEL, "cosine (default), euclidean or sqeuclidean.", "NAME")]

Loss = Annotated[
    str, told("--loss", TRAINING, "TripletLoss, SiameseLoss, NTXentLoss, SupConLoss or MultiSimilarityLoss.", "NAME")
]
LossOption = Annotated[list[str] | None, told("--loss-option", TRAINING, "As margin=0.3; repeatable.", "KEY=VALUE")]
Miner = Annotated[str | None, told("--miner", TRAINING, "TripletEasyHardMiner or SiameseEasyHardMiner.", "NAME")]
MinerOption = Annotated[
    list[str] | None, told("--miner-option", TRAINING, "As neg_strategy=hard; repeatable.", "KEY=VALUE")
]
Optimizer = Annotated[str, told("--optimizer", TRAINING, "An optimizer of the framework.", "NAME")]
OptimizerOption = Annotated[
    list[str] | None, told("--optimizer-option", TRAINING, "As weight_decay=0.01; repeatable.", "KEY=VALUE")
]
LossOptimizer = Annotated[
    str | None,
    told("--loss-optimizer", TRAINING, "Of a loss's own weights; by default of the model's kind and settings.", "NAME"),
]
LossOptimizerOption = Annotated[
    list[str] | None, told("--loss-optimizer-option", TRAINING, "As learning_rate=0.1; repeatable.", "KEY=VALUE")
]
Pooler = Annotated[
    str | None,
    told("--pooler", TRAINING, "In place of the model's last pooling layer: GeM, AveragePooling, ...", "NAME"),
]
PoolerOption = Annotated[list[str] | None, told("--pooler-option", TRAINING, "As p=2.4; repeatable.", "KEY=VALUE")]
LearningRate = Annotated[float, told("--learning-rate", TRAINING, "Of the optimizer.")]
Epochs = Annotated[int, told("--epochs", TRAINING, "Times through the data.")]
BatchSize = Annotated[int, told("--batch-size", TRAINING, "At the most.")]
MicroBatchSize = Annotated[
    int | None,
    told("--micro-batch-size", TRAINING, "Rows in memory at once, if not the batch: gradient caching, same steps."),
]
Sampler = Annotated[
    str,
    told("--sampler", TRAINING, "class brings those of a class together, random does not; auto asks the loss.", "NAME"),
]
ItemsPerClass = Annotated[int | None, told("--num-items-per-class", TRAINING, "Items of a class in a batch.")]
Metric = Annotated[
    list[str] | None,
    told("--metric", TRAINING, "As hit@1, mAP@R, nDCG@10, in place of the usual ones; repeatable.", "NAME"),
]
EarlyStopping = Annotated[
    int | None, told("--early-stopping", TRAINING, "Stop after so many epochs without improvement.", "PATIENCE")
]
KeepBest = Annotated[bool, told("--keep-best", TRAINING, "Keep the weights of the best epoch, not of the last.")]
Monitor = Annotated[
    str | None,
    told(
        "--monitor",
        TRAINING,
        "What these two go by: a metric, loss or val_loss, which is the default with evaluation data.",
        "NAME",
    ),
]
Checkpoints = Annotated[
    int | None, told("--checkpoint-every", TRAINING, "Save each so many epochs, into OUTPUT-checkpoints.", "EPOCHS")
]

Output = Annotated[Path, told("--output", OTHER, "A new or empty folder to write the run to.", "FOLDER")]
Seed = Annotated[int, told("--seed", OTHER, "Of weights, batches and all else that is random.")]
OptionalSeed = Annotated[
    int | None, told("--seed", OTHER, "Of weights that no run brings; by default the run's, or 0.")
]
Threads = Annotated[int | None, told("--threads", OTHER, "How many threads to compute with, but for JAX.")]
Debug = Annotated[bool, told("--debug", OTHER, "Show the whole traceback of an error.")]
