"""Random numbers of the user's functions: each item has a seed of its own, whatever the batch and the process."""

import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from contextvars import ContextVar

import numpy as np

__all__ = ["ItemGenerator", "item_seeds", "keep_generators", "seed_generators"]

Seeded = Callable[[int], AbstractContextManager[object]]

framework_in_use: ContextVar[Seeded | None] = ContextVar("framework", default=None)


def item_seeds(seed: Sequence[int], places: np.ndarray, stream: int = 0) -> list[int]:
    """The seeds of the items of a batch, by their places in the plan of the epoch.

    Args:
        seed: The seed of the run, the epoch, and last the place of the first row of the batch in the plan.
        places: ``[N]``, the places of the items in the batch, from 0.
        stream: Items with the same place have different seeds in different streams.

    Returns:
        ``N`` integers below ``2**64``. The seed of a place depends on nothing else.

    Example:
        >>> item_seeds((0, 1, 5), np.arange(3))[1:] == item_seeds((0, 1, 6), np.arange(2))
        True
    """
    *run, start = seed
    base = np.random.SeedSequence([*run, stream, len(run)]).generate_state(1, np.uint64)
    # The finalizer of SplitMix64. A SeedSequence per item would take as long as a small augmentation.
    x = base + (np.asarray(places, np.uint64) + np.uint64(start)) * np.uint64(0x9E3779B97F4A7C15)
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return [int(number) for number in x ^ (x >> np.uint64(31))]


class ItemGenerator:
    """A numpy generator that is seeded for each item. To make one for each would take as long as a small augmentation.

    Attributes:
        generator: The generator.
    """

    def __init__(self) -> None:
        self.bits = np.random.PCG64(0)
        self.generator = np.random.Generator(self.bits)
        self.state = self.bits.state

    def seed(self, seed: int) -> None:
        """Begin anew with a seed of 64 bits, which are spread over the 128 bits of the state."""
        state = seed * 0xDA942042E4DD58B59E3779B97F4A7C15 % 2**128
        self.bits.state = {**self.state, "state": {**self.state["state"], "state": state}}


@contextmanager
def keep_generators(framework: Seeded | None = None) -> Iterator[None]:
    """A context after which ``random`` and ``numpy.random`` continue as if nothing had been drawn.

    Args:
        framework: A context manager that seeds the framework's random numbers; None for that of the context around.
    """
    token = framework_in_use.set(framework or framework_in_use.get())
    python_state, numpy_state = random.getstate(), np.random.get_state()  # noqa: NPY002 -- a user's function may use it
    try:
        yield
    finally:
        random.setstate(python_state)
        np.random.set_state(numpy_state)  # noqa: NPY002
        framework_in_use.reset(token)


def seed_generators(seed: int) -> AbstractContextManager[object]:
    """Seed ``random`` and ``numpy.random``, within :func:`keep_generators`.

    Returns:
        A context in which the framework's generator is seeded, too.
    """
    random.seed(seed)
    np.random.seed(seed & 0xFFFFFFFF)  # noqa: NPY002
    framework = framework_in_use.get()
    return nullcontext() if framework is None else framework(seed & 0x7FFFFFFF)
