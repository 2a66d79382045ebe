"""What a framework provides for models and data: the interface that an encoder holds."""

import inspect
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from ..data.batches import Batch, Batches
from .parameter_groups import Weight
from .pooling import PoolingCheck
from .split_model import SplitModel

__all__ = [
    "Framework",
    "accepts_keywords",
    "check_embeddings",
    "check_pair_embeddings",
    "check_same_shapes",
    "device_error",
]


class Framework(ABC):
    """Interface between the code for all frameworks, and the models and data of one framework.

    Args:
        device: Where models compute, by the framework's name; the best available device for ``"auto"``.

    Raises:
        ValueError: If the device is not available.
    """

    name: ClassVar[str]  # of the subpackage
    method: ClassVar[str] = "forward"  # of a layer, which computes its output
    device: Any
    unchecked: PoolingCheck | None = None  # of a pooler that no batch has confirmed yet

    @abstractmethod
    def __init__(self, device: str = "auto"): ...

    @abstractmethod
    def versions(self) -> dict[str, str]:
        """The framework's name and version."""

    @abstractmethod
    def num_threads(self) -> int:
        """The number of threads the framework computes with."""

    @abstractmethod
    def registry(self, kind: str) -> dict[str, Any]:
        """Classes by name: those of the kind ``"loss"``, ``"miner"``, ``"pooler"`` or ``"optimizer"``."""

    @abstractmethod
    def check_model(self, model: Any) -> Any:
        """Return ``model`` if it is of this framework, else raise ``TypeError``."""

    @abstractmethod
    def combine_towers(self, first: Any, second: Any) -> Any:
        """A model with two inputs, one per given model, that returns the outputs of both."""

    @abstractmethod
    def has_two_inputs(self, model: Any) -> bool:
        """Whether ``model`` has two inputs, one per side of a pair."""

    @abstractmethod
    def replace_pooling(self, model: Any, pooler: Any) -> Any:
        """The model with its global pooling replaced, as far as its layers tell; the first batch confirms it.

        Raises:
            ValueError: If no layer can be a global pooling.
        """

    @abstractmethod
    def put_back(self, model: Any, new: Any, old: Any) -> None:
        """Put a layer that has been replaced in place back into all its parents."""

    def check_pooling(self, model: Any, inputs: Any, count: int) -> None:
        """Check with a batch, unless an earlier one has told, that a new pooler replaces the model's global pooling.

        Args:
            model: The model.
            inputs: The model's input.
            count: The number of embeddings that the model returns for it.

        Raises:
            ValueError: If it does not. The replaced layer is put back.
        """
        if self.unchecked is not None and self.unchecked.model is model and self.unchecked.run(self, inputs, count):
            self.unchecked = None

    @abstractmethod
    def wrap_native_loss(self, loss: Any) -> Any:
        """One of the framework's own losses in the form that tuners use; any other loss unchanged."""

    @abstractmethod
    def combine_losses(self, losses: Sequence[Any], weights: Sequence[float]) -> Any:
        """A weighted sum of losses."""

    @abstractmethod
    def nest_loss(self, loss: Any, dims: Sequence[int], weights: Sequence[float] | None) -> Any:
        """The weighted sum of a loss over the first components of the embeddings, for several sizes."""

    @abstractmethod
    def convert_dataset(self, data: Any) -> Any:
        """The framework's own dataset as :func:`~.conversion.as_dataset` takes it; anything else unchanged."""

    @abstractmethod
    def load_batches(self, batches: Batches, num_workers: int) -> Iterable[Batch]:
        """The batches in order, prepared by ``num_workers`` workers."""

    @abstractmethod
    def embed(self, model: Any, inputs: Any, count: int) -> np.ndarray:
        """Embeddings ``[count, D]`` float32 of one batch, in evaluation mode."""

    @abstractmethod
    def embed_eagerly(self, model: Any, inputs: Any, count: int) -> np.ndarray:
        """As :meth:`embed`, without compilation. Random numbers and buffers are afterwards as they were before."""

    def is_built(self, model: Any) -> bool:
        """Whether all layers have their weights. Otherwise the next forward pass creates them."""
        return True

    @abstractmethod
    def split_frozen(self, model: Any, trained: set[str]) -> SplitModel:
        """The model in two parts, the first of which is never trained and as long as possible.

        All layers must have the mode that they are trained in.

        Args:
            model: The model.
            trained: The names of the weights that are trained, now or later.

        Raises:
            ValueError: If the first layer is trained or draws random numbers, or if the layers cannot be run by
                themselves.
        """

    @abstractmethod
    def run_prefix(self, prefix: Any, inputs: Any) -> np.ndarray:
        """The outputs of the first part of :meth:`split_frozen`, in evaluation mode."""

    @abstractmethod
    def as_array(self, x: Any) -> np.ndarray:
        """A tensor as an array."""

    @abstractmethod
    def weights(self, module: Any) -> list[Weight]:
        """The weights of a model or a loss that can be trained, frozen ones too, from the input to the output."""

    @abstractmethod
    def state(self, module: Any) -> dict[str, Any]:
        """A copy of all weights and buffers of a model or a loss on the host, by name."""

    @abstractmethod
    def load_state(self, module: Any, tensors: dict[str, Any]) -> None:
        """Set the tensors that :meth:`state` returned. Nothing is set if they do not fit.

        Raises:
            ValueError: If names or shapes differ.
        """

    def add_lora(self, model: Any, lora: Any, seed: int) -> None:
        """Add LoRA to the layers of a model in place, and freeze its other weights.

        Args:
            model: The model.
            lora: The rank, or the settings.
            seed: Of the new weights.

        Raises:
            ValueError: If the model is of a framework without it, or has no layers for it.
        """
        raise ValueError(f"lora must be used with a model of PyTorch, got lora={lora!r:.80} and one of {self.name}")

    def lora_of(self, model: Any) -> Any:
        """The :class:`~.lora.LoRAWeights` of a model; None for one without LoRA."""
        return None

    def base_digest(self, model: Any) -> str:
        """The SHA-256 of all that :meth:`add_lora` has frozen in a model."""
        raise NotImplementedError

    def merge_lora(self, model: Any) -> Any:
        """A copy of a model with LoRA in which the layers have one weight again, the sum."""
        raise NotImplementedError

    @abstractmethod
    def model_config(self, model: Any) -> dict[str, Any] | None:
        """How the model is made, as JSON can hold it; None if it cannot say so."""

    @abstractmethod
    def model_from_config(self, config: dict[str, Any], trust_code: bool) -> Any:
        """The model with this :meth:`model_config`.

        Raises:
            ValueError: If this would run code that ``config`` names, and ``trust_code`` is false.
        """

    @abstractmethod
    def write_tensors(self, path: Path, tensors: dict[str, Any]) -> None:
        """Write a safetensors file."""

    @abstractmethod
    def read_tensors(self, path: Path) -> dict[str, Any]:
        """Read a safetensors file."""


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
        types = [str(side[name].dtype) for side in (own, given)]
        if len({"float" in one for one in types}) > 1:
            raise ValueError(f"{rule}: {name} has type {types[0]} here and {types[1]} there")


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
