"""The training step of PyTorch."""

import contextlib
import copy
import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from torch import nn

from ..base.losses.loss import is_own
from ..base.processes import Processes
from ..base.training import engine as base
from ..base.training.bad_items import NotFiniteError
from ..base.training.engine import StepResult
from ..base.training.micro_batches import MicroBatch, Parts
from .data import to_device
from .framework import copy_to_host, forward
from .gradient_cache import embed_twice, mutable_buffers, restore_buffers
from .models import frozen_layers, layers_in_evaluation_mode, named_weights
from .optimizers import (
    add_weights,
    check_saved_state,
    check_scheduler,
    create_optimizer,
    decay_weights,
    gradient_norm,
    optimizer_covers,
    optimizer_params,
    plain_settings,
    scale_gradients,
    tensors_and_numbers,
)
from .parallel import Parallel, average, copy_from_first, loss_parameters, parallel_model
from .processes import join_processes
from .surgery import check_optimizer_covers_poolers

__all__ = ["PytorchEngine"]

HALF_TYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}


class PytorchEngine(base.Engine):
    parallel: Parallel | None = None  # the model as several processes train it
    buffers_before: list[torch.Tensor]
    parameters: list[nn.Parameter]  # of all optimizers
    training_model: Any  # what a step runs, compiled if asked

    # The step.

    def clear_gradients(self) -> None:
        for p in self.parameters:
            p.grad = None
        self.buffers_before = [value.detach().clone() for value in self.statistics]

    def embed(self, parts: Parts, update: bool) -> tuple[torch.Tensor, Callable[[torch.Tensor | None], None]]:
        if parts.two_passes:
            return embed_twice(self.embed_part, parts, update, self.model, self.framework.device)
        outputs = [self.embed_part(part, update) for part in parts.micro_batches]
        whole = outputs[0] if len(outputs) == 1 else torch.cat(outputs)
        if parts.order is not None:
            whole = whole[torch.from_numpy(parts.order).to(whole.device)]

        def backward(gradient: torch.Tensor | None) -> None:
            if gradient is not None and whole.requires_grad:
                torch.autograd.backward(whole, gradient.to(whole.dtype))

        return whole, backward

    def embed_part(self, part: MicroBatch, exchange: bool) -> torch.Tensor:
        """Embeddings of a micro-batch. With its backward pass, several processes exchange gradients if asked."""
        inputs = to_device(part.inputs, self.framework.device)
        with self.autocast():
            if self.parallel is None:
                return forward(self.training_model, inputs, part.rows)
            return self.parallel(inputs, part.rows, exchange)

    def loss_gradient(
        self, embeddings: torch.Tensor, targets: tuple[np.ndarray, ...]
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        leaf = embeddings.detach()
        leaf = (leaf.float() if leaf.dtype in HALF_TYPES.values() else leaf).requires_grad_()
        loss = loss_function(self.loss)(leaf, *to_device(targets, self.framework.device))
        if self.framework.device.type == "cpu":  # elsewhere this would wait for the device
            check_finite(leaf, loss)
        else:
            self.embeddings_sum = leaf.detach().sum()
        if loss.requires_grad:
            (loss if self.scale is None else loss * self.scale.value).backward()
        return loss.detach(), leaf.grad

    def update(self, loss: torch.Tensor) -> StepResult:
        optimizers = list(self.optimizers.values())
        if self.processes.count > 1:
            self.merge()
        parameters = [p for p in self.parameters if p.grad is not None]
        divisor = self.accumulated * (1.0 if self.scale is None else self.scale.value)
        self.accumulated = 0
        if divisor != 1:
            scale_gradients(parameters, 1 / divisor)
        norm = gradient_norm(parameters, loss.device)
        finite: torch.Tensor | None = None
        if loss.device.type == "cpu" or self.scale is not None or not all(map(skips_by_itself, optimizers)):
            if not math.isfinite(norm.item()):
                return self.refuse(parameters, loss, norm)
        else:  # the optimizers leave the step out on the device, which nobody waits for
            finite = torch.isfinite(norm) & torch.isfinite(loss) & torch.isfinite(self.embeddings_sum)
        if self.optimization.clip_norm is not None:
            scale_gradients(parameters, torch.clamp(self.optimization.clip_norm / (norm + 1e-6), max=1.0))
        for optimizer in optimizers:
            if finite is not None:
                optimizer.found_inf, optimizer.grad_scale = (~finite).float(), None
            decay_weights(optimizer)
            optimizer.step()
        if self.scale is not None:
            self.scale.update(True)
        if self.optimization.has_native_schedule:
            self.optimization.schedule.step()
        if finite is None:
            return StepResult(loss, norm)
        for value, before in zip(self.statistics, self.buffers_before, strict=True):
            value.copy_(torch.where(finite, value, before))
        return StepResult(torch.where(finite, loss, torch.nan), norm)

    def merge(self) -> None:
        """Bring together what several processes have computed in a step."""
        if self.parallel is not None:
            self.parallel.finish_step()
        gradients = [p.grad for p in loss_parameters(self.loss) if p.grad is not None]  # whole ones, up to rounding
        average(self.processes, [*gradients, *self.statistics])

    def refuse(self, parameters: list[nn.Parameter], loss: torch.Tensor, norm: torch.Tensor) -> StepResult:
        """Leave the step out: in float16 to go on with a smaller scale of the loss, otherwise by an error."""
        if self.scale is not None and math.isfinite(loss.item()):
            self.scale.update(False)
            self.undo_step()
            return StepResult(loss, norm)
        bad = {id(p) for p in parameters if not torch.isfinite(p.grad).all()}  # type: ignore[arg-type]
        names = [name for name, p in named_weights(self.model).items() if id(p) in bad]
        raise NotFiniteError(f"the gradient must be finite, and is not for {base.preview_names(names)}")

    @torch.no_grad()
    def undo_step(self) -> None:
        self.accumulated = 0
        for value, before in zip(self.statistics, self.buffers_before, strict=True):
            value.copy_(before)
        self.clear_gradients()

    # Precision and device.

    def resolve_precision(self, precision: str) -> str:
        device = self.framework.device
        if precision == "auto":
            # On a CPU bfloat16 is slower than float32, unless it has units for it.
            return "bf16" if device.type == "cuda" and torch.cuda.is_bf16_supported() else "fp32"
        if precision != "fp32":
            try:
                with torch.autocast(device.type, HALF_TYPES[precision]):
                    pass
            except (RuntimeError, TypeError) as error:
                raise ValueError(f"precision {precision!r} must be one of the device {device}: {error}") from None
        return precision

    def autocast(self) -> contextlib.AbstractContextManager[Any]:
        """A context in which the model computes in the precision of the engine."""
        if self.precision == "fp32":
            return contextlib.nullcontext()
        return torch.autocast(self.framework.device.type, HALF_TYPES[self.precision])

    def set_up(self, compile: bool) -> None:
        self.move()
        self.evaluation_layers: list[Any] = []
        self.compiles = compile
        self.begin_at(None)
        self.statistics = mutable_buffers(self.model, running=True)

    def find_processes(self) -> Processes:
        return join_processes()

    def copy_from_first(self) -> None:
        self.move()
        copy_from_first(self.model, self.loss)

    def move(self) -> None:
        """Move model and loss to the device."""
        for module in (self.model, self.loss):
            if isinstance(module, nn.Module):
                module.to(self.framework.device)

    # Optimizers.

    def make_optimizer(self, kind: str, optimizer: Any, options: Mapping[str, Any]) -> None:
        module, groups_of = self.loss, self.optimization.loss_groups
        if kind == "optimizer":
            module, groups_of = self.model, self.optimization.groups
        weights = {name: p for name, p in named_weights(module).items() if p.requires_grad}
        if kind == "loss_optimizer":
            own = self.optimizers.get("optimizer")
            if not weights or (own is not None and optimizer_covers(own, weights.values())):
                return
            self.move()
        if isinstance(optimizer, torch.optim.Optimizer):
            if kind == "optimizer":
                check_optimizer_covers_poolers(self.model, optimizer_params(optimizer))
            elif not optimizer_covers(optimizer, weights.values()):
                raise ValueError(f"{kind} must hold the loss's weights, or be a name or a class, got an instance")
        elif not weights:
            return
        created = create_optimizer(
            kind, optimizer, options, self.framework.registry("optimizer"), weights, groups_of, self.optimization
        )
        if created is not None:
            if kind == "optimizer":
                check_scheduler(self.optimization, created)
            self.optimizers[kind] = created
            self.set_parameters()

    def set_parameters(self) -> None:
        """List the parameters of all optimizers."""
        self.parameters = [p for optimizer in self.optimizers.values() for p in optimizer_params(optimizer)]

    def clone_config(self, optimizer: torch.optim.Optimizer) -> tuple[Any, dict[str, Any]]:
        return type(optimizer), plain_settings(optimizer)

    def groups(self) -> list[dict[str, Any]]:
        """The parameter groups of all optimizers."""
        return [group for optimizer in self.optimizers.values() for group in optimizer.param_groups]

    def learning_rates(self) -> list[float]:
        return [float(group["lr"]) for group in self.groups()]

    def set_learning_rates(self, factor: float) -> None:
        for group in self.groups():
            group["lr"] = group.setdefault("initial_lr", group["lr"]) * factor

    def base_learning_rates(self) -> list[float]:
        return [float(group.get("initial_lr", group["lr"])) for group in self.groups()]

    def set_base_learning_rates(self, rates: list[float]) -> None:
        for group, rate in zip(self.groups(), rates, strict=True):
            group["lr"] = rate
            if "initial_lr" in group:
                group["initial_lr"] = rate

    def schedule_state(self) -> dict[str, Any] | None:
        if not self.optimization.has_native_schedule:
            return None
        state = self.optimization.schedule.state_dict()
        return {name: value for name, value in state.items() if isinstance(value, int | float | str | list)}

    def load_schedule_state(self, state: dict[str, Any] | None) -> None:
        if state is not None and self.optimization.has_native_schedule:
            self.optimization.schedule.load_state_dict(state)

    def set_frozen(self, names: set[str]) -> None:
        for name, p in named_weights(self.model).items():
            if name in names | self.frozen:
                p.requires_grad_(name not in names)
        self.frozen = names

    # The course of a fit.

    def begin_at(self, rest: nn.Module | None) -> None:
        self.rest, model = rest, self.model if rest is None else rest
        self.training_model = torch.compile(model) if self.compiles else model

    @torch.no_grad()
    def embed_in_training(self, model: nn.Module, inputs: Any, count: int, seed: int) -> np.ndarray:
        before = [value.detach().clone() for value in mutable_buffers(self.model)]
        self.begin_step(seed)
        embeddings = forward(model, to_device(inputs, self.framework.device), count)
        restore_buffers(self.model, before)
        return self.framework.as_array(embeddings)

    def begin_training(self) -> None:
        self.move()
        if self.model.training:  # else it is in evaluation mode as a whole, as a fit leaves it
            self.evaluation_layers = layers_in_evaluation_mode(self.model)
        optimizer = self.optimizers["optimizer"]
        held = {id(p) for p in optimizer_params(optimizer)}
        new = {name for name, p in named_weights(self.model).items() if p.requires_grad and id(p) not in held}
        if new:  # they have been unfrozen since the optimizer was made
            add_weights(optimizer, named_weights(self.model), new, self.optimization)
        self.set_parameters()

    def end_training(self) -> None:
        self.parallel = None
        self.set_frozen(set())
        self.model.eval()
        self.accumulated = 0
        self.clear_gradients()

    def begin_epoch(self, seed: int | None) -> None:
        if self.rest is not None:
            self.rest.train()  # which has some layers of its own, around those of the model
        self.model.train()
        for layer in self.evaluation_layers:
            layer.training = False
        for layer in self.model.modules():
            weights = list(layer.parameters(recurse=False))
            if (
                isinstance(layer, nn.modules.batchnorm._NormBase)
                and weights
                and not any(p.requires_grad for p in weights)
            ):
                layer.eval()  # a frozen layer keeps its statistics, as in Keras
        for layer in frozen_layers(self.model, self.frozen):
            layer.eval()
        if self.processes.count > 1:
            self.parallel = parallel_model(self.training_model, self.processes, self.parallel)

    def begin_step(self, seed: int) -> None:
        torch.default_generator.manual_seed(seed)
        if self.framework.device.type != "cpu":
            torch.get_device_module(self.framework.device).manual_seed(seed)

    def loss_logs(self) -> dict[str, torch.Tensor]:
        return dict(self.loss.logs) if getattr(self.loss, "need_logs", False) else {}

    def to_floats(self, values: list[torch.Tensor]) -> list[float]:
        return torch.stack(values).tolist()

    @torch.no_grad()
    def evaluate_loss(self, embeddings: np.ndarray, targets: tuple[np.ndarray, ...]) -> float:
        # A loss of another library may have a memory, which a validation must not feed.
        loss = self.loss if is_own(self.loss) else copy.deepcopy(self.loss)
        return float(loss_function(loss)(*to_device((embeddings, *targets), self.framework.device)))

    def peak_memory(self) -> int | None:
        if self.framework.device.type != "cuda":
            return None
        peak = torch.cuda.max_memory_allocated(self.framework.device)
        torch.cuda.reset_peak_memory_stats(self.framework.device)
        return int(peak)

    # State.

    def optimizer_state(self, optimizer: torch.optim.Optimizer) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
        state = optimizer.state_dict()
        tensors, numbers = tensors_and_numbers(state["state"])
        return tensors, {"groups": state["param_groups"], "numbers": numbers}

    def load_optimizer_state(
        self, optimizer: torch.optim.Optimizer, tensors: dict[str, torch.Tensor], plain: dict[str, Any]
    ) -> None:
        slots: dict[int, dict[str, Any]] = {}
        for name, value in {**tensors, **plain["numbers"]}.items():
            index, slot = name.split(".", 1)
            slots.setdefault(int(index), {})[slot] = value
        check_saved_state(optimizer, slots, plain["groups"])
        optimizer.load_state_dict({"state": slots, "param_groups": plain["groups"]})

    @torch.no_grad()
    def average_weights(self, average: Any, share: float) -> Any:
        weights = {name: p.detach() for name, p in named_weights(self.model).items() if p.is_floating_point()}
        lora = self.framework.lora_of(self.model)
        if lora is not None:
            weights = {name: p for name, p in weights.items() if name in lora.names}
        if average is None:
            return {name: p.clone() for name, p in weights.items()}
        torch._foreach_lerp_(list(average.values()), list(weights.values()), share)
        return average

    def average_to_state(self, average: Any) -> dict[str, torch.Tensor]:
        return self.framework.state(self.model) | {name: copy_to_host(p) for name, p in average.items()}

    def average_from_state(self, tensors: dict[str, torch.Tensor]) -> Any:
        names = self.average_weights(None, 1.0)
        return {name: tensors[name].to(p.device).clone() for name, p in names.items()}


def skips_by_itself(optimizer: torch.optim.Optimizer) -> bool:
    """Whether an optimizer leaves out a step with ``found_inf`` on the device, as fused ones do."""
    fused = getattr(optimizer, "_step_supports_amp_scaling", False)
    return fused and not any(group.get("decay_by_tuner") for group in optimizer.param_groups)


def loss_function(loss: Any) -> Any:
    """A function that calls ``loss`` with the rows of a batch.

    A loss of another library gets embeddings, and its classes as int64, like PyTorch's own losses.
    """
    if hasattr(loss, "on_batch"):
        return loss.on_batch
    return lambda embeddings, *targets: loss(embeddings, *(t.long() if t.dtype == torch.int32 else t for t in targets))


def check_finite(embeddings: torch.Tensor, loss: torch.Tensor) -> None:
    """Raise :class:`NotFiniteError` if the embeddings or the loss are not finite."""
    if not math.isfinite(loss.item()):
        raise NotFiniteError(f"the loss must be finite, and is {loss.item()}")
    embeddings = embeddings.detach()
    if not math.isfinite(embeddings.sum().item()) and not torch.isfinite(embeddings).all():  # a sum may overflow
        raise NotFiniteError("the embeddings must be finite, and are not")
