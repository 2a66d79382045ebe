"""The training step of PaddlePaddle."""

import contextlib
import copy
import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import paddle
from paddle import nn
from paddle.optimizer.lr import LRScheduler

from ..base.losses.loss import in_evaluation, is_own
from ..base.processes import Processes
from ..base.training import engine as base
from ..base.training.bad_items import NotFiniteError
from ..base.training.engine import StepResult
from ..base.training.micro_batches import MicroBatch, Parts
from .data import to_device
from .framework import copy_to_host, forward
from .gradient_cache import STATEFUL_LAYERS, embed_twice, mutable_buffers, restore_buffers
from .models import frozen_layers, layers_in_evaluation_mode, named_weights, plain_model
from .optimizers import (
    add_weights,
    check_scheduler,
    create_optimizer,
    decay_weights,
    gradient_norm,
    load_slots,
    optimizer_covers,
    optimizer_groups,
    optimizer_params,
    params_by_position,
    plain_settings,
    scale_gradients,
    take_step,
    tensors_and_numbers,
)
from .parallel import Parallel, average, copy_from_first, loss_parameters, parallel_model
from .processes import join_processes
from .surgery import check_optimizer_covers_poolers

__all__ = ["PaddleEngine"]

HALF_TYPES = {"bf16": paddle.bfloat16, "fp16": paddle.float16}


