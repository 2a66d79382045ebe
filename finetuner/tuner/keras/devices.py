"""Several devices that share each batch, for Keras on JAX under ``keras.distribution.DataParallel``.

JAX divides arrays evenly. So the arrays of a batch are filled up with rows of zeros on the host, and the compiled
functions cut these rows off before the model sees them. What is computed is what one device would compute, for any
number of rows, any model and any loss: XLA shares it among the devices.
"""

import functools
import zlib
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np

from ..base.data.batches import LengthGroups, PairInputs
from ..base.processes import Processes, cut
from ..base.training.micro_batches import MicroBatch, Parts, slice_rows, split_batch
from .data import to_device

__all__ = ["ONE_DEVICE", "Devices", "Embedder", "OneDevice", "Rows", "find_devices", "put_batch"]

BUILT_BEFORE = "the model must be built while the distribution of keras.distribution is set"


class Rows:
    """An array of rows on several devices.

    Args:
        array: ``[M, ...]``, of which each device has ``M / devices`` rows.
        parts: Start and end of the rows that are not filled in, for each process.
    """

    def __init__(self, array: Any, parts: tuple[tuple[int, int], ...]):
        self.array, self.parts = array, parts


@functools.cache
def register_rows() -> None:
    """Let JAX look into :class:`Rows`. The parts are a constant of what it compiles."""
    import jax

    jax.tree_util.register_pytree_node(
        Rows, lambda rows: ((rows.array,), rows.parts), lambda parts, children: Rows(children[0], parts)
    )


class OneDevice:
    """The device that Keras uses by itself."""

    def cut(self, x: Any) -> Any:
        """In a compiled function: the true rows of the inputs of a batch."""
        return x

    def share(self, x: Any) -> Any:
        """In a compiled function: a tensor whose rows are shared among the devices, also if they do not divide."""
        return x

    def copy(self, x: Any) -> Any:
        """In a compiled function: tensors, also nested ones, of which each device has all."""
        return x


ONE_DEVICE = OneDevice()


