"""Splits a model whose graph ``torch.fx`` can trace, such as those of torchvision and timm, for PyTorch."""

from collections.abc import Callable
from typing import Any

from torch import fx, nn

from ..base.training.split_model import SplitModel, no_prefix, not_separable

__all__ = ["split_graph"]


class Tracer(fx.Tracer):
    """Traces a model, but not what is inside of layers that can be in a prefix as a whole.

    Args:
        obstacle: Why the outputs of a layer cannot be kept; None if they can.
    """

    def __init__(self, obstacle: Callable[[nn.Module], str | None]):
        super().__init__()
        self.obstacle = obstacle

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return super().is_leaf_module(m, module_qualified_name) or self.obstacle(m) is None


def split_graph(
    model: nn.Module, kinds: str, obstacle: Callable[[nn.Module], str | None], trained: set[int]
) -> SplitModel:
    """Split a graph at the last value through which every path goes, and before which nothing is trained.

    Args:
        model: The model.
        kinds: The models that can be split, for messages.
        obstacle: Why the outputs of a layer cannot be kept; None if they can.
        trained: The ids of the weights that are trained.
    """
    tracer = Tracer(obstacle)
    for name, layer in model.named_modules():
        is_open = name and not tracer.is_leaf_module(layer, name) and not layer.training
        if is_open and any(id(p) in trained for p in layer.parameters()):
            raise no_prefix(f"{name} is trained, but in evaluation mode now, which the graph of a model cannot change")
    try:
        graph = tracer.trace(model)
    except Exception as error:  # a model may do anything with the values that stand for its inputs
        raise not_separable(kinds, model) from error
    nodes = list(graph.nodes)
    inputs = [node for node in nodes if node.op == "placeholder" and node.users]
    if len(inputs) != 1:
        raise not_separable(kinds, model)
    reasons = {node: reason for node in nodes if (reason := obstacle_of(node, model, obstacle, trained))}
    cut, inside = last_cut(nodes, inputs[0], set(reasons))
    if cut is None:
        first = next(iter(reasons), None)
        between = "no single tensor goes from them to the others"
        raise no_prefix(between if first is None else f"{first.target} {reasons[first]}, or {between}")
    names = tuple(str(node.target) for node in nodes if node in inside and node.op == "call_module")
    prefix, rest = fx.Graph(), fx.Graph()
    copies: dict[fx.Node, fx.Node] = {}
    for node in nodes:
        if node in inside:
            copies[node] = prefix.node_copy(node, copies.__getitem__)
    prefix.output(copies[cut])
    copies = {cut: rest.placeholder("states")}
    for node in nodes:
        if (node not in inside or node.op == "get_attr") and node.op != "placeholder":
            copies[node] = rest.node_copy(node, copies.__getitem__)
    return SplitModel(fx.GraphModule(model, prefix), fx.GraphModule(model, rest), names)


def last_cut(nodes: list[fx.Node], given: fx.Node, barred: set[fx.Node]) -> tuple[fx.Node | None, set[fx.Node]]:
    """The last node at which a graph can be split, and the nodes that it needs; None if there is none.

    Weights may be used on both sides.
    """
    needed: dict[fx.Node, set[fx.Node]] = {}  # of each node, it and all nodes that it needs
    for node in nodes:
        needed[node] = {node}.union(*(needed[one] for one in node.all_input_nodes))
    best: fx.Node | None = None
    for node in nodes:
        inside = needed[node]
        if node.op in ("placeholder", "output", "get_attr") or given not in inside or inside & barred:
            continue
        if not any(one.op == "call_module" for one in inside) or (
            best is not None and len(inside) <= len(needed[best])
        ):
            continue
        outside = [one for one in nodes if one not in inside]
        used = {one for other in outside for one in other.all_input_nodes if one is not node and one in inside}
        if all(one.op == "get_attr" for one in used):
            best = node
    return best, set() if best is None else needed[best]


def obstacle_of(
    node: fx.Node, model: nn.Module, obstacle: Callable[[nn.Module], str | None], trained: set[int]
) -> str | None:
    """Why a node cannot be in a prefix; None if it can."""
    if node.op == "call_module":
        return obstacle(model.get_submodule(str(node.target)))
    if node.op == "get_attr":
        value: Any = model
        for part in str(node.target).split("."):
            value = getattr(value, part)
        return "is trained" if id(value) in trained else None
    if node.op in ("call_function", "call_method"):
        name = getattr(node.target, "__name__", str(node.target))
        drops = "dropout" in name and node.kwargs.get("training", True) is not False
        return "draws random numbers in training" if drops or "rand" in name or "bernoulli" in name else None
    return None
