"""One step of training with and without gradient caching: what memory it takes, and how long."""

from collections.abc import Iterator
from typing import Any

import numpy as np

from .harness import exponent, peak, times
from .report import Table, megabytes, ratio

__all__ = ["build", "tables", "warm_up"]

MICRO = 64
TOKENS, WIDTH, SIDE = 32, 128, 32
CONTENDERS = ["whole", "cached"]
MEASURED = (
    f"Cached is `micro_batch_size={MICRO}`. NTXentLoss, Adam. Memory is the rise at the peak of one step in a fresh "
    "process, after a step on fewer rows; time is that of a step, both in turn in one process."
)
NOTE = (
    f"A transformer of two layers on {TOKENS} tokens of width {WIDTH}. {MEASURED} The loss alone, of embeddings that "
    "are there, has matrices of N x N, which both hold."
)
NOTE_ELSEWHERE = f"Convolutions of 16 and 32 channels over {SIDE} x {SIDE} pixels. {MEASURED}"


def transformer() -> Any:
    """A PyTorch model, ``[N, TOKENS, WIDTH]`` to ``[N, 64]``."""
    from torch import nn

    layer = nn.TransformerEncoderLayer(WIDTH, 4, 4 * WIDTH, dropout=0.1, batch_first=True)
    return nn.Sequential(nn.TransformerEncoder(layer, 2), nn.Flatten(), nn.Linear(TOKENS * WIDTH, 64))


def convolutions(framework: str) -> Any:
    """A model of a framework, images to ``[N, 64]``."""
    if framework == "pytorch":
        from torch import nn

        layers = nn.Conv2d(3, 16, 3, padding=1), nn.ReLU(), nn.Conv2d(16, 32, 3, padding=1), nn.ReLU()
        return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(32, 64))
    if framework == "paddle":
        from paddle import nn

        layers = nn.Conv2D(3, 16, 3, padding=1), nn.ReLU(), nn.Conv2D(16, 32, 3, padding=1), nn.ReLU()
        return nn.Sequential(*layers, nn.AdaptiveAvgPool2D(1), nn.Flatten(), nn.Linear(32, 64))
    import keras

    layers = [keras.layers.Conv2D(width, 3, padding="same", activation="relu") for width in (16, 32)]
    last = [keras.layers.GlobalAveragePooling2D(), keras.layers.Dense(64)]
    return keras.Sequential([keras.Input((SIDE, SIDE, 3)), *layers, *last])


def tuner_of(contender: str, framework: str, model: str) -> Any:
    """A tuner that is about to take steps."""
    from finetuner.tuner import tuner_class

    made = transformer() if model == "transformer" else convolutions(framework)
    tuner = tuner_class(made)(made, loss="NTXentLoss", callbacks=[], device="cpu")
    tuner.micro_batch_size = MICRO if contender == "cached" else None
    tuner.ensure_loss_optimizer()
    tuner.begin_training()
    tuner.begin_epoch(0)
    return tuner


def step(tuner: Any, framework: str, model: str, batch: int) -> Any:
    """What takes one step on a batch, in which two items are of a class."""
    image = (SIDE, SIDE, 3) if framework == "keras" else (3, SIDE, SIDE)
    shape = (TOKENS, WIDTH) if model == "transformer" else image
    x = np.random.default_rng(0).normal(size=(batch, *shape)).astype(np.float32)
    y = classes(batch)

    def taken() -> Any:
        tuner.train_step(x, (y,))
        return tuner.model_state()  # which waits for the weights

    return taken


def classes(batch: int) -> np.ndarray:
    """Two items a class."""
    return np.repeat(np.arange(batch // 2, dtype=np.int32), 2)


def loss_alone(batch: int) -> Any:
    """What takes the loss of embeddings and its gradient, in PyTorch."""
    import torch

    from finetuner.tuner.pytorch.losses.batch import NTXentLoss

    x, y = torch.randn(batch, 64, requires_grad=True), torch.from_numpy(classes(batch))
    return lambda: NTXentLoss()(x, y).backward()


MADE: list[Any] = []  # the tuner of the last build, which is warmed up


def build(contender: str, framework: str, model: str, batch: int) -> Any:
    """One step, ``"whole"`` or ``"cached"``; or the ``"loss"`` alone."""
    if contender == "loss":
        return loss_alone(batch)
    MADE[:] = [tuner_of(contender, framework, model)]
    return step(MADE[0], framework, model, batch)


def warm_up(contender: str, framework: str, model: str, batch: int) -> None:
    """A step on two micro-batches, or on the rows of one."""
    if contender == "loss":
        loss_alone(MICRO)()
    else:
        step(MADE[0], framework, model, 2 * MICRO if contender == "cached" else MICRO)()


def tables(quick: bool) -> Iterator[Table]:
    """Memory and time against the size of the batch in PyTorch, and at one size in each framework."""
    header = ["memory, whole", "cached", "time, whole", "cached", "cached / whole"]
    sizes = [128, 256] if quick else [256, 512, 1024, 2048, 4096]
    rows, all_peaks = [], []
    for batch in sizes:
        case = {"framework": "pytorch", "model": "transformer", "batch": batch}
        row, peaks = measured(None, **case)
        alone = peak("gradient_cache", "loss", **case)
        rows.append([batch, *row[:2], megabytes(alone), *row[2:]])
        all_peaks.append([*peaks, alone])
    powers = [growth(sizes, list(costs)) for costs in zip(*all_peaks, strict=True)]
    columns = ["batch", *header[:2], "the loss alone", *header[2:]]
    yield Table("Gradient caching in PyTorch", columns, [*rows, ["grows as", *powers, "", "", ""]], NOTE)
    batch = 128 if quick else 1024
    rows = []
    for name, framework, engine in FRAMEWORKS:
        environment = {"KERAS_BACKEND": engine} if engine else None
        rows.append([name, *measured(environment, framework=framework, model="convolutions", batch=batch)[0]])
    yield Table(f"Gradient caching of a batch of {batch}", ["framework", *header], rows, NOTE_ELSEWHERE)


FRAMEWORKS = [
    ("PyTorch", "pytorch", None),
    ("Paddle", "paddle", None),
    ("Keras on TensorFlow", "keras", "tensorflow"),
    ("Keras on JAX", "keras", "jax"),
    ("Keras on PyTorch", "keras", "torch"),
]


def measured(environment: Any, **case: Any) -> tuple[list[Any], list[Any]]:
    """Cells of a row, and the peaks as numbers."""
    peaks = [peak("gradient_cache", contender, environment, **case) for contender in CONTENDERS]
    taken = times("gradient_cache", CONTENDERS, environment=environment, **case)
    whole, cached = (taken[contender] for contender in CONTENDERS)
    return [*map(megabytes, peaks), whole, cached, ratio(cached, whole)], peaks


def growth(sizes: list[Any], costs: list[Any]) -> str:
    """The power of the batch that a cost grows with, where all of it was measured."""
    if any(not isinstance(cost, int) or cost <= 0 for cost in costs):
        return "-"
    return f"N^{exponent(sizes, costs):.2f}"
