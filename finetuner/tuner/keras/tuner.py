"""The tuner of Keras models: one step, and how weights and state are kept."""

import contextlib
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

from .. import base
from ..base.framework import checked_embeddings
from ..base.loader import Batch, Batches
from ..base.registry import create
from ..base.training import NotFiniteError
from . import losses, miner
from .data import load_batches, to_device

__all__ = ["KerasTuner"]


class Trained(keras.Model):
    """A model with its loss, which Keras' own step then trains, compiled as the engine compiles."""

    def __init__(self, embed_model: Any, loss: Any):
        super().__init__()
        self.embed_model, self.objective = embed_model, loss

    def call(self, x: Any, training: bool = False) -> Any:
        """Embeddings of ``x``."""
        return self.embed_model(x, training=training)

    def compute_loss(
        self, x: Any = None, y: Any = None, y_pred: Any = None, sample_weight: Any = None, training: bool = True
    ) -> Any:
        checked_embeddings(y_pred, ops.is_tensor(y_pred), y.shape[0])
        loss = self.objective(y_pred, ops.convert_to_tensor(y))  # of torch's engine labels come as an array
        return sum(map(ops.sum, self.losses), start=loss)  # regularisers


class KerasTuner(base.Tuner):
    __doc__ = base.Tuner.__doc__

    backend = "keras"

    # The step, and what it needs.

    def train_step(self, inputs: Any, labels: np.ndarray) -> float:
        with self.on_device():
            self.trained.reset_metrics()
            loss = self.trained.train_on_batch(to_device(inputs, self.device), labels)
        if not math.isfinite(loss):
            self.load_model_state(self.weights_before)
            raise NotFiniteError(f"the loss must be finite, and is {loss}")
        return float(loss)

    def embed_step(self, inputs: Any, count: int) -> np.ndarray:
        with self.on_device():
            embeddings = self.embed_model(to_device(inputs, self.device), training=False)
        checked = checked_embeddings(embeddings, ops.is_tensor(embeddings), count)
        return ops.convert_to_numpy(ops.cast(checked, "float32"))

    def loss_of(self, embeddings: np.ndarray, labels: np.ndarray) -> float:
        with self.on_device():
            return float(self.loss(ops.convert_to_tensor(embeddings), ops.convert_to_tensor(labels)))

    def as_floats(self, losses: list[float]) -> list[float]:
        return losses

    def load_batches(self, batches: Batches, num_workers: int) -> Iterable[Batch]:
        return load_batches(batches, num_workers)

    # What is trained, with what, and where.

    def check_model(self, model: Any) -> keras.Model:
        if not isinstance(model, keras.Model):
            raise TypeError(f"embed_model must be a keras.Model, got {type(model).__name__}")
        return model

    def find_device(self, device: str) -> str:
        return device

    def on_device(self) -> Any:
        return contextlib.nullcontext() if self.device == "auto" else keras.device(self.device)

    def find_optimizer(self, optimizer: Any, options: dict[str, Any]) -> keras.optimizers.Optimizer | None:
        if isinstance(optimizer, keras.optimizers.Optimizer):
            return create("optimizer", optimizer, {}, options)
        if self.embed_model.built and not self.embed_model.trainable_variables:
            return None
        known = {name: cls for name, cls in vars(keras.optimizers).items() if inspect.isclass(cls)}
        known.pop("Optimizer")
        return create("optimizer", optimizer, known, {"learning_rate": self.learning_rate, **options})

    def known_losses(self) -> dict[str, Any]:
        return {name: getattr(losses, name) for name in losses.__all__ if name != "Loss"}

    def known_miners(self) -> dict[str, Any]:
        return {name: getattr(miner, name) for name in miner.__all__ if name != "Miner"}

    def versions(self) -> dict[str, str]:
        return {"keras": keras.__version__, "engine": keras.backend.backend()}

    def threads(self) -> int:
        return int(os.environ.get("OMP_NUM_THREADS", os.cpu_count() or 1))

    trained: Any = None  # the model with its loss, from the first fit on
    weights_before: Any = None  # the epoch, to go back to where a step was not finite

    def begin_training(self) -> None:
        if self.trained is None:
            self.trained = Trained(self.embed_model, self.loss)
            self.trained.compile(optimizer=self.optimizer)

    def begin_epoch(self, seed: int) -> None:
        keras.utils.set_random_seed(seed)
        for place, variable in enumerate(self.embed_model.variables):
            if variable.path.endswith("seed_generator_state"):  # of a layer that has its own, such as dropout
                variable.assign(np.array([seed, place], dtype="uint32"))
        self.weights_before = self.model_state()

    def end_training(self) -> None:
        self.weights_before = None

    # Weights and state.

    def model_state(self) -> dict[str, np.ndarray]:
        return {place: copied(variable) for place, variable in places(self.embed_model.variables)}

    def load_model_state(self, tensors: dict[str, np.ndarray]) -> None:
        own = dict(places(self.embed_model.variables))
        for name in own.keys() | tensors.keys():
            if name not in own or name not in tensors:
                raise ValueError(f"the weights must be those of the same model: {name} is in one of them alone")
            if tuple(own[name].shape) != tensors[name].shape:
                raise ValueError(
                    f"the weights must be those of the same model: {name} has shape {list(own[name].shape)} here and "
                    f"{list(tensors[name].shape)} there"
                )
        for name, variable in own.items():
            variable.assign(tensors[name])

    def loss_state(self) -> dict[str, np.ndarray]:
        return {place: copied(variable) for place, variable in places(getattr(self.loss, "variables", []))}

    def load_loss_state(self, tensors: dict[str, np.ndarray]) -> None:
        for place, variable in places(getattr(self.loss, "variables", [])):
            variable.assign(tensors[place])

    def optimizer_state(self) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        return {place: copied(variable) for place, variable in places(self.optimizer.variables)}, {}

    def load_optimizer_state(self, tensors: dict[str, np.ndarray], plain: dict[str, Any]) -> None:
        self.optimizer.build(self.embed_model.trainable_variables)
        for place, variable in places(self.optimizer.variables):
            variable.assign(tensors[place])

    def write_tensors(self, path: Path, tensors: dict[str, np.ndarray]) -> None:
        save_file(tensors, path)

    def read_tensors(self, path: Path) -> dict[str, np.ndarray]:
        return load_file(path)


def places(variables: list[Any]) -> list[tuple[str, Any]]:
    """Variables by their place: names depend on what else the process has made."""
    return [(str(place), variable) for place, variable in enumerate(variables)]


def copied(variable: Any) -> np.ndarray:
    """A copy of a variable's value on the host."""
    return np.array(ops.convert_to_numpy(variable.value))
