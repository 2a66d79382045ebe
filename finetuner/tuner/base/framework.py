"""What a framework gives to the tuner: the step, and how weights and state are kept."""

import inspect
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from .loader import Batch, Batches

__all__ = [
    "Framework",
    "check_fit",
    "check_sides",
    "checked_embeddings",
    "no_device",
    "takes_keywords",
]


class Framework(ABC):
    """Interface between the tuner, which is the same everywhere, and a framework."""

    backend: ClassVar[str]  # the name of its subpackage
    restored: ClassVar[str] = "batch"  # whose beginning the weights are those of, when a step went wrong

    @abstractmethod
    def check_model(self, model: Any) -> Any:
        """Return ``model`` if it is of this framework, else raise ``TypeError``."""

    @abstractmethod
    def find_device(self, device: str) -> Any:
        """The framework's device of that name; the best there is for ``"auto"``."""

    @abstractmethod
    def versions(self) -> dict[str, str]:
        """The framework's name and version."""

    @abstractmethod
    def threads(self) -> int:
        """How many threads the framework computes with."""

    @abstractmethod
    def known_losses(self) -> dict[str, Any]:
        """The losses there are, by name."""

    @abstractmethod
    def known_miners(self) -> dict[str, Any]:
        """The miners there are, by name."""

    @abstractmethod
    def known_poolers(self) -> dict[str, Any]:
        """The poolers there are, by name."""

    @abstractmethod
    def replace_pooling(self, pooler: Any) -> Any:
        """The model with ``pooler`` where its last pooling layer was; raise ``ValueError`` if it has none."""

    @abstractmethod
    def as_towers(self, first: Any, second: Any) -> Any:
        """A model with two inputs, of which each of two models takes one: it returns what both return."""

    @abstractmethod
    def takes_two_inputs(self, model: Any) -> bool:
        """Whether ``model`` has two inputs, and thus one for each side of a pair."""

    @abstractmethod
    def as_loss(self, loss: Any) -> Any:
        """A loss of the framework's own in the form that tuners know; any other as it is."""

    @abstractmethod
    def find_optimizer(self, optimizer: Any, options: dict[str, Any]) -> Any:
        """The optimizer by name, class or instance, of the model's weights; None if it has none to train."""

    @abstractmethod
    def find_loss_optimizer(self, optimizer: Any, options: dict[str, Any]) -> Any:
        """The optimizer of the loss's weights, likewise; None if there are none, or the model's has them."""

    @abstractmethod
    def kind_and_options(self, optimizer: Any) -> tuple[Any, dict[str, Any]]:
        """Class and settings of an optimizer, of which another one can be made."""

    @abstractmethod
    def begin_training(self) -> None:
        """Called before the first epoch of a fit: all to the device."""

    @abstractmethod
    def end_training(self) -> None:
        """Called when a fit ends, however it does: leave the model in evaluation mode."""

    @abstractmethod
    def begin_epoch(self, seed: int) -> None:
        """Go into training mode and seed the framework's random numbers, so that any epoch can be had again."""

    @abstractmethod
    def own_data(self, data: Any) -> Any:
        """The framework's own dataset as :func:`~.dataset.as_dataset` takes it; anything else as it is."""

    @abstractmethod
    def load_batches(self, batches: Batches, num_workers: int) -> Iterable[Batch]:
        """The batches one after another, prepared by so many processes."""

    @abstractmethod
    def train_step(self, inputs: Any, targets: tuple[np.ndarray, ...]) -> Any:
        """Take one step and return the loss, on the device; raise :class:`NotFiniteError` before a bad one."""

    @abstractmethod
    def noted(self) -> dict[str, Any]:
        """What a loss with ``need_logs`` tells of the last step, on the device; empty of any other loss."""

    @abstractmethod
    def as_floats(self, losses: list[Any]) -> list[float]:
        """Fetch what :meth:`train_step` returned, or :meth:`noted`."""

    @abstractmethod
    def embed_step(self, inputs: Any, count: int) -> np.ndarray:
        """Embeddings ``[count, D]`` of one batch, in evaluation mode."""

    @abstractmethod
    def loss_of(self, embeddings: np.ndarray, targets: tuple[np.ndarray, ...]) -> float:
        """The loss of embeddings that are there already, ``[N, D]``, without gradients."""

    @abstractmethod
    def model_state(self) -> dict[str, Any]:
        """A copy of the model's weights, on the host."""

    @abstractmethod
    def load_model_state(self, tensors: dict[str, Any]) -> None:
        """Take over what :meth:`model_state` gave; raise ``ValueError`` if it does not fit."""

    @abstractmethod
    def loss_state(self) -> dict[str, Any]:
        """A copy of the loss's weights, on the host."""

    @abstractmethod
    def load_loss_state(self, tensors: dict[str, Any]) -> None:
        """Take over what :meth:`loss_state` gave."""

    @abstractmethod
    def optimizer_state(self, optimizer: Any) -> tuple[dict[str, Any], dict[str, Any]]:
        """State of an optimizer: tensors, and what JSON can hold."""

    @abstractmethod
    def load_optimizer_state(self, optimizer: Any, tensors: dict[str, Any], plain: dict[str, Any]) -> None:
        """Take over what :meth:`optimizer_state` gave."""

    @abstractmethod
    def write_tensors(self, path: Path, tensors: dict[str, Any]) -> None:
        """Write a safetensors file."""

    @abstractmethod
    def read_tensors(self, path: Path) -> dict[str, Any]:
        """Read a safetensors file."""


