"""Losses in Paddle and on the Keras engines, compared with the distance matrix alone in the same framework."""

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from .harness import peak, times
from .report import Table, megabytes, ratio
from .steps import MARGIN

__all__ = ["build", "tables", "warm_up"]

LOSSES = ("TripletLoss", "NTXentLoss", "SupConLoss", "MultiSimilarityLoss")
ENGINES = ("paddle", "keras on jax", "keras on tensorflow", "keras on torch")


def build(contender: str, engine: str, n: int, d: int = 128) -> Callable[[], Any]:
    """Value and gradient of a loss, compiled as in training on that engine. There are 8 items per class."""
    rng = np.random.default_rng(0)
    x, upstream = rng.normal(size=(n, d)).astype("float32"), (rng.normal(size=(n, n)) / n).astype("float32")
    labels = np.arange(n, dtype="int32") % max(1, n // 8)
    return (paddle_step if engine == "paddle" else keras_step)(contender, x, upstream, labels)


def warm_up(contender: str, engine: str, n: int) -> None:
    """Run a step with 16 rows."""
    build(contender, engine, 16)()


def make_loss(losses: Any, name: str) -> Any:
    """Create a loss of a backend with the options of :mod:`.steps`."""
    return getattr(losses, name)(**({"margin": MARGIN} if name == "TripletLoss" else {}))


def paddle_step(contender: str, x: np.ndarray, upstream: np.ndarray, labels: np.ndarray) -> Callable[[], Any]:
    """A step in Paddle."""
    import paddle

    from finetuner.tuner.paddle import losses

    x, upstream, labels = map(paddle.to_tensor, (x, upstream, labels))
    x.stop_gradient = False

    def bare() -> None:
        unit = paddle.nn.functional.normalize(x)
        (1 - unit @ unit.T).backward(upstream)

    if contender == "bare":
        return bare
    loss = make_loss(losses, contender)
    return lambda: loss(x, labels).backward()


def keras_step(contender: str, x: np.ndarray, upstream: np.ndarray, labels: np.ndarray) -> Callable[[], Any]:
    """A step in Keras, compiled on the engines that Keras compiles for."""
    import keras
    from keras import ops

    from finetuner.tuner.keras import losses

    x, upstream, labels = map(ops.convert_to_tensor, (x, upstream, labels))

    def value(x: Any) -> Any:
        if contender != "bare":
            return loss(x, labels)
        unit = x / ops.norm(x, axis=1, keepdims=True)
        return ops.sum((1 - ops.matmul(unit, ops.transpose(unit))) * upstream)

    loss = None if contender == "bare" else make_loss(losses, contender)
    if keras.backend.backend() == "jax":
        import jax

        step = jax.jit(jax.value_and_grad(value))
        return lambda: jax.block_until_ready(step(x))
    if keras.backend.backend() == "torch":
        x = x.detach().requires_grad_()
        return lambda: value(x).backward()
    import tensorflow

    @tensorflow.function
    def tensorflow_step(x: Any) -> Any:
        with tensorflow.GradientTape() as tape:
            tape.watch(x)
            loss_value = value(x)
        return loss_value, tape.gradient(loss_value, x)

    return lambda: [part.numpy() for part in tensorflow_step(x)]


def tables(quick: bool) -> Iterable[Table]:
    """One row per engine and batch size."""
    sizes = [256, 512] if quick else [1024, 2048, 4096]
    note = "Forward and backward pass, 8 items per class, d = 128. Goal: at most 3 times the distance matrix, N = 2048."
    contenders = ["bare", *LOSSES]
    table = Table("Engines: time relative to the distance matrix alone", ["engine", "N", *contenders], note=note)
    memory = Table("Engines: peak memory", ["engine", "N", *contenders])
    for engine in ENGINES:
        environment = {"KERAS_BACKEND": engine.split()[-1]} if engine != "paddle" else {}
        for n in sizes:
            measured = times("engines", contenders, environment=environment, engine=engine, n=n)
            table.rows.append(
                [engine, n, measured["bare"], *(ratio(measured[name], measured["bare"]) for name in LOSSES)]
            )
        peaks = [peak("engines", name, environment=environment, engine=engine, n=n) for name in contenders]
        memory.rows.append([engine, n, *map(megabytes, peaks)])
    yield table
    yield memory
