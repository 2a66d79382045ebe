"""Several processes that train one model, for Keras: those of ``keras.distribution`` on JAX; of torchrun on torch."""

import json
import os
import pickle
from abc import abstractmethod
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np

from ..base.processes import ALONE, Processes, started_processes

__all__ = [
    "JaxProcesses",
    "KerasProcesses",
    "TorchProcesses",
    "check_strategy",
    "copy_from_first",
    "join_processes",
    "variables_of",
]

SAVE_TIMEOUT = 30 * 60  # seconds, for a process that waits until the first one has saved a run
WRITTEN: dict[str, int] = {}  # how often each path was
ON_JAX = (
    "use Keras on JAX (KERAS_BACKEND=jax), and keras.distribution.set_distribution(keras.distribution.DataParallel()) "
    "before the model is built"
)


def check_strategy(model: keras.Model) -> None:
    """Raise ``ValueError`` for a distribution that this engine cannot train with: the loss would be another one."""
    engine = keras.backend.backend()
    distribution = keras.distribution.distribution()
    if distribution is not None and engine != "jax":
        raise ValueError(f"keras.distribution must be used with Keras on JAX, got {engine}; {ON_JAX}")
    if engine != "tensorflow":
        return
    import tensorflow

    values = [getattr(variable, "value", None) for variable in model.variables]
    has_strategy = tensorflow.distribute.has_strategy()
    if has_strategy or any(isinstance(value, tensorflow.distribute.DistributedValues) for value in values):
        raise ValueError(f"a model must not be trained by tf.distribute, whose replicas have a loss each; {ON_JAX}")


def join_processes() -> Processes:
    """The processes that a launcher has started, or this one alone.

    Raises:
        ValueError: If there are several, and this engine cannot train in them.
    """
    engine = keras.backend.backend()
    if engine == "torch":
        return join_torch()
    if engine == "jax":
        import jax

        if jax.process_count() > 1:
            if keras.distribution.distribution() is None:
                raise ValueError(
                    f"{jax.process_count()} processes of JAX must have a distribution: keras.distribution."
                    "set_distribution(keras.distribution.DataParallel()) before the model is built; or processes=False"
                )
            return JaxProcesses()
    if started_processes() is None and (engine == "jax" or not has_workers()):
        return ALONE
    if engine == "jax":
        raise ValueError(
            "several processes of Keras on JAX must begin with keras.distribution.initialize(), which connects them, "
            "and set a keras.distribution.DataParallel before the model is built; or processes=False"
        )
    raise ValueError(f"Keras on TensorFlow must train in a single process; {ON_JAX}; or processes=False")


def variables_of(model: keras.Model, loss: Any) -> list[Any]:
    """All variables of a model and a loss, which may be a function."""
    return [*model.variables, *getattr(loss, "variables", [])]


def copy_from_first(processes: Processes, model: keras.Model, loss: Any) -> None:
    """Give all processes the variables of the first one.

    Raises:
        ValueError: If the model has no variables yet.
    """
    if not model.built:
        raise ValueError("several processes must be given a model whose weights exist: call it on a batch before")
    assert isinstance(processes, KerasProcesses)
    processes.copy_from_first(variables_of(model, loss))


def has_workers() -> bool:
    """Whether TensorFlow is told that this process is one of several."""
    try:
        workers = json.loads(os.environ.get("TF_CONFIG", "{}")).get("cluster", {})
    except (ValueError, AttributeError):
        return False
    return isinstance(workers, dict) and sum(map(len, workers.values())) > 1


def join_torch() -> Processes:
    """The processes that torchrun has started, or those of the group that the user has made."""
    import torch
    import torch.distributed as dist

    if not dist.is_available():
        return ALONE
    if not dist.is_initialized():
        if started_processes() is None:
            return ALONE
        dist.init_process_group("cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo")
    if dist.get_world_size() == 1:
        return ALONE
    place = int(os.environ.get("LOCAL_RANK", "0"))
    if torch.cuda.is_available() and torch.cuda.current_device() != place:
        raise ValueError(
            f"each process must have its own device: torch.cuda.set_device({place}) before the model is made; or "
            "processes=False"
        )
    return TorchProcesses()