def checked_embeddings(embeddings: Any, is_tensor: bool, count: int | None) -> Any:
    """Return what a model made of ``count`` items if it is floats ``[count, D]``, else raise ``TypeError``.

    The count is None where a compiler does not know it.
    """
    if not is_tensor:
        keys = f" with {', '.join(map(str, embeddings))}" if isinstance(embeddings, Mapping) else ""
        raise TypeError(f"the model must return a tensor [N, D], got {type(embeddings).__name__}{keys}")
    shape, dtype = list(embeddings.shape), str(embeddings.dtype)
    if len(shape) != 2 or shape[0] != count or "float" not in dtype:
        raise TypeError(f"the model must return floats [N, D], here [{count}, D], got {dtype} {shape}")
    return embeddings


def check_sides(sides: Any, is_tensor: Callable[[Any], bool], count: int | None) -> tuple[Any, Any]:
    """Return both sides that a model with two inputs made of ``count`` rows, if they are floats ``[count / 2, D]``."""
    if not isinstance(sides, tuple | list) or len(sides) != 2:
        raise TypeError(f"a model with two inputs must return two embeddings, got {type(sides).__name__}")
    first, second = (checked_embeddings(side, is_tensor(side), count and count // 2) for side in sides)
    if first.shape[1] != second.shape[1]:
        raise TypeError(f"both sides must be of one dimension, got {first.shape[1]} and {second.shape[1]}")
    return first, second


def check_fit(rule: str, own: Mapping[str, Any], given: Mapping[str, Any]) -> None:
    """Raise ``ValueError`` with the ``rule`` unless both hold tensors of the same names and shapes."""
    for name in sorted(own.keys() | given.keys()):
        if name not in own or name not in given:
            raise ValueError(f"{rule}: {name} is in one of them alone")
        here, there = list(own[name].shape), list(given[name].shape)
        if here != there:
            raise ValueError(f"{rule}: {name} has shape {here} here and {there} there")


def no_device(device: str, error: Exception) -> ValueError:
    """What to raise when a framework answered a device with ``error``."""
    reason = str(error).strip().partition("\n")[0]
    return ValueError(f"device must be one that is there, such as 'cpu', got {device!r}: {reason}")


def takes_keywords(call: Callable[..., Any], inputs: Mapping[str, Any]) -> bool:
    """Whether a model's ``call`` names the keys of ``inputs`` as its arguments."""
    try:
        inspect.signature(call).bind(**inputs)
    except (TypeError, ValueError):
        return False
    return True
