"""Several devices that share each batch, for Keras on JAX under ``keras.distribution.DataParallel``.

JAX divides arrays evenly. So the arrays of a batch are filled up with rows of zeros on the host, and the compiled
functions cut these rows off before the model sees them. What is computed is what one device would compute, for any
number of rows, any model and any loss: XLA shares it among the devices.
"""

import functools
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np

__all__ = ["ONE_DEVICE", "Devices", "OneDevice", "Rows", "find_devices"]


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

    def check(self, processes: int, variables: Sequence[Any]) -> None:
        """Raise ``ValueError`` unless the devices are those of all processes that train, and variables are on them."""
        if processes != self.processes:
            raise ValueError(
                f"the distribution must have the devices of the {processes} processes that train, and has those of "
                f"{self.processes}"
            )
        for variable in variables:
            count = len(variable.value.sharding.device_set)
            if variable.value.sharding.device_set != set(self.mesh.devices.flat):
                raise ValueError(
                    "the model must be made while the distribution of keras.distribution is set, and its weight "
                    f"{variable.path} is on {count} of the {self.mesh.devices.size} devices"
                )


def find_devices(processes: int | None = None, variables: Sequence[Any] = ()) -> Devices | None:
    """The devices of the distribution that is set; None for a single device or another engine than JAX.

    Args:
        processes: The number of processes that train; by default those of the distribution.
        variables: Those that must be on the devices.

    Raises:
        ValueError: If the distribution is not data parallel, its devices are not in the order of the processes, it has
            the devices of others, or a variable is on others.
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
    if len(owners) == 1 and jax.process_count() == 1:
        return None
    devices = Devices(mesh, len(set(owners)))
    devices.check(devices.processes if processes is None else processes, variables)
    return devices
