"""Losses in Paddle and on Keras' engines, each over its own bare matrix of distances."""

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
    """Value and gradient of a loss, compiled as the engine's own training would be; 8 items a class."""
    rng = np.random.default_rng(0)
    x, upstream = rng.normal(size=(n, d)).astype("float32"), (rng.normal(size=(n, n)) / n).astype("float32")
    labels = np.arange(n, dtype="int32") % max(1, n // 8)
    return (of_paddle if engine == "paddle" else of_keras)(contender, x, upstream, labels)


def warm_up(contender: str, engine: str, n: int) -> None:
    """A step of 16 rows."""
    build(contender, engine, 16)()


def made(losses: Any, name: str) -> Any:
    """A loss of a backend in the settings of :mod:`.steps`."""
    return getattr(losses, name)(**({"margin": MARGIN} if name == "TripletLoss" else {}))


def of_paddle(contender: str, x: np.ndarray, upstream: np.ndarray, labels: np.ndarray) -> Callable[[], Any]:
    """A step of Paddle."""
    import paddle

    import finetuner.tuner.paddle.losses as losses

    x, upstream, labels = map(paddle.to_tensor, (x, upstream, labels))
    x.stop_gradient = False

    def bare() -> None:
        unit = paddle.nn.functional.normalize(x)
        (1 - unit @ unit.T).backward(upstream)

    if contender == "bare":
        return bare
    loss = made(losses, contender)
    return lambda: loss(x, labels).backward()


def of_keras(contender: str, x: np.ndarray, upstream: np.ndarray, labels: np.ndarray) -> Callable[[], Any]:
    """A step of Keras, compiled where Keras compiles."""
    import keras
    from keras import ops

    import finetuner.tuner.keras.losses as losses

    x, upstream, labels = map(ops.convert_to_tensor, (x, upstream, labels))

    def value(x: Any) -> Any:
        if contender != "bare":
            return loss(x, labels)
        unit = x / ops.norm(x, axis=1, keepdims=True)
        return ops.sum((1 - ops.matmul(unit, ops.transpose(unit))) * upstream)

    loss = None if contender == "bare" else made(losses, contender)
    if keras.backend.backend() == "jax":
        import jax

        step = jax.jit(jax.value_and_grad(value))
        return lambda: jax.block_until_ready(step(x))
    if keras.backend.backend() == "torch":
        x = x.detach().requires_grad_()
        return lambda: value(x).backward()
    import tensorflow

    @tensorflow.function
    def of_tensorflow(x: Any) -> Any:
        with tensorflow.GradientTape() as tape:
            tape.watch(x)
            found = value(x)
        return found, tape.gradient(found, x)

    return lambda: [part.numpy() for part in of_tensorflow(x)]


def tables(quick: bool) -> Iterable[Table]:
    """A row an engine and a size."""
    sizes = [256, 512] if quick else [1024, 2048, 4096]
    note = "Forward and backward pass, 8 items a class, d = 128. Goal: at most 3 times the bare matrix at N = 2048."
    contenders = ["bare", *LOSSES]
    table = Table("Engines: time over that of the bare matrix", ["engine", "N", *contenders], note=note)
    memory = Table("Engines: peak memory above the start", ["engine", "N", *contenders])
    for engine in ENGINES:
        environment = {"KERAS_BACKEND": engine.split()[-1]} if engine != "paddle" else {}
        for n in sizes:
            found = times("engines", contenders, environment=environment, engine=engine, n=n)
            table.rows.append([engine, n, found["bare"], *(ratio(found[name], found["bare"]) for name in LOSSES)])
        peaks = [peak("engines", name, environment=environment, engine=engine, n=n) for name in contenders]
        memory.rows.append([engine, n, *map(megabytes, peaks)])
    yield table
    yield memory
