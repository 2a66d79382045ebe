"""The options of ``finetuner fit`` that no other command has."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

from .names import ADAPTERS, LOSSES, MINERS, OPTIMIZERS, POOLERS, PRECISIONS, SAMPLERS, SCHEDULES, TRACKERS
from .option_files import use_options_of_resumed_run, use_options_of_run
from .options import EVALUATION, LOSS, MODEL, OPTIMIZATION, OTHER, RECORDS, TRAINING, option

__all__ = [
    "Adapter",
    "BatchSize",
    "Blend",
    "CacheFolder",
    "CacheFrozen",
    "CheckpointEvery",
    "CheckpointFolder",
    "ClipNorm",
    "Compile",
    "DimWeights",
    "Dims",
    "EarlyStopping",
    "EmaDecay",
    "Epochs",
    "EvaluateEvery",
    "Freeze",
    "GradientAccumulationSteps",
    "KeepAll",
    "KeepBest",
    "KeepCheckpoints",
    "LayerDecay",
    "LearningRate",
    "LearningRateOf",
    "LengthGroups",
    "Like",
    "LoRA",
    "LogEvery",
    "Loss",
    "LossOption",
    "LossOptimizer",
    "LossOptimizerOption",
    "MaxSteps",
    "MicroBatchSize",
    "Miner",
    "MinerOption",
    "Monitor",
    "NumItemsPerClass",
    "Optimizer",
    "OptimizerOption",
    "Output",
    "Pooler",
    "PoolerOption",
    "Precision",
    "Resume",
    "Sampler",
    "Schedule",
    "ScheduleOption",
    "Track",
    "Warmup",
    "WeightDecay",
]


def alternatives(names: Sequence[str]) -> str:
    """``names`` as text: ``A, B or C``."""
    return f"{', '.join(names[:-1])} or {names[-1]}"


# Model ---------------------------------------------------------------------------------------------------

# Pre-trained models have other defaults, which the training prints.
DEFAULT = "Default for a model of your own"

Adapter = Annotated[
    str | None,
    option(
        "--adapter",
        MODEL,
        f"Train a small layer on the embeddings of the model, and not the model: {alternatives(ADAPTERS)}.",
        "NAME",
        names=ADAPTERS,
    ),
]
LoRA = Annotated[
    int | None,
    option("--lora", MODEL, "Rank of LoRA: train small matrices in the layers of a PyTorch model, and not the model."),
]
Pooler = Annotated[
    str | None,
    option("--pooler", MODEL, f"Replaces the model's global pooling: {alternatives(POOLERS)}.", "NAME", names=POOLERS),
]
PoolerOption = Annotated[
    list[str] | None,
    option("--pooler-option", MODEL, "Argument of the pooler, such as p=2.4. Repeatable.", "KEY=VALUE"),
]
Precision = Annotated[
    str,
    option(
        "--precision", MODEL, "Of the model in a training step: fp32, bf16, fp16 or auto.", "NAME", names=PRECISIONS
    ),
]
Compile = Annotated[bool, option("--compile", MODEL, "Compile the model. Keras compiles by itself.")]

# Loss ----------------------------------------------------------------------------------------------------

Loss = Annotated[
    str | None,
    option(
        "--loss",
        LOSS,
        "A loss of finetuner, such as SupConLoss or ArcFaceLoss, or of the framework. The documentation lists all. "
        f"{DEFAULT}: TripletLoss.",
        "NAME",
        names=LOSSES,
    ),
]
LossOption = Annotated[
    list[str] | None,
    option("--loss-option", LOSS, "Argument of the loss, such as margin=0.3. Repeatable.", "KEY=VALUE"),
]
Dims = Annotated[
    list[str] | None,
    option(
        "--dims",
        LOSS,
        "Sizes of the embeddings, such as 384,128,32: as many first components become good embeddings by themselves.",
        "N,N",
    ),
]
DimWeights = Annotated[
    list[str] | None, option("--dim-weights", LOSS, "The weight of each size in the loss. Default: 1 for each.", "W,W")
]
Miner = Annotated[str | None, option("--miner", LOSS, f"{alternatives(MINERS)}. Default: none.", "NAME", names=MINERS)]
MinerOption = Annotated[
    list[str] | None,
    option("--miner-option", LOSS, "Argument of the miner, such as neg_strategy=hard. Repeatable.", "KEY=VALUE"),
]
LossOptimizer = Annotated[
    str | None,
    option(
        "--loss-optimizer",
        LOSS,
        "Optimizer of the loss's own weights. Default: the same as the model's.",
        "NAME",
        names=OPTIMIZERS,
    ),
]
LossOptimizerOption = Annotated[
    list[str] | None,
    option(
        "--loss-optimizer-option",
        LOSS,
        "Argument of this optimizer, such as learning_rate=0.1. Repeatable.",
        "KEY=VALUE",
    ),
]

# Optimization --------------------------------------------------------------------------------------------

Optimizer = Annotated[
    str | None,
    option("--optimizer", OPTIMIZATION, f"An optimizer of the framework. {DEFAULT}: Adam.", "NAME", names=OPTIMIZERS),
]
OptimizerOption = Annotated[
    list[str] | None,
    option(
        "--optimizer-option", OPTIMIZATION, "Argument of the optimizer, such as momentum=0.9. Repeatable.", "KEY=VALUE"
    ),
]
LearningRate = Annotated[
    float | None, option("--learning-rate", OPTIMIZATION, f"Learning rate of the optimizer. {DEFAULT}: 0.001.")
]
LearningRateOf = Annotated[
    list[str] | None,
    option(
        "--learning-rate-of",
        OPTIMIZATION,
        "Learning rate of the weights whose names match a pattern, such as head=1e-2. The first match counts; "
        "--learning-rate is for the others. Repeatable.",
        "PATTERN=RATE",
    ),
]
Schedule = Annotated[
    str | None,
    option(
        "--schedule",
        OPTIMIZATION,
        f"Of the learning rate: {alternatives(SCHEDULES)}. {DEFAULT}: constant.",
        "NAME",
        names=SCHEDULES,
    ),
]
ScheduleOption = Annotated[
    list[str] | None,
    option("--schedule-option", OPTIMIZATION, "Argument of the schedule, such as cycles=3. Repeatable.", "KEY=VALUE"),
]
Warmup = Annotated[
    float | None,
    option(
        "--warmup",
        OPTIMIZATION,
        f"Steps in which the learning rate rises; below 1, their share of all steps. {DEFAULT}: 0.",
    ),
]
WeightDecay = Annotated[
    float | None, option("--weight-decay", OPTIMIZATION, "Decoupled weight decay, without biases and norms.")
]
ClipNorm = Annotated[float | None, option("--clip-norm", OPTIMIZATION, "Largest norm of the gradient.")]
LayerDecay = Annotated[
    float | None,
    option("--layer-decay", OPTIMIZATION, "Factor of the learning rate from each layer to the one before it."),
]
Freeze = Annotated[
    list[str] | None,
    option(
        "--freeze",
        OPTIMIZATION,
        "Do not train the weights whose names match this regular expression; with =EPOCHS, for so many epochs. "
        "Repeatable.",
        "PATTERN",
    ),
]
CacheFrozen = Annotated[
    bool,
    option(
        "--cache-frozen", OPTIMIZATION, "Run the layers at the input that --freeze names once, and keep their outputs."
    ),
]
CacheFolder = Annotated[
    Path | None,
    option("--cache-folder", OPTIMIZATION, "As --cache-frozen, in a file of this folder and not in memory.", "FOLDER"),
]
EmaDecay = Annotated[
    float | None, option("--ema-decay", OPTIMIZATION, "Decay of an average of the weights, which is used and saved.")
]
Blend = Annotated[
    float | None,
    option("--blend", OPTIMIZATION, "Move the trained model towards the one before: 0 is before, 1 is as trained."),
]

# Training ------------------------------------------------------------------------------------------------

BatchSize = Annotated[
    int | None, option("--batch-size", TRAINING, f"Maximal number of items in a batch. {DEFAULT}: 256.")
]
Epochs = Annotated[int | None, option("--epochs", TRAINING, f"Number of passes through the data. {DEFAULT}: 10.")]
MaxSteps = Annotated[int | None, option("--max-steps", TRAINING, "Number of steps after which the training ends.")]
MicroBatchSize = Annotated[
    int | None,
    option(
        "--micro-batch-size",
        TRAINING,
        "Rows in memory at once (gradient caching). The loss still compares the whole batch.",
    ),
]
GradientAccumulationSteps = Annotated[
    int,
    option(
        "--gradient-accumulation-steps",
        TRAINING,
        "Batches whose mean gradient is one step. --micro-batch-size is usually better.",
    ),
]
LengthGroups = Annotated[
    int | None,
    option(
        "--length-groups",
        TRAINING,
        f"Groups of similar length in a batch, so that less of it is padding. {DEFAULT}: 1.",
    ),
]
Sampler = Annotated[
    str,
    option(
        "--sampler",
        TRAINING,
        "class puts items of a class into one batch, random draws items independently, auto is what the loss needs.",
        "NAME",
        names=SAMPLERS,
    ),
]
NumItemsPerClass = Annotated[
    int | None, option("--num-items-per-class", TRAINING, "Number of items of each class in a batch.")
]
KeepAll = Annotated[bool, option("--keep-all", TRAINING, "Use each item at least once in an epoch.")]

# Evaluation ----------------------------------------------------------------------------------------------

EvaluateEvery = Annotated[
    str, option("--evaluate-every", EVALUATION, "When to evaluate, such as 500, '500 steps' or '2 epochs'.", "WHEN")
]
EarlyStopping = Annotated[
    int | None,
    option("--early-stopping", EVALUATION, "Stop after this many evaluations without improvement.", "PATIENCE"),
]
KeepBest = Annotated[
    bool, option("--keep-best", EVALUATION, "Keep the weights of the best evaluation instead of the last.")
]
Monitor = Annotated[
    str | None,
    option(
        "--monitor",
        EVALUATION,
        "What --early-stopping and --keep-best compare: val_loss, a metric, or loss. "
        "Default: the first of these that there is.",
        "NAME",
    ),
]

# Checkpoints and logs ------------------------------------------------------------------------------------

CheckpointEvery = Annotated[
    str | None,
    option(
        "--checkpoint-every",
        RECORDS,
        "When to save a checkpoint, such as 500, '500 steps' or '1 epoch'. A training can be resumed from it.",
        "WHEN",
    ),
]
CheckpointFolder = Annotated[
    Path | None, option("--checkpoint-folder", RECORDS, "Folder of checkpoints. Default: OUTPUT-checkpoints.", "FOLDER")
]
KeepCheckpoints = Annotated[
    int | None, option("--keep-checkpoints", RECORDS, "Number of the newest checkpoints to keep. Default: all.")
]
LogEvery = Annotated[
    str, option("--log-every", RECORDS, "When to add a row to log.json, such as 50 or '1 epoch'.", "WHEN")
]
Track = Annotated[
    list[str] | None,
    option(
        "--track", RECORDS, f"Also send the numbers to {alternatives(TRACKERS)}. Repeatable.", "NAME", names=TRACKERS
    ),
]

# Other ---------------------------------------------------------------------------------------------------

Output = Annotated[Path, option("--output", OTHER, "New or empty folder for the run.", "FOLDER")]
Like = Annotated[
    Path | None,
    option(
        "--like",
        OTHER,
        "Folder of a run. Its options are the defaults, but for --output.",
        "FOLDER",
        use_options_of_run,
    ),
]
Resume = Annotated[
    Path | None,
    option(
        "--resume",
        OTHER,
        "Folder of a run or of checkpoints. The training goes on from there, with the options of that run as defaults, "
        "to the end that --epochs and --max-steps say.",
        "FOLDER",
        use_options_of_resumed_run,
    ),
]
