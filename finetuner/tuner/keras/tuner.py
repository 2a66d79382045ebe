"""The tuner of Keras models: one step, and how weights and state are kept."""

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

from .. import ENGINES, base
from ..base.caching import micro_batches
from ..base.framework import (
    check_fit,
    checked_embeddings,
    no_device,
)
from ..base.items import takes_two
from ..base.loader import Batch, Batches
from ..base.registry import create
from ..base.training import NotFiniteError
from . import losses, miner, poolers
from .caching import Cached
from .data import as_pairs, load_batches, to_arrays
from .losses.heads import NativeLoss
from .models import Towers, Trained
from .replacement import replace_pooling

__all__ = ["KerasTuner"]


class KerasTuner(base.Tuner):
    __doc__ = base.Tuner.__doc__

    backend = "keras"
    restored = "epoch"  # Keras' step cannot be stopped half-way
    snapshot: dict[str, np.ndarray] | None = None  # of all that is trained, as it was when the epoch began

    # The step, and what it needs.

    @functools.cached_property
    def trained(self) -> Trained:
        """The model with its loss."""
        return Trained(self.embed_model, self.loss)

    @functools.cached_property
    def whole_optimizer(self) -> keras.optimizers.Optimizer:
        """What Keras' own step has of the model's optimizer and the loss's."""
        if self.loss_optimizer is None:
            return self.optimizer
        own = {id(variable) for variable in self.loss.trainable_variables}
        return keras.optimizers.MultiOptimizer(lambda v: self.loss_optimizer if id(v) in own else self.optimizer)

    @functools.cached_property
    def judge(self) -> Trained:
        """The loss by itself, compiled as in training."""
        judge = Trained(keras.layers.Identity(), self.loss)
        judge.compile()
        return judge

    @functools.cached_property
    def cached(self) -> Cached:
        """The step on micro-batches."""
        return Cached(self.trained)

    def train_step(self, inputs: Any, targets: tuple[np.ndarray, ...]) -> float:
        parts = micro_batches(inputs, len(targets[0]), self.micro_batch_size)
        inputs = to_arrays(parts[0].inputs)
        with self.on_device():
            if self.snapshot is None:
                if not self.trained.built:
                    self.trained.predict_on_batch(inputs)
                self.whole_optimizer.build(self.trained.trainable_variables)
                self.snapshot = copied(self.trained_variables())
            if len(parts) == 1:
                loss = float(self.trained.train_on_batch(inputs, targets, return_dict=True)["loss"])
            else:
                self.trained.reset_metrics()  # as Keras' own step does
                loss = self.cached.step(parts, targets)
        if not math.isfinite(loss):
            assign("the step must be undone", self.trained_variables(), self.snapshot)
            raise NotFiniteError(f"the loss must be finite, and is {loss}")
        return loss

    def trained_variables(self) -> list[Any]:
        """All that a step may change."""
        return [*self.trained.variables, *self.whole_optimizer.variables]

    def embed_step(self, inputs: Any, count: int) -> np.ndarray:
        with self.on_device():
            embeddings = self.trained.predict_on_batch(to_arrays(inputs))
        checked = checked_embeddings(embeddings, isinstance(embeddings, np.ndarray), count)
        return np.asarray(checked, dtype=np.float32)

    def loss_of(self, embeddings: np.ndarray, targets: tuple[np.ndarray, ...]) -> float:
        with self.on_device():
            return float(self.judge.test_on_batch(embeddings, targets, return_dict=True)["loss"])

    def noted(self) -> dict[str, float]:
        notes = self.trained.notes
        if notes:  # in place of what was there while Keras compiled
            self.loss.noted = {name: notes[name].result() for name in self.loss.noted}
        return {name: float(value) for name, value in self.loss.noted.items()} if notes else {}

    def as_floats(self, losses: list[float]) -> list[float]:
        return losses

    def own_data(self, data: Any) -> Any:
        return as_pairs(data)

    def load_batches(self, batches: Batches, num_workers: int) -> Iterable[Batch]:
        return load_batches(batches, num_workers)

    # What is trained, with what, and where.

    def check_model(self, model: Any) -> keras.Model:
        if not isinstance(model, keras.Model):
            raise TypeError(f"embed_model must be a keras.Model, got {type(model).__name__}")
        engine = keras.backend.backend()
        if engine not in ENGINES:
            raise ValueError(f"Keras must run on one of {', '.join(ENGINES)} (KERAS_BACKEND), and runs on {engine}")
        return model

    def find_device(self, device: str) -> str:
        if device != "auto":
            try:
                with keras.device(device):
                    placed = str(ops.zeros(1).device).lower()
                kind = device.lower().partition(":")[0]
                if keras.backend.backend() == "tensorflow" and kind not in placed:
                    raise ValueError(f"TensorFlow takes {placed} in its place")
            except Exception as error:  # each engine has its own
                raise no_device(device, error) from None
        return device

    def on_device(self) -> Any:
        return contextlib.nullcontext() if self.device == "auto" else keras.device(self.device)

    def as_towers(self, first: keras.Model, second: keras.Model) -> keras.Model:
        return Towers(first, second)

    def takes_two_inputs(self, model: keras.Model) -> bool:
        inputs = getattr(model, "inputs", None)
        return len(inputs) == 2 if inputs is not None else takes_two(model.call)

    def as_loss(self, loss: Any) -> Any:
        return NativeLoss(loss) if NativeLoss.is_native(loss) else loss

    def find_optimizer(self, optimizer: Any, options: dict[str, Any]) -> keras.optimizers.Optimizer | None:
        return self.optimizer_of("optimizer", self.embed_model, optimizer, options)

    def find_loss_optimizer(self, optimizer: Any, options: dict[str, Any]) -> keras.optimizers.Optimizer | None:
        if not isinstance(self.loss, keras.layers.Layer) or not self.loss.trainable_variables:
            return None
        for compiled in ("trained", "cached", "judge", "whole_optimizer"):  # of the loss as it was
            self.__dict__.pop(compiled, None)
        return self.optimizer_of("loss_optimizer", self.loss, optimizer, options)

    def optimizer_of(
        self, kind: str, trained: keras.layers.Layer, optimizer: Any, options: dict[str, Any]
    ) -> keras.optimizers.Optimizer | None:
        """The optimizer by name, class or instance, of what is trained; None if it has no weights to train."""
        if isinstance(optimizer, keras.optimizers.Optimizer):
            held = {id(variable) for variable in getattr(optimizer, "_trainable_variables", [])}
            if kind == "loss_optimizer" and held and not held.issuperset(map(id, trained.trainable_variables)):
                raise ValueError(f"{kind} must hold the loss's weights, or be a name or a class, got an instance")
            return create(kind, optimizer, {}, options)
        if trained.built and not trained.trainable_variables:
            return None
        known = {name: cls for name, cls in vars(keras.optimizers).items() if inspect.isclass(cls)}
        known.pop("Optimizer")
        return create(kind, optimizer, known, {"learning_rate": self.learning_rate, **options})

    def kind_and_options(self, optimizer: keras.optimizers.Optimizer) -> tuple[Any, dict[str, Any]]:
        options = {name: value for name, value in optimizer.get_config().items() if name != "name"}
        if isinstance(options["learning_rate"], dict):  # a schedule
            options["learning_rate"] = keras.saving.deserialize_keras_object(options["learning_rate"])
        return type(optimizer), options

    def known_losses(self) -> dict[str, Any]:
        native = {name: getattr(keras.losses, name) for name in NativeLoss.names}
        return native | {name: getattr(losses, name) for name in losses.__all__ if name != "Loss"}

    def known_miners(self) -> dict[str, Any]:
        return {name: getattr(miner, name) for name in miner.__all__ if name != "Miner"}

    def known_poolers(self) -> dict[str, Any]:
        return {name: getattr(poolers, name) for name in poolers.__all__ if name != "Pooler"}

    def replace_pooling(self, pooler: Any) -> keras.Model:
        return replace_pooling(self.embed_model, pooler)

    def versions(self) -> dict[str, str]:
        engine = importlib.import_module(keras.backend.backend())
        return {"keras": keras.__version__, engine.__name__: engine.__version__}

    def threads(self) -> int:
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        if keras.backend.backend() == "torch":
            import torch

            return torch.get_num_threads()
        if keras.backend.backend() == "tensorflow":
            import tensorflow

            count = tensorflow.config.threading.get_intra_op_parallelism_threads()  # 0 where nobody has said
            return count or int(os.environ.get("TF_NUM_INTRAOP_THREADS", 0)) or cores
        return cores

    def begin_training(self) -> None:
        if not self.trained.compiled:
            self.trained.compile(optimizer=self.whole_optimizer)

    def begin_epoch(self, seed: int) -> None:
        if self.trained.draws is not False:  # TensorFlow throws its compiled graphs away for it, which takes seconds
            seed_engine(seed)
        for place, variable in enumerate(self.embed_model.variables):
            if variable.path.endswith("seed_generator_state"):  # of a layer that has its own, such as dropout
                variable.assign(np.array([seed, place], dtype="uint32"))
        self.snapshot = None

    def end_training(self) -> None:
        self.snapshot = None

    # Weights and state, by place: names depend on what else the process has made.

    def model_state(self) -> dict[str, np.ndarray]:
        return copied(self.embed_model.variables)

    def load_model_state(self, tensors: dict[str, np.ndarray]) -> None:
        if not self.embed_model.built:
            raise ValueError("the model must have its weights to load others: call it on a batch, or give keras.Input")
        assign("the weights must be those of the same model", self.embed_model.variables, tensors)

    def loss_state(self) -> dict[str, np.ndarray]:
        return copied(getattr(self.loss, "variables", []))

    def load_loss_state(self, tensors: dict[str, np.ndarray]) -> None:
        assign("the loss must be the one that was saved", getattr(self.loss, "variables", []), tensors)

    def optimizer_state(self, optimizer: keras.optimizers.Optimizer) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        return copied(optimizer.variables), {}

    def load_optimizer_state(
        self, optimizer: keras.optimizers.Optimizer, tensors: dict[str, np.ndarray], plain: dict[str, Any]
    ) -> None:
        if tensors:
            alone = self.trained if self.loss_optimizer is None else self.embed_model
            optimizer.build((self.loss if optimizer is self.loss_optimizer else alone).trainable_variables)
            assign("the optimizer must have the options of the one that was saved", optimizer.variables, tensors)

    def write_tensors(self, path: Path, tensors: dict[str, np.ndarray]) -> None:
        save_file(tensors, path)

    def read_tensors(self, path: Path) -> dict[str, np.ndarray]:
        return load_file(path)


def seed_engine(seed: int) -> None:
    """Seed the engine; Keras' ``set_random_seed`` would import TensorFlow for it, where that is installed.

    JAX has no random numbers but those of the layers' own generators.
    """
    if keras.backend.backend() == "tensorflow":
        keras.utils.set_random_seed(seed)
    elif keras.backend.backend() == "torch":
        import torch

        torch.manual_seed(seed)


def copied(variables: list[Any]) -> dict[str, np.ndarray]:
    """Copies of ``variables`` on the host, none sharing memory with another, by their place."""
    return {str(place): np.array(ops.convert_to_numpy(one.value)) for place, one in enumerate(variables)}


def assign(rule: str, variables: list[Any], tensors: dict[str, np.ndarray]) -> None:
    """Give variables the values of their places; raise ``ValueError`` with the ``rule`` if these do not fit."""
    own = {str(place): variable for place, variable in enumerate(variables)}
    check_fit(rule, *({f"variable {place}": value for place, value in side.items()} for side in (own, tensors)))
    for place, variable in own.items():
        variable.assign(tensors[place])
