"""Keras' models and data, as an encoder uses them."""

import contextlib
import importlib
import inspect
import json
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np
from keras import ops
from safetensors.numpy import load_file, save_file

from ...arrays import takes_two_arguments
from .. import ENGINES
from ..base.data.batches import Batch, Batches, PairInputs
from ..base.registry import public_classes
from ..base.training import framework as base
from ..base.training.framework import check_embeddings, check_same_shapes, device_error
from ..base.training.parameter_groups import Weight
from ..base.training.pooling import PoolingCheck
from ..base.training.split_model import SplitModel
from . import losses, miner, poolers
from .combined_loss import CombinedLoss
from .data import convert_dataset, load_batches, to_device
from .devices import find_devices
from .frozen import split_frozen
from .gradient_cache import random_state, set_random_state
from .matryoshka_loss import MatryoshkaLoss
from .models import TrainingModel, TwoTower, check_config, named_weights
from .native_loss import NativeLoss
from .on_devices import Embedder
from .surgery import find_pooling, layers_of, precedes_pooling, put_back, put_pooler

__all__ = ["KerasFramework"]


class KerasFramework(base.Framework):
    name = "keras"
    method = "call"

    def __init__(self, device: str = "auto"):
        self.device = resolve_device(device)
        self.embedders: dict[int, Any] = {}  # by the id of a model, one that Keras compiles to embed
        self.on_devices: dict[int, Embedder] = {}  # the same, for several devices

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

    def registry(self, kind: str) -> dict[str, Any]:
        if kind == "optimizer":
            known = {name: cls for name, cls in vars(keras.optimizers).items() if inspect.isclass(cls)}
            return {name: cls for name, cls in known.items() if name != "Optimizer"}
        if kind == "loss":
            return {name: getattr(keras.losses, name) for name in NativeLoss.names} | public_classes(losses, "Loss")
        return public_classes(miner, "Miner") if kind == "miner" else public_classes(poolers, "Pooler")

    def check_model(self, model: Any) -> keras.Model:
        if not isinstance(model, keras.Model):
            raise TypeError(f"embed_model must be a keras.Model, got {type(model).__name__}")
        engine = keras.backend.backend()
        if engine not in ENGINES:
            raise ValueError(f"Keras must run on one of {', '.join(ENGINES)} (KERAS_BACKEND), and runs on {engine}")
        return model

    def combine_towers(self, first: keras.Model, second: keras.Model) -> keras.Model:
        return TwoTower(first, second)

    def has_two_inputs(self, model: keras.Model) -> bool:
        inputs = getattr(model, "inputs", None)
        return len(inputs) == 2 if inputs is not None else takes_two_arguments(model.call)

    def replace_pooling(self, model: keras.Model, pooler: Any) -> keras.Model:
        place = find_pooling(model, pooler)
        model, layer = put_pooler(model, place.layer, pooler)
        if not place.is_certain:
            others = [one for one in layers_of(model) if precedes_pooling(one)]
            self.unchecked = PoolingCheck(model, place.name, place.layer, layer, place.is_global, others)
        return model

    def check_pooling(self, model: keras.Model, inputs: Any, count: int) -> None:
        devices = None if self.unchecked is None else find_devices()
        if devices is not None and devices.processes > 1:  # whose inputs differ
            raise ValueError(
                "a pooler whose place is not certain must be used in a single process of JAX; put it into the model "
                "yourself"
            )
        super().check_pooling(model, inputs, count)

    def put_back(self, model: keras.Model, new: Any, old: Any) -> None:
        put_back(model, new, old)

    def wrap_native_loss(self, loss: Any) -> Any:
        return NativeLoss(loss) if NativeLoss.is_native(loss) else loss

    def combine_losses(self, losses: Sequence[Any], weights: Sequence[float]) -> Any:
        return CombinedLoss(losses, weights)

    def nest_loss(self, loss: Any, dims: Sequence[int], weights: Sequence[float] | None) -> Any:
        return MatryoshkaLoss(loss, dims, weights)

    def convert_dataset(self, data: Any) -> Any:
        return convert_dataset(data)

    def load_batches(self, batches: Batches, num_workers: int) -> Iterable[Batch]:
        return load_batches(batches, num_workers)

    def embed(self, model: keras.Model, inputs: Any, count: int) -> np.ndarray:
        with self.on_device():
            embeddings = self.predict(self.embedder(model), inputs, count)
        checked = check_embeddings(embeddings, isinstance(embeddings, np.ndarray), count)
        return np.asarray(checked, dtype=np.float32)

    def embed_eagerly(self, model: keras.Model, inputs: Any, count: int) -> np.ndarray:
        state = [(variable, ops.copy(variable)) for variable in model.non_trainable_variables]
        with self.on_device():
            place = ops.zeros(())
            random = random_state(place)
            try:
                embeddings = self.embedder(model)(to_device(inputs), training=False)
            finally:
                set_random_state(random, place)
                for variable, value in state:
                    variable.assign(value)
        checked = check_embeddings(embeddings, ops.is_tensor(embeddings), count)
        return self.as_array(ops.cast(checked, "float32"))

    def is_built(self, model: keras.Model) -> bool:
        return all(getattr(layer, "built", True) for layer in layers_of(model))

    def split_frozen(self, model: keras.Model, trained: set[str]) -> SplitModel:
        return split_frozen(model, trained)

    def run_prefix(self, prefix: TrainingModel, inputs: Any) -> np.ndarray:
        kind = keras.backend.standardize_dtype(prefix.embed_model.outputs[0].dtype)
        if kind == "bfloat16":
            raise ValueError(f"cache_frozen must be used with frozen layers that return a float32 tensor, got {kind}")
        with self.on_device():
            return np.asarray(self.predict(prefix, inputs, None))

    def predict(self, model: TrainingModel, inputs: Any, count: int | None) -> Any:
        """What a model returns for a batch, as arrays.

        Args:
            model: The model.
            inputs: Its input.
            count: The number of embeddings; None for a model with one row of its output per row of its input.
        """
        devices = find_devices()
        if devices is None:
            return model.predict_on_batch(to_device(inputs))
        if not model.embed_model.built:
            with keras.StatelessScope():
                model(to_device(inputs))
        if id(model) not in self.on_devices or self.on_devices[id(model)].devices.mesh != devices.mesh:
            self.on_devices[id(model)] = Embedder(model, devices)
        rows = count // 2 if count is not None and isinstance(inputs, PairInputs) else count
        return self.on_devices[id(model)](to_device(inputs), rows)

    def as_array(self, x: Any) -> np.ndarray:
        return np.asarray(ops.convert_to_numpy(x))

    def weights(self, module: Any) -> list[Weight]:
        return [Weight(name, len(variable.shape)) for name, variable in named_weights(module).items()]

    # By position: the names of variables depend on what else the process has created.

    def state(self, module: Any) -> dict[str, np.ndarray]:
        return copy_to_host(getattr(module, "variables", []))

    def load_state(self, module: Any, tensors: dict[str, np.ndarray]) -> None:
        if isinstance(module, keras.Model) and not module.built:
            raise ValueError("the model must have its weights to load others: call it on a batch, or give keras.Input")
        assign("the weights must be those of the same model", getattr(module, "variables", []), tensors)

    def model_config(self, model: keras.Model) -> dict[str, Any] | None:
        if not isinstance(model, keras.Sequential | keras.Function):
            return None
        try:
            return {"keras": json.loads(model.to_json())}
        except (NotImplementedError, TypeError, ValueError):  # a layer does not say how it is made
            return None

    def model_from_config(self, config: dict[str, Any], trust_code: bool) -> Any:
        if not isinstance(config.get("keras"), dict):
            raise ValueError(f"model.json must have the key 'keras', got {', '.join(map(repr, config))[:200]}")
        if not trust_code:
            check_config(config["keras"])
        try:
            return keras.models.model_from_json(json.dumps(config["keras"]))
        except Exception as error:  # each class of Keras has its own
            reason = str(error).strip().partition("\n")[0]
            raise ValueError(f"model.json must describe a Keras model, and does not: {reason}") from error

    def write_tensors(self, path: Path, tensors: dict[str, np.ndarray]) -> None:
        save_file(tensors, path)

    def read_tensors(self, path: Path) -> dict[str, np.ndarray]:
        return load_file(path)

    def on_device(self) -> Any:
        """A context in which Keras places tensors on the device."""
        return contextlib.nullcontext() if self.device == "auto" else keras.device(self.device)

    def embedder(self, model: keras.Model) -> TrainingModel:
        """The model as one with flat inputs, which Keras has compiled to embed."""
        if id(model) not in self.embedders:
            self.embedders[id(model)] = TrainingModel(model, None)
        return self.embedders[id(model)]


def resolve_device(device: str) -> str:
    """The device of this name; an accelerator, if there is one, for ``"auto"``."""
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


def copy_to_host(variables: Sequence[Any]) -> dict[str, np.ndarray]:
    """Copies of ``variables`` on the host that share no memory, by position."""
    return {str(position): np.array(ops.convert_to_numpy(one.value)) for position, one in enumerate(variables)}


def assign(rule: str, variables: Sequence[Any], tensors: dict[str, np.ndarray]) -> None:
    """Assign values to variables by position; raise ``ValueError`` with the ``rule`` if they do not fit."""
    own = {str(position): variable for position, variable in enumerate(variables)}
    check_same_shapes(
        rule, *({f"variable {position}": value for position, value in side.items()} for side in (own, tensors))
    )
    for position, variable in own.items():
        variable.assign(tensors[position])
