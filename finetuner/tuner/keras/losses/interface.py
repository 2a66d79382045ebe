"""What all losses share, for Keras."""

import keras
import numpy as np
from keras import KerasTensor, ops

from ...base.losses import interface as base
from ..interop import LossLayer

__all__ = ["Loss", "WeightedLoss", "on_host"]


class Loss(base.Loss, LossLayer):
    pass


class WeightedLoss(base.WeightedLoss, Loss):
    def make_weights(self, arrays: dict[str, np.ndarray]) -> None:
        for name, array in arrays.items():
            if getattr(self, name, None) is not None:
                delattr(self, name)  # or the layer would go on to train it
            weight = self.add_weight(
                shape=array.shape,
                initializer=lambda shape, dtype, array=array: ops.convert_to_tensor(array, dtype),
                dtype="float32",
                name=name,
            )
            setattr(self, name, weight)

    def weights_on_host(self) -> dict[str, np.ndarray]:
        return {weight.name: np.array(ops.convert_to_numpy(weight)) for weight in self.weights}


def on_host(labels: KerasTensor) -> np.ndarray | None:
    """Labels as an array, if they can be had without waiting for a device or stopping a compiler; else None."""
    engine = keras.backend.backend()
    if engine == "jax":
        import jax

        known = not isinstance(labels, jax.core.Tracer) and {one.platform for one in labels.devices()} == {"cpu"}
    elif engine == "torch":
        import torch

        known = labels.device.type == "cpu" and not torch.compiler.is_compiling()
    else:
        known = hasattr(labels, "numpy") and "CPU" in labels.device
    return ops.convert_to_numpy(labels) if known else None
