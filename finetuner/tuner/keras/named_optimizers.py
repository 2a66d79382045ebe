"""The optimizers that Keras adds epsilon to in another place than PyTorch, with PyTorch's formula.

Keras folds the bias correction of Adam into the learning rate. This divides its epsilon by ``sqrt(1 - beta_2**t)``, so
it is 32 times as large in the first step. Keras adds the epsilon of RMSprop and Adagrad below the root.
"""

from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

__all__ = ["NAMED_OPTIMIZERS", "Adagrad", "Adam", "AdamW", "Adamax", "RMSprop"]


class CorrectedEpsilon:
    """Multiplies epsilon by the square root of the bias correction while an update is computed."""

    def apply(self: Any, grads: Sequence[Any], trainable_variables: Any = None) -> Any:
        """Update the variables by their gradients."""
        variables = trainable_variables or self._trainable_variables
        dtype, epsilon = variables[0].dtype, self.epsilon
        power = ops.power(ops.cast(self.beta_2, dtype), ops.cast(self.iterations + 1, dtype))
        self.epsilon = epsilon * ops.sqrt(1 - power)
        try:
            return super().apply(grads, trainable_variables)  # type: ignore[misc]
        finally:
            self.epsilon = epsilon


def made_class(cls: Any) -> Any:
    """The class of the optimizers that ``cls`` makes.

    On PyTorch, Keras replaces two classes by subclasses that update all variables at once, but not their subclasses. On
    JAX an instance would start the devices, which ``keras.distribution.initialize`` has to do.
    """
    return type(cls()) if keras.backend.backend() == "torch" else cls


class Adam(CorrectedEpsilon, made_class(keras.optimizers.Adam)):  # type: ignore[misc]
    """Adam: ``rate * m / (1 - beta_1**t) / (sqrt(v / (1 - beta_2**t)) + epsilon)``."""


class AdamW(CorrectedEpsilon, made_class(keras.optimizers.AdamW)):  # type: ignore[misc]
    """Adam with decoupled weight decay."""


class Adamax(keras.optimizers.Adamax):
    """Adamax: ``rate * m / (1 - beta_1**t) / u`` with ``u = max(beta_2 * u, abs(g) + epsilon)``."""

    def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
        """Update a variable by its gradient."""
        gradient, rate = ops.cast(gradient, variable.dtype), ops.cast(learning_rate, variable.dtype)
        index = self._get_variable_index(variable)
        m, u = self._m[index], self._u[index]
        power = ops.power(ops.cast(self.beta_1, variable.dtype), ops.cast(self.iterations + 1, variable.dtype))
        self.assign_add(m, (gradient - m) * (1 - self.beta_1))
        self.assign(u, ops.maximum(self.beta_2 * u, ops.abs(gradient) + self.epsilon))
        self.assign_sub(variable, rate * m / ((1 - power) * u))


class RMSprop(keras.optimizers.RMSprop):
    """RMSprop: ``rate * g / (sqrt(v) + epsilon)``."""

    def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
        """Update a variable by its gradient."""
        gradient, rate = ops.cast(gradient, variable.dtype), ops.cast(learning_rate, variable.dtype)
        index = self._get_variable_index(variable)
        velocity = self._velocities[index]
        self.assign(velocity, self.rho * velocity + (1 - self.rho) * ops.square(gradient))
        variance = ops.convert_to_tensor(velocity)
        if self.centered:
            average = self._average_gradients[index]
            self.assign(average, self.rho * average + (1 - self.rho) * gradient)
            variance = ops.maximum(variance - ops.square(average), 0.0)  # rounding can make it negative
        increment = rate * gradient / (ops.sqrt(variance) + self.epsilon)
        if self.momentum > 0:
            momentum = self._momentums[index]
            self.assign(momentum, self.momentum * momentum + increment)
            increment = ops.convert_to_tensor(momentum)
        self.assign_sub(variable, increment)


class Adagrad(keras.optimizers.Adagrad):
    """Adagrad: ``rate * g / (sqrt(sum) + epsilon)``."""

    def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
        """Update a variable by its gradient."""
        gradient, rate = ops.cast(gradient, variable.dtype), ops.cast(learning_rate, variable.dtype)
        accumulator = self._accumulators[self._get_variable_index(variable)]
        self.assign_add(accumulator, ops.square(gradient))
        self.assign_sub(variable, rate * gradient / (ops.sqrt(accumulator) + self.epsilon))


NAMED_OPTIMIZERS = {cls.__name__: cls for cls in (Adagrad, Adam, AdamW, Adamax, RMSprop)}