class PaddleEngine(base.Engine):
    parallel: Parallel | None = None  # the model as several processes train it
    buffers_before: list[paddle.Tensor]
    parameters: list[paddle.Tensor]  # of all optimizers
    training_model: Any  # what a step runs, compiled if asked
    compiled_for: list[bool]  # which weights were frozen then

    # The step.

    def clear_gradients(self) -> None:
        for p in self.parameters:
            p.clear_gradient(False)
        self.buffers_before = [value.detach().clone() for value in self.statistics]

    def embed(self, parts: Parts, update: bool) -> tuple[paddle.Tensor, Callable[[paddle.Tensor | None], None]]:
        if parts.two_passes:
            return embed_twice(self.embed_part, parts, update, self.model, self.framework.device)
        outputs = [self.embed_part(part, update) for part in parts.micro_batches]
        whole = outputs[0] if len(outputs) == 1 else paddle.concat(outputs)
        if parts.order is not None:
            whole = whole.index_select(paddle.to_tensor(parts.order, place=whole.place))

        def backward(gradient: paddle.Tensor | None) -> None:
            if gradient is not None and not whole.stop_gradient:
                whole.backward(gradient.astype(whole.dtype))

        return whole, backward

    def embed_part(self, part: MicroBatch, exchange: bool) -> paddle.Tensor:
        """Embeddings of a micro-batch. With its backward pass, several processes exchange gradients if asked."""
        inputs = to_device(part.inputs, self.framework.device)
        with self.autocast():
            if self.parallel is None:
                return forward(self.training_model, inputs, part.rows)
            return self.parallel(inputs, part.rows, exchange)

    def loss_gradient(
        self, embeddings: paddle.Tensor, targets: tuple[np.ndarray, ...]
    ) -> tuple[paddle.Tensor, paddle.Tensor | None]:
        leaf = embeddings.detach()
        leaf = leaf.astype("float32") if leaf.dtype in HALF_TYPES.values() else leaf
        leaf.stop_gradient = False
        loss = loss_function(self.loss)(leaf, *to_device(targets, self.framework.device))
        if self.framework.device == "cpu":  # elsewhere this would wait for the device
            check_finite(leaf, loss)
        else:
            self.embeddings = leaf.detach()
        if not loss.stop_gradient:
            (loss if self.scale is None else loss * self.scale.value).backward()
        return loss.detach(), leaf.grad

    def update(self, loss: paddle.Tensor) -> StepResult:
        optimizers = list(self.optimizers.values())
        if self.processes.count > 1:
            self.merge()
        parameters = [p for p in self.parameters if p.grad is not None]
        divisor = self.accumulated * (1.0 if self.scale is None else self.scale.value)
        self.accumulated = 0
        if divisor != 1:
            scale_gradients(parameters, 1 / divisor)
        norm = gradient_norm(parameters, self.framework.device)
        if not math.isfinite(norm.item()):
            return self.refuse(parameters, loss, norm)
        if self.framework.device != "cpu":  # the norm was waited for anyway
            check_finite(self.embeddings, loss)
        if self.optimization.clip_norm is not None:
            scale_gradients(parameters, min(1.0, self.optimization.clip_norm / (norm.item() + 1e-6)))
        for optimizer in optimizers:
            decay_weights(optimizer)
            take_step(optimizer)
        if self.scale is not None:
            self.scale.update(True)
        if self.optimization.has_native_schedule:
            self.optimization.schedule.step()
        return StepResult(loss, norm)

    def merge(self) -> None:
        """Bring together what several processes have computed in a step."""
        if self.parallel is not None:
            self.parallel.finish_step()
        gradients = [p.grad for p in loss_parameters(self.loss) if p.grad is not None]  # whole ones, up to rounding
        average(self.processes, [*gradients, *self.statistics])

    def refuse(self, parameters: list[paddle.Tensor], loss: paddle.Tensor, norm: paddle.Tensor) -> StepResult:
        """Leave the step out: in float16 to go on with a smaller scale of the loss, otherwise by an error."""
        if self.scale is not None and math.isfinite(loss.item()):
            self.scale.update(False)
            self.undo_step()
            return StepResult(loss, norm)
        bad = {id(p) for p in parameters if not math.isfinite(gradient_norm([p], self.framework.device).item())}
        names = [name for name, p in named_weights(self.model).items() if id(p) in bad]
        raise NotFiniteError(f"the gradient must be finite, and is not for {base.preview_names(names)}")

    @paddle.no_grad()
    def undo_step(self) -> None:
        self.accumulated = 0
        for value, before in zip(self.statistics, self.buffers_before, strict=True):
            value.set_value(before)
        self.clear_gradients()

    # Precision and device.

    def resolve_precision(self, precision: str) -> str:
        device = self.framework.device
        if precision == "auto":
            return "bf16" if device.startswith("gpu") and paddle.amp.is_bfloat16_supported(device) else "fp32"
        if precision != "fp32" and device == "cpu":
            raise ValueError(
                f"precision {precision!r} must be one of the device {device}: Paddle has no mixed precision on a CPU"
            )
        supported = {"bf16": paddle.amp.is_bfloat16_supported, "fp16": paddle.amp.is_float16_supported}
        if precision != "fp32" and not supported[precision](device):
            raise ValueError(f"precision {precision!r} must be one of the device {device}, which lacks it")
        return precision

    def autocast(self) -> contextlib.AbstractContextManager[Any]:
        """A context in which the model computes in the precision of the engine."""
        if self.precision == "fp32":
            return contextlib.nullcontext()
        return paddle.amp.auto_cast(dtype={"bf16": "bfloat16", "fp16": "float16"}[self.precision])

    def set_up(self, compile: bool) -> None:
        self.move()
        self.evaluation_layers: list[Any] = []
        self.compiles = compile and not hasattr(plain_model(self.model).forward, "dygraph_function")
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
            if isinstance(module, nn.Layer):
                module.to(device=self.framework.device)

    # Optimizers.

    def make_optimizer(self, kind: str, optimizer: Any, options: Mapping[str, Any]) -> None:
        module, groups_of = self.loss, self.optimization.loss_groups
        if kind == "optimizer":
            module, groups_of = self.model, self.optimization.groups
        weights = {name: p for name, p in named_weights(module).items() if not p.stop_gradient}
        if kind == "loss_optimizer":
            own = self.optimizers.get("optimizer")
            if not weights or (own is not None and optimizer_covers(own, weights.values())):
                return
            self.move()
        if isinstance(optimizer, paddle.optimizer.Optimizer):
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

    def clone_config(self, optimizer: paddle.optimizer.Optimizer) -> tuple[Any, dict[str, Any]]:
        return type(optimizer), plain_settings(optimizer)

    def groups(self) -> list[tuple[paddle.optimizer.Optimizer, float]]:
        """The parameter groups of all optimizers."""
        return [  # a group is an optimizer and a factor of its learning rate
            (optimizer, float(group.get("learning_rate", 1.0)))
            for optimizer in self.optimizers.values()
            for group in optimizer_groups(optimizer)
        ]

    def learning_rates(self) -> list[float]:
        return [optimizer.get_lr() * factor for optimizer, factor in self.groups()]

    def set_learning_rates(self, factor: float) -> None:
        for optimizer in self.optimizers.values():
            if not isinstance(optimizer._learning_rate, LRScheduler):
                optimizer.initial_lr = getattr(optimizer, "initial_lr", optimizer.get_lr())
                optimizer.set_lr(optimizer.initial_lr * factor)

    def base_learning_rates(self) -> list[float]:
        return [getattr(optimizer, "initial_lr", optimizer.get_lr()) * factor for optimizer, factor in self.groups()]

    def set_base_learning_rates(self, rates: list[float]) -> None:
        for (optimizer, factor), rate in zip(self.groups(), rates, strict=True):
            if factor and not isinstance(optimizer._learning_rate, LRScheduler):
                optimizer.set_lr(rate / factor)
                if hasattr(optimizer, "initial_lr"):
                    optimizer.initial_lr = rate / factor

    def schedule_state(self) -> dict[str, Any] | None:
        if not self.optimization.has_native_schedule:
            return None
        state = self.optimization.schedule.state_dict()
        return {name: value for name, value in state.items() if isinstance(value, int | float | str | list | dict)}

    def load_schedule_state(self, state: dict[str, Any] | None) -> None:
        if state is not None and self.optimization.has_native_schedule:
            self.optimization.schedule.set_state_dict(state)

    def set_frozen(self, names: set[str]) -> None:
        for name, p in named_weights(self.model).items():
            if name in names | self.frozen:
                p.stop_gradient = name in names
        self.frozen = names

    # The course of a fit.

    def begin_at(self, rest: nn.Layer | None) -> None:
        self.rest = rest
        self.training_model = self.model if rest is None else rest
        self.compiled_for = []

    @paddle.no_grad()
    def embed_in_training(self, model: nn.Layer, inputs: Any, count: int, seed: int) -> np.ndarray:
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
        known = {name: p for name, p in named_weights(self.model).items() if id(p) in held or not p.stop_gradient}
        if len(known) > len(held) and hasattr(optimizer, "groups_of"):  # made by name, and some were unfrozen since
            add_weights(optimizer, known)
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
        for layer in self.model.sublayers(include_self=True):
            weights = [p for p in (getattr(layer, "weight", None), getattr(layer, "bias", None)) if p is not None]
            if isinstance(layer, STATEFUL_LAYERS) and weights and all(p.stop_gradient for p in weights):
                layer.eval()  # a frozen layer keeps its statistics, as in Keras
        for layer in frozen_layers(self.model, self.frozen):
            layer.eval()
        if self.compiles:
            self.compile()
        if self.processes.count > 1:
            self.parallel = parallel_model(self.training_model, self.processes, self.parallel)

    def compile(self) -> None:
        """Compile a copy of the model that shares its weights, unless that is done for the weights that are trained."""
        frozen = [p.stop_gradient for p in named_weights(self.model).values()]
        if frozen != self.compiled_for:
            self.compiled_for = frozen
            model = self.model if self.rest is None else self.rest
            self.training_model = paddle.jit.to_static(copy.copy(model), full_graph=True)

    def begin_step(self, seed: int) -> None:
        paddle.seed(seed)

    def loss_logs(self) -> dict[str, paddle.Tensor]:
        return dict(self.loss.logs) if getattr(self.loss, "need_logs", False) else {}

    def to_floats(self, values: list[paddle.Tensor]) -> list[float]:
        return paddle.stack(values).tolist()

    @paddle.no_grad()
    def evaluate_loss(self, embeddings: np.ndarray, targets: tuple[np.ndarray, ...]) -> float:
        # A loss of another library may have a memory, which a validation must not feed.
        loss = self.loss if is_own(self.loss) else copy.deepcopy(self.loss)
        with in_evaluation(loss):
            return float(loss_function(loss)(*to_device((embeddings, *targets), self.framework.device)))

    def peak_memory(self) -> int | None:
        if not self.framework.device.startswith("gpu"):
            return None
        peak = paddle.device.cuda.max_memory_allocated(self.framework.device)
        paddle.device.cuda.reset_max_memory_allocated(self.framework.device)
        return int(peak)

    # State.

    def optimizer_state(self, optimizer: paddle.optimizer.Optimizer) -> tuple[dict[str, paddle.Tensor], dict[str, Any]]:
        tensors, numbers = tensors_and_numbers(optimizer.state_dict(), params_by_position(self.model, self.loss))
        rates = {"learning_rate": optimizer.get_lr(), "initial_lr": getattr(optimizer, "initial_lr", None)}
        return tensors, {**rates, "numbers": numbers}

    def load_optimizer_state(
        self, optimizer: paddle.optimizer.Optimizer, tensors: dict[str, paddle.Tensor], plain: dict[str, Any]
    ) -> None:
        for name in ("learning_rate", "initial_lr"):
            if not isinstance(plain[name], float | int) and not (name == "initial_lr" and plain[name] is None):
                raise ValueError(f"the learning rate of a saved optimizer must be a number, got {plain[name]!r}")
        load_slots(optimizer, {**tensors, **plain["numbers"]}, params_by_position(self.model, self.loss))
        if "LR_Scheduler" not in plain["numbers"]:
            optimizer.set_lr(plain["learning_rate"])
        vars(optimizer).pop("initial_lr", None)
        if plain["initial_lr"] is not None:
            optimizer.initial_lr = plain["initial_lr"]

    @paddle.no_grad()
    def average_weights(self, average: Any, share: float) -> Any:
        statistics = {id(value) for value in self.statistics}  # parameters in Paddle, buffers elsewhere
        weights = {name: p for name, p in named_weights(self.model).items() if id(p) not in statistics}
        weights = {name: p.detach() for name, p in weights.items() if p.is_floating_point()}
        if average is None:
            return {name: p.clone() for name, p in weights.items()}
        for name, value in average.items():
            value.add_((weights[name] - value).scale_(share))
        return average

    def average_to_state(self, average: Any) -> dict[str, paddle.Tensor]:
        return self.framework.state(self.model) | {name: copy_to_host(p) for name, p in average.items()}

    def average_from_state(self, tensors: dict[str, paddle.Tensor]) -> Any:
        names = self.average_weights(None, 1.0)
        return {name: tensors[name].to(p.place).clone() for name, p in names.items()}


def loss_function(loss: Any) -> Any:
    """A function that calls ``loss`` with the rows of a batch. A loss of another library gets embeddings."""
    return getattr(loss, "on_batch", loss)


def check_finite(embeddings: paddle.Tensor, loss: paddle.Tensor) -> None:
    """Raise :class:`NotFiniteError` if the embeddings or the loss are not finite."""
    if not math.isfinite(loss.item()):
        raise NotFiniteError(f"the loss must be finite, and is {loss.item()}")
    embeddings = embeddings.detach()
    if not math.isfinite(embeddings.sum().item()) and not paddle.isfinite(embeddings).all():  # a sum may overflow
        raise NotFiniteError("the embeddings must be finite, and are not")