class Devices(OneDevice):
    """The devices of a mesh, in the order of the processes.

    Args:
        mesh: A mesh of JAX with one axis.
        processes: The number of processes, each of which has its own rows of a batch.
    """

    def __init__(self, mesh: Any, processes: int = 1):
        from jax.sharding import NamedSharding, PartitionSpec

        register_rows()
        self.mesh, self.processes = mesh, processes
        self.sharded = NamedSharding(mesh, PartitionSpec(mesh.axis_names[0]))
        self.replicated = NamedSharding(mesh, PartitionSpec())

    @property
    def of_process(self) -> int:
        """The number of devices of one process."""
        return int(self.mesh.devices.size) // self.processes

    def put(self, x: Any, counts: Sequence[int]) -> Any:
        """Arrays with the rows of this process, also nested ones, as :class:`Rows` of all processes.

        Args:
            x: The inputs of a batch. Of several processes, each gives its own rows, which may be none.
            counts: The number of rows of each process.
        """
        import jax

        count = counts[jax.process_index() if self.processes > 1 else 0]
        own = -(-max(counts) // self.of_process) * self.of_process  # rows of a process with those that are filled in
        parts = tuple((own * number, own * number + rows) for number, rows in enumerate(counts))

        def spread(one: Any) -> Any:
            array = np.asarray(one)
            if not array.ndim or len(array) != count:
                return one  # all devices have all of it
            filled = np.zeros((own, *array.shape[1:]), array.dtype)
            filled[:count] = array
            shape = (own * self.processes, *array.shape[1:])
            return Rows(jax.make_array_from_process_local_data(self.sharded, filled, shape), parts)

        return keras.tree.map_structure(spread, x)

    def cut(self, x: Any) -> Any:
        import jax
        import jax.numpy as jnp

        def true_rows(one: Any) -> Any:
            if not isinstance(one, Rows):
                return one
            parts = [one.array[start:end] for start, end in one.parts]
            return self.share(parts[0] if len(parts) == 1 else jnp.concatenate(parts))

        return jax.tree_util.tree_map(true_rows, x, is_leaf=lambda one: isinstance(one, Rows))

    def share(self, x: Any) -> Any:
        import jax

        return jax.lax.with_sharding_constraint(x, self.sharded) if isinstance(x, jax.core.Tracer) else x

    def copy(self, x: Any) -> Any:
        import jax

        def everywhere(one: Any) -> Any:
            is_traced = isinstance(one, jax.core.Tracer)
            return jax.lax.with_sharding_constraint(one, self.replicated) if is_traced else one

        return jax.tree_util.tree_map(everywhere, x)

    def local(self) -> "Devices":
        """The devices of this process alone."""
        import jax

        if self.processes == 1:
            return self
        own = [one for one in self.mesh.devices.flat if one.process_index == jax.process_index()]
        return Devices(jax.sharding.Mesh(np.array(own), self.mesh.axis_names))

    def local_values(self, variables: Sequence[Any]) -> list[Any]:
        """The values of variables on the devices of this process. Nothing is copied."""
        import jax

        values = [variable.value for variable in variables]
        if self.processes == 1:
            return values
        replicated = self.local().replicated
        return [
            jax.make_array_from_single_device_arrays(
                value.shape, replicated, [shard.data for shard in value.addressable_shards]
            )
            for value in values
        ]

    def check(self, variables: Sequence[Any]) -> None:
        """Raise ``ValueError`` unless the variables are on all devices."""
        for variable in variables:
            found = set(variable.value.sharding.device_set)
            if found != set(self.mesh.devices.flat):
                raise ValueError(
                    f"{BUILT_BEFORE}, and its weight {variable.path} is on {len(found)} of the "
                    f"{self.mesh.devices.size} devices"
                )


def find_devices() -> Devices | None:
    """The devices of the distribution that is set; None for a single device or another engine than JAX.

    Raises:
        ValueError: If the distribution is not data parallel, or its devices are not in the order of the processes.
    """
    distribution = keras.distribution.distribution()
    if distribution is None or keras.backend.backend() != "jax":
        return None
    import jax

    mesh = distribution.device_mesh.backend_mesh
    if not isinstance(distribution, keras.distribution.DataParallel) or mesh.devices.ndim != 1:
        raise ValueError(
            "the distribution must be a keras.distribution.DataParallel of one axis, got "
            f"{type(distribution).__name__} of shape {list(mesh.devices.shape)}"
        )
    owners = [one.process_index for one in mesh.devices.flat]
    if len(set(owners)) > 1 and owners != sorted(list(range(jax.process_count())) * (len(owners) // len(set(owners)))):
        raise ValueError(
            "the devices of the distribution must be those of keras.distribution.list_devices(), as many of each "
            f"process, got devices of the processes {owners}"
        )
    return None if len(owners) == 1 and jax.process_count() == 1 else Devices(mesh, len(set(owners)))


class Embedder:
    """A model that embeds on all devices of this process, in evaluation mode.

    Args:
        model: A built model with flat inputs.
        devices: The devices of all processes.
    """

    def __init__(self, model: keras.Model, devices: Devices):
        import jax

        devices.check(model.variables)
        model.built = True  # its variables are those of the model inside, which exist
        self.model, self.devices, self.local = model, devices, devices.local()
        self.function = jax.jit(self.embed)

    def embed(self, weights: list[Any], state: list[Any], x: Any) -> Any:
        """The embeddings of a batch, as a function of the weights."""
        return self.local.copy(self.model.stateless_call(weights, state, self.local.cut(x), training=False)[0])

    def __call__(self, x: Any, count: int | None) -> Any:
        """What the model returns for a batch of ``count`` rows, by default as many as the first array has."""
        count = len(keras.tree.flatten(x)[0]) if count is None else count
        groups = (self.model.trainable_variables, self.model.non_trainable_variables)
        made = self.function(*map(self.devices.local_values, groups), self.local.put(x, [count]))
        return keras.tree.map_structure(np.asarray, made)


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
