"""What a framework provides to the training: the step, and access to weights and state."""

import inspect
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from ..data.batches import Batch, Batches

__all__ = [
    "Framework",
    "accepts_keywords",
    "check_embeddings",
    "check_pair_embeddings",
    "check_same_shapes",
    "device_error",
]


class Framework(ABC):
    """Interface between the training, which is the same for all frameworks, and one framework.

    Attributes:
        backend: The name of the subpackage.
        rollback_scope: After a step that failed, the weights are those from before this ``"batch"`` or ``"epoch"``.
        model: What the user passed: a model, or a pair of models.
        embed_model: The model that returns embeddings.
        loss: The loss.
        optimizer: Of the model's weights; None if it has no weights to train.
        loss_optimizer: Of the loss's weights; None if it has none.
        distance: Of retrieval, ``"cosine"``, ``"euclidean"`` or ``"sqeuclidean"``.
        device: Where the model runs.
        seed: Of batches, views and the framework's random numbers.
        epoch: The number of finished epochs.
        history: One mapping per epoch, see :class:`~finetuner.tuner.base.training.run.Run`.
        metrics: Metrics before and after training.
        config: The settings of the run, as JSON can hold them.
        classes: The names of the loss's classes, in the order of its centres.
        warned_no_tuples: Whether the warning about a batch without tuples has been given.
    """

    backend: ClassVar[str]
    rollback_scope: ClassVar[str] = "batch"
    model: Any
    embed_model: Any
    loss: Any
    optimizer: Any
    loss_optimizer: Any
    distance: str
    device: Any
    seed: int
    epoch: int
    history: list[dict[str, Any]]
    metrics: dict[str, dict[str, float]]
    config: dict[str, Any]
    classes: list[Any]
    warned_no_tuples: bool

    @abstractmethod
    def check_model(self, model: Any) -> Any:
        """Return ``model`` if it is of this framework, else raise ``TypeError``."""

    @abstractmethod
    def resolve_device(self, device: str) -> Any:
        """The framework's device of this name; the best available one for ``"auto"``."""

    @abstractmethod
    def versions(self) -> dict[str, str]:
        """The framework's name and version."""

    @abstractmethod
    def num_threads(self) -> int:
        """The number of threads the framework computes with."""

    @abstractmethod
    def loss_registry(self) -> dict[str, Any]:
        """The losses, by name."""

    @abstractmethod
    def miner_registry(self) -> dict[str, Any]:
        """The miners, by name."""

    @abstractmethod
    def pooler_registry(self) -> dict[str, Any]:
        """The poolers, by name."""

    @abstractmethod
    def replace_pooling(self, pooler: Any) -> Any:
        """The model with its last pooling layer replaced; raise ``ValueError`` if it has none."""

    @abstractmethod
    def combine_towers(self, first: Any, second: Any) -> Any:
        """A model with two inputs, one per given model, that returns the outputs of both."""

    @abstractmethod
    def has_two_inputs(self, model: Any) -> bool:
        """Whether ``model`` has two inputs, one per side of a pair."""

    @abstractmethod
    def wrap_native_loss(self, loss: Any) -> Any:
        """One of the framework's own losses in the form that tuners use; any other loss unchanged."""

    @abstractmethod
    def make_optimizer(self, optimizer: Any, options: dict[str, Any]) -> Any:
        """The optimizer of the model's weights, from a name, class or instance; None if there are no weights."""

    @abstractmethod
    def make_loss_optimizer(self, optimizer: Any, options: dict[str, Any]) -> Any:
        """The optimizer of the loss's weights; None if there are none, or the model's optimizer has them."""

    @abstractmethod
    def clone_config(self, optimizer: Any) -> tuple[Any, dict[str, Any]]:
        """Class and settings of an optimizer, from which another one can be made."""

    @abstractmethod
    def begin_training(self) -> None:
        """Called before the first epoch of a fit: move everything to the device."""

    @abstractmethod
    def end_training(self) -> None:
        """Called when a fit ends, even by an error: put the model into evaluation mode."""

    @abstractmethod
    def begin_epoch(self, seed: int) -> None:
        """Put the model into training mode and seed the framework's random numbers: any epoch can be reproduced."""

    @abstractmethod
    def convert_dataset(self, data: Any) -> Any:
        """The framework's own dataset as :func:`~.conversion.as_dataset` takes it; anything else unchanged."""

    @abstractmethod
    def load_batches(self, batches: Batches, num_workers: int) -> Iterable[Batch]:
        """The batches in order, prepared by ``num_workers`` workers."""

    @abstractmethod
    def train_step(self, inputs: Any, targets: tuple[np.ndarray, ...]) -> Any:
        """Take one step and return the loss on the device; raise :class:`NotFiniteError` before a step that fails."""

    @abstractmethod
    def loss_logs(self) -> dict[str, Any]:
        """Statistics of the last step from a loss with ``need_logs``, on the device; empty for any other loss."""

    @abstractmethod
    def to_floats(self, values: list[Any]) -> list[float]:
        """Fetch values that :meth:`train_step` or :meth:`loss_logs` returned."""

    @abstractmethod
    def embed_step(self, inputs: Any, count: int) -> np.ndarray:
        """Embeddings ``[count, D]`` of one batch, in evaluation mode."""

    @abstractmethod
    def evaluate_loss(self, embeddings: np.ndarray, targets: tuple[np.ndarray, ...]) -> float:
        """The loss of given embeddings ``[N, D]``, without gradients."""

    @abstractmethod
    def model_state(self) -> dict[str, Any]:
        """A copy of the model's weights on the host."""

    @abstractmethod
    def load_model_state(self, tensors: dict[str, Any]) -> None:
        """Set the weights that :meth:`model_state` returned; raise ``ValueError`` if they do not fit."""

    @abstractmethod
    def loss_state(self) -> dict[str, Any]:
        """A copy of the loss's weights on the host."""

    @abstractmethod
    def load_loss_state(self, tensors: dict[str, Any]) -> None:
        """Set the weights that :meth:`loss_state` returned."""

    @abstractmethod
    def optimizer_state(self, optimizer: Any) -> tuple[dict[str, Any], dict[str, Any]]:
        """The state of an optimizer: tensors, and what JSON can hold."""

    @abstractmethod
    def load_optimizer_state(self, optimizer: Any, tensors: dict[str, Any], plain: dict[str, Any]) -> None:
        """Set the state that :meth:`optimizer_state` returned."""

    @abstractmethod
    def write_tensors(self, path: Path, tensors: dict[str, Any]) -> None:
        """Write a safetensors file."""

    @abstractmethod
    def read_tensors(self, path: Path) -> dict[str, Any]:
        """Read a safetensors file."""

    @abstractmethod
    def save(self, path: str | Path) -> Path:
        """Write the run into the new folder ``path``."""


