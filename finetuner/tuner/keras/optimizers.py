"""Keras' optimizers: how they are made, and the update of all weights by them."""

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import keras
from keras import ops

from ..base.registry import create
from ..base.training.optimization import Optimization, default_decay, with_option_rate
from ..base.training.parameter_groups import Group, Weight

__all__ = ["OptimizerGroups", "Update", "create_optimizer", "plain_settings"]

# PyTorch's defaults, where Keras has others. Keras adds epsilon to the root of the uncorrected second moment.
DEFAULTS: dict[str, dict[str, float]] = {
    "Adam": {"epsilon": 1e-8},
    "AdamW": {"epsilon": 1e-8},
    "Adamax": {"epsilon": 1e-8},
    "Nadam": {"epsilon": 1e-8},
    "RMSprop": {"rho": 0.99, "epsilon": 1e-8},
    "Adagrad": {"initial_accumulator_value": 0.0, "epsilon": 1e-10},
    "Adadelta": {"rho": 0.9, "epsilon": 1e-6},
}


class OptimizerGroups:
    """One optimizer for each group of weights.

    Attributes:
        optimizers: The optimizers.
        rates: The learning rate of each at the beginning.
        members: The ids of the weights of each; None for all other weights.
        frozen: The number of epochs in which each is not applied.
    """

    def __init__(
        self, optimizers: Sequence[Any], rates: Sequence[Any], members: Sequence[Any], frozen: Sequence[float]
    ):
        self.optimizers, self.rates, self.members, self.frozen = optimizers, list(rates), members, frozen

    @property
    def public(self) -> Any:
        """What users see: the optimizer itself if there is one group, or this object."""
        return self.optimizers[0] if len(self.optimizers) == 1 else self

    @property
    def class_name(self) -> str:
        """The name of the class of the optimizers."""
        return type(self.optimizers[0]).__name__

    @property
    def variables(self) -> list[Any]:
        """The state of all optimizers."""
        return [variable for optimizer in self.optimizers for variable in optimizer.variables]


def create_optimizer(
    kind: str,
    optimizer: Any,
    options: Mapping[str, Any],
    known: Mapping[str, Any],
    weights: Mapping[str, Any],
    groups_of: Callable[[Sequence[Weight], float], list[Group]],
    optimization: Optimization,
) -> OptimizerGroups | None:
    """The optimizers of ``weights``, from a name, class or instance; None if all weights are frozen."""
    if isinstance(optimizer, keras.optimizers.Optimizer):
        create(kind, optimizer, {}, options)
        ids = {id(variable) for variable in weights.values()} if kind == "loss_optimizer" else None
        return OptimizerGroups([optimizer], [None], [ids], [0])
    options = dict(options)
    name = optimizer if isinstance(optimizer, str) else optimizer.__name__
    decay = default_decay(name, options, optimization)
    rate = options.pop("learning_rate", None)
    if weights:
        groups = groups_of([Weight(key, len(variable.shape)) for key, variable in weights.items()], decay)
    else:  # the model is not built yet
        first = optimization.learning_rate
        groups = [Group((), first if isinstance(first, float) else 1e-3, 0.0)]
    if isinstance(rate, keras.optimizers.schedules.LearningRateSchedule):
        groups = [group._replace(learning_rate=rate) for group in groups]
    else:
        groups = with_option_rate(groups, rate)
    if not groups:
        return None
    options = {**DEFAULTS.get(name, {}), **options} if isinstance(optimizer, str) else options
    created = []
    for group in groups:
        own = {**options, "learning_rate": group.learning_rate}
        if "weight_decay" not in options and (group.weight_decay or name == "AdamW"):
            own["weight_decay"] = group.weight_decay
        created.append(create(kind, optimizer, known, own))
    rates = [group.learning_rate if isinstance(group.learning_rate, float) else None for group in groups]
    members: list[Any] = [None]  # all weights of the model
    if len(groups) > 1 or kind == "loss_optimizer":
        members = [{id(weights[key]) for key in group.names} for group in groups]
    return OptimizerGroups(created, rates, members, [group.frozen_epochs for group in groups])


def plain_settings(optimizer: Any) -> dict[str, Any]:
    """The arguments from which an optimizer like this one can be made."""
    optimizer = optimizer.optimizers[0] if isinstance(optimizer, OptimizerGroups) else optimizer
    options = {name: value for name, value in optimizer.get_config().items() if name != "name"}
    if isinstance(options["learning_rate"], dict):  # a schedule
        options["learning_rate"] = keras.saving.deserialize_keras_object(options["learning_rate"])
    names = inspect.signature(type(optimizer).__init__).parameters
    return {name: value for name, value in options.items() if name in names}


