"""What runs on several devices, for Keras on JAX: batches, embedding, and the loss of arrays."""

import zlib
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np

from ..base.data.batches import LengthGroups, PairInputs
from ..base.processes import Processes, cut
from ..base.training.micro_batches import MicroBatch, Parts, slice_rows, split_batch
from .data import to_device
from .devices import Devices

__all__ = ["ArrayLoss", "Embedder", "put_batch"]


class Embedder:
    """A model that embeds on all devices of this process, in evaluation mode.

    Args:
        model: A built model with flat inputs.
        devices: The devices of all processes.
    """

    def __init__(self, model: keras.Model, devices: Devices):
        import jax

        devices.check(devices.processes, model.variables)
        model.built = True  # its variables are those of the model inside, which exist
        self.model, self.devices, self.local = model, devices, devices.local()
        self.function = jax.jit(self.embed)

    def embed(self, values: list[Any], x: Any) -> Any:
        """The embeddings of a batch, as a function of the values of all variables.

        Their order does not depend on which of them are trained, so what is compiled stays right.
        """
        with keras.StatelessScope(zip(self.model.variables, values, strict=True)):
            return self.local.copy(self.model(self.local.cut(x), training=False))

    def __call__(self, x: Any, count: int | None) -> Any:
        """What the model returns for a batch of ``count`` rows, by default as many as the first array has."""
        count = len(keras.tree.flatten(x)[0]) if count is None else count
        made = self.function(self.devices.local_values(self.model.variables), self.local.put(x, [count]))
        return keras.tree.map_structure(np.asarray, made)


class ArrayLoss:
    """The loss of embeddings on the host, on the devices of this process.

    Args:
        model: A :class:`TrainingModel` with the loss.
        devices: The devices of all processes.
    """

    def __init__(self, model: Any, devices: Devices):
        import jax

        self.model, self.devices, self.variables = model, devices, model.variables
        self.function = jax.jit(self.loss)

    def loss(self, values: list[Any], embeddings: Any, targets: Sequence[Any]) -> Any:
        """The loss, as a function of the values of its variables."""
        with keras.StatelessScope(zip(self.variables, values, strict=True)):
            return self.model.batch_loss(targets, embeddings)

    def __call__(self, embeddings: np.ndarray, targets: Sequence[np.ndarray]) -> float:
        """The loss of embeddings ``[N, D]``."""
        return float(self.function(self.devices.local_values(self.variables), embeddings, targets))


def put_batch(
    devices: Devices, processes: Processes, inputs: Any, slices: Sequence[slice], micro_batch_size: int | None
) -> Parts:
    """A batch on several devices. A micro-batch has about equally many rows of each process.

    Args:
        devices: The devices.
        processes: The processes.
        inputs: The model's input, of the slice of this process.
        slices: The rows of each process.
        micro_batch_size: The rows of the model's input of each process that are in memory at once; None for all.

    Raises:
        ValueError: If the inputs of several processes do not fit together.
    """
    if processes.count == 1:
        parts = split_batch(inputs, slices[0].stop, micro_batch_size)
        return parts._replace(micro_batches=[put_part(devices, one.inputs, [one.rows]) for one in parts.micro_batches])
    width = 2 if isinstance(inputs, PairInputs) else 1  # embeddings that a row of the model's input gives
    own = slices[processes.rank]
    check_alike(processes, inputs, (own.stop - own.start) // width)
    longest = max(one.stop - one.start for one in slices) // width
    count = 1 if micro_batch_size is None else -(-longest // micro_batch_size)
    pieces = [
        [slice(one.start + piece.start, one.start + piece.stop) for piece in cut(one.stop - one.start, count, width)]
        for one in slices
    ]
    micro_batches, order = [], []
    for number in range(count):
        rows = [one[number] for one in pieces]
        start, end = ((edge - own.start) // width for edge in (rows[processes.rank].start, rows[processes.rank].stop))
        part = inputs if count == 1 else slice_rows(inputs, start, end, (own.stop - own.start) // width)
        micro_batches.append(put_part(devices, part, [one.stop - one.start for one in rows]))
        order += [row for one in rows for row in range(one.start, one.stop)]
    return Parts(micro_batches, np.argsort(order) if count > 1 else None, count > 1)


def put_part(devices: Devices, inputs: Any, counts: Sequence[int]) -> MicroBatch:
    """A micro-batch on several devices, from the number of embeddings of each process."""
    width = 2 if isinstance(inputs, PairInputs) else 1
    return MicroBatch(devices.put(to_device(inputs), [count // width for count in counts]), sum(counts))


def check_alike(processes: Processes, inputs: Any, count: int) -> None:
    """Raise ``ValueError``, in all processes, unless their inputs are arrays of rows of the same shape."""
    error, found = None, ""
    if isinstance(inputs, LengthGroups):
        error = ValueError("length_groups must be 1 with several processes of JAX, and each side of a pair alike")
    else:
        arrays = [np.asarray(one) for one in keras.tree.flatten(to_device(inputs))]
        found = ", ".join(f"{array.dtype} {list(array.shape[1:])}" for array in arrays)
        if not all(array.ndim and len(array) == count for array in arrays):
            error = ValueError(f"the inputs of several processes must be arrays of one entry per row, here {count}")
    number = zlib.crc32(found.encode()) >> 1
    highest, lowest = processes.exchange(error, number, -number)
    if highest != -lowest:
        texts = " and ".join(sorted(set(processes.gather_objects(found))))
        raise ValueError(
            "the inputs of several processes of JAX must have rows of one shape, such as texts that are padded to a "
            f"fixed length, got {texts}"
        )
