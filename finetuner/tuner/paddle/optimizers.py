"""PaddlePaddle's optimizers: how they are made, and what a step does before them."""

import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import paddle
from paddle.nn.clip import merge_selected_rows
from paddle.optimizer.lr import LRScheduler

from ..base.registry import create
from ..base.training.framework import check_same_shapes
from ..base.training.optimization import Optimization, default_decay, with_option_rate
from ..base.training.parameter_groups import Group, Weight
from .framework import copy_to_host
from .models import named_weights

__all__ = [
    "add_weights",
    "check_scheduler",
    "create_optimizer",
    "create_slots",
    "decay_weights",
    "gradient_norm",
    "load_slots",
    "optimizer_covers",
    "optimizer_groups",
    "optimizer_params",
    "params_by_position",
    "plain_settings",
    "scale_gradients",
    "take_step",
    "tensors_and_numbers",
]

# What Paddle's optimizers have otherwise than PyTorch's. RMSProp adds epsilon under the root: there 1e-16 is as 1e-8.
DEFAULTS: dict[str, dict[str, Any]] = {
    "Adagrad": {"epsilon": 1e-10},
    "RMSProp": {"rho": 0.99, "epsilon": 1e-16},
    "Adadelta": {"rho": 0.9},
    "Rprop": {"learning_rate_range": (1e-6, 50)},
}


def create_optimizer(
    kind: str,
    optimizer: Any,
    options: Mapping[str, Any],
    known: Mapping[str, Any],
    weights: Mapping[str, paddle.Tensor],
    groups_of: Callable[[Sequence[Weight], float], list[Group]],
    optimization: Optimization,
) -> paddle.optimizer.Optimizer | None:
    """The optimizer of ``weights``, from a name, class or instance; None if all weights are frozen."""
    if isinstance(optimizer, paddle.optimizer.Optimizer):
        return create(kind, optimizer, {}, options)
    options = {**DEFAULTS.get(optimizer, {}), **options} if isinstance(optimizer, str) else dict(options)
    name = optimizer if isinstance(optimizer, str) else optimizer.__name__
    decay = default_decay(name, options, optimization)
    rate = options.pop("learning_rate", None)
    scheduled = isinstance(rate, LRScheduler)

    def groups_of_tensors(weights: Mapping[str, paddle.Tensor]) -> list[Group]:
        groups = groups_of([Weight(key, p.ndim) for key, p in weights.items()], decay)
        return with_option_rate(groups, 1.0 if scheduled else rate)

    groups = groups_of_tensors(weights)
    if not groups:
        return None
    decaying: set[str] = set()
    decays_itself = name == "AdamW" and not options.keys() & {"weight_decay", "apply_decay_param_fun"}
    if decays_itself:
        options["weight_decay"] = max(group.weight_decay for group in groups)
        options["apply_decay_param_fun"] = decaying.__contains__
    options["learning_rate"] = rate if scheduled else groups[0].learning_rate
    options["parameters"] = [weights[key] for group in groups for key in group.names]
    created = create(kind, optimizer, known, options)
    created.groups_of, created.decaying = groups_of_tensors, decaying if decays_itself else None
    created.first_rate = groups[0].learning_rate
    add_weights(created, weights)
    return created


def add_weights(optimizer: paddle.optimizer.Optimizer, weights: Mapping[str, paddle.Tensor]) -> None:
    """Give an optimizer that was made by name those of ``weights`` that it is to train and does not have yet."""
    held, groups = {id(p) for p in optimizer_params(optimizer)}, optimizer.groups_of(weights)
    optimizer.groups = []
    for group in groups:
        members = [weights[key] for key in group.names]
        optimizer._parameter_list += [p for p in members if id(p) not in held]
        decay = group.weight_decay
        if optimizer.decaying is not None:  # by AdamW itself
            optimizer.decaying.update(p.name for p in members if decay)
            decay = 0.0
        factor = group.learning_rate / optimizer.first_rate
        optimizer.groups.append({"params": members, "learning_rate": factor, "decay_by_tuner": decay})


