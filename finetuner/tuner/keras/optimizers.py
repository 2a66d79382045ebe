"""Keras' optimizers: how they are made, and the update of all weights by them."""

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import keras
import numpy as np
from keras import ops
from keras.optimizers.schedules import LearningRateSchedule

from ..base.registry import create
from ..base.training.optimization import Optimization, default_decay, with_option_rate
from ..base.training.parameter_groups import Group, Weight
from .gradients import dense, global_norm
from .named_optimizers import NAMED_OPTIMIZERS

__all__ = ["OptimizerGroups", "Update", "create_optimizer", "plain_settings"]

# PyTorch's defaults, where Keras has others.
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
        members: The weights of each; None if they are not known yet.
        base_rates: The learning rate of each at the beginning; None if the user's instance has its own.
        rates: The present learning rate of each, in the same form.
    """

    def __init__(self, optimizers: Sequence[Any], members: Sequence[Any], rates: Sequence[float | None]):
        self.optimizers, self.members = list(optimizers), list(members)
        self.base_rates, self.rates = list(rates), list(rates)

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

    @property
    def built(self) -> bool:
        """Whether all optimizers have their state."""
        return all(optimizer.built for optimizer in self.optimizers)

    def build(self, weights: Sequence[Any]) -> None:
        """Create the state of all optimizers. ``weights`` are those of an optimizer whose weights are not known."""
        for i, optimizer in enumerate(self.optimizers):
            if not optimizer.built:
                optimizer.build(list(weights if self.members[i] is None else self.members[i]))
            if self.members[i] is None:
                self.members[i] = list(optimizer._trainable_variables)

    def add(self, other: "OptimizerGroups") -> None:
        """Take over optimizers for weights that no optimizer has yet; those of other weights are left out."""
        held = {id(weight) for members in self.members for weight in members}
        for i, optimizer in enumerate(other.optimizers):
            new = [weight for weight in other.members[i] if id(weight) not in held]
            if new:
                self.optimizers.append(optimizer)
                self.members.append(new)
                self.base_rates.append(other.base_rates[i])
                self.rates.append(other.rates[i])

    def current_rates(self) -> list[float]:
        """The present learning rate of each optimizer, also if the user has set another one."""
        values = [float(ops.convert_to_numpy(optimizer.learning_rate)) for optimizer in self.optimizers]
        return [
            value if rate is None or value != as_variable(rate) else rate
            for value, rate in zip(values, self.rates, strict=True)
        ]

    def set_rates(self, factor: float) -> None:
        """Multiply the learning rates at the beginning by ``factor``."""
        self.base_rates = [
            current if rate is None else rate
            for current, rate in zip(self.current_rates(), self.base_rates, strict=True)
        ]
        self.rates = [rate * factor for rate in self.base_rates]  # type: ignore[operator]
        self.assign_rates()

    def assign_rates(self) -> None:
        """Give the optimizers the present learning rates, except those that have a schedule of Keras."""
        for optimizer, rate in zip(self.optimizers, self.rates, strict=True):
            if rate is not None and not has_schedule(optimizer):
                optimizer.learning_rate = rate


def as_variable(rate: float) -> float:
    """A number as a float32 variable has it."""
    return float(np.float32(rate))


def has_schedule(optimizer: Any) -> bool:
    """Whether the learning rate of an optimizer is a schedule of Keras."""
    return isinstance(getattr(optimizer, "_learning_rate", None), LearningRateSchedule)


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
        check_instance(optimizer, optimization)
        return OptimizerGroups([optimizer], [list(weights.values()) if kind == "loss_optimizer" else None], [None])
    options = dict(options)
    name = optimizer if isinstance(optimizer, str) else optimizer.__name__
    decay = default_decay(name, options, optimization)
    rate = options.pop("learning_rate", None)
    if weights:
        groups = groups_of([Weight(key, len(variable.shape)) for key, variable in weights.items()], decay)
    else:  # the model is not built yet
        first = optimization.learning_rate
        groups = [Group((), first if isinstance(first, float) else 1e-3, 0.0)]
    own_schedule = isinstance(rate, LearningRateSchedule)
    groups = groups if own_schedule else with_option_rate(groups, rate)
    if not groups:
        return None
    if isinstance(optimizer, str):
        if "epsilon" not in options:  # an epsilon that is given has the meaning that Keras documents
            known = {**known, **NAMED_OPTIMIZERS}
        options = {**DEFAULTS.get(name, {}), **options}
    created = []
    for group in groups:
        arguments = {**options, "learning_rate": rate if own_schedule else group.learning_rate}
        if "weight_decay" not in options and (group.weight_decay or name == "AdamW"):
            arguments["weight_decay"] = group.weight_decay
        created.append(create(kind, optimizer, known, arguments))
        check_instance(created[-1], optimization)
    members = [[weights[key] for key in group.names] for group in groups]
    return OptimizerGroups(created, members, [None if own_schedule else group.learning_rate for group in groups])


def check_instance(optimizer: Any, optimization: Optimization) -> None:
    """Raise ``ValueError`` if an optimizer wraps others, or if its learning rate cannot be set and must be."""
    if isinstance(optimizer, keras.optimizers.LossScaleOptimizer | keras.optimizers.MultiOptimizer):
        raise ValueError(
            f"optimizer must be a plain optimizer of Keras, got {type(optimizer).__name__}; precision='fp16' scales "
            "the loss, and a mapping as learning_rate has several rates"
        )
    if optimization.sets_rates and has_schedule(optimizer):
        raise ValueError("schedule and warmup must be left out with an optimizer whose learning rate is a schedule")


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

    If the gradient is not finite, no weight and no state of an optimizer changes. An optimizer whose weights are all
    frozen is not applied.

    Args:
        groups: The optimizers of the model's and of the loss's weights, with their state.
        clip_norm: The largest norm of the gradient; None for no limit.
        scales: Whether the loss is multiplied by :attr:`scale`, for float16.

    Attributes:
        norm: The norm of the last gradient of all weights, before clipping.
        scale: The factor of the loss.
    """

    def __init__(self, groups: Sequence[OptimizerGroups], clip_norm: float | None, scales: bool):
        super().__init__(learning_rate=0.0)
        self.groups, self.clip_norm, self.scales = tuple(groups), clip_norm, scales
        self.slots: list[Any] = []
        self.owner: dict[int, Any] = {}  # by the id of a weight, its optimizer

    def build(self, variables: list[Any]) -> None:
        """Find the optimizer of each variable."""
        if self.built:
            return
        self.norm = self.add_variable((), "zeros", "float32", name="norm")
        self.scale = self.add_variable((), "ones", "float32", name="scale")
        self.slots = [variable for group in self.groups for variable in group.variables]
        self.owner |= {
            id(weight): optimizer
            for group in self.groups
            for optimizer, members in zip(group.optimizers, group.members, strict=True)
            for weight in members
        }
        lost = [variable.path for variable in variables if id(variable) not in self.owner]
        if lost:
            raise ValueError(f"the optimizer must have all weights that are trained, and does not have {lost[0]}")
        super().build(variables)

    @property
    def variables(self) -> list[Any]:
        """The state of all optimizers, and what of this object a step uses."""
        own = [self.norm, *([self.scale] if self.scales else [])] if self.built else []
        return [*own, *self.slots]

    def scale_loss(self, loss: Any) -> Any:
        """The loss times the scale."""
        return loss * self.scale if self.scales else loss

    def apply(self, grads: Sequence[Any], trainable_variables: Any = None) -> None:
        """Update the weights by their gradients, if these are finite."""
        variables = list(self._trainable_variables if trainable_variables is None else trainable_variables)
        pairs = [(g, v) for g, v in zip(grads, variables, strict=True) if g is not None]
        gradients = dense([gradient for gradient, _ in pairs])
        if self.scales:
            gradients = [gradient / ops.cast(self.scale, gradient.dtype) for gradient in gradients]
        norm = global_norm(gradients)
        self.norm.assign(norm)
        if self.clip_norm is not None:
            factor = ops.minimum(1.0, self.clip_norm / (norm + 1e-6))
            gradients = [gradient * ops.cast(factor, gradient.dtype) for gradient in gradients]
        shares: dict[int, tuple[Any, list[Any], list[Any]]] = {}
        for gradient, (_, variable) in zip(gradients, pairs, strict=True):
            optimizer = self.owner[id(variable)]
            _, own_gradients, own = shares.setdefault(id(optimizer), (optimizer, [], []))
            own_gradients.append(gradient)
            own.append(variable)

        def update() -> None:
            for optimizer, own_gradients, own in shares.values():
                optimizer.apply(own_gradients, own)

        if_finite(ops.isfinite(norm), update, [*variables, *self.slots])


def if_finite(finite: Any, update: Callable[[], None], variables: Sequence[Any]) -> None:
    """Call ``update`` where ``finite`` is true, and otherwise leave ``variables`` as they are."""
    engine = keras.backend.backend()
    if engine == "torch":
        if finite:
            update()
    elif engine == "tensorflow":
        ops.cond(finite, update, lambda: None)
    else:
        before = [ops.convert_to_tensor(variable) for variable in variables]
        update()
        for variable, old in zip(variables, before, strict=True):
            variable.assign(ops.where(finite, variable.value, old))
