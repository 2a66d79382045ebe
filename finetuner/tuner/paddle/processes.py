"""Several processes that train one model, for PaddlePaddle: ``paddle.distributed`` under its launcher."""

import contextlib
import functools
import importlib
import os
import pickle
import socket
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import paddle
import paddle.distributed as dist
from paddle import nn
from paddle.autograd import PyLayer
from paddle.distributed import collective

from ..base.processes import ALONE, Processes, sharing, started_processes
from .ops import refuse_second_derivatives

__all__ = ["AcrossProcesses", "PaddleProcesses", "join_processes"]

# What these types are sent as. With the first, Paddle ends the process. Gloo's sums of the second are wrong.
SENT_AS = {paddle.int16: paddle.int32, paddle.float16: paddle.float32}


def join_processes() -> Processes:
    """The processes that a launcher has started, or those of the group that the user has made; else this one alone."""
    if not dist.is_available():
        return ALONE
    if not dist.is_initialized():
        started = started_processes()
        if started is None:
            return ALONE
        if dist.ParallelEnv().world_size != started[1]:  # Paddle would train in this process alone
            raise ValueError(
                f"processes of Paddle must be started by python -m paddle.distributed.launch, got {started[1]} others"
            )
        dist.init_parallel_env()
    return PaddleProcesses() if dist.get_world_size() > 1 else ALONE


class PaddleProcesses(Processes):
    def __init__(self) -> None:
        self.rank, self.count = dist.get_rank(), dist.get_world_size()
        self.text = f"{self.count} processes ({dist.get_backend().lower()})"
        self.meet = start_barrier(self.rank, self.count)
        self.written: dict[str, int] = {}  # how often each path was

    @paddle.no_grad()
    def gather(self, x: paddle.Tensor, slices: Sequence[slice]) -> paddle.Tensor:
        x = x.detach()
        longest = max(one.stop - one.start for one in slices)
        padding = paddle.zeros([longest - x.shape[0], *x.shape[1:]], x.dtype)
        sent = paddle.concat([x, padding]).astype(sent_as(x))
        if not sent.size:  # which ends the process in gloo
            return paddle.zeros([slices[-1].stop, *x.shape[1:]], x.dtype)
        parts: list[paddle.Tensor] = []
        self.meet()
        dist.all_gather(parts, sent)
        parts = [part[: one.stop - one.start] for part, one in zip(parts, slices, strict=True)]
        return paddle.concat(parts).astype(x.dtype)

    @paddle.no_grad()
    def add(self, x: paddle.Tensor) -> paddle.Tensor:
        self.meet()
        return reduced(x, dist.ReduceOp.SUM)

    @paddle.no_grad()
    def largest(self, x: paddle.Tensor) -> paddle.Tensor:
        self.meet()
        return reduced(x, dist.ReduceOp.MAX)

    def gather_objects(self, value: Any) -> list[Any]:
        values: list[Any] = []
        self.meet()
        dist.all_gather_object(values, value)
        return values

    def from_first(self, value: Any) -> Any:
        values = [value]
        self.meet()
        dist.broadcast_object_list(values, src=0)
        return values[0]

    def exchange(self, error: Exception | None, *numbers: int) -> list[int]:
        status = paddle.to_tensor([0 if error is None else self.count - self.rank, *numbers])
        self.meet()
        dist.all_reduce(status, dist.ReduceOp.MAX)
        failed, *agreed = status.tolist()
        if failed:
            messages = self.gather_objects(None if error is None else f"{type(error).__name__}: {error}")
            if error is not None:
                raise error
            rank = self.count - failed
            raise RuntimeError(f"process {rank} of {self.count} has met an error: {messages[rank]}")
        return agreed

    def write(self, save: Callable[[Any], Any], path: str | Path) -> Path:
        name = str(Path(path).absolute())
        self.written[name] = self.written.get(name, 0) + 1
        store, key = collective._default_store, f"finetuner/{self.written[name]}/{name}"
        if not self.is_first:
            store.wait(key)  # for 15 minutes, or FLAGS_stop_check_timeout seconds
            error = pickle.loads(bytes.fromhex(store.get(key).decode()))
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
            store.set(key, pickle.dumps(found).hex())


