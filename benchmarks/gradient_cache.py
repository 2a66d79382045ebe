"""Memory and time of a training step with and without gradient caching."""

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
    f"Cached: `micro_batch_size={MICRO}`. NTXentLoss, Adam. Memory: the peak of one step above the memory before it, "
    "in a new process, after a step with fewer rows. Time: of one step, both contenders in turn in one process."
)
NOTE = (
    f"A transformer with two layers, {TOKENS} tokens and width {WIDTH}. {MEASURED} The loss alone: on given "
    "embeddings. Both contenders include its memory."
)
CONV_NOTE = f"Convolutions with 16 and 32 channels on {SIDE} x {SIDE} pixels. {MEASURED}"


def transformer() -> Any:
    """A PyTorch model from ``[N, TOKENS, WIDTH]`` to ``[N, 64]``."""
    from torch import nn

    layer = nn.TransformerEncoderLayer(WIDTH, 4, 4 * WIDTH, dropout=0.1, batch_first=True)
    return nn.Sequential(nn.TransformerEncoder(layer, 2), nn.Flatten(), nn.Linear(TOKENS * WIDTH, 64))


def convolutions(framework: str) -> Any:
    """A model of a framework from images to ``[N, 64]``."""
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


def make_tuner(contender: str, framework: str, model: str) -> Any:
    """Create a tuner that is ready for ``engine.step``."""
    from finetuner.tuner import tuner_class

    embed_model = transformer() if model == "transformer" else convolutions(framework)
    tuner = tuner_class(embed_model)(embed_model, loss="NTXentLoss", callbacks=[], device="cpu")
    tuner.engine.micro_batch_size = MICRO if contender == "cached" else None
    tuner.training.ensure_loss_optimizer()
    tuner.engine.begin_training()
    tuner.engine.begin_epoch(0)
    return tuner


def make_step(tuner: Any, framework: str, model: str, batch: int) -> Any:
    """A function that runs one training step on a batch with two items per class."""
    image = (SIDE, SIDE, 3) if framework == "keras" else (3, SIDE, SIDE)
    shape = (TOKENS, WIDTH) if model == "transformer" else image
    x = np.random.default_rng(0).normal(size=(batch, *shape)).astype(np.float32)
    y = classes(batch)

    def step() -> Any:
        tuner.engine.step(x, (y,))
        return tuner.model_state()  # waits until the weights are computed

    return step


def classes(batch: int) -> np.ndarray:
    """Labels with two items per class."""
    return np.repeat(np.arange(batch // 2, dtype=np.int32), 2)


def loss_alone(batch: int) -> Any:
    """A function that computes the loss of given embeddings and its gradient, in PyTorch."""
    import torch

    from finetuner.tuner.pytorch import NTXentLoss

    x, y = torch.randn(batch, 64, requires_grad=True), torch.from_numpy(classes(batch))
    return lambda: NTXentLoss()(x, y).backward()


TUNERS: list[Any] = []  # the tuner of the last build, for warm_up


def build(contender: str, framework: str, model: str, batch: int) -> Any:
    """A step with the ``"whole"`` batch or ``"cached"``, or the ``"loss"`` alone."""
    if contender == "loss":
        return loss_alone(batch)
    TUNERS[:] = [make_tuner(contender, framework, model)]
    return make_step(TUNERS[0], framework, model, batch)


def warm_up(contender: str, framework: str, model: str, batch: int) -> None:
    """Run a step with two micro-batches, or with the rows of one micro-batch."""
    if contender == "loss":
        loss_alone(MICRO)()
    else:
        make_step(TUNERS[0], framework, model, 2 * MICRO if contender == "cached" else MICRO)()


def tables(quick: bool) -> Iterator[Table]:
    """Memory and time per batch size in PyTorch, and for one batch size in each framework."""
    header = ["memory, whole", "cached", "time, whole", "cached", "cached / whole"]
    sizes = [128, 256] if quick else [256, 512, 1024, 2048, 4096]
    rows, all_peaks = [], []
    for batch in sizes:
        case = {"framework": "pytorch", "model": "transformer", "batch": batch}
        row, peaks = measure(None, **case)
        loss_peak = peak("gradient_cache", "loss", **case)
        rows.append([batch, *row[:2], megabytes(loss_peak), *row[2:]])
        all_peaks.append([*peaks, loss_peak])
    powers = [growth(sizes, list(costs)) for costs in zip(*all_peaks, strict=True)]
    columns = ["batch", *header[:2], "the loss alone", *header[2:]]
    yield Table("Gradient caching in PyTorch", columns, [*rows, ["growth", *powers, "", "", ""]], NOTE)
    batch = 128 if quick else 1024
    rows = []
    for name, framework, engine in FRAMEWORKS:
        environment = {"KERAS_BACKEND": engine} if engine else None
        rows.append([name, *measure(environment, framework=framework, model="convolutions", batch=batch)[0]])
    yield Table(f"Gradient caching with batches of {batch}", ["framework", *header], rows, CONV_NOTE)


FRAMEWORKS = [
    ("PyTorch", "pytorch", None),
    ("Paddle", "paddle", None),
    ("Keras on TensorFlow", "keras", "tensorflow"),
    ("Keras on JAX", "keras", "jax"),
    ("Keras on PyTorch", "keras", "torch"),
]


def measure(environment: Any, **case: Any) -> tuple[list[Any], list[Any]]:
    """The cells of a row, and the peaks in bytes."""
    peaks = [peak("gradient_cache", contender, environment, **case) for contender in CONTENDERS]
    measured = times("gradient_cache", CONTENDERS, environment=environment, **case)
    whole, cached = (measured[contender] for contender in CONTENDERS)
    return [*map(megabytes, peaks), whole, cached, ratio(cached, whole)], peaks


def growth(sizes: list[Any], costs: list[Any]) -> str:
    """The power of N that fits the costs, or a dash if one was not measured."""
    if any(not isinstance(cost, int) or cost <= 0 for cost in costs):
        return "-"
    return f"N^{exponent(sizes, costs):.2f}"
