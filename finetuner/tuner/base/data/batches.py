"""From the plan of a sampler to the batches that a model gets."""

import functools
import math
import multiprocessing
import pickle
import traceback
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, NamedTuple

import numpy as np

from ....arrays import as_list, is_array, item_lengths
from ....checks import preview
from ....containers import from_container
from ..processes import ALONE, Processes, cut
from .augmentation import apply_to_item, library_of
from .datasets import Dataset
from .seeding import item_seeds, keep_generators, seed_generators

__all__ = ["Batch", "Batches", "LengthGroups", "PairInputs", "all_finite", "collate", "non_finite_rows"]

ItemFunction = Callable[[Any], Any]
Prepare = ItemFunction | tuple[ItemFunction | None, ItemFunction | None] | None


class Batch(NamedTuple):
    """What a training step gets."""

    inputs: Any  # for the model
    targets: tuple[np.ndarray, ...]  # for the loss, all of the same length; usually labels only, [N] or [N, 2] int32
    indices: np.ndarray  # [N], the rows of the dataset
    rows_per_item: int = 1
    own: slice = slice(None)  # the rows that the inputs are of; all of them in a single process

    @property
    def own_indices(self) -> np.ndarray:
        """The rows of the dataset that the inputs are of."""
        return self.indices[self.own]

    @property
    def labels(self) -> np.ndarray:
        """The first of the targets."""
        return self.targets[0]

    @property
    def items(self) -> np.ndarray:
        """The indices of the items in their dataset, in the order of the batch."""
        return self.indices[:: self.rows_per_item] // self.rows_per_item


class PairInputs(NamedTuple):
    """Inputs of a model with one input per side of a pair: the even rows and the odd rows of a batch."""

    first: Any
    second: Any


class LengthGroups(NamedTuple):
    """Inputs of a batch in groups of similar length, so that less of each is padding."""

    inputs: list[Any]  # of each group, for the model
    positions: list[np.ndarray]  # of the rows of each group in the batch


