"""Several processes that train one model: who embeds which items, and what is exchanged.

All processes plan the same batches, since a plan depends on the labels, the seed and the epoch only. Each prepares and
embeds its own slice of a batch, and knows the targets of all of it. The embeddings are gathered, so the loss is that of
the whole batch. ``batch_size`` is the size of the whole batch, and a run is the same run for any number of processes.
"""

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Any

import numpy as np

__all__ = ["ALONE", "Processes", "check_processes", "cut", "sharing", "started_processes", "work_is_shared_by"]


def cut(count: int, parts: int, size: int = 1) -> list[slice]:
    """Slices of ``count`` rows, as equal as possible. Groups of ``size`` rows, such as pairs, are not cut.

    The last slice has what is left of a group.

    Example:
        >>> cut(10, 3, size=2)
        [slice(0, 2, None), slice(2, 6, None), slice(6, 10, None)]
    """
    ends = [*(size * (count // size * part // parts) for part in range(parts)), count]
    return [slice(start, end) for start, end in zip(ends, ends[1:], strict=False)]


class Processes:
    """The processes of a training. This class is a single process; a framework has a subclass for several.

    Each method that exchanges something must be called by all processes, in the same order.

    Attributes:
        rank: The number of this process, from 0.
        count: The number of processes.
        text: What they are, for the user.
    """

    rank = 0
    count = 1
    text = ""

    @property
    def is_first(self) -> bool:
        """Whether this is the process that writes files and shows the progress."""
        return self.rank == 0

    @property
    def line(self) -> str:
        """What several processes do, in words; empty for one."""
        if self.count == 1:
            return ""
        return f"{self.text}: each embeds its slice of a batch, and the loss is that of the whole batch"

    def slices(self, rows: int, rows_per_item: int = 1) -> list[slice]:
        """The rows of each process."""
        return cut(rows, self.count, rows_per_item)

    def gather(self, x: Any, slices: Sequence[slice]) -> Any:
        """The rows of all processes, of which ``x`` are those of this one, ``[N, ...]``. No gradient is recorded."""
        return x

    def add(self, x: Any) -> Any:
        """The sum of a tensor over all processes. It may overwrite ``x``."""
        return x

    def largest(self, x: Any) -> Any:
        """The elementwise maximum of a tensor over all processes. It may overwrite ``x``."""
        return x

    def gather_objects(self, value: Any) -> list[Any]:
        """A Python object of each process."""
        return [value]

    def from_first(self, value: Any) -> Any:
        """A Python object of the first process."""
        return value

    def gather_arrays(self, array: np.ndarray) -> np.ndarray:
        """The rows of the arrays of all processes. An array without rows may have any shape."""
        arrays = self.gather_objects(array)
        return np.concatenate([one for one in arrays if len(one)] or [array])

    def exchange(self, error: Exception | None, *numbers: int) -> list[int]:
        """Raise an error of one process in all of them.

        Args:
            error: The error of this process; None if there was none.
            numbers: What else is to be agreed on, such as the number of a signal that this process has received.

        Returns:
            The largest of each of the numbers.

        Raises:
            Exception: ``error`` itself.
            RuntimeError: If another process had an error.
        """
        if error is not None:
            raise error
        return list(numbers)

    def write(self, save: Any, path: str | Path) -> Path:
        """Let the first process write a file or a folder, and wait for it in the others.

        The first process does not wait for the others, so it may also be the only one that calls this.

        Args:
            save: Called with the path, by the first process only; returns the path.
            path: What is written.

        Raises:
            Exception: What ``save`` has raised.
        """
        return Path(save(path))


ALONE = Processes()


def check_processes(value: Any) -> bool:
    """Whether the processes that a launcher has started share a training, from the argument ``processes``."""
    if value == "auto":
        return True
    if value is False:
        return False
    raise ValueError(f"processes must be 'auto' or False, got {value!r}")


def started_processes(environment: Mapping[str, str] | None = None) -> tuple[int, int] | None:
    """Rank and number of the processes that a launcher has started; None without one, or for a single process."""
    environment = os.environ if environment is None else environment
    for rank, count in (("RANK", "WORLD_SIZE"), ("PADDLE_TRAINER_ID", "PADDLE_TRAINERS_NUM")):
        if environment.get(rank, "").isdigit() and environment.get(count, "").isdigit():
            found = int(environment[rank]), int(environment[count])
            return found if found[1] > 1 else None
    return None


# Which processes share the work of the loss that is being computed.
work_is_shared_by: ContextVar[Processes] = ContextVar("work_is_shared_by", default=ALONE)


@contextmanager
def sharing(processes: Processes) -> Iterator[None]:
    """A context in which large losses are computed together: each process computes a share of the tiles.

    Inside, all processes must compute the same losses of the same embeddings, and their gradients. Values and gradients
    are the whole ones on each of them.
    """
    token = work_is_shared_by.set(processes)
    try:
        yield
    finally:
        work_is_shared_by.reset(token)