@functools.cache
def start_barrier(rank: int, count: int) -> Callable[[], None]:
    """A function that waits until all processes have called it.

    What gloo exchanges fails if a process waits for 30 seconds for another one, which may be saving a checkpoint. Its
    barrier waits for as long as it takes.
    """
    if dist.get_backend() != "GLOO":
        return lambda: None
    with socket.socket() as free:
        free.bind(("", 0))
        host = os.environ["PADDLE_CURRENT_ENDPOINT"].rpartition(":")[0]
        endpoint = [f"{host}:{free.getsockname()[1]}"]
    dist.broadcast_object_list(endpoint, src=0)
    if rank == 0:  # the server opens a log in the working directory, which is the user's
        with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
            importlib.import_module("paddle.distributed.fleet.utils.http_server")
    dist.gloo_init_parallel_env(rank, count, endpoint[0])
    return dist.gloo_barrier


def sent_as(x: paddle.Tensor) -> paddle.dtype:
    """The type in which a tensor is sent."""
    return SENT_AS.get(x.dtype, x.dtype)


def reduced(x: paddle.Tensor, operation: int) -> paddle.Tensor:
    """The sum or the maximum over all processes."""
    if not x.size:  # which gloo refuses
        return x
    sent = x.astype(sent_as(x)).contiguous()
    dist.all_reduce(sent, operation)
    return sent.astype(x.dtype)


class GatherRows(PyLayer):
    """The rows of all processes. The gradient of each process' own rows is taken from that of all rows."""

    @staticmethod
    def forward(ctx: Any, own: paddle.Tensor, processes: Processes, slices: Sequence[slice]) -> paddle.Tensor:
        ctx.own, ctx.count = slices[processes.rank], processes.count
        return processes.gather(own, slices)

    @staticmethod
    def backward(ctx: Any, gradient: paddle.Tensor) -> paddle.Tensor:
        refuse_second_derivatives()
        return gradient[ctx.own] * ctx.count


def gather_rows(own: paddle.Tensor, processes: Processes, slices: Sequence[slice]) -> paddle.Tensor:
    """The rows of all processes, of a tensor without a gradient."""
    return processes.gather(own, slices)


class AcrossProcesses(nn.Layer):
    """A loss of the items of all processes, for a training loop of your own under ``paddle.DataParallel`` or Fleet.

    Each process calls it with its own embeddings and targets. They are gathered in the order of the processes, which
    may have different numbers of rows. The value is that of the whole batch, in all processes.

    These engines average gradients over the processes. So the gradient by a process' own embeddings is multiplied with
    the number of processes, and the averaged gradient of the model is that of the whole batch. The gradient of the
    loss's own weights is the whole one in each process, and need not be exchanged.

    Args:
        loss: The loss. All tensors that it is called with must have one row per own item.

    Raises:
        TypeError: If it is called with something else than tensors.

    Example:
        >>> import paddle
        >>> loss = AcrossProcesses(NTXentLoss())  # in a single process, the loss itself
        >>> embeddings = paddle.randn([8, 4])
        >>> loss(embeddings, paddle.arange(8) // 2).shape
        paddle.Size([])
    """

    def __init__(self, loss: nn.Layer):
        super().__init__()
        self.loss = loss

    def forward(self, *tensors: paddle.Tensor) -> paddle.Tensor:
        processes = PaddleProcesses() if dist.is_available() and dist.is_initialized() else ALONE
        if processes.count == 1:
            return self.loss(*tensors)
        for tensor in tensors:
            if not isinstance(tensor, paddle.Tensor) or not tensor.ndim:
                raise TypeError(f"AcrossProcesses must be called with tensors of rows, got {type(tensor).__name__}")
        seed = paddle.randint(2**31 - 1).item()
        counts, seeds = zip(*processes.gather_objects(([x.shape[0] for x in tensors], seed)), strict=True)
        whole = []
        for number, tensor in enumerate(tensors):
            ends = [sum(count[number] for count in counts[:rank]) for rank in range(processes.count + 1)]
            slices = [slice(start, end) for start, end in zip(ends, ends[1:], strict=False)]
            gather = GatherRows.apply if tensor.is_floating_point() and not tensor.stop_gradient else gather_rows
            whole.append(gather(tensor, processes, slices))
        state = paddle.get_rng_state()
        paddle.seed(seeds[0])  # what the loss draws, such as a sample of classes, is the same in all processes
        try:
            with sharing(processes):
                return self.loss(*whole)
        finally:
            paddle.set_rng_state(state)
