"""The training step of Keras."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import keras
import numpy as np
from keras import ops
from keras.optimizers.schedules import LearningRateSchedule

from ..base.losses.loss import in_evaluation
from ..base.processes import Processes
from ..base.training import engine as base
from ..base.training.bad_items import NotFiniteError
from ..base.training.engine import StepResult
from ..base.training.framework import check_embeddings
from ..base.training.micro_batches import Parts, split_batch
from ..base.training.precision import LossScale
from .data import to_device
from .devices import ONE_DEVICE, Devices, find_devices
from .framework import KerasFramework, assign, copy_to_host
from .gradient_cache import GradientCache, seed_engine, seed_torch, seed_variables
from .gradients import global_norm, lerp
from .models import TrainingModel, in_precision, named_weights
from .on_devices import ArrayLoss, put_batch
from .optimizers import OptimizerGroups, Update, create_optimizer, plain_settings
from .processes import check_strategy, copy_from_first, join_processes, variables_of

__all__ = ["KerasEngine"]


class KerasEngine(base.Engine):
    framework: KerasFramework
    gradient_cache: GradientCache | None
    gradients: list[Any]  # of the batches since the last update
    state_before: list[Any] | None  # what the forward passes have changed since the last update
    devices: Devices | None = None  # those that share a batch; None if Keras uses its one device
    slices: Sequence[slice] = ()  # of the processes, if each computes by itself
    device_type = "cpu"  # of PyTorch as the engine

    # The step. Keras compiles model, loss and update of an ordinary batch into one function.

    def step(
        self, inputs: Any, targets: tuple[np.ndarray, ...], update: bool = True, rows_per_item: int = 1
    ) -> StepResult:
        slices = self.processes.slices(len(targets[0]), rows_per_item)
        own = slices[self.processes.rank]
        alone = self.devices is None and self.processes.count == 1
        self.slices = () if self.devices is not None or alone else slices
        parts = split_batch(inputs, own.stop - own.start, None if self.devices else self.micro_batch_size)
        with self.framework.on_device(), in_precision(self.model, self.precision):
            self.framework.check_pooling(self.model, inputs, own.stop - own.start)
            self.compile_for(parts.micro_batches[0].inputs)
            if self.devices is not None:
                parts = put_batch(self.devices, self.processes, inputs, slices, self.micro_batch_size)
            if update and not self.accumulated and not parts.two_passes and alone:
                loss = self.whole_step(to_device(inputs), targets)
            else:
                loss = self.accumulate(parts, targets)
                if update:
                    self.update(loss)
        if not update:
            return StepResult(loss, None)
        norm = float(self.training_model.optimizer.norm)
        self.check(loss, norm, parts, targets)
        return StepResult(loss, norm)

    def whole_step(self, inputs: Any, targets: tuple[np.ndarray, ...]) -> float:
        """Take Keras' own step, and return the loss."""
        return float(self.training_model.train_on_batch(inputs, targets, return_dict=True)["loss"])

    def accumulate(self, parts: Parts, targets: tuple[np.ndarray, ...]) -> float:
        """Add the gradients of a batch to those of the last ones, and return the loss."""
        self.training_model.reset_metrics()  # as Keras' own step does
        if not self.accumulated:
            self.state_before = [ops.copy(variable) for variable in self.training_model.non_trainable_variables]
        if self.gradient_cache is None:
            self.gradient_cache = GradientCache(self.training_model, self.devices or ONE_DEVICE, self.processes)
        loss, gradients = self.gradient_cache.gradients(parts, targets, self.slices, self.step_seed)
        if not math.isfinite(loss):
            self.undo_step()
            raise NotFiniteError(f"the loss must be finite, and is {loss}")
        if self.accumulated:
            gradients = [old + new for old, new in zip(self.gradients, gradients, strict=True)]
        self.gradients, self.accumulated = gradients, self.accumulated + 1
        return loss

    def clear_gradients(self) -> None:
        self.gradients = []
        self.accumulated = 0

    def embed(self, parts: Parts, update: bool) -> Any:
        raise NotImplementedError  # see GradientCache

    def loss_gradient(self, embeddings: Any, targets: Any) -> Any:
        raise NotImplementedError  # see GradientCache

    def update(self, loss: float) -> StepResult:
        gradients, count = self.gradients, self.accumulated
        self.clear_gradients()
        assert self.gradient_cache is not None
        self.gradient_cache.update(gradients if count == 1 else [gradient / count for gradient in gradients])
        return StepResult(loss, self.training_model.optimizer.norm)

    def check(self, loss: float, norm: float, parts: Parts, targets: tuple[np.ndarray, ...]) -> None:
        """Raise :class:`NotFiniteError` if the step was not taken; in float16, adapt the scale of the loss."""
        if not math.isfinite(norm):
            self.undo_step()
        self.state_before = None
        if not math.isfinite(loss):
            raise NotFiniteError(f"the loss must be finite, and is {loss}")
        if self.scale is not None:
            self.scale.update(math.isfinite(norm))
            self.training_model.optimizer.scale.assign(self.scale.value)
        elif not math.isfinite(norm):
            names = self.bad_weights(parts, targets)
            raise NotFiniteError(f"the gradient must be finite, and is not for {base.preview_names(names)}")

    def bad_weights(self, parts: Parts, targets: tuple[np.ndarray, ...]) -> list[str]:
        """The names of the model's weights whose gradients are not finite. They are computed again."""
        names = {id(variable): name for name, variable in named_weights(self.model).items()}
        with self.framework.on_device(), in_precision(self.model, self.precision):
            self.accumulate(parts, targets)
        pairs = zip(self.training_model.trainable_variables, self.gradients, strict=True)
        bad = [variable for variable, gradient in pairs if not math.isfinite(float(global_norm([gradient])))]
        self.undo_step()
        return [names[id(variable)] for variable in bad if id(variable) in names]

    def undo_step(self) -> None:
        self.clear_gradients()
        if self.state_before is not None:
            for variable, old in zip(self.training_model.non_trainable_variables, self.state_before, strict=True):
                variable.assign(old)
            self.state_before = None

    # Precision and device.

    def resolve_precision(self, precision: str) -> str:
        if precision != "auto":
            return precision
        device = ops.zeros(1).device if keras.backend.backend() == "torch" else str(keras.distribution.list_devices())
        return "fp32" if "cpu" in str(device).lower() else "bf16"

    def set_up(self, compile: bool) -> None:
        if compile:
            raise ValueError("compile must be used with PyTorch or Paddle: Keras compiles by itself")
        if self.optimization.has_native_schedule or isinstance(self.optimization.schedule, LearningRateSchedule):
            raise ValueError(
                "schedule must be a name or a function; a schedule of Keras is the learning rate of an optimizer: "
                "optimizer=keras.optimizers.Adam(schedule)"
            )
        if any(layer.compute_dtype == "float16" for layer in self.model._flatten_layers()):
            self.scale = LossScale()  # the model has this policy itself
        self.groups: dict[str, OptimizerGroups] = {}
        self.spec: tuple[Any, dict[str, Any]] | None = None  # of the model's optimizer, if it was given by name
        self.waiting: tuple[Any, dict[str, Any]] | None = None  # the optimizer of a model that is not built yet
        self.frozen_layers: list[Any] = []  # and weights of layers that are trained otherwise
        self.epoch = 1
        self.state_before = None
        self.forget_functions()
        self.clear_gradients()

    def join_processes(self, setting: str | bool) -> None:
        check_strategy(self.model)
        super().join_processes(setting)
        self.devices = find_devices(self.processes.count, variables_of(self.model, self.loss))

    def find_processes(self) -> Processes:
        return join_processes()

    def copy_from_first(self) -> None:
        copy_from_first(self.processes, self.model, self.loss)

    def forget_functions(self) -> None:
        """Forget what was compiled for another loss, other optimizers or other frozen weights."""
        self.training_model = TrainingModel(self.model if self.rest is None else self.rest, self.loss)
        self.gradient_cache = None
        self.evaluation_model: TrainingModel | None = None
        self.array_loss: ArrayLoss | None = None
        self.compiled = False

    def compile_for(self, inputs: Any) -> None:
        """Build the model, if it is not built yet, and prepare Keras' step."""
        if self.compiled:
            return
        if not self.model.built:
            self.training_model.predict_on_batch(to_device(inputs))
        if self.waiting is not None:
            self.make_optimizer("optimizer", *self.waiting)
            self.build_optimizers()
            self.freeze(self.epoch)
        self.training_model.built = True
        groups = [self.groups[kind] for kind in self.optimizers]
        update = Update(groups, self.optimization.clip_norm, self.scale is not None)
        update.build(self.training_model.trainable_variables)
        if self.scale is not None:
            update.scale.assign(self.scale.value)
        self.training_model.compile(optimizer=update, auto_scale_loss=False)
        self.compiled = True

    # Optimizers.

    def make_optimizer(self, kind: str, optimizer: Any, options: Mapping[str, Any]) -> None:
        module, groups_of = self.loss, self.optimization.loss_groups
        if kind == "optimizer":
            module, groups_of = self.model, self.optimization.groups
        weights = named_weights(module)
        is_built = getattr(module, "built", True)
        if not weights and (kind == "loss_optimizer" or is_built):
            return
        if isinstance(optimizer, keras.optimizers.Optimizer) and kind == "loss_optimizer":
            held = {id(variable) for variable in getattr(optimizer, "_trainable_variables", [])}
            if held and not held.issuperset(map(id, weights.values())):
                raise ValueError(f"{kind} must hold the loss's weights, or be a name or a class, got an instance")
        created = create_optimizer(
            kind, optimizer, options, self.framework.registry("optimizer"), weights, groups_of, self.optimization
        )
        if kind == "optimizer" and not isinstance(optimizer, keras.optimizers.Optimizer):
            self.spec = optimizer, dict(options)
        self.waiting = (optimizer, dict(options)) if not is_built and kind == "optimizer" else None
        if created is not None:
            self.groups[kind] = created
            self.optimizers[kind] = created.public
            self.forget_functions()

    def build_optimizers(self) -> None:
        """Create the state of the optimizers, if their weights exist."""
        for kind, group in self.groups.items():
            if kind in self.optimizers and self.waiting is None and not group.built:
                group.build((self.model if kind == "optimizer" else self.loss).trainable_variables)

    def clone_config(self, optimizer: keras.optimizers.Optimizer) -> tuple[Any, dict[str, Any]]:
        return type(optimizer), plain_settings(optimizer)

    def learning_rates(self) -> list[float]:
        return [rate for kind in self.optimizers for rate in self.groups[kind].current_rates()]

    def set_learning_rates(self, factor: float) -> None:
        for kind in self.optimizers:
            self.groups[kind].set_rates(factor)

    def base_learning_rates(self) -> list[float]:
        groups = [self.groups[kind] for kind in self.optimizers]
        pairs = [pair for one in groups for pair in zip(one.current_rates(), one.base_rates, strict=True)]
        return [current if base is None else base for current, base in pairs]

    def set_base_learning_rates(self, rates: list[float]) -> None:
        left = list(rates)
        for kind in self.optimizers:
            group = self.groups[kind]
            group.base_rates = [left.pop(0) for _ in group.optimizers]
            group.rates = list(group.base_rates)
            group.assign_rates()

    def schedule_state(self) -> dict[str, Any] | None:
        return None

    def load_schedule_state(self, state: dict[str, Any] | None) -> None:
        pass  # Keras' own schedules are a part of the optimizer

    def freeze(self, epoch: int) -> None:
        self.epoch = epoch  # for a model whose weights do not exist yet
        super().freeze(epoch)

    def set_frozen(self, names: set[str]) -> None:
        if names == self.frozen:
            return
        for layer in self.frozen_layers:
            layer.trainable = True
        self.frozen_layers, self.frozen = [], names
        by_id = {id(variable): name for name, variable in named_weights(self.model).items()}
        for layer in self.model._flatten_layers():
            own = layer._trainable_variables
            frozen = [one for one in own if by_id.get(id(one)) in names]
            if frozen and len(frozen) == len(own) and not layer._layers:
                self.frozen_layers.append(layer)
                layer.trainable = False  # so batch norm keeps its statistics
            else:
                self.frozen_layers += frozen
                for variable in frozen:
                    variable.trainable = False
        self.forget_functions()

    # The course of a fit.

    def begin_at(self, rest: keras.Model | None) -> None:
        self.rest = rest
        self.forget_functions()

    def embed_in_training(self, model: keras.Model, inputs: Any, count: int, seed: int) -> np.ndarray:
        if self.devices is not None and self.devices.processes > 1:
            raise ValueError("cache_frozen must be False with several processes of JAX")
        self.begin_step(seed)
        with self.framework.on_device():
            embeddings = TrainingModel(model, None).call_in_training(to_device(inputs))
        return self.framework.as_array(check_embeddings(embeddings, ops.is_tensor(embeddings), count))

    def begin_training(self) -> None:
        if keras.backend.backend() == "torch":
            with self.framework.on_device():
                self.device_type = ops.zeros(1).device.type
        self.build_optimizers()
        self.add_unfrozen()

    def add_unfrozen(self) -> None:
        """Make optimizers for weights that have been unfrozen since the others were made."""
        if self.spec is None or self.waiting is not None:
            return
        weights, group = named_weights(self.model), self.groups["optimizer"]
        held = {id(weight) for members in group.members for weight in members}
        if weights and not held.issuperset(map(id, weights.values())):
            known, groups_of = self.framework.registry("optimizer"), self.optimization.groups
            created = create_optimizer("optimizer", *self.spec, known, weights, groups_of, self.optimization)
            if created is not None:
                group.add(created)
                self.optimizers["optimizer"] = group.public
                self.build_optimizers()
                self.forget_functions()

    def end_training(self) -> None:
        self.set_frozen(set())
        self.clear_gradients()
        self.state_before = None

    def begin_epoch(self, seed: int | None) -> None:
        if seed is not None:
            if self.training_model.needs_global_seed is not False:  # setting it makes TensorFlow discard its graphs
                seed_engine(seed)
            seed_variables(self.model.variables, seed)  # of layers with their own generators, such as dropout

    def begin_step(self, seed: int) -> None:
        seed_torch(seed, self.device_type)
        seed_variables(getattr(self.loss, "variables", ()), self.step_seed)  # of a loss; the same in all processes

    def loss_logs(self) -> dict[str, float]:
        log_metrics = self.training_model.log_metrics
        if log_metrics:  # in position of the symbolic values from compilation
            self.loss.logs = {name: log_metrics[name].result() for name in self.loss.logs}
        return {name: float(value) for name, value in self.loss.logs.items()} if log_metrics else {}

    def to_floats(self, values: list[float]) -> list[float]:
        return [float(value) for value in values]

    def evaluate_loss(self, embeddings: np.ndarray, targets: tuple[np.ndarray, ...]) -> float:
        if self.evaluation_model is None:  # TensorFlow would trace a loss that is not compiled at each call
            self.evaluation_model = TrainingModel(keras.layers.Identity(), self.loss)
            self.evaluation_model.compile()
        with self.framework.on_device(), in_evaluation(self.loss):
            if self.devices is not None:
                self.array_loss = self.array_loss or ArrayLoss(self.evaluation_model, self.devices)
                return self.array_loss(embeddings, targets)
            return float(self.evaluation_model.test_on_batch(embeddings, targets, return_dict=True)["loss"])

    def peak_memory(self) -> int | None:
        return None

    # State.

    def optimizer_state(self, optimizer: Any) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        self.build_optimizers()
        group = self.group_of(optimizer)
        return copy_to_host(optimizer.variables), {"base_rates": group.base_rates, "rates": group.rates}

    def load_optimizer_state(self, optimizer: Any, tensors: dict[str, np.ndarray], plain: dict[str, Any]) -> None:
        group = self.group_of(optimizer)
        for rate in (*plain["base_rates"], *plain["rates"]):
            if rate is not None and not isinstance(rate, float | int):
                raise ValueError(f"the learning rate of a saved optimizer must be a number, got {rate!r}")
        if not len(plain["base_rates"]) == len(plain["rates"]) == len(group.optimizers):
            raise ValueError("the optimizer must have as many groups of weights as the one that was saved")
        self.build_optimizers()
        assign("the optimizer must have the options of the one that was saved", optimizer.variables, tensors)
        group.base_rates, group.rates = list(plain["base_rates"]), list(plain["rates"])

    def group_of(self, optimizer: Any) -> OptimizerGroups:
        """The optimizers that users see as this one."""
        return next(group for group in self.groups.values() if group.public is optimizer)

    def average_weights(self, average: Any, share: float) -> Any:
        weights = [variable for variable in self.model.trainable_variables if "float" in str(variable.dtype)]
        if average is None:
            return {id(variable): ops.copy(variable) for variable in weights}
        values = lerp([average[id(one)] for one in weights], [one.value for one in weights], share)
        return average | dict(zip(map(id, weights), values, strict=True))

    def average_to_state(self, average: Any) -> dict[str, np.ndarray]:
        state = self.framework.state(self.model)
        for position, variable in enumerate(self.model.variables):
            if id(variable) in average:
                state[str(position)] = np.array(ops.convert_to_numpy(average[id(variable)]))
        return state

    def average_from_state(self, tensors: dict[str, np.ndarray]) -> Any:
        names = self.average_weights(None, 1.0)
        return {
            id(variable): ops.convert_to_tensor(tensors[str(position)])
            for position, variable in enumerate(self.model.variables)
            if id(variable) in names
        }
