"""The Keras classes that losses and miners are based on."""

from typing import Any

import numpy as np
from keras import KerasTensor, ops, random

from ..base.losses import loss as base
from .interop import Configured, LossLayer

__all__ = ["Component", "Loss", "WeightedLoss"]


class Component(Configured):
    """Base class of miners, which are not layers."""


class Loss(base.Loss, LossLayer):
    @staticmethod
    def is_tensor(x: Any) -> bool:
        return hasattr(x, "shape") and hasattr(x, "dtype")


class WeightedLoss(base.WeightedLoss, Loss):
    def make_weights(self, arrays: dict[str, np.ndarray]) -> None:
        for name, array in arrays.items():
            if getattr(self, name, None) is not None:
                delattr(self, name)  # else the layer would go on to train it
            weight = self.add_weight(
                shape=array.shape,
                initializer=lambda shape, dtype, array=array: ops.convert_to_tensor(array, dtype),
                dtype="float32",
                name=name,
            )
            setattr(self, name, weight)

    def create_generator(self) -> None:
        self.generator = random.SeedGenerator(0)  # which a tuner seeds in each step

    def random_uniform(self, like: KerasTensor) -> KerasTensor:
        return random.uniform(ops.shape(like), dtype="float32", seed=self.generator)

    def remove_weights(self) -> None:
        for name in self.weights_on_host():
            delattr(self, name)  # else the layer would go on to train it
            setattr(self, name, None)
        self.in_features = self.num_classes = None

    def weights_on_host(self) -> dict[str, np.ndarray]:
        return {weight.name: np.array(ops.convert_to_numpy(weight)) for weight in self.weights}