def check_scheduler(optimization: Optimization, optimizer: paddle.optimizer.Optimizer) -> None:
    """Raise ``ValueError`` if the scheduler is one of another optimizer, or waits for a metric."""
    scheduler, own = optimization.schedule, optimizer._learning_rate
    if not optimization.has_native_schedule:
        if optimization.sets_rates and isinstance(own, LRScheduler):
            raise ValueError(f"schedule must be the scheduler of the optimizer, {type(own).__name__}, or 'constant'")
        return
    if own is not scheduler:
        raise ValueError("schedule must be a scheduler of the optimizer instance, and is one of another")
    if "metrics" in inspect.signature(scheduler.step).parameters:
        raise ValueError(f"schedule must be a scheduler that needs no metric, got {type(scheduler).__name__}")


def optimizer_groups(optimizer: paddle.optimizer.Optimizer) -> list[dict[str, Any]]:
    """The parameter groups of an optimizer. A group's learning rate is a factor of the optimizer's."""
    if hasattr(optimizer, "groups"):
        return optimizer.groups
    if isinstance(optimizer._param_groups[0], dict):
        return optimizer._param_groups
    return [{"params": optimizer._param_groups}]


def optimizer_params(optimizer: paddle.optimizer.Optimizer) -> list[paddle.Tensor]:
    """The parameters that ``optimizer`` trains."""
    groups = [one if isinstance(one, dict) else {"params": [one]} for one in optimizer._param_groups]
    return [p for group in groups for p in group["params"]]


def optimizer_covers(optimizer: paddle.optimizer.Optimizer, weights: Iterable[paddle.Tensor]) -> bool:
    """Whether ``optimizer`` trains all of ``weights``."""
    return {id(p) for p in optimizer_params(optimizer)}.issuperset(map(id, weights))


def plain_settings(optimizer: paddle.optimizer.Optimizer) -> dict[str, Any]:
    """The arguments from which an optimizer like this one can be made."""
    # Paddle keeps only some of the arguments, each in its own attribute.
    names = inspect.signature(type(optimizer)).parameters
    kept = {name: getattr(optimizer, f"_{name}", None) for name in names}
    options = {name: value for name, value in kept.items() if isinstance(value, bool | int | float)}
    return {**options, "learning_rate": optimizer.get_lr()}


@paddle.no_grad()
def scale_gradients(parameters: Sequence[paddle.Tensor], factor: Any) -> None:
    """Multiply all gradients by a number or a tensor."""
    for p in parameters:
        values_of(p).scale_(factor)


@paddle.no_grad()
def gradient_norm(parameters: Sequence[paddle.Tensor], device: str) -> paddle.Tensor:
    """The Euclidean norm of all gradients, in float32 at least."""
    gradients = [values_of(p) for p in parameters]
    if not gradients:
        return paddle.to_tensor(0.0, place=device)
    half = (paddle.bfloat16, paddle.float16)
    gradients = [g.astype("float32") if g.dtype in half else g for g in gradients]
    squares = [(g * g).sum() for g in gradients]  # paddle.linalg.norm takes 30 times as long
    return paddle.stack([square.astype(squares[0].dtype) for square in squares]).sum().sqrt()


def values_of(p: paddle.Tensor) -> paddle.Tensor:
    """The numbers of a gradient, which may be a sparse one."""
    gradient = p.grad
    if gradient.is_selected_rows():
        p.grad = merge_selected_rows(gradient)  # a copy
        return p.grad._get_tensor_from_selected_rows()
    return gradient


@paddle.no_grad()
def decay_weights(optimizer: paddle.optimizer.Optimizer) -> None:
    """Decoupled weight decay, for optimizers that do not have it themselves."""
    for group in optimizer_groups(optimizer):
        if group.get("decay_by_tuner"):
            rate = optimizer.get_lr() * group["learning_rate"]
            for p in group["params"]:
                if p.grad is not None:
                    p.scale_(1.0 - rate * p.optimize_attr["learning_rate"] * group["decay_by_tuner"])


