"""The model as several processes train it, for PyTorch: ``DistributedDataParallel``."""

import inspect
import warnings
from collections.abc import Sequence
from typing import Any

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from ... import checks
from ..base.processes import Processes
from .framework import forward
from .models import named_weights

__all__ = ["Parallel", "average", "copy_from_first", "loss_parameters", "parallel_model"]

# The argument that leaves buffers as they are has another name since PyTorch 2.13.
has_new_name = "forward_sync_buffers" in inspect.signature(DistributedDataParallel).parameters
WITHOUT_BUFFERS: dict[str, Any] = {"forward_sync_buffers" if has_new_name else "broadcast_buffers": False}


class Forward(nn.Module):
    """The forward pass of a model in a training step, as a module: what is wrapped knows nothing about inputs."""

    def __init__(self, model: nn.Module):
        super().__init__()
        self.model = model

    def forward(self, inputs: Any, rows: int) -> torch.Tensor:
        return forward(self.model, inputs, rows)


class Parallel:
    """A model whose gradients are averaged over the processes.

    The first step tells which weights the model uses: a model of transformers may have a pooler that nothing reads. The
    gradients of this step are averaged after the backward pass, those of later steps during it. Statistics of norms are
    not exchanged here.

    Args:
        model: The model.
        processes: The processes.
    """

    def __init__(self, model: nn.Module, processes: Processes):
        self.model, self.processes = model, processes
        self.trained = {name: p for name, p in named_weights(model).items() if p.requires_grad}
        self.used: set[str] = set()  # known after the first step
        self.first = True
        self.engine: Any = None

    def __call__(self, inputs: Any, rows: int, exchange: bool) -> torch.Tensor:
        """Embeddings ``[rows, D]``. With their backward pass, gradients are averaged if asked, else added up."""
        if self.engine is None:
            return forward(self.model, inputs, rows)
        if exchange:
            return self.engine(inputs, rows)
        with self.engine.no_sync():
            return self.engine(inputs, rows)

    def fits(self, model: nn.Module) -> bool:
        """Whether this is for ``model`` and the weights that are trained now."""
        return model is self.model and self.trained.keys() == {
            name for name, p in named_weights(model).items() if p.requires_grad
        }

    def finish_step(self) -> None:
        """Average the gradients of the first step, and check those of any other one.

        Raises:
            ValueError: If a step uses other weights than the first one.
        """
        used = {name for name, p in self.trained.items() if p.grad is not None}
        if self.first:
            self.first = False
            self.used = set().union(*self.processes.gather_objects(used))
            for name in self.trained:
                if name in self.used:
                    p = self.trained[name]
                    gradient = torch.zeros_like(p) if p.grad is None else p.grad
                    p.grad = self.processes.add(gradient) / self.processes.count
            self.wrap()
        elif used != self.used:
            names = checks.preview(sorted(used ^ self.used))
            raise ValueError(
                f"several processes must use the same weights in each step, and {names} differ; freeze them"
            )

    def wrap(self) -> None:
        """Wrap the model so that the weights in use are averaged."""
        unused = [p for name, p in self.trained.items() if name not in self.used]
        for p in unused:
            p.requires_grad_(False)
        if len(unused) < len(self.trained):  # else only the loss is trained
            self.engine = DistributedDataParallel(Forward(self.model), **WITHOUT_BUFFERS)
        for p in unused:
            p.requires_grad_(True)
        if unused and self.processes.is_first:
            names = checks.preview([name for name in self.trained if name not in self.used], 3)
            warnings.warn(f"the model does not use the weights {names}, so they are not trained", stacklevel=2)


def parallel_model(model: nn.Module, processes: Processes, present: Parallel | None) -> Parallel:
    """The model for several processes; the present one if it fits."""
    return present if present is not None and present.fits(model) else Parallel(model, processes)


@torch.no_grad()
def average(processes: Processes, tensors: Sequence[torch.Tensor]) -> None:
    """Set tensors to their means over the processes."""
    for tensor in tensors:
        tensor.copy_(processes.add(tensor.clone()) / processes.count)


def loss_parameters(loss: Any) -> list[nn.Parameter]:
    """The weights of a loss, which may be a function."""
    return list(loss.parameters()) if isinstance(loss, nn.Module) else []


@torch.no_grad()
def copy_from_first(model: nn.Module, loss: Any) -> None:
    """Give all processes the weights and the buffers of the first one."""
    for module in (model, loss):
        for tensor in [*module.parameters(), *module.buffers()] if isinstance(module, nn.Module) else ():
            dist.broadcast(tensor.detach(), src=0)
