"""The tuner of Keras models: the training step, optimizers, and state."""

import contextlib
import functools
import importlib
import inspect
import math
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import keras
import numpy as np
from keras import ops
from safetensors.numpy import load_file, save_file

from ...arrays import takes_two_arguments
from .. import ENGINES, base
from ..base.data.batches import Batch, Batches
from ..base.registry import create, public_classes
from ..base.training.framework import (
    check_embeddings,
    check_same_shapes,
    device_error,
)
from ..base.training.micro_batches import split_batch
from ..base.training.state import NotFiniteError
from . import losses, miner, poolers
from .data import convert_dataset, load_batches, to_device
from .gradient_cache import GradientCache
from .models import TrainingModel, TwoTower
from .native_loss import NativeLoss
from .surgery import replace_pooling

__all__ = ["KerasTuner"]


class KerasTuner(base.Tuner):
    __doc__ = base.Tuner.__doc__

    backend = "keras"
    rollback_scope = "epoch"  # Keras' step cannot be stopped in the middle
    rollback_state: dict[str, np.ndarray] | None = None  # all trained variables at the beginning of the epoch

    # The training step.

    @functools.cached_property
    def training_model(self) -> TrainingModel:
        """The model with its loss."""
        return TrainingModel(self.embed_model, self.loss)

    @functools.cached_property
    def combined_optimizer(self) -> keras.optimizers.Optimizer:
        """One optimizer for Keras' own step, made of the model's and the loss's."""
        if self.loss_optimizer is None:
            return self.optimizer
        own = {id(variable) for variable in self.loss.trainable_variables}
        return keras.optimizers.MultiOptimizer(lambda v: self.loss_optimizer if id(v) in own else self.optimizer)

    @functools.cached_property
    def evaluation_model(self) -> TrainingModel:
        """The loss without a model, compiled as in training."""
        evaluation_model = TrainingModel(keras.layers.Identity(), self.loss)
        evaluation_model.compile()
        return evaluation_model

    @functools.cached_property
    def gradient_cache(self) -> GradientCache:
        """The step on micro-batches."""
        return GradientCache(self.training_model)

    def train_step(self, inputs: Any, targets: tuple[np.ndarray, ...]) -> float:
        micro_batches = split_batch(inputs, len(targets[0]), self.micro_batch_size)
        inputs = to_device(micro_batches[0].inputs)
        with self.on_device():
            if self.rollback_state is None:
                if not self.training_model.built:
                    self.training_model.predict_on_batch(inputs)
                self.combined_optimizer.build(self.training_model.trainable_variables)
                self.rollback_state = copy_to_host(self.trained_variables())
            if len(micro_batches) == 1:
                loss = float(self.training_model.train_on_batch(inputs, targets, return_dict=True)["loss"])
            else:
                self.training_model.reset_metrics()  # as Keras' own step does
                loss = self.gradient_cache.step(micro_batches, targets)
        if not math.isfinite(loss):
            assign("the step must be undone", self.trained_variables(), self.rollback_state)
            raise NotFiniteError(f"the loss must be finite, and is {loss}")
        return loss

    def trained_variables(self) -> list[Any]:
        """All variables that a step may change."""
        return [*self.training_model.variables, *self.combined_optimizer.variables]

    def embed_step(self, inputs: Any, count: int) -> np.ndarray:
        with self.on_device():
            embeddings = self.training_model.predict_on_batch(to_device(inputs))
        checked = check_embeddings(embeddings, isinstance(embeddings, np.ndarray), count)
        return np.asarray(checked, dtype=np.float32)

    def evaluate_loss(self, embeddings: np.ndarray, targets: tuple[np.ndarray, ...]) -> float:
        with self.on_device():
            return float(self.evaluation_model.test_on_batch(embeddings, targets, return_dict=True)["loss"])

    def loss_logs(self) -> dict[str, float]:
        log_metrics = self.training_model.log_metrics
        if log_metrics:  # in position of the symbolic values from compilation
            self.loss.logs = {name: log_metrics[name].result() for name in self.loss.logs}
        return {name: float(value) for name, value in self.loss.logs.items()} if log_metrics else {}

    def to_floats(self, values: list[float]) -> list[float]:
        return values

    def convert_dataset(self, data: Any) -> Any:
        return convert_dataset(data)

    def load_batches(self, batches: Batches, num_workers: int) -> Iterable[Batch]:
        return load_batches(batches, num_workers)

    # Model, optimizers and device.

    def check_model(self, model: Any) -> keras.Model:
        if not isinstance(model, keras.Model):
            raise TypeError(f"embed_model must be a keras.Model, got {type(model).__name__}")
        engine = keras.backend.backend()
        if engine not in ENGINES:
            raise ValueError(f"Keras must run on one of {', '.join(ENGINES)} (KERAS_BACKEND), and runs on {engine}")
        return model

    def resolve_device(self, device: str) -> str:
        if device != "auto":
            try:
                with keras.device(device):
                    placed = str(ops.zeros(1).device).lower()
                kind = device.lower().partition(":")[0]
                if keras.backend.backend() == "tensorflow" and kind not in placed:
                    raise ValueError(f"TensorFlow takes {placed} in its position")
            except Exception as error:  # each engine has its own
                raise device_error(device, error) from None
        return device

    def on_device(self) -> Any:
        return contextlib.nullcontext() if self.device == "auto" else keras.device(self.device)

    def combine_towers(self, first: keras.Model, second: keras.Model) -> keras.Model:
        return TwoTower(first, second)

    def has_two_inputs(self, model: keras.Model) -> bool:
        inputs = getattr(model, "inputs", None)
        return len(inputs) == 2 if inputs is not None else takes_two_arguments(model.call)

    def wrap_native_loss(self, loss: Any) -> Any:
        return NativeLoss(loss) if NativeLoss.is_native(loss) else loss

    def make_optimizer(self, optimizer: Any, options: dict[str, Any]) -> keras.optimizers.Optimizer | None:
        return self.make_optimizer_of("optimizer", self.embed_model, optimizer, options)

    def make_loss_optimizer(self, optimizer: Any, options: dict[str, Any]) -> keras.optimizers.Optimizer | None:
        if not isinstance(self.loss, keras.layers.Layer) or not self.loss.trainable_variables:
            return None
        for name in ("training_model", "gradient_cache", "evaluation_model", "combined_optimizer"):
            self.__dict__.pop(name, None)  # cached for the loss without these weights
        return self.make_optimizer_of("loss_optimizer", self.loss, optimizer, options)

    def make_optimizer_of(
        self, kind: str, module: keras.layers.Layer, optimizer: Any, options: dict[str, Any]
    ) -> keras.optimizers.Optimizer | None:
        """The optimizer of a module's weights, from a name, class or instance; None if it has no weights to train."""
        if isinstance(optimizer, keras.optimizers.Optimizer):
            held = {id(variable) for variable in getattr(optimizer, "_trainable_variables", [])}
            if kind == "loss_optimizer" and held and not held.issuperset(map(id, module.trainable_variables)):
                raise ValueError(f"{kind} must hold the loss's weights, or be a name or a class, got an instance")
            return create(kind, optimizer, {}, options)
        if module.built and not module.trainable_variables:
            return None
        known = {name: cls for name, cls in vars(keras.optimizers).items() if inspect.isclass(cls)}
        known.pop("Optimizer")
        return create(kind, optimizer, known, {"learning_rate": self.learning_rate, **options})

    def clone_config(self, optimizer: keras.optimizers.Optimizer) -> tuple[Any, dict[str, Any]]:
        options = {name: value for name, value in optimizer.get_config().items() if name != "name"}
        if isinstance(options["learning_rate"], dict):  # a schedule
            options["learning_rate"] = keras.saving.deserialize_keras_object(options["learning_rate"])
        return type(optimizer), options

    def loss_registry(self) -> dict[str, Any]:
        native = {name: getattr(keras.losses, name) for name in NativeLoss.names}
        return native | public_classes(losses, "Loss")

    def miner_registry(self) -> dict[str, Any]:
        return public_classes(miner, "Miner")

    def pooler_registry(self) -> dict[str, Any]:
        return public_classes(poolers, "Pooler")

    def replace_pooling(self, pooler: Any) -> keras.Model:
        return replace_pooling(self.embed_model, pooler)

    def versions(self) -> dict[str, str]:
        engine = importlib.import_module(keras.backend.backend())
        return {"keras": keras.__version__, engine.__name__: engine.__version__}

    def num_threads(self) -> int:
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        if keras.backend.backend() == "torch":
            import torch

            return torch.get_num_threads()
        if keras.backend.backend() == "tensorflow":
            import tensorflow

            count = tensorflow.config.threading.get_intra_op_parallelism_threads()  # 0 if it is not set
            return count or int(os.environ.get("TF_NUM_INTRAOP_THREADS", 0)) or cores
        return cores

    def begin_training(self) -> None:
        if not self.training_model.compiled:
            self.training_model.compile(optimizer=self.combined_optimizer)

    def begin_epoch(self, seed: int) -> None:
        if self.training_model.needs_global_seed is not False:  # setting it makes TensorFlow discard its graphs
            seed_engine(seed)
        for position, variable in enumerate(self.embed_model.variables):
            if variable.path.endswith("seed_generator_state"):  # of a layer with its own generator, such as dropout
                variable.assign(np.array([seed, position], dtype="uint32"))
        self.rollback_state = None

    def end_training(self) -> None:
        self.rollback_state = None

    # State, by position: the names of variables depend on what else the process has created.

    def model_state(self) -> dict[str, np.ndarray]:
        return copy_to_host(self.embed_model.variables)

    def load_model_state(self, tensors: dict[str, np.ndarray]) -> None:
        if not self.embed_model.built:
            raise ValueError("the model must have its weights to load others: call it on a batch, or give keras.Input")
        assign("the weights must be those of the same model", self.embed_model.variables, tensors)

    def loss_state(self) -> dict[str, np.ndarray]:
        return copy_to_host(getattr(self.loss, "variables", []))

    def load_loss_state(self, tensors: dict[str, np.ndarray]) -> None:
        assign("the loss must be the one that was saved", getattr(self.loss, "variables", []), tensors)

    def optimizer_state(self, optimizer: keras.optimizers.Optimizer) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        return copy_to_host(optimizer.variables), {}

    def load_optimizer_state(
        self, optimizer: keras.optimizers.Optimizer, tensors: dict[str, np.ndarray], plain: dict[str, Any]
    ) -> None:
        if tensors:
            trained = self.training_model if self.loss_optimizer is None else self.embed_model
            optimizer.build((self.loss if optimizer is self.loss_optimizer else trained).trainable_variables)
            assign("the optimizer must have the options of the one that was saved", optimizer.variables, tensors)

    def write_tensors(self, path: Path, tensors: dict[str, np.ndarray]) -> None:
        save_file(tensors, path)

    def read_tensors(self, path: Path) -> dict[str, np.ndarray]:
        return load_file(path)


def seed_engine(seed: int) -> None:
    """Seed the engine. Keras' ``set_random_seed`` would import TensorFlow if that is installed.

    With JAX, all random numbers are from the layers' own generators.
    """
    if keras.backend.backend() == "tensorflow":
        keras.utils.set_random_seed(seed)
    elif keras.backend.backend() == "torch":
        import torch

        torch.manual_seed(seed)


def copy_to_host(variables: list[Any]) -> dict[str, np.ndarray]:
    """Copies of ``variables`` on the host that share no memory, by position."""
    return {str(position): np.array(ops.convert_to_numpy(one.value)) for position, one in enumerate(variables)}


def assign(rule: str, variables: list[Any], tensors: dict[str, np.ndarray]) -> None:
    """Assign values to variables by position; raise ``ValueError`` with the ``rule`` if they do not fit."""
    own = {str(position): variable for position, variable in enumerate(variables)}
    check_same_shapes(
        rule, *({f"variable {position}": value for position, value in side.items()} for side in (own, tensors))
    )
    for position, variable in own.items():
        variable.assign(tensors[position])
