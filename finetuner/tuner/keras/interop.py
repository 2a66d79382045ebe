"""Integration with Keras: configs for saved files, labels without a cast, and losses for ``model.compile``."""

from collections.abc import Mapping
from typing import Any, Self

import keras
import numpy as np
from keras import KerasTensor, layers, ops

from ..base.losses.loss import WeightedLoss
from ..base.registry import arguments_of

__all__ = ["Configured", "KerasLoss", "LossLayer", "PlainLayer", "PlainModel"]

PACKAGE = "finetuner"  # the namespace of the classes in Keras' saved files


class Configured:
    """An object that Keras saves by its arguments and creates again from them, also in safe mode."""

    def __init_subclass__(cls, **kwargs: Any):
        super().__init_subclass__(**kwargs)
        keras.saving.register_keras_serializable(PACKAGE)(cls)

    def get_config(self) -> dict[str, Any]:
        """The arguments, and the name of a layer."""
        arguments = self.serialized_arguments() if hasattr(self, "serialized_arguments") else arguments_of(self)
        config = {name: to_config(value) for name, value in arguments.items()}
        return {**config, "name": self.name} if isinstance(self, layers.Layer) else config

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Self:
        """The object with this :meth:`get_config`."""
        arguments = {key: from_config(value) if isinstance(value, dict) else value for key, value in config.items()}
        name = arguments.pop("name", None)
        thing = cls(**arguments)
        if isinstance(thing, layers.Layer):
            thing.name = name
        return thing


def to_config(value: Any) -> Any:
    """An argument as a file can hold it. A mapping is stored as a list of items, since keys of JSON are strings."""
    if isinstance(value, Mapping):
        return {"items": [list(item) for item in value.items()]}
    return list(value) if isinstance(value, list | tuple) else value


def from_config(value: dict[str, Any]) -> Any:
    """The argument that :func:`to_config` or Keras stored as a dictionary."""
    return dict(value["items"]) if value.keys() == {"items"} else keras.saving.deserialize_keras_object(value)


class PlainLayer(Configured, layers.Layer):
    """A layer whose inputs keep their type under every dtype policy of Keras."""

    def __init__(self) -> None:
        super().__init__(dtype="float32", autocast=False)

    def compute_mask(self, inputs: Any, previous_mask: Any = None) -> None:
        """The mask of a previous layer is not passed on."""
        return


class PlainModel(Configured, keras.Model):
    """A model whose inputs keep their type under every dtype policy of Keras."""

    def __init__(self) -> None:
        super().__init__(dtype="float32", autocast=False)


class LossLayer(PlainLayer):
    """A layer from embeddings and targets to a loss. It checks that the engine can represent the labels.

    It is built from the start: the weights of a loss are created when their shape is known, and may grow.
    """

    def __init__(self) -> None:
        super().__init__()
        self.built = True

    def __call__(self, *args: Any, **kwargs: Any) -> KerasTensor:
        for name, value in (*zip(self.call_signature_parameters, args, strict=False), *kwargs.items()):
            check_integer_range(name, value)
        return super().__call__(*args, **kwargs)


def check_integer_range(name: str, labels: Any) -> None:
    """Raise ``ValueError`` if an array has integers that are too large for the engine, which would wrap them."""
    if not isinstance(labels, np.ndarray) or labels.dtype not in (np.int64, np.uint64):
        return
    converted = ops.convert_to_numpy(ops.convert_to_tensor(labels))
    if not np.array_equal(converted, labels):
        first = labels[converted != labels].flat[0]
        raise ValueError(
            f"{name} must fit the integers of Keras' {keras.backend.backend()} engine, which are {converted.dtype}, "
            f"got {first}; np.unique({name}, return_inverse=True)[1] numbers them from 0"
        )


class KerasLoss(Configured, keras.losses.Loss):
    """A loss for Keras' own training: ``model.compile("adam", loss=KerasLoss(TripletLoss()))``.

    Labels reach the loss unchanged: ``[N]`` or ``[N, 1]`` integers, ``[N, 2]`` sessions and roles, or ``[N, C]``
    booleans for label sets. Keras' own losses convert them to float32, which cannot represent all integers above 2**24.
    The JAX engine has no 64-bit integers unless ``jax_enable_x64`` is set, and ``fit`` passes it labels modulo 2**32.
    For larger labels use ``np.unique(labels, return_inverse=True)[1]``.

    A batch must contain items that belong together: :class:`~finetuner.tuner.keras.Sampled` provides such batches. A
    loss with weights of its own can only be trained by :class:`~finetuner.tuner.keras.KerasTuner`.

    Args:
        loss: A loss of this library that takes embeddings and labels and returns one number per batch.

    Raises:
        TypeError: If ``loss`` is not such a loss, or labels are neither integers nor booleans.
        ValueError: If its reduction is ``"none"``, or items have weights.

    Example:
        >>> loss = KerasLoss(TripletLoss(margin=0.5))
        >>> embeddings = tensor([[1.0, 0.0], [0.8, 0.6], [0.0, 1.0], [-0.6, 0.8]])
        >>> round(float(loss(tensor([0, 0, 1, 1]), embeddings)), 4)
        0.075
    """

    def __init__(self, loss: LossLayer):
        if not isinstance(loss, LossLayer):
            raise TypeError(f"loss must be a loss of finetuner.tuner.keras, got {type(loss).__name__}")
        if loss.target_type not in ("relations", "classes") or isinstance(loss, WeightedLoss):
            raise TypeError(f"loss must have no weights and take labels only, got {type(loss).__name__}")
        if getattr(loss, "reduction", None) == "none":
            raise ValueError("loss must return one number per batch, got reduction='none'")
        super().__init__(name=loss.name, dtype="float32")
        self.loss = loss

    def __call__(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> KerasTensor:
        if sample_weight is not None:
            raise ValueError("sample_weight must be None, since a loss of pairs or triplets has no weight of an item")
        dtype = keras.backend.standardize_dtype(y_true.dtype)
        if "int" not in dtype and dtype != "bool":
            raise TypeError(f"labels must be integers or booleans, got {dtype}")
        if len(y_true.shape) == 2 and y_true.shape[1] == 1 and dtype != "bool":
            y_true = y_true[:, 0]
        return self.loss(y_pred, y_true)
