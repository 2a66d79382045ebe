"""The model as several processes train it, for PaddlePaddle: gradients are averaged after the backward pass."""

import warnings
from collections.abc import Iterator, Sequence
from typing import Any

import paddle
import paddle.distributed as dist
from paddle import nn

from ... import checks
from ..base.processes import Processes
from .framework import forward
from .models import named_weights, plain_model
from .processes import sent_as

__all__ = ["Parallel", "average", "copy_from_first", "loss_parameters", "parallel_model"]

MESSAGE_SIZE = 25 * 2**20  # bytes of gradients that are sent together, as in paddle.DataParallel


class Parallel:
    """A model whose gradients are averaged over the processes.

    This is done after the backward pass. ``paddle.DataParallel`` would do it during the backward pass, but its hooks
    stay at the weights when it is freed, and the next backward pass ends the process. A model that the user has wrapped
    in it is called without it. Statistics of norms are not exchanged here.

    Args:
        model: The model.
        processes: The processes.
    """

    def __init__(self, model: nn.Layer, processes: Processes):
        self.model, self.processes = model, processes
        self.trained = {name: p for name, p in named_weights(model).items() if not p.stop_gradient}
        self.first = True

    def __call__(self, inputs: Any, rows: int, exchange: bool) -> paddle.Tensor:
        """Embeddings ``[rows, D]``. With their backward pass, gradients are added up."""
        return forward(plain_model(self.model), inputs, rows)

    def fits(self, model: nn.Layer) -> bool:
        """Whether this is for ``model`` and the weights that are trained now."""
        return model is self.model and self.trained.keys() == {
            name for name, p in named_weights(model).items() if not p.stop_gradient
        }

    @paddle.no_grad()
    def finish_step(self) -> None:
        """Average the gradients of the weights that a process has used in this step.

        Raises:
            ValueError: If a gradient is sparse.
        """
        used = paddle.to_tensor([int(p.grad is not None) for p in self.trained.values()])
        flags = self.processes.largest(used).tolist()
        names = [name for name, flag in zip(self.trained, flags, strict=True) if flag]
        if self.first:
            self.first = False
            self.warn_of_unused(set(names))
        for group in self.messages(names):
            weights = [self.trained[name] for name in group]
            gradients = [paddle.zeros_like(p) if p.grad is None else p.grad for p in weights]
            whole = self.processes.add(paddle.concat([gradient.flatten() for gradient in gradients]))
            parts = (whole / self.processes.count).split([gradient.size for gradient in gradients])
            for p, part in zip(weights, parts, strict=True):
                p.grad = part.reshape(p.shape)

    def messages(self, names: list[str]) -> Iterator[list[str]]:
        """The names of weights whose gradients are sent together: of one type, and not too many."""
        group: list[str] = []
        size = 0
        for name in names:
            p = self.trained[name]
            if p.grad is not None and p.grad.is_selected_rows():
                raise ValueError(f"several processes must have dense gradients, and those of {name!r} are sparse")
            size += p.size * p.element_size()
            if group and (size > MESSAGE_SIZE or p.dtype != self.trained[group[0]].dtype):
                yield group
                group, size = [], p.size * p.element_size()
            group.append(name)
        if group:
            yield group

    def warn_of_unused(self, used: set[str]) -> None:
        """Name the weights that the model does not use."""
        unused = [name for name in self.trained if name not in used]
        if unused and self.processes.is_first:
            names = checks.preview(unused, 3)
            warnings.warn(f"the model does not use the weights {names}, so they are not trained", stacklevel=2)


def parallel_model(model: nn.Layer, processes: Processes, present: Parallel | None) -> Parallel:
    """The model for several processes; the present one if it fits."""
    return present if present is not None and present.fits(model) else Parallel(model, processes)


@paddle.no_grad()
def average(processes: Processes, tensors: Sequence[paddle.Tensor]) -> None:
    """Set tensors to their means over the processes."""
    for tensor in tensors:
        tensor.copy_(processes.add(tensor.clone()) / processes.count, True)


def loss_parameters(loss: Any) -> list[paddle.Tensor]:
    """The weights of a loss, which may be a function."""
    return list(loss.parameters()) if isinstance(loss, nn.Layer) else []


@paddle.no_grad()
def copy_from_first(model: nn.Layer, loss: Any) -> None:
    """Give all processes the weights and the buffers of the first one."""
    for module in (model, loss):
        for tensor in [*module.parameters(), *module.buffers()] if isinstance(module, nn.Layer) else ():
            if tensor.size:  # else gloo refuses it
                sent = tensor.detach().astype(sent_as(tensor)).contiguous()
                dist.broadcast(sent, src=0)
                tensor.copy_(sent.astype(tensor.dtype), True)