class Update(keras.optimizers.Optimizer):
    """The update of all weights: the norm of the gradient, clipping, and one optimizer for each group.

    If the gradient is not finite, no weight and no state of an optimizer changes.

    Args:
        groups: The optimizers of the model's and of the loss's weights.
        clip_norm: The largest norm of the gradient; None for no limit.
        scales: Whether the loss is multiplied by :attr:`scale`, for float16.

    Attributes:
        norm: The norm of the last gradient of all weights, before clipping.
        scale: The factor of the loss.
        frozen: The ids of the optimizers that are not applied.
    """

    def __init__(self, groups: Sequence[OptimizerGroups], clip_norm: float | None, scales: bool):
        super().__init__(learning_rate=0.0)
        self.groups, self.clip_norm, self.scales = list(groups), clip_norm, scales
        self.frozen: set[int] = set()

    def build(self, variables: list[Any]) -> None:
        """Create the state of all optimizers."""
        if self.built:
            return
        self.norm = self.add_variable((), "zeros", "float32", name="norm")
        self.scale = self.add_variable((), "ones", "float32", name="scale")
        for optimizer, own in self.shares(variables):
            if not optimizer.built and own:
                optimizer.build([variables[i] for i in own])
        super().build(variables)

    def shares(self, variables: Sequence[Any]) -> list[tuple[Any, list[int]]]:
        """Each optimizer with the positions of its variables."""
        positions: dict[int, tuple[Any, list[int]]] = {}
        for position, variable in enumerate(variables):
            optimizer = self.optimizer_of(variable)
            positions.setdefault(id(optimizer), (optimizer, []))[1].append(position)
        return list(positions.values())

    def optimizer_of(self, variable: Any) -> Any:
        """The optimizer of a variable: the one whose group has it, or the first without a list of its variables."""
        rest = None
        for group in self.groups:
            for optimizer, members in zip(group.optimizers, group.members, strict=True):
                if members is not None and id(variable) in members:
                    return optimizer
                rest = optimizer if members is None and rest is None else rest
        return rest

    @property
    def variables(self) -> list[Any]:
        """The state of all optimizers, and that of this object."""
        return [*self._variables, *(variable for group in self.groups for variable in group.variables)]

    def scale_loss(self, loss: Any) -> Any:
        """The loss times the scale."""
        return loss * self.scale if self.scales else loss

    def apply(self, grads: Sequence[Any], trainable_variables: Any = None) -> None:
        """Update the weights by their gradients, if these are finite."""
        variables = list(self._trainable_variables if trainable_variables is None else trainable_variables)
        if not self.built:
            self.build(variables)
        applied = [
            (optimizer, [i for i in own if grads[i] is not None])
            for optimizer, own in self.shares(variables)
            if id(optimizer) not in self.frozen
        ]
        dense = {i: ops.convert_to_tensor(grads[i]) for _, own in applied for i in own}
        if self.scales:
            dense = {i: gradient / ops.cast(self.scale, gradient.dtype) for i, gradient in dense.items()}
        squares = [ops.sum(ops.square(ops.cast(gradient, "float32"))) for gradient in dense.values()]
        norm = ops.sqrt(sum(squares, start=ops.zeros((), "float32")))
        self.norm.assign(norm)
        if self.clip_norm is not None:
            factor = ops.minimum(1.0, self.clip_norm / (norm + 1e-6))
            dense = {i: gradient * ops.cast(factor, gradient.dtype) for i, gradient in dense.items()}

        def update() -> None:
            for optimizer, own in applied:
                if own:
                    optimizer.apply([dense[i] for i in own], [variables[i] for i in own])

        changed = [*variables, *(variable for group in self.groups for variable in group.variables)]
        if_finite(ops.isfinite(norm), update, changed)


def if_finite(finite: Any, update: Callable[[], None], variables: Sequence[Any]) -> None:
    """Call ``update`` where ``finite`` is true, and otherwise leave ``variables`` as they are."""
    engine = keras.backend.backend()
    if engine == "torch" and finite.device.type == "cpu":
        if finite:
            update()
    elif engine == "tensorflow":
        ops.cond(finite, update, lambda: None)
    else:
        before = [ops.convert_to_tensor(variable) for variable in variables]
        update()
        for variable, old in zip(variables, before, strict=True):
            variable.assign(ops.where(finite, variable.value, old))