class KerasProcesses(Processes):
    """Several processes. A subclass says how numbers, objects and keys are exchanged."""

    @abstractmethod
    def copy_from_first(self, variables: Sequence[Any]) -> None:
        """Give all processes the values that variables have in the first one."""

    @abstractmethod
    def largest_numbers(self, numbers: Sequence[int]) -> list[int]:
        """The largest of each of the numbers, over all processes."""

    @abstractmethod
    def set_key(self, key: str, text: str) -> None:
        """Let all processes know a text."""

    @abstractmethod
    def wait_for_key(self, key: str) -> str:
        """The text that another process has set, or will."""

    def from_first(self, value: Any) -> Any:
        return self.gather_objects(value if self.is_first else None)[0]

    def exchange(self, error: Exception | None, *numbers: int) -> list[int]:
        failed, *agreed = self.largest_numbers([0 if error is None else self.count - self.rank, *numbers])
        if failed:
            messages = self.gather_objects(None if error is None else f"{type(error).__name__}: {error}")
            if error is not None:
                raise error
            rank = self.count - failed
            raise RuntimeError(f"process {rank} of {self.count} has met an error: {messages[rank]}")
        return agreed

    def write(self, save: Callable[[Any], Any], path: str | Path) -> Path:
        name = str(Path(path).absolute())
        WRITTEN[name] = WRITTEN.get(name, 0) + 1
        key = f"finetuner/{WRITTEN[name]}/{name}"
        if not self.is_first:
            error = pickle.loads(bytes.fromhex(self.wait_for_key(key)))
            if error is not None:
                raise error
            return Path(path)
        found: Exception | None = None
        try:
            return Path(save(path))
        except Exception as error:
            found = type(error)(*error.args) if isinstance(error, OSError | ValueError) else RuntimeError(str(error))
            raise
        finally:
            self.set_key(key, pickle.dumps(found).hex())


class JaxProcesses(KerasProcesses):
    """The processes of ``keras.distribution.initialize``. Arrays are exchanged by what JAX compiles."""

    def __init__(self) -> None:
        import jax
        from jax._src import distributed

        self.rank, self.count = jax.process_index(), jax.process_count()
        self.text = f"{self.count} processes (JAX, {jax.device_count()} devices)"
        self.client = distributed.global_state.client

    def gather_numbers(self, numbers: np.ndarray) -> np.ndarray:
        """The numbers of each process, ``[processes, ...]``."""
        from jax.experimental import multihost_utils

        return np.asarray(multihost_utils.process_allgather(numbers))

    def largest_numbers(self, numbers: Sequence[int]) -> list[int]:
        return [int(one) for one in self.gather_numbers(np.array(numbers, np.int32)).max(axis=0)]

    def gather_objects(self, value: Any) -> list[Any]:
        own = np.frombuffer(pickle.dumps(value), np.uint8)
        counts = self.gather_numbers(np.array([len(own)], np.int32))[:, 0]
        sent = np.zeros(counts.max(), np.uint8)
        sent[: len(own)] = own
        rows = self.gather_numbers(sent)
        return [pickle.loads(row[:count].tobytes()) for row, count in zip(rows, counts, strict=True)]

    def copy_from_first(self, variables: Sequence[Any]) -> None:
        from jax.experimental import multihost_utils

        values = [np.asarray(variable.value) for variable in variables]
        for variable, value in zip(variables, multihost_utils.broadcast_one_to_all(values), strict=True):
            variable.assign(np.asarray(value))

    def set_key(self, key: str, text: str) -> None:
        self.client.key_value_set(key, text)

    def wait_for_key(self, key: str) -> str:
        return str(self.client.blocking_key_value_get(key, 1000 * SAVE_TIMEOUT))


class TorchProcesses(KerasProcesses):
    """The processes of torchrun, or of a group of ``torch.distributed``."""

    def __init__(self) -> None:
        import torch.distributed as dist

        self.rank, self.count = dist.get_rank(), dist.get_world_size()
        self.text = f"{self.count} processes ({dist.get_backend()})"
        world = dist.group.WORLD
        self.host = world if "gloo" in str(dist.get_backend_config(world)) else dist.new_group(backend="gloo")

    def gather(self, x: Any, slices: Sequence[slice]) -> Any:
        import torch
        import torch.distributed as dist

        x = x.detach()
        longest = max(one.stop - one.start for one in slices)
        sent = x.new_zeros((longest, *x.shape[1:]))
        sent[: len(x)] = x
        parts = [torch.empty_like(sent) for _ in slices]
        dist.all_gather(parts, sent)
        return torch.cat([part[: one.stop - one.start] for part, one in zip(parts, slices, strict=True)])

    def add(self, x: Any) -> Any:
        import torch.distributed as dist

        x = x.detach().clone()
        dist.all_reduce(x)
        return x

    def largest_numbers(self, numbers: Sequence[int]) -> list[int]:
        import torch
        import torch.distributed as dist

        status = torch.tensor(list(numbers))
        dist.all_reduce(status, dist.ReduceOp.MAX, group=self.host)
        return [int(one) for one in status.tolist()]

    def gather_objects(self, value: Any) -> list[Any]:
        import torch.distributed as dist

        values: list[Any] = [None] * self.count
        dist.all_gather_object(values, value, group=self.host)
        return values

    def copy_from_first(self, variables: Sequence[Any]) -> None:
        import torch.distributed as dist

        for variable in variables:
            value = variable.value.detach().clone()
            dist.broadcast(value, src=0)
            variable.assign(value)

    def set_key(self, key: str, text: str) -> None:
        import torch.distributed as dist

        dist.distributed_c10d._get_default_store().set(key, text)

    def wait_for_key(self, key: str) -> str:
        from datetime import timedelta

        import torch.distributed as dist

        store = dist.distributed_c10d._get_default_store()
        store.wait([key], timedelta(seconds=SAVE_TIMEOUT))
        return str(store.get(key).decode())
