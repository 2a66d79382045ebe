"""From a plan of indices to the batches that a model is given, one function a step, the same everywhere."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from . import checks
from .dataset import Dataset
from .items import is_array, one_by_one

__all__ = ["Batch", "Batches", "TwoSides", "finite", "not_finite_rows", "stack"]

Prepare = Callable[[Any], Any] | tuple[Callable[[Any], Any] | None, Callable[[Any], Any] | None] | None


class Batch(NamedTuple):
    """What a step of training is given."""

    inputs: Any  # for the model
    targets: tuple[np.ndarray, ...]  # for the loss, of one length; most often labels, [N] or [N, 2] int32, alone
    indices: np.ndarray  # [N], of the rows in their dataset
    size: int = 1  # how many rows an item has

    @property
    def labels(self) -> np.ndarray:
        """The first of the targets."""
        return self.targets[0]

    @property
    def items(self) -> np.ndarray:
        """The numbers of the items in their dataset, in the order of the batch."""
        return self.indices[:: self.size] // self.size


class TwoSides(NamedTuple):
    """Inputs of a model with an input for each side of a pair: those of the even rows, and of the odd ones."""

    first: Any
    second: Any


class Batches(Sequence[Batch]):
    """The batches of an epoch, each made when it is asked for, so that worker processes can share them.

    Args:
        dataset: where the items are.
        plan: the indices of each batch.
        preprocess_fn: turns an item into what the model takes a row of; by default it is that already. For a model
            with two inputs it may be two functions, one a side.
        collate_fn: turns a list of (preprocessed) items into the model's input, such as a tokenizer;
            by default they are stacked. Likewise it may be two.
        seed: with the batch's number, the seed of datasets that augment their items; None to take the
            items as they are.
        form: what the loss takes, see ``losses.TAKES``.
        two_sides: whether the model has an input for each side of a pair.
    """

    def __init__(
        self,
        dataset: Dataset,
        plan: Sequence[np.ndarray],
        preprocess_fn: Prepare = None,
        collate_fn: Prepare = None,
        seed: Sequence[int] | None = None,
        form: str = "relations",
        two_sides: bool = False,
    ):
        self.dataset, self.plan, self.seed, self.form, self.two_sides = dataset, plan, seed, form, two_sides
        self.preprocess_fn, self.collate_fn = preprocess_fn, collate_fn

    def __len__(self) -> int:
        return len(self.plan)

    def __getitem__(self, number: Any) -> Any:
        indices = self.plan[number]
        seed = None if self.seed is None else (*self.seed, number)
        if self.two_sides:
            inputs: Any = TwoSides(*(self.prepared(indices[s::2], seed and (*seed, s), s) for s in (0, 1)))
        else:
            inputs = self.prepared(indices, seed)
        return Batch(inputs, self.dataset.targets(indices, self.form), indices, self.dataset.size)

    def prepared(self, indices: np.ndarray, seed: Sequence[int] | None, side: int = 0) -> Any:
        """The model's input for the rows at ``indices``."""
        items = self.dataset.batch(indices, seed)
        preprocess_fn, collate_fn = (
            function[side] if isinstance(function, tuple) else function
            for function in (self.preprocess_fn, self.collate_fn)
        )
        if preprocess_fn is not None:
            items = [preprocess_fn(item) for item in one_by_one(items, len(indices))]
        if collate_fn is not None:
            items = collate_fn(one_by_one(items, len(indices)))
        return stack(items)


def stack(items: Any) -> Any:
    """A list of items as one array, or a mapping of arrays; what is no list is taken to be stacked.

    Raises:
        TypeError: if the items are no arrays or numbers, such as texts.
        ValueError: if their shapes differ.
    """
    if not isinstance(items, list):
        return items
    first = items[0]
    if isinstance(first, Mapping):
        return {key: stack([item[key] for item in items]) for key in first}
    if is_array(first) and not isinstance(first, np.ndarray | np.generic):
        items = [item.numpy() if hasattr(item, "numpy") else np.asarray(item) for item in items]
    elif not isinstance(first, np.ndarray | np.generic | int | float | list | tuple):
        raise TypeError(
            f"items must be arrays or numbers to form a batch, got {type(first).__name__}; give a collate_fn "
            "(a tokenizer, say) or a preprocess_fn that makes them so"
        )
    try:
        return np.stack([np.asarray(item) for item in items])
    except ValueError:
        shapes = checks.some_of(sorted({str(list(np.shape(item))) for item in items}))
        raise ValueError(f"items must be of one shape to form a batch, got {shapes}") from None


def finite(inputs: Any) -> bool:
    """Whether the numpy arrays in ``inputs`` hold neither NaN nor infinity, at the price of a sum.

    Not left to the model to show: some frameworks' rectifiers make 0 of NaN.
    """
    if isinstance(inputs, Mapping):
        return all(map(finite, inputs.values()))
    if isinstance(inputs, list | tuple):
        return all(map(finite, inputs))
    if not isinstance(inputs, np.ndarray) or inputs.dtype.kind != "f":
        return True
    # einsum sums twice as fast as sum, and says nothing of what overflows.
    return math.isfinite(np.einsum("i->", inputs.reshape(-1))) or bool(np.isfinite(inputs).all())


def not_finite_rows(inputs: Any) -> np.ndarray:
    """Numbers of the rows that hold NaN or infinity, in an array or anything made of arrays."""
    if isinstance(inputs, Mapping):
        inputs = list(inputs.values())
    if isinstance(inputs, list | tuple):
        return np.unique(np.concatenate([np.zeros(0, int), *map(not_finite_rows, inputs)]))
    if not is_array(inputs):
        return np.zeros(0, int)
    array = np.asarray(inputs.detach().cpu() if hasattr(inputs, "detach") else inputs)
    if array.dtype.kind != "f" or not array.ndim:
        return np.zeros(0, int)
    return np.flatnonzero(~np.isfinite(array.reshape(len(array), -1)).all(axis=1))
