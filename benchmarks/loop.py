"""The training loop beside one that is written by hand, on the same batches: same model, loss and optimizer."""

import os
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from .harness import Times, times
from .report import Table, ratio

__all__ = ["build", "tables"]

BY_HAND, OURS = "by hand", "finetuner"
ENGINES = ("pytorch", "keras-tensorflow", "keras-jax", "keras-torch", "paddle")
CLASSES = 32
# Widths of the input, of the hidden layers and of the embeddings; items a batch; steps an epoch.
SIZES = {
    "tiny": ([16, 32, 8], 64, 100),
    "small": ([64, 256, 256, 64], 128, 100),
    "large": ([256, 1024, 1024, 128], 512, 20),
}
RATIO, EXTRA = 1.03, 0.2e-3  # the goal: of a step of 20 ms or more, and seconds more of a tiny one
LONG = 20e-3


def build(contender: str, engine: str, size: str, bar: bool = True) -> Callable[[], Any]:
    """An epoch by a tuner, with history and progress bar, or by hand."""
    from rich.console import Console

    from finetuner.tuner.base import ClassDataset, ClassSampler, ProgressBar

    widths, batch, steps = SIZES[size]
    rng = np.random.default_rng(0)
    x = rng.normal(size=(batch * steps, widths[0])).astype(np.float32)
    y = np.arange(len(x)) % CLASSES
    data = ClassDataset(x, y)
    sampler = ClassSampler(data.labels, batch)
    plan = sampler.batches()
    assert len(plan) == steps
    if contender == BY_HAND:
        return {"pytorch": by_pytorch, "paddle": by_paddle}.get(engine, by_keras)(widths, x, data.labels, plan)
    import finetuner.tuner

    made = {"pytorch": pytorch_model, "paddle": paddle_model}.get(engine, keras_model)(widths)
    console = Console(file=open(os.devnull, "w"), force_terminal=True)  # noqa: SIM115 -- as long as the process
    callbacks: Any = [ProgressBar(console)] if bar else []
    tuner = finetuner.tuner.tuner_class(made)(made, loss="TripletLoss", optimizer="SGD", callbacks=callbacks)
    return lambda: tuner.fit(data, epochs=1, batch_size=batch)


def pytorch_model(widths: list[int]) -> Any:
    """A perceptron."""
    import torch
    from torch import nn

    torch.manual_seed(0)
    pairs = zip(widths, widths[1:], strict=False)
    layers = [layer for pair in pairs for layer in (nn.Linear(*pair), nn.ReLU())]
    return nn.Sequential(*layers[:-1])


def by_pytorch(widths: list[int], x: np.ndarray, y: np.ndarray, plan: list[np.ndarray]) -> Callable[[], Any]:
    """As one would write it for PyTorch."""
    import torch

    from finetuner.tuner.pytorch.losses.batch import TripletLoss

    model, loss_of = pytorch_model(widths), TripletLoss()
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)

    def epoch() -> float:
        model.train()
        losses = []
        for indices in plan:
            inputs, labels = torch.from_numpy(x[indices]), torch.from_numpy(y[indices])
            loss = loss_of(model(inputs), labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
        return float(np.mean(losses))

    return epoch


def paddle_model(widths: list[int]) -> Any:
    """A perceptron."""
    import paddle
    from paddle import nn

    paddle.seed(0)
    pairs = zip(widths, widths[1:], strict=False)
    layers = [layer for pair in pairs for layer in (nn.Linear(*pair), nn.ReLU())]
    return nn.Sequential(*layers[:-1])


def by_paddle(widths: list[int], x: np.ndarray, y: np.ndarray, plan: list[np.ndarray]) -> Callable[[], Any]:
    """As one would write it for Paddle."""
    import paddle

    from finetuner.tuner.paddle.losses.batch import TripletLoss

    model, loss_of = paddle_model(widths), TripletLoss()
    optimizer = paddle.optimizer.SGD(1e-3, parameters=model.parameters())

    def epoch() -> float:
        model.train()
        losses = []
        for indices in plan:
            inputs, labels = paddle.to_tensor(x[indices]), paddle.to_tensor(y[indices])
            loss = loss_of(model(inputs), labels)
            loss.backward()
            optimizer.step()
            optimizer.clear_grad()
            losses.append(float(loss))
        return float(np.mean(losses))

    return epoch


def keras_model(widths: list[int]) -> Any:
    """A perceptron."""
    import keras

    keras.utils.set_random_seed(0)
    hidden = [keras.layers.Dense(width, "relu") for width in widths[1:-1]]
    return keras.Sequential([keras.Input((widths[0],)), *hidden, keras.layers.Dense(widths[-1])])


def by_keras(widths: list[int], x: np.ndarray, y: np.ndarray, plan: list[np.ndarray]) -> Callable[[], Any]:
    """As one would write it for Keras: ``train_on_batch`` of a model that is compiled with the loss."""
    import keras

    from finetuner.tuner.keras.interop import KerasLoss
    from finetuner.tuner.keras.losses.batch import TripletLoss

    model = keras_model(widths)
    model.compile(keras.optimizers.SGD(1e-3), KerasLoss(TripletLoss()))

    def epoch() -> float:
        model.reset_metrics()
        for indices in plan:
            loss = model.train_on_batch(x[indices], y[indices])
        return float(loss)  # a running mean

    return epoch


def tables(quick: bool) -> Iterator[Table]:
    """Each engine, on steps of all sizes."""
    rows = []
    for engine in ENGINES:
        environment = {"KERAS_BACKEND": engine.partition("-")[2]} if "keras" in engine else None
        for size, (_, _, steps) in SIZES.items():
            if quick and size == "large":
                continue
            at_least = 1 if quick else 20
            found = times("loop", [BY_HAND, OURS], at_least, environment, engine=engine, size=size)
            rows.append([engine, size, *row(found[OURS], found[BY_HAND], steps)])
    yield Table(
        "The training loop",
        ["engine", "step", OURS, BY_HAND, "times by hand", "by the fastest", "more a step", "by the fastest", "goal"],
        rows,
        "Time of a step: a perceptron with TripletLoss and SGD; with a progress bar, to a terminal that shows nothing, "
        "the history and the plan of batches. By hand: a bare loop, of Keras `train_on_batch`, over batches drawn "
        f"beforehand. Goal: within {RATIO} times a step of {LONG * 1e3:.0f} ms or more, and {EXTRA * 1e3} ms more than "
        "a shorter one.",
    )


def row(ours: Any, other: Any, steps: int) -> list[Any]:
    """Times of a step, how they compare, and whether that is as wanted."""
    if not (isinstance(ours, Times) and isinstance(other, Times)):
        return [ours, other, *["-"] * 5]
    ours, other = (Times(t.median / steps, t.low / steps, t.high / steps, t.runs) for t in (ours, other))
    extra, least = ours.median - other.median, ours.low - other.low
    held = ours.median <= RATIO * other.median if other.median >= LONG else extra <= EXTRA
    shown = [f"{value * 1e6:+.0f} us" for value in (extra, least)]
    return [ours, other, ratio(ours, other), f"{ours.low / other.low:.3g}", *shown, "holds" if held else "missed"]
