"""PyTorch's optimizers: how they are made, and what a step does before them."""

import copy
import inspect
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import nn

from ..base.registry import create
from ..base.training.optimization import Optimization, default_decay, with_option_rate
from ..base.training.parameter_groups import Group, Weight
from .framework import copy_to_host

__all__ = [
    "add_weights",
    "check_saved_state",
    "check_scheduler",
    "create_optimizer",
    "decay_weights",
    "gradient_norm",
    "optimizer_covers",
    "optimizer_params",
    "plain_settings",
    "scale_gradients",
    "tensors_and_numbers",
]

FUSED = (torch.optim.Adam, torch.optim.AdamW)  # several times as fast, for the same numbers
FUSED_DEVICES = ("cpu", "cuda", "mps", "xpu")


def create_optimizer(
    kind: str,
    optimizer: Any,
    options: Mapping[str, Any],
    known: Mapping[str, Any],
    weights: Mapping[str, nn.Parameter],
    groups_of: Callable[[Sequence[Weight], float], list[Group]],
    optimization: Optimization,
) -> torch.optim.Optimizer | None:
    """The optimizer of ``weights``, from a name, class or instance; None if all weights are frozen."""
    if isinstance(optimizer, torch.optim.Optimizer):
        return create(kind, optimizer, {}, options)
    options = dict(options)
    name = optimizer if isinstance(optimizer, str) else optimizer.__name__
    decay = default_decay(name, options, optimization)
    rate = options.pop("learning_rate", options.pop("lr", None))
    groups = with_option_rate(groups_of([Weight(key, p.ndim) for key, p in weights.items()], decay), rate)
    if not groups:
        return None
    by_itself = name == "AdamW" and "weight_decay" not in options
    params = [group_options(group, weights, by_itself) for group in groups]
    devices = {p.device.type for p in weights.values()}
    cls = known.get(optimizer) if isinstance(optimizer, str) else optimizer
    if cls in FUSED and not options.keys() & {"fused", "foreach", "capturable", "differentiable"}:
        options["fused"] = len(devices) == 1 and devices <= set(FUSED_DEVICES)
    if cls is None or "lr" in inspect.signature(cls).parameters:
        options["lr"] = groups[0].learning_rate
    created = create(kind, optimizer, known, {**options, "params": params})
    created.made_by_name = decay, by_itself
    return created


def group_options(group: Group, weights: Mapping[str, nn.Parameter], decays_by_itself: bool) -> dict[str, Any]:
    """A parameter group as PyTorch takes it."""
    entry: dict[str, Any] = {"params": [weights[key] for key in group.names], "lr": group.learning_rate}
    if decays_by_itself:
        entry["weight_decay"] = group.weight_decay
    elif group.weight_decay:
        entry["decay_by_tuner"] = group.weight_decay
    return entry


def add_weights(
    optimizer: torch.optim.Optimizer, weights: Mapping[str, nn.Parameter], new: set[str], optimization: Optimization
) -> None:
    """Give an optimizer that was made by name new weights, in the groups that they belong to."""
    if not hasattr(optimizer, "made_by_name"):
        return  # the user decides what an instance trains
    decay, by_itself = optimizer.made_by_name
    known = [Weight(name, p.ndim) for name, p in weights.items() if p.requires_grad]
    for group in optimization.groups(known, decay):
        added = group._replace(names=tuple(name for name in group.names if name in new))
        if added.names:
            optimizer.add_param_group(group_options(added, weights, by_itself))


def check_scheduler(optimization: Optimization, optimizer: torch.optim.Optimizer) -> None:
    """Raise ``ValueError`` if the scheduler is one of another optimizer, or waits for a metric."""
    if not optimization.has_native_schedule:
        return
    scheduler = optimization.schedule
    if getattr(scheduler, "optimizer", None) is not optimizer:
        raise ValueError("schedule must be a scheduler of the optimizer instance, and is one of another")
    if "metrics" in inspect.signature(scheduler.step).parameters:
        raise ValueError(f"schedule must be a scheduler that needs no metric, got {type(scheduler).__name__}")


def optimizer_params(optimizer: torch.optim.Optimizer) -> list[nn.Parameter]:
    """The parameters that ``optimizer`` trains."""
    return [p for group in optimizer.param_groups for p in group["params"]]


def optimizer_covers(optimizer: torch.optim.Optimizer, weights: Iterable[nn.Parameter]) -> bool:
    """Whether ``optimizer`` trains all of ``weights``."""
    return {id(p) for p in optimizer_params(optimizer)}.issuperset(map(id, weights))


