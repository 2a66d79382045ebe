"""What Keras asks of things of its own: a config to be saved by, labels as they come, a place in ``compile``."""

from collections.abc import Mapping
from typing import Any, Self

import keras
import numpy as np
from keras import KerasTensor, layers, ops

from ..base.losses.interface import WeightedLoss
from ..base.registry import options_of

__all__ = ["Configured", "KerasLoss", "LossLayer", "PlainLayer"]

PACKAGE = "finetuner"  # that Keras' saved files know our classes by


class Configured:
    """Is saved by its arguments, and made of them again, in Keras' safe mode too."""

    def __init_subclass__(cls, **kwargs: Any):
        super().__init_subclass__(**kwargs)
        keras.saving.register_keras_serializable(PACKAGE)(cls)

    def get_config(self) -> dict[str, Any]:
        """The arguments, and a layer's name."""
        config = {name: plain(getattr(self, name)) for name in options_of(type(self))}
        return {**config, "name": self.name} if isinstance(self, layers.Layer) else config

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Self:
        """The thing whose :meth:`get_config` this is."""
        arguments = {key: restored(value) if isinstance(value, dict) else value for key, value in config.items()}
        name = arguments.pop("name", None)
        thing = cls(**arguments)
        if isinstance(thing, layers.Layer):
            thing.name = name
        return thing


def plain(value: Any) -> Any:
    """An argument as a file can hold it: a mapping by its items, since the keys of JSON's are strings."""
    if isinstance(value, Mapping):
        return {"items": [list(item) for item in value.items()]}
    return list(value) if isinstance(value, list | tuple) else value


def restored(value: dict[str, Any]) -> Any:
    """What :func:`plain` or Keras made a dictionary of."""
    return dict(value["items"]) if value.keys() == {"items"} else keras.saving.deserialize_keras_object(value)


class PlainLayer(Configured, layers.Layer):
    """A layer that is given its inputs in the type that they are in, whatever Keras' policy of types is."""

    def __init__(self) -> None:
        super().__init__(dtype="float32", autocast=False)

    def compute_mask(self, inputs: Any, previous_mask: Any = None) -> None:
        """A mask that a layer before has made ends here."""
        return


class LossLayer(PlainLayer):
    """A layer from embeddings and what is known of them to a loss; makes sure that the engine can hold the labels.

    It is built from the start: weights of a loss are made when their sizes are known, and may grow.
    """

    def __init__(self) -> None:
        super().__init__()
        self.built = True

    def __call__(self, *args: Any, **kwargs: Any) -> KerasTensor:
        for name, value in (*zip(self.call_signature_parameters, args, strict=False), *kwargs.items()):
            check_held(name, value)
        return super().__call__(*args, **kwargs)


def check_held(name: str, labels: Any) -> None:
    """Raise ``ValueError`` if an array's integers are too large for the engine, which would wrap them round."""
    if not isinstance(labels, np.ndarray) or labels.dtype not in (np.int64, np.uint64):
        return
    held = ops.convert_to_numpy(ops.convert_to_tensor(labels))
    if not np.array_equal(held, labels):
        first = labels[held != labels].flat[0]
        raise ValueError(
            f"{name} must be held by Keras' {keras.backend.backend()} engine, whose integers are {held.dtype}, got "
            f"{first}; np.unique({name}, return_inverse=True)[1] numbers them from 0"
        )


class KerasLoss(Configured, keras.losses.Loss):
    """A loss of ours as Keras' own training takes it: ``model.compile("adam", loss=KerasLoss(TripletLoss()))``.

    Labels reach the loss as they are, ``[N]`` or ``[N, 1]`` integers or ``[N, 2]`` sessions and roles; Keras'
    own losses turn them into float32, which cannot tell integers above 2**24 apart. The JAX engine has no
    64-bit integers unless ``jax_enable_x64`` is set, and ``fit`` hands it labels modulo 2**32: number them from 0
    with ``np.unique(labels, return_inverse=True)[1]`` if they spread further.

    A batch has to hold items that belong together: :class:`~finetuner.tuner.keras.Sampled` hands ``fit`` such, with
    labels that every engine can hold. A loss with weights of its own is trained by
    :class:`~finetuner.tuner.keras.KerasTuner` alone.

    Args:
        loss: one of ours that takes embeddings and labels, and gives one number a batch.

    Raises:
        TypeError: if ``loss`` is none of these, or labels are not integers.
        ValueError: if its reduction is ``"none"``, or items are given weights.
    """

    def __init__(self, loss: LossLayer):
        if not isinstance(loss, LossLayer):
            raise TypeError(f"loss must be a loss of finetuner.tuner.keras, got {type(loss).__name__}")
        if loss.takes not in ("relations", "classes") or isinstance(loss, WeightedLoss):
            raise TypeError(f"loss must be one without weights that takes labels alone, got {type(loss).__name__}")
        if getattr(loss, "reduction", None) == "none":
            raise ValueError("loss must give one number a batch, got reduction='none'")
        super().__init__(name=loss.name, dtype="float32")
        self.loss = loss

    def __call__(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> KerasTensor:
        if sample_weight is not None:
            raise ValueError("sample_weight must be None, since a loss of pairs or triplets has no weight of an item")
        dtype = keras.backend.standardize_dtype(y_true.dtype)
        if "int" not in dtype:
            raise TypeError(f"labels must be integers, got {dtype}")
        if len(y_true.shape) == 2 and y_true.shape[1] == 1:
            y_true = y_true[:, 0]
        return self.loss(y_pred, y_true)