class Batches(Sequence[Batch]):
    """The batches of an epoch. Each is made when it is indexed, so worker processes can share them.

    In training, ``augment`` and ``preprocess_fn`` draw from generators that are seeded for each item, by its place in
    the plan of the epoch: their own ``rng``, ``random``, ``numpy.random`` and the framework's generator of the host. So
    an item does not depend on the batch size or on the number of worker processes. ``collate_fn`` is seeded for each
    batch.

    Args:
        dataset: The dataset.
        plan: The indices of each batch.
        preprocess_fn: A function from an item to a row of the model's input. For pairs it may be a tuple of two
            functions, one per side.
        collate_fn: A function from a list of (preprocessed) items to the model's input, such as a tokenizer. The
            default stacks the items. It may be a tuple of two functions as well. One with a method ``adapt`` takes
            images from files itself, unless there is a ``preprocess_fn``: it gets a dataset and returns another one.
        seed: With the place of an item in the plan, the seed of the augmentation; None for items without augmentation.
        target_type: The target type of the loss.
        pair_inputs: Whether the model has one input per side of a pair.
        length_groups: The number of groups of similar length that the rows of a batch are split into. Inputs are then
            :class:`LengthGroups` if the items differ in length. A model with two inputs gets one group.
        side: Which of a pair of functions serves a dataset that does not hold pairs.
        processes: The processes that share each batch. Inputs are those of this process's slice of it, and targets
            those of all of it.

    Attributes:
        loader: What a framework uses to prepare batches in worker processes, which live as long as this object.
        seeded: A context manager that seeds the framework's random numbers while a batch is prepared; None for none.
    """

    loader: Any = None
    seeded: Callable[[int], AbstractContextManager[Any]] | None = None

    def __init__(
        self,
        dataset: Dataset,
        plan: Sequence[np.ndarray],
        preprocess_fn: Prepare = None,
        collate_fn: Prepare = None,
        seed: Sequence[int] | None = None,
        target_type: str = "relations",
        pair_inputs: bool = False,
        length_groups: int = 1,
        side: int = 0,
        processes: Processes = ALONE,
    ):
        adapt = getattr(collate_fn, "adapt", None)
        if preprocess_fn is None and adapt is not None:
            dataset = adapt(dataset)
        self.dataset, self.target_type, self.side = dataset, target_type, side
        self.share = processes.rank, processes.count  # what a worker needs to know
        self.pair_inputs, self.length_groups = pair_inputs, length_groups
        self.preprocess_fn, self.collate_fn = preprocess_fn, collate_fn
        self.has_user_code = bool(preprocess_fn or collate_fn or dataset.augment)
        self.begin_epoch(plan, seed)

    def begin_epoch(self, plan: Sequence[np.ndarray], seed: Sequence[int] | None, start: int = 0) -> None:
        """Set the batches of an epoch and their seed. Batches before number ``start`` are left out.

        Raises:
            ValueError: If a batch has fewer items than there are processes.
        """
        fewest = min(map(len, plan), default=0) // self.dataset.rows_per_item
        if self.share[1] > 1 and plan and fewest < self.share[1]:
            raise ValueError(
                f"each batch must have an item for each of the {self.share[1]} processes, and one has {fewest}; "
                "another batch_size leaves another rest"
            )
        places = np.cumsum([0, *map(len, plan)])  # of the first row of each batch in the plan
        self.plan, self.seed, self.places = plan[start:], seed, places[start:]

    def keep(self, part: slice) -> None:
        """Leave out all batches but those of a part of the plan."""
        self.plan, self.places = self.plan[part], self.places[part]

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "loader": None}

    def check_sendable(self, num_workers: int) -> None:
        """Raise ``TypeError`` for user code that cannot be sent to worker processes that are not forked."""
        if not num_workers or multiprocessing.get_start_method() == "fork":
            return
        code = {"augment": self.dataset.augment, "preprocess_fn": self.preprocess_fn, "collate_fn": self.collate_fn}
        for name, function in code.items():
            try:
                pickle.dumps(function)
            except (pickle.PicklingError, AttributeError, TypeError):
                raise TypeError(
                    f"{name} must be a function of a module, defined with def, to be sent to worker processes, got "
                    f"{function!r}; or set num_workers=0"
                ) from None

    def __len__(self) -> int:
        return len(self.plan)

    def key(self, number: int) -> tuple[np.ndarray, tuple[int, ...] | None]:
        """What a worker needs to know about a batch of this epoch: its rows and the seed of the first one."""
        return self.plan[number], None if self.seed is None else (*self.seed, int(self.places[number]))

    def __getitem__(self, number: Any) -> Any:
        """The batch with this number or :meth:`key`."""
        indices, seed = number if isinstance(number, tuple) else self.key(number)
        targets = self.dataset.targets(indices, self.target_type)
        own = cut(len(indices), self.share[1], self.dataset.rows_per_item)[self.share[0]]
        whole, indices = indices, indices[own]
        seed = None if seed is None else (*seed[:-1], seed[-1] + own.start)
        has_seed = seed is not None and self.has_user_code
        with keep_generators(self.seeded) if has_seed else nullcontext():
            if self.pair_inputs:
                inputs: Any = PairInputs(*(self.prepare(indices[s::2], seed_of_side(seed, s), s) for s in (0, 1)))
            else:
                inputs = self.prepare(indices, seed, self.side)
        return Batch(inputs, targets, whole, self.dataset.rows_per_item, own)

    def batch_or_error(self, number: Any) -> "Batch | Exception":
        """The batch, or the error that a worker process meets. Only Python's own errors can be sent reliably."""
        try:
            return self[number]
        except Exception as error:
            is_builtin = type(error).__module__ == "builtins"
            sent = error if is_builtin else RuntimeError(f"{type(error).__name__}: {error}")
            sent.add_note(f"in a worker process:\n{traceback.format_exc()}")
            return sent

    def prepare(self, indices: np.ndarray, seed: Sequence[int] | None, side: int = 0) -> Any:
        """The model's input for the rows at ``indices``."""
        items = self.dataset.batch(indices, seed)
        one_per_side = isinstance(self.preprocess_fn, tuple) or isinstance(self.collate_fn, tuple)
        if one_per_side and not self.pair_inputs and self.dataset.rows_per_item == 2:
            return self.prepare_sides(as_list(items, len(indices)), indices % 2, seed)
        preprocess_fn, collate_fn = (
            function[side] if isinstance(function, tuple) else function
            for function in (self.preprocess_fn, self.collate_fn)
        )
        if preprocess_fn is not None:
            items = preprocessed(preprocess_fn, as_list(items, len(indices)), seed)
        if collate_fn is not None and seed is not None:
            collate_fn = seeded_function(collate_fn, item_seeds(seed, np.zeros(1), stream=2)[0])
        lengths = item_lengths(items) if self.length_groups > 1 and not self.pair_inputs else None
        if lengths is None:
            return collated(items, len(indices), collate_fn)
        items = as_list(items, len(indices))
        order = np.argsort(-lengths, kind="stable")
        positions = np.split(order, group_starts(lengths[order], self.length_groups))
        parts = [collated([items[i] for i in group], len(group), collate_fn) for group in positions]
        return LengthGroups(parts, positions)

    def prepare_sides(self, items: list[Any], sides: np.ndarray, seed: Sequence[int] | None) -> Any:
        """The input of a model with one tower for pairs whose sides have functions of their own: a group per side."""
        parts, positions = [], []
        for side in np.unique(sides):
            rows = np.flatnonzero(sides == side)
            preprocess_fn, collate_fn = (
                function[side] if isinstance(function, tuple) else function
                for function in (self.preprocess_fn, self.collate_fn)
            )
            own = [items[row] for row in rows]
            if preprocess_fn is not None:
                own = preprocessed(preprocess_fn, own, seed, rows)
            if collate_fn is not None and seed is not None:
                collate_fn = seeded_function(collate_fn, item_seeds(seed, np.array([side]), stream=2)[0])
            parts.append(collated(own, len(own), collate_fn))
            positions.append(rows)
        return LengthGroups(parts, positions)