def plain_settings(optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    """The arguments from which an optimizer like this one can be made."""
    names = inspect.signature(type(optimizer)).parameters
    return {name: value for name, value in optimizer.defaults.items() if name in names}


@torch.no_grad()
def scale_gradients(parameters: Sequence[nn.Parameter], factor: Any) -> None:
    """Multiply all gradients by a number or a tensor."""
    gradients = [values_of(p) for p in parameters]
    if gradients:
        torch._foreach_mul_(gradients, factor)


@torch.no_grad()
def gradient_norm(parameters: Sequence[nn.Parameter], device: torch.device) -> torch.Tensor:
    """The Euclidean norm of all gradients, in float32 at least."""
    gradients = [values_of(p) for p in parameters]
    if not gradients:
        return torch.zeros((), device=device)
    half = (torch.bfloat16, torch.float16)
    norms = list(torch._foreach_norm([g.float() if g.dtype in half else g for g in gradients]))
    if len({norm.device for norm in norms}) > 1:
        norms = [norm.to(device) for norm in norms]
    return torch.linalg.vector_norm(torch.stack(norms))


def values_of(p: nn.Parameter) -> torch.Tensor:
    """The numbers of a gradient, which may be a sparse one."""
    gradient = p.grad
    assert gradient is not None
    if gradient.is_sparse:
        p.grad = gradient.coalesce()
        return p.grad._values()
    return gradient


@torch.no_grad()
def decay_weights(optimizer: torch.optim.Optimizer) -> None:
    """Decoupled weight decay, for optimizers that do not have it themselves."""
    for group in optimizer.param_groups:
        if group.get("decay_by_tuner"):
            weights = [p for p in group["params"] if p.grad is not None]
            torch._foreach_mul_(weights, 1.0 - group["lr"] * group["decay_by_tuner"])


def check_saved_state(optimizer: Any, slots: Mapping[int, Mapping[str, Any]], groups: Any) -> None:
    """Raise ``ValueError`` unless a saved state has the options and slots that the optimizer would have itself."""
    own_groups = optimizer.param_groups
    if [len(group["params"]) for group in groups] != [len(group["params"]) for group in own_groups]:
        raise ValueError("the groups of the optimizer must hold as many weights as those of the saved one")
    for group, own in zip(groups, own_groups, strict=True):
        if missing := own.keys() - group.keys() - {"initial_lr"}:
            raise ValueError(f"a saved optimizer must have the options of its group, and has no {min(missing)}")
        for name, value in own.items():
            if name not in ("params", "initial_lr") and not same_kind(value, group[name]):
                raise ValueError(f"the option {name} of a saved optimizer must be like {value!r}, got {group[name]!r}")
        for index, weight in zip(group["params"], own["params"], strict=True):
            if index in slots and has_known_slots(optimizer):
                expected = slots_after_a_step(optimizer, own, weight)
                if shapes_of(slots[index]) != shapes_of(expected):
                    raise ValueError(
                        f"the slots of weight {index} of a saved optimizer must be {shapes_of(expected)}, "
                        f"got {shapes_of(slots[index])}"
                    )


def has_known_slots(optimizer: Any) -> bool:
    """Whether the slots of an optimizer are those that it has after its first step with a gradient of 0."""
    is_torch = type(optimizer).__module__.startswith("torch.optim")
    return is_torch and not isinstance(optimizer, torch.optim.LBFGS | torch.optim.SparseAdam)


def same_kind(own: Any, saved: Any) -> bool:
    """Whether a saved option is of the kind of an optimizer's own: a finite number for a number, and so on."""
    if isinstance(own, tuple | list):
        is_list = isinstance(saved, tuple | list) and len(saved) == len(own)
        return is_list and all(map(same_kind, own, saved))
    flags = [value is None or isinstance(value, bool) for value in (own, saved)]
    if any(flags):
        return all(flags)
    if isinstance(own, torch.Tensor) or not isinstance(own, int | float):
        return True
    return isinstance(saved, int | float) and abs(saved) < torch.finfo(torch.float64).max


def slots_after_a_step(optimizer: Any, group: Mapping[str, Any], weight: torch.Tensor) -> dict[str, Any]:
    """The slots that an optimizer has for a weight after its first step, with a gradient of 0."""
    probe, copied = copy.copy(optimizer), torch.zeros_like(weight, requires_grad=True)
    copied.grad = torch.zeros_like(weight)
    probe.state, probe.param_groups = defaultdict(dict), [{**group, "params": [copied]}]
    probe.step(lambda: torch.zeros(()))
    return dict(probe.state[copied])


def shapes_of(slots: Mapping[str, Any]) -> dict[str, Any]:
    """The shape of each slot that is a tensor of floats, the type of a tensor of others, and None for the rest."""
    shapes: dict[str, Any] = dict.fromkeys(sorted(slots))
    for name, value in slots.items():
        if isinstance(value, torch.Tensor):
            shapes[name] = list(value.shape) if value.is_floating_point() else value.dtype
    return shapes


def tensors_and_numbers(state: Mapping[Any, Mapping[str, Any]]) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    """The slots of an optimizer, by the index of the weight and the name of the slot."""
    tensors: dict[str, torch.Tensor] = {}
    numbers: dict[str, Any] = {}
    for index, slots in state.items():
        for slot, value in slots.items():
            if isinstance(value, torch.Tensor):
                tensors[f"{index}.{slot}"] = copy_to_host(value)
            else:
                numbers[f"{index}.{slot}"] = value
    return tensors, numbers