def take_step(optimizer: paddle.optimizer.Optimizer) -> None:
    """Call ``step`` with the learning rates of the groups, which Paddle reads from the weights."""
    before = []
    for group in getattr(optimizer, "groups", []):
        if group["learning_rate"] != 1.0:
            for p in group["params"]:
                before.append((p, p.optimize_attr["learning_rate"]))
                p.optimize_attr["learning_rate"] *= group["learning_rate"]
    try:
        optimizer.step()
    finally:
        for p, rate in before:
            p.optimize_attr["learning_rate"] = rate


def tensors_and_numbers(
    state: Mapping[str, Any], parameters: Mapping[str, paddle.Tensor]
) -> tuple[dict[str, paddle.Tensor], dict[str, Any]]:
    """The slots of an optimizer, by the index of the weight and the name of the slot."""
    tensors: dict[str, paddle.Tensor] = {}
    numbers: dict[str, Any] = {}
    for name, value in state.items():
        if isinstance(value, paddle.Tensor):
            tensors[slot_name(name, parameters)] = copy_to_host(value)
        else:
            numbers[name] = value
    return tensors, numbers


def slot_name(name: str, parameters: Mapping[str, paddle.Tensor]) -> str:
    """The name of an optimizer slot on disk, with the position of its parameter.

    Paddle's names depend on how many layers and optimizers the process has created before: ``linear_3.w_0_moment1_2``.
    """
    owners = [(p.name, position) for position, p in parameters.items() if name.startswith(f"{p.name}_")]
    if not owners:
        return name
    owner, position = max(owners)  # one name may be the beginning of another
    return f"{position}.{name.removeprefix(f'{owner}_').rpartition('_')[0]}"


def create_slots(optimizer: paddle.optimizer.Optimizer, parameters: Sequence[paddle.Tensor]) -> None:
    """Create the slots of these parameters, and no others, by a step without effect. They have no names before."""
    optimizer._accumulators.clear()
    optimizer._already_create_accumulator.clear()
    optimizer._accumulators_holder = {}
    optimizer.clear_grad(set_to_zero=False)
    before = [p.detach().clone() for p in parameters]
    for p in parameters:
        p.grad = paddle.zeros_like(p)
    if parameters:
        optimizer.step()
        optimizer.clear_grad(set_to_zero=False)
    for p, value in zip(parameters, before, strict=True):
        p.set_value(value)


def params_by_position(model: Any, loss: Any) -> dict[str, paddle.Tensor]:
    """The parameters of the model, then those of the loss, by position."""
    parameters = [*named_weights(model).values(), *named_weights(loss).values()]
    return {str(position): p for position, p in enumerate(parameters)}


def load_slots(
    optimizer: paddle.optimizer.Optimizer, state: Mapping[str, Any], parameters: Mapping[str, paddle.Tensor]
) -> None:
    """Set all slots of an optimizer; raise ``ValueError`` if others were saved."""
    created, _ = tensors_and_numbers(optimizer.state_dict(), parameters)
    saved = {name.partition(".")[0] for name, value in state.items() if isinstance(value, paddle.Tensor)}
    if {name.partition(".")[0] for name in created} != saved:
        create_slots(optimizer, [p for position, p in parameters.items() if position in saved])
    own = optimizer.state_dict()
    names = {name: slot_name(name, parameters) for name in own}
    if set(names.values()) != state.keys():
        raise ValueError(
            "the optimizer must have the options of the one that was saved, as their states differ in "
            f"{', '.join(sorted(state.keys() ^ set(names.values())))}"
        )
    tensors = {names[name]: value for name, value in own.items() if isinstance(value, paddle.Tensor)}
    check_same_shapes(
        "the slots of the optimizer must be those of the same weights", tensors, {k: state[k] for k in tensors}
    )
    optimizer.set_state_dict({name: state[place] for name, place in names.items()})
