"""Several processes that train one model, for PyTorch: ``torch.distributed`` under torchrun or any other launcher."""

import atexit
import functools
import gc
import pickle
import sys
from collections.abc import Callable, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import nn

from ..base.processes import ALONE, Processes, sharing, started_processes

__all__ = ["AcrossProcesses", "PytorchProcesses", "join_processes"]

SAVE_TIMEOUT = timedelta(minutes=30)  # for a process that waits until the first one has saved a run


def join_processes() -> Processes:
    """The processes that a launcher has started, or those of the group that the user has made; else this one alone."""
    if not dist.is_available():
        return ALONE
    if not dist.is_initialized():
        if started_processes() is None:
            return ALONE
        # Tensors of each kind of device have their own backend. Python objects are sent from the host.
        dist.init_process_group("cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo")
        atexit.register(leave_processes)
    return PytorchProcesses() if dist.get_world_size() > 1 else ALONE


def leave_processes() -> None:
    """Leave the group at the end of the program; the threads of gloo would sometimes end it by a signal.

    After an error the other processes may have gone, and leaving could wait for them.
    """
    if dist.is_initialized() and not hasattr(sys, "last_value"):
        gc.collect()  # what is wrapped in DistributedDataParallel holds the group, too
        dist.destroy_process_group()


class PytorchProcesses(Processes):
    def __init__(self) -> None:
        self.rank, self.count = dist.get_rank(), dist.get_world_size()
        self.text = f"{self.count} processes ({dist.get_backend()})"
        self.host = host_group(dist.group.WORLD)
        self.written: dict[str, int] = {}  # how often each path was

    @torch.no_grad()
    def gather(self, x: torch.Tensor, slices: Sequence[slice]) -> torch.Tensor:
        x = x.detach()
        longest = max(one.stop - one.start for one in slices)
        sent = x.new_zeros((longest, *x.shape[1:]))
        sent[: len(x)] = x
        parts = [torch.empty_like(sent) for _ in slices]
        dist.all_gather(parts, sent)
        return torch.cat([part[: one.stop - one.start] for part, one in zip(parts, slices, strict=True)])

    @torch.no_grad()
    def add(self, x: torch.Tensor) -> torch.Tensor:
        x = x.contiguous()
        dist.all_reduce(x)
        return x

    @torch.no_grad()
    def largest(self, x: torch.Tensor) -> torch.Tensor:
        x = x.contiguous()
        dist.all_reduce(x, dist.ReduceOp.MAX)
        return x

    def gather_objects(self, value: Any) -> list[Any]:
        values: list[Any] = [None] * self.count
        dist.all_gather_object(values, value, group=self.host)
        return values

    def from_first(self, value: Any) -> Any:
        values = [value]
        dist.broadcast_object_list(values, src=0, group=self.host)
        return values[0]

    def exchange(self, error: Exception | None, *numbers: int) -> list[int]:
        status = torch.tensor([0 if error is None else self.count - self.rank, *numbers])
        dist.all_reduce(status, dist.ReduceOp.MAX, group=self.host)
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
        store, key = dist.distributed_c10d._get_default_store(), f"finetuner/{self.written[name]}/{name}"
        if not self.is_first:
            store.wait([key], SAVE_TIMEOUT)
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
def host_group(world: Any) -> Any:
    """A group that exchanges what is on the host: ``world`` itself if its backend does."""
    return world if "gloo" in str(dist.get_backend_config(world)) else dist.new_group(backend="gloo")


class GatherRows(torch.autograd.Function):
    """The rows of all processes. The gradient of each process' own rows is taken from that of all rows."""

    @staticmethod
    def forward(ctx: Any, own: torch.Tensor, processes: Processes, slices: Sequence[slice]) -> torch.Tensor:
        ctx.own, ctx.count = slices[processes.rank], processes.count
        return processes.gather(own, slices)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        return gradient[ctx.own] * ctx.count, None, None


def gather_rows(own: torch.Tensor, processes: Processes, slices: Sequence[slice]) -> torch.Tensor:
    """The rows of all processes, of a tensor without a gradient."""
    return processes.gather(own, slices)


class AcrossProcesses(nn.Module):
    """A loss of the items of all processes, for a training loop of your own under DDP, FSDP, Lightning or Accelerate.

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
        >>> import torch
        >>> loss = AcrossProcesses(NTXentLoss())  # in a single process, the loss itself
        >>> embeddings = torch.randn(8, 4, requires_grad=True)
        >>> loss(embeddings, torch.arange(8) // 2).shape
        torch.Size([])
    """

    def __init__(self, loss: nn.Module):
        super().__init__()
        self.loss = loss

    def forward(self, *tensors: torch.Tensor) -> torch.Tensor:
        processes = PytorchProcesses() if dist.is_available() and dist.is_initialized() else ALONE
        if processes.count == 1:
            return self.loss(*tensors)
        for tensor in tensors:
            if not isinstance(tensor, torch.Tensor) or not tensor.ndim:
                raise TypeError(f"AcrossProcesses must be called with tensors of rows, got {type(tensor).__name__}")
        seed = int(torch.randint(2**31, ()))
        counts, seeds = zip(*processes.gather_objects(([len(tensor) for tensor in tensors], seed)), strict=True)
        whole = []
        for number, tensor in enumerate(tensors):
            ends = [sum(count[number] for count in counts[:rank]) for rank in range(processes.count + 1)]
            slices = [slice(start, end) for start, end in zip(ends, ends[1:], strict=False)]
            gather = GatherRows.apply if tensor.is_floating_point() else gather_rows
            whole.append(gather(tensor, processes, slices))
        device = whole[0].device
        # What the loss draws, such as a sample of classes, is the same in all processes.
        with (
            torch.random.fork_rng([] if device.type == "cpu" else [device], device_type=device.type),
            sharing(processes),
        ):
            torch.manual_seed(seeds[0])
            return self.loss(*whole)