def group_starts(lengths: np.ndarray, groups: int) -> list[int]:
    """Where to split items, sorted by descending length, into ``groups`` groups with the least padding.

    Args:
        lengths: ``[N]`` lengths, the longest first. A group is padded to its first item.
        groups: The number of groups. There are fewer if there are fewer lengths.

    Returns:
        The starts of all groups but the first.
    """
    changes = np.flatnonzero(np.diff(lengths)) + 1  # equal lengths stay together
    bounds = np.concatenate([[0], changes, [len(lengths)]])
    cost = np.where(bounds, np.inf, 0.0)  # of the items before each bound, in the groups so far
    chosen = []
    for _ in range(min(groups, len(bounds) - 1)):
        counts = bounds[:, None] - bounds[:-1]  # in a group up to a bound, from each start
        costs = np.where(counts > 0, cost[:-1] + lengths[bounds[:-1]] * counts, np.inf)
        chosen.append(costs.argmin(axis=1))
        cost = costs.min(axis=1)
    starts = [len(bounds) - 1]
    for starts_of_last in reversed(chosen):
        starts.append(int(starts_of_last[starts[-1]]))
    return bounds[starts[-2:0:-1]].tolist()


def seed_of_side(seed: Sequence[int] | None, side: int) -> tuple[int, ...] | None:
    """The seed of one side of the pairs of a batch, from that of the batch."""
    return None if seed is None else (*seed[:-1], side, seed[-1] // 2)


def preprocessed(
    preprocess_fn: ItemFunction, items: list[Any], seed: Sequence[int] | None, places: np.ndarray | None = None
) -> list[Any]:
    """The rows of the model's input for some items. With a ``seed``, each draws random numbers of its own."""
    if library_of(preprocess_fn) is not None:
        preprocess_fn = functools.partial(apply_to_item, preprocess_fn)
    if seed is None:
        return list(map(preprocess_fn, items))
    rows = []
    places = np.arange(len(items)) if places is None else places
    for item, number in zip(items, item_seeds(seed, places, stream=1), strict=True):
        with seed_generators(number):
            rows.append(preprocess_fn(item))
    return rows


def seeded_function(function: ItemFunction, seed: int) -> ItemFunction:
    """A function whose random numbers have a seed."""

    def call(items: Any) -> Any:
        with seed_generators(seed):
            return function(items)

    return call


def collated(items: Any, count: int, collate_fn: ItemFunction | None) -> Any:
    """The model's input for ``count`` items."""
    return collate(items if collate_fn is None else collate_fn(as_list(items, count)))


def collate(items: Any) -> Any:
    """Stack a list of items into one array, or a mapping of arrays. Anything but a list is returned unchanged.

    Raises:
        TypeError: If the items are not arrays or numbers, such as texts.
        ValueError: If their shapes differ.
    """
    if not isinstance(items, list):
        return items
    first = items[0]
    if isinstance(first, Mapping):
        return {key: collate([item[key] for item in items]) for key in first}
    if is_array(first) and not isinstance(first, np.ndarray | np.generic):
        items = [np.asarray(from_container("items", item)) for item in items]
    elif not isinstance(first, np.ndarray | np.generic | int | float | list | tuple):
        raise TypeError(
            f"items must be arrays or numbers to form a batch, got {type(first).__name__}; pass a collate_fn "
            "(such as a tokenizer) or a preprocess_fn that returns arrays"
        )
    try:
        return np.stack([np.asarray(item) for item in items])
    except ValueError:
        shapes = preview(sorted({str(list(np.shape(item))) for item in items}))
        raise ValueError(f"items must have the same shape to form a batch, got {shapes}") from None


def all_finite(inputs: Any) -> bool:
    """Whether the numpy arrays in ``inputs`` contain no NaN and no infinity.

    The model's output is not enough to tell: the ReLU of some frameworks turns NaN into 0.
    """
    if isinstance(inputs, Mapping):
        return all(map(all_finite, inputs.values()))
    if isinstance(inputs, list | tuple):
        return all(map(all_finite, inputs))
    if not isinstance(inputs, np.ndarray) or inputs.dtype.kind != "f":
        return True
    # einsum sums twice as fast as sum, and does not warn about overflow.
    return math.isfinite(np.einsum("i->", inputs.reshape(-1))) or bool(np.isfinite(inputs).all())


def non_finite_rows(inputs: Any) -> np.ndarray:
    """Numbers of the rows that contain NaN or infinity, in an array or nested arrays."""
    if isinstance(inputs, Mapping):
        inputs = list(inputs.values())
    if isinstance(inputs, list | tuple):
        return np.unique(np.concatenate([np.zeros(0, int), *map(non_finite_rows, inputs)]))
    if not is_array(inputs):
        return np.zeros(0, int)
    array = np.asarray(from_container("inputs", inputs))
    if array.dtype.kind != "f" or not array.ndim:
        return np.zeros(0, int)
    return np.flatnonzero(~np.isfinite(array.reshape(len(array), -1)).all(axis=1))