def check_embeddings(embeddings: Any, is_tensor: bool, count: int | None) -> Any:
    """Return a model's output if it is floats ``[count, D]``, else raise ``TypeError``.

    The count is None if a compiler does not know it.
    """
    if not is_tensor:
        keys = f" with {', '.join(map(str, embeddings))}" if isinstance(embeddings, Mapping) else ""
        raise TypeError(f"the model must return a tensor [N, D], got {type(embeddings).__name__}{keys}")
    shape, dtype = list(embeddings.shape), str(embeddings.dtype)
    if len(shape) != 2 or shape[0] != count or "float" not in dtype:
        raise TypeError(f"the model must return floats [N, D], here [{count}, D], got {dtype} {shape}")
    return embeddings


def check_pair_embeddings(sides: Any, is_tensor: Callable[[Any], bool], count: int | None) -> tuple[Any, Any]:
    """Return both outputs of a model with two inputs if they are floats ``[count / 2, D]``."""
    if not isinstance(sides, tuple | list) or len(sides) != 2:
        raise TypeError(f"a model with two inputs must return two embeddings, got {type(sides).__name__}")
    first, second = (check_embeddings(side, is_tensor(side), count and count // 2) for side in sides)
    if first.shape[1] != second.shape[1]:
        raise TypeError(f"both sides must have the same dimension, got {first.shape[1]} and {second.shape[1]}")
    return first, second


def check_same_shapes(rule: str, own: Mapping[str, Any], given: Mapping[str, Any]) -> None:
    """Raise ``ValueError`` with the ``rule`` unless both contain tensors of the same names and shapes."""
    for name in sorted(own.keys() | given.keys()):
        if name not in own or name not in given:
            raise ValueError(f"{rule}: {name} is in one of them alone")
        here, there = list(own[name].shape), list(given[name].shape)
        if here != there:
            raise ValueError(f"{rule}: {name} has shape {here} here and {there} there")


def device_error(device: str, error: Exception) -> ValueError:
    """The exception for a device that the framework refused with ``error``."""
    reason = str(error).strip().partition("\n")[0]
    return ValueError(f"device must be an available one, such as 'cpu', got {device!r}: {reason}")


def accepts_keywords(call: Callable[..., Any], inputs: Mapping[str, Any]) -> bool:
    """Whether the keys of ``inputs`` are arguments of a model's ``call``."""
    try:
        inspect.signature(call).bind(**inputs)
    except (TypeError, ValueError):
        return False
    return True
