"""The check, with the first batch, that a new pooler stands for a pooling whose output alone makes the embeddings."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from ....arrays import is_array
from ..data.batches import LengthGroups, PairInputs

__all__ = ["PoolingCheck"]

NUM_ITEMS = 4  # of a batch that the check embeds
ROUNDING = 1e-6  # of embeddings in float32: equal items at different positions of a batch may differ by that


class Call(NamedTuple):
    """A call of the new layer in a forward pass."""

    x: np.ndarray
    output: Any  # of the replaced layer, or of the new one if both return one vector per item
    shape: list[int]  # of this output
    new_shape: list[int]  # of the output of the new layer


class Pass(NamedTuple):
    """A forward pass."""

    embeddings: np.ndarray
    calls: list[Call]
    last: Any  # the last of the other layers that comes after the last call; None if there is none


class PoolingCheck:
    """Finds out by forward passes whether a pooler has replaced a global pooling that is the only path.

    A model is a program, so its layers do not tell what its output is made of. Some items are embedded, and then the
    same items in another order, while the new layer returns what it returned in the first pass. If everything in the
    embeddings comes from that layer, they are the same as in the first pass, to the bit. If the model has another path,
    as it has around the pooling of a squeeze-and-excitation block, they differ.

    Args:
        model: The model, with the new layer.
        name: The name of the replaced layer in the model.
        old: The replaced layer.
        new: The layer in its place.
        is_global: Whether the replaced layer pools inputs of any size to one vector.
        others: The model's other pooling layers, and its convolutions with a window. None comes after a global pooling.
    """

    def __init__(self, model: Any, name: str, old: Any, new: Any, is_global: bool, others: Sequence[Any]):
        self.model, self.name, self.old, self.new, self.is_global = model, name, old, new, is_global
        self.others = others
        self.reached = False  # whether what one item can tell is known
        self.refusal: str | None = None

    def run(self, framework: Any, inputs: Any, count: int) -> bool:
        """Check with a batch.

        Args:
            framework: The framework's models and data.
            inputs: The model's input.
            count: The number of embeddings that the model returns for it.

        Returns:
            Whether the check has passed. False if the batch does not tell, since it has no items that differ.

        Raises:
            ValueError: If the replaced layer is not a global pooling, or not the only path.
        """
        if self.refusal is None:
            items, backwards, count = some_items(inputs, count)
            if backwards is None and self.reached:
                return False
            if not framework.is_built(self.model):
                framework.embed_eagerly(self.model, items, count)
            first = self.forward(framework, items, count)
            self.refusal = self.reason_of_one_pass(first)
            self.reached = True
            if self.refusal is None:
                turned = turn(first.embeddings, items)
                difference = np.abs(turned - first.embeddings).max()
                if (
                    backwards is None
                    or same_values(items, backwards)
                    or not difference > ROUNDING * np.abs(turned).max()
                ):
                    return False
                self.refusal = self.reason_of_two_passes(framework, items, backwards, count, first)
            if self.refusal is not None:
                framework.put_back(self.model, self.new, self.old)
        if self.refusal is None:
            return True
        kind = type(self.old).__name__
        raise ValueError(
            "pooler must replace a global pooling whose output is the only path to the embeddings, and "
            f"{self.name!r} ({kind}), the most likely layer of the model, is none: {self.refusal}; a model that pools "
            "by a function must call a pooler instead, or be given with a pooling layer at its end"
        )

    def reason_of_one_pass(self, one: Pass) -> str | None:
        """Why the layer is not a global pooling; None if it may be one."""
        if not one.calls:
            return "the forward pass does not reach it"
        for call in one.calls:
            if call.shape != call.new_shape:
                return f"its output is not one vector per item, but has the shape {call.shape}"
        if one.last is not None and not self.is_global:
            return f"{type(one.last).__name__} comes after it"
        return None

    def reason_of_two_passes(self, framework: Any, items: Any, backwards: Any, count: int, first: Pass) -> str | None:
        """Why the layer is not the only path; None if it is."""
        replay = [call.output for call in first.calls]
        second = self.forward(framework, backwards, count, replay)
        if len(second.calls) != len(first.calls):
            return "the number of its calls depends on the items"
        if not np.array_equal(second.embeddings, first.embeddings):
            again = self.forward(framework, items, count)
            noise = np.abs(again.embeddings - first.embeddings).max()  # of a model that is not deterministic
            if not np.abs(second.embeddings - first.embeddings).max() <= 10 * noise:
                return "items with the same output of this layer have different embeddings, so there is another path"
        if len(first.calls) > 1:
            free = self.forward(framework, backwards, count)
            if not all(np.array_equal(a.x, b.x) for a, b in zip(second.calls, free.calls, strict=True)):
                return "it is called several times, and one of its outputs is a part of its next input"
        return None

    def forward(self, framework: Any, inputs: Any, count: int, replay: Sequence[Any] | None = None) -> Pass:
        """Embed items, and record the calls of the new layer. With ``replay``, these are its outputs."""
        calls: list[Call] = []
        last: list[Any] = []

        def pool(method: Any, *args: Any, **options: Any) -> Any:
            last.clear()
            x = args[0] if args else next(iter(options.values()))
            new_output = method(*args, **options)
            output = new_output if self.is_global else self.old(x)  # with maps as before, the rest of the model works
            maps = output[0] if isinstance(output, tuple) else output
            if replay is not None and len(calls) < len(replay):
                output = replay[len(calls)]
            calls.append(Call(framework.as_array(x), output, list(maps.shape), list(new_output.shape)))
            return output

        def pass_by(layer: Any, method: Any, *args: Any, **options: Any) -> Any:
            last[:] = [layer]
            return method(*args, **options)

        functions = [(self.new, pool), *((layer, partial(pass_by, layer)) for layer in self.others)]
        with around_methods(framework.method, functions):
            embeddings = framework.embed_eagerly(self.model, inputs, count)
        return Pass(embeddings, calls, last[0] if last and calls else None)


@contextmanager
def around_methods(name: str, functions: Sequence[tuple[Any, Any]]) -> Iterator[None]:
    """A context in which each layer calls its function in place of a method; its first argument is the method."""
    before = [vars(layer).get(name) for layer, _ in functions]
    try:
        for layer, function in functions:
            object.__setattr__(layer, name, partial(function, getattr(layer, name)))  # no layer tracks this
        yield
    finally:
        for (layer, _), method in zip(functions, before, strict=True):
            object.__delattr__(layer, name)
            if method is not None:
                object.__setattr__(layer, name, method)


def some_items(inputs: Any, count: int) -> tuple[Any, Any, int]:
    """A few items of a batch, the same in reverse order, and the number of their embeddings.

    The second is None if there is one item, or if the inputs do not have one entry per item.
    """
    if isinstance(inputs, LengthGroups):
        group = int(np.argmax([len(positions) for positions in inputs.positions]))
        inputs, count = inputs.inputs[group], len(inputs.positions[group])
    per_item = embeddings_per_item(inputs)
    positions = np.unique(np.linspace(0, count // per_item - 1, NUM_ITEMS).astype(int))
    try:
        items = rows_of(inputs, positions, count // per_item)
        backwards = rows_of(inputs, positions[::-1], count // per_item)
    except ValueError:
        return inputs, None, count
    return items, backwards if len(positions) > 1 else None, per_item * len(positions)


def embeddings_per_item(inputs: Any) -> int:
    """The number of embeddings that a model returns for each item."""
    return 2 if isinstance(inputs, PairInputs) else 1


def rows_of(x: Any, positions: np.ndarray, count: int) -> Any:
    """The rows of inputs at some positions, as :func:`~.micro_batches.split_batch` takes rows.

    Raises:
        ValueError: If something does not have ``count`` entries.
    """
    if isinstance(x, Mapping):
        return {key: rows_of(value, positions, count) for key, value in x.items()}
    if isinstance(x, PairInputs):
        return PairInputs(*(rows_of(side, positions, count) for side in x))
    if isinstance(x, tuple | list) and any(is_array(part) or isinstance(part, Mapping | tuple | list) for part in x):
        return type(x)(rows_of(part, positions, count) for part in x)
    if not (is_array(x) or isinstance(x, tuple | list)):
        return x
    if (x.shape[0] if is_array(x) and x.shape else None if is_array(x) else len(x)) != count:
        raise ValueError("inputs must have one entry per item")
    if isinstance(x, tuple | list):
        return type(x)(x[int(i)] for i in positions)
    if type(x).__module__.startswith("tensorflow."):  # its tensors cannot be indexed by positions
        return x.numpy()[positions]
    return x[positions if isinstance(x, np.ndarray) else positions.tolist()]


def same_values(x: Any, y: Any) -> bool:
    """Whether two inputs of the same structure hold the same values."""
    if isinstance(x, Mapping):
        return all(same_values(value, y[key]) for key, value in x.items())
    if is_array(x):
        return bool((x == y).all())
    if isinstance(x, tuple | list):
        return all(same_values(one, other) for one, other in zip(x, y, strict=True))
    return bool(x == y)


def turn(embeddings: np.ndarray, items: Any) -> np.ndarray:
    """The embeddings of items in reverse order."""
    per_item = embeddings_per_item(items)
    return embeddings.reshape(-1, per_item, embeddings.shape[-1])[::-1].reshape(embeddings.shape)
