"""The training loop, compared with a hand-written loop: same batches, model, loss and optimizer."""

import os
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from .harness import Times, times
from .report import Table, ratio

__all__ = ["build", "tables"]

BASELINE, OURS = "hand-written", "finetuner"
ENGINES = ("pytorch", "keras-tensorflow", "keras-jax", "keras-torch", "paddle")
CLASSES = 32
# Widths of the input, the hidden layers and the embeddings; items per batch; steps per epoch.
SIZES = {
    "tiny": ([16, 32, 8], 64, 100),
    "small": ([64, 256, 256, 64], 128, 100),
    "large": ([256, 1024, 1024, 128], 512, 20),
}
MAX_RATIO, MAX_EXTRA = 1.03, 0.2e-3  # goals: the ratio for long steps, and extra seconds for shorter steps
LONG = 20e-3  # seconds of a long step


def build(contender: str, engine: str, size: str, bar: bool = True) -> Callable[[], Any]:
    """An epoch of a tuner with history and progress bar, or of a hand-written loop."""
    from rich.console import Console

    from finetuner import ClassDataset
    from finetuner.tuner.base import ClassSampler, ProgressBar

    widths, batch, steps = SIZES[size]
    rng = np.random.default_rng(0)
    x = rng.normal(size=(batch * steps, widths[0])).astype(np.float32)
    y = np.arange(len(x)) % CLASSES
    data = ClassDataset(x, y)
    sampler = ClassSampler(data.labels, batch)
    plan = sampler.batches()
    assert len(plan) == steps
    if contender == BASELINE:
        return {"pytorch": pytorch_loop, "paddle": paddle_loop}.get(engine, keras_loop)(widths, x, data.labels, plan)
    import finetuner.tuner

    model = {"pytorch": pytorch_model, "paddle": paddle_model}.get(engine, keras_model)(widths)
    console = Console(file=open(os.devnull, "w"), force_terminal=True)  # noqa: SIM115 -- open until the process ends
    callbacks: Any = [ProgressBar(console)] if bar else []
    tuner = finetuner.tuner.tuner_class(model)(model, loss="TripletLoss", optimizer="SGD", callbacks=callbacks)
    return lambda: tuner.fit(data, epochs=1, batch_size=batch)


def pytorch_model(widths: list[int]) -> Any:
    """A multilayer perceptron."""
    import torch
    from torch import nn

    torch.manual_seed(0)
    pairs = zip(widths, widths[1:], strict=False)
    layers = [layer for pair in pairs for layer in (nn.Linear(*pair), nn.ReLU())]
    return nn.Sequential(*layers[:-1])


def pytorch_loop(widths: list[int], x: np.ndarray, y: np.ndarray, plan: list[np.ndarray]) -> Callable[[], Any]:
    """A plain training loop in PyTorch."""
    import torch

    from finetuner.tuner.pytorch import TripletLoss

    model, loss_function = pytorch_model(widths), TripletLoss()
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)

    def epoch() -> float:
        model.train()
        losses = []
        for indices in plan:
            inputs, labels = torch.from_numpy(x[indices]), torch.from_numpy(y[indices])
            loss = loss_function(model(inputs), labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
        return float(np.mean(losses))

    return epoch


def paddle_model(widths: list[int]) -> Any:
    """A multilayer perceptron."""
    import paddle
    from paddle import nn

    paddle.seed(0)
    pairs = zip(widths, widths[1:], strict=False)
    layers = [layer for pair in pairs for layer in (nn.Linear(*pair), nn.ReLU())]
    return nn.Sequential(*layers[:-1])


def paddle_loop(widths: list[int], x: np.ndarray, y: np.ndarray, plan: list[np.ndarray]) -> Callable[[], Any]:
    """A plain training loop in Paddle."""
    import paddle

    from finetuner.tuner.paddle import TripletLoss

    model, loss_function = paddle_model(widths), TripletLoss()
    optimizer = paddle.optimizer.SGD(1e-3, parameters=model.parameters())

    def epoch() -> float:
        model.train()
        losses = []
        for indices in plan:
            inputs, labels = paddle.to_tensor(x[indices]), paddle.to_tensor(y[indices])
            loss = loss_function(model(inputs), labels)
            loss.backward()
            optimizer.step()
            optimizer.clear_grad()
            losses.append(float(loss))
        return float(np.mean(losses))

    return epoch


def keras_model(widths: list[int]) -> Any:
    """A multilayer perceptron."""
    import keras

    keras.utils.set_random_seed(0)
    hidden = [keras.layers.Dense(width, "relu") for width in widths[1:-1]]
    return keras.Sequential([keras.Input((widths[0],)), *hidden, keras.layers.Dense(widths[-1])])


def keras_loop(widths: list[int], x: np.ndarray, y: np.ndarray, plan: list[np.ndarray]) -> Callable[[], Any]:
    """A plain training loop in Keras: ``train_on_batch`` of a model that is compiled with the loss."""
    import keras

    from finetuner.tuner.keras import KerasLoss, TripletLoss

    model = keras_model(widths)
    model.compile(keras.optimizers.SGD(1e-3), KerasLoss(TripletLoss()))

    def epoch() -> float:
        model.reset_metrics()
        for indices in plan:
            loss = model.train_on_batch(x[indices], y[indices])
        return float(loss)  # a running mean

    return epoch


def tables(quick: bool) -> Iterator[Table]:
    """Each engine with all step sizes."""
    rows = []
    for engine in ENGINES:
        environment = {"KERAS_BACKEND": engine.partition("-")[2]} if "keras" in engine else None
        for size, (_, _, steps) in SIZES.items():
            if quick and size == "large":
                continue
            at_least = 1 if quick else 20
            measured = times("loop", [BASELINE, OURS], at_least, environment, engine=engine, size=size)
            rows.append([engine, size, *compare(measured[OURS], measured[BASELINE], steps)])
    yield Table(
        "The training loop",
        ["engine", "step", OURS, BASELINE, "ratio", "ratio, fastest", "extra per step", "extra, fastest", "goal"],
        rows,
        "Time per step of a perceptron with TripletLoss and SGD. finetuner includes the progress bar, on a terminal "
        "without output, the history and the sampler. The hand-written loop takes batches that are planned "
        f"before it. In Keras it calls `train_on_batch`. Goal: a ratio of at most {MAX_RATIO} "
        f"for steps of {LONG * 1e3:.0f} ms or more, and at most {MAX_EXTRA * 1e3} ms extra for shorter steps.",
    )


def compare(ours: Any, other: Any, steps: int) -> list[Any]:
    """The cells of a row: times per step, ratios, extra times, and whether the goal is reached."""
    if not (isinstance(ours, Times) and isinstance(other, Times)):
        return [ours, other, *["-"] * 5]
    ours, other = (Times(t.median / steps, t.low / steps, t.high / steps, t.runs) for t in (ours, other))
    extra, fastest_extra = ours.median - other.median, ours.low - other.low
    reached = ours.median <= MAX_RATIO * other.median if other.median >= LONG else extra <= MAX_EXTRA
    extras = [f"{value * 1e6:+.0f} us" for value in (extra, fastest_extra)]
    return [ours, other, ratio(ours, other), f"{ours.low / other.low:.3g}", *extras, "reached" if reached else "missed"]
