"""Samplers decide which items form a batch. They see labels only, so all frameworks get the same batches."""

import warnings
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np

from .... import checks
from ....labels import ANCHOR, MATCH, NO_MATCH
from .packing import Groups

__all__ = [
    "ClassSampler",
    "GroupSampler",
    "InstanceSampler",
    "IterableSampler",
    "RandomSampler",
    "Sampler",
    "SessionSampler",
]

Batches = list[np.ndarray]


class Sampler(ABC):
    """Interface of all samplers: an iterable over the batches of one epoch, each an array of indices.

    The batches depend only on the seed and the epoch, so any epoch can be reproduced.

    Args:
        seed: Seed of the random generator.
    """

    def __init__(self, seed: int = 0):
        self.seed = checks.integer("seed", seed, 0)
        self.epoch = 0
        self._planned: tuple[int, Batches] | None = None

    def set_epoch(self, epoch: int) -> None:
        """Set the epoch, counted from 0, that the next batches belong to."""
        self.epoch = epoch

    @abstractmethod
    def plan(self, rng: np.random.Generator) -> Batches:
        """All batches of an epoch, drawn with ``rng``."""

    def batches(self) -> Batches:
        """All batches of the current epoch."""
        if self._planned is None or self._planned[0] != self.epoch:
            self._planned = self.epoch, self.plan(np.random.default_rng([self.seed, self.epoch]))
        return self._planned[1]

    def __iter__(self) -> Iterator[np.ndarray]:
        return iter(self.batches())

    def __len__(self) -> int:
        return len(self.batches())


class IterableSampler(Sampler):
    """The batches of any iterable, such as a batch sampler of another library.

    Its method ``set_epoch`` is called if it has one. The batches of an epoch are read at once.

    Args:
        batches: An iterable over the batches of an epoch, each a list or an array of row numbers.
        num_rows: The number of rows of the data.

    Raises:
        TypeError: If it is not an iterable, or a generator, which can be read once only.
        ValueError: If an epoch has no batch, or a batch has a number outside of the data.

    Example:
        >>> IterableSampler([[0, 1], [2, 3]], num_rows=4).batches()
        [array([0, 1]), array([2, 3])]
    """

    def __init__(self, batches: Any, num_rows: int):
        super().__init__()
        if isinstance(batches, Iterator) or not isinstance(batches, Iterable):
            raise TypeError(
                "sampler must be a name, a Sampler, or an iterable over the batches of an epoch, not a generator, got "
                f"{type(batches).__name__}"
            )
        self.source, self.num_rows = batches, num_rows

    def set_epoch(self, epoch: int) -> None:
        """Set the epoch, counted from 0, that the next batches belong to."""
        super().set_epoch(epoch)
        if hasattr(self.source, "set_epoch"):
            self.source.set_epoch(epoch)

    def plan(self, rng: np.random.Generator) -> Batches:
        """All batches of an epoch. The iterable has its own random numbers."""
        batches = [np.asarray(batch) for batch in self.source]
        if not batches:
            raise ValueError("sampler must give at least one batch an epoch, and gave none")
        for batch in batches:
            inside = batch.ndim == 1 and batch.dtype.kind in "iu" and ((batch >= 0) & (batch < self.num_rows)).all()
            if not len(batch) or not inside:
                raise ValueError(
                    f"sampler must give batches of row numbers in 0..{self.num_rows - 1}, got {checks.preview(batch)}"
                )
        return batches


class RandomSampler(Sampler):
    """Items in random order. Each item occurs once in an epoch. The last batch may be smaller.

    Args:
        num_items: The number of items, at least 1.
        batch_size: Items in a batch, at least 1.
        shuffle: Whether each epoch has a new random order. Otherwise the order is that of the data.
        drop_last: Whether to leave out the last batch of an epoch if it is smaller than ``batch_size``.
        seed: Seed of the random generator.
        rows_per_item: The rows of an item, which stay together in a batch: 2 for pairs, 3 for triplets.

    Raises:
        ValueError: If a number is out of its range.

    Example:
        >>> [batch.tolist() for batch in RandomSampler(5, batch_size=2, shuffle=False)]
        [[0, 1], [2, 3], [4]]
    """

    def __init__(
        self,
        num_items: int,
        batch_size: int,
        shuffle: bool = True,
        drop_last: bool = False,
        seed: int = 0,
        rows_per_item: int = 1,
    ):
        super().__init__(seed)
        self.rows_per_item = checks.integer("rows_per_item", rows_per_item, 1)
        self.num_items = checks.integer("num_items", num_items, 1)
        self.batch_size = checks.integer("batch_size", batch_size, 1)
        self.shuffle, self.drop_last = shuffle, drop_last

    def plan(self, rng: np.random.Generator) -> Batches:
        """All batches of an epoch, drawn with ``rng``."""
        order = rng.permutation(self.num_items) if self.shuffle else np.arange(self.num_items)
        stops = range(self.batch_size, self.num_items, self.batch_size)
        batches = np.split(order, stops)
        if self.drop_last and len(batches[-1]) < self.batch_size:
            del batches[-1]
        return [(batch[:, None] * self.rows_per_item + np.arange(self.rows_per_item)).ravel() for batch in batches]


class ClassSampler(Sampler):
    """Batches of P classes with K items each, as losses that compare the items of a batch need them.

    In each epoch the items of a class are shuffled and split into groups of K. If the number of items is not a
    multiple of K, the last group repeats items of the class. A batch consists of P groups of P different classes, so
    all batches have the same shape. Every item occurs at least once in an epoch, with two exceptions, drawn again in
    each epoch: groups that do not fill a last batch, and groups of a class so large that no other classes are left to
    combine with it. Classes with a single item have no positive. They are left out, with one warning.

    Args:
        labels: ``[N]`` integers, the class of each item.
        batch_size: The maximal number of items in a batch. P is ``batch_size // num_items_per_class``.
        num_items_per_class: K, at least 2. The default is 4, or more if there are too few classes to fill the batch.
        seed: Seed of the random generator.

    Raises:
        ValueError: If fewer than two classes have two items, ``batch_size`` cannot hold two classes of two items, or
            there are fewer than P classes.

    Example:
        >>> labels = np.array([0, 0, 0, 0, 1, 1, 1, 1])
        >>> [labels[batch].tolist().count(0) for batch in ClassSampler(labels, batch_size=4, num_items_per_class=2)]
        [2, 2]
    """

    def __init__(self, labels: np.ndarray, batch_size: int, num_items_per_class: int | None = None, seed: int = 0):
        super().__init__(seed)
        labels = np.asarray(labels)
        checks.shape("labels", labels.shape, ["N"])
        classes, self._codes, counts = np.unique(labels, return_inverse=True, return_counts=True)
        usable = int((counts > 1).sum())
        if usable < 2:
            raise ValueError(
                f"two classes must have two items each to learn from, got {usable} such "
                f"class{'es' * (usable != 1)} among {len(classes)}"
            )
        batch_size = checks.integer("batch_size", batch_size, 1)
        if batch_size < 4:
            raise ValueError(f"batch_size must hold two classes of two items, so at least 4, got {batch_size}")
        use_default = num_items_per_class is None
        if num_items_per_class is None:
            num_items_per_class = min(max(4, batch_size // usable), batch_size // 2)
        self.num_items_per_class = checks.integer("num_items_per_class", num_items_per_class, 2)
        self.num_classes = batch_size // self.num_items_per_class
        if use_default:
            self.num_classes = min(self.num_classes, usable)
        if self.num_classes < 2:
            raise ValueError(
                f"batch_size must hold two classes of num_items_per_class={num_items_per_class} items, so "
                f"at least {2 * num_items_per_class}, got {batch_size}"
            )
        if self.num_classes > usable:
            raise ValueError(
                f"batch_size {batch_size} with num_items_per_class={num_items_per_class} must find "
                f"{self.num_classes} classes of two items or more, got {usable}; take a batch_size of at most "
                f"{usable * num_items_per_class}, or more items per class"
            )
        if usable < len(classes):
            warnings.warn(
                f"{len(classes) - usable} of {len(classes)} classes have a single item and are left out of training",
                stacklevel=2,
            )
        self.batch_size = self.num_classes * self.num_items_per_class
        self._counts = np.where(counts > 1, counts, 0)
        self._groups = -(-self._counts // self.num_items_per_class)
        self._length = max_batches(self._groups, self.num_classes)

    def plan(self, rng: np.random.Generator) -> Batches:
        """All batches of an epoch, drawn with ``rng``."""
        k, length = self.num_items_per_class, self._length
        shuffled = rng.permutation(len(self._codes))
        by_class = shuffled[np.argsort(self._codes[shuffled], kind="stable")]
        starts = np.cumsum(np.bincount(self._codes)) - np.bincount(self._codes)

        # Put all groups in one line, class after class, and deal them to the batches in turn. A class has at most as
        # many groups as there are batches, so no batch gets two groups of one class.
        order = rng.permutation(len(self._groups))
        dealt = np.minimum(self._groups[order], length)
        owner = np.repeat(order, dealt)
        number = np.arange(len(owner)) - np.repeat(np.cumsum(dealt) - dealt, dealt)
        owner, number = self._drop_surplus(owner, number, rng)
        slot = number[:, None] * k + np.arange(k)
        items = by_class[starts[owner][:, None] + slot % self._counts[owner][:, None]]
        batches = items.reshape(self.num_classes, length, k).swapaxes(0, 1).reshape(length, -1)
        return list(rng.permuted(batches[rng.permutation(length)], axis=1))

    def _drop_surplus(
        self, owner: np.ndarray, number: np.ndarray, rng: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray]:
        """Leave out random groups, those that do not fill another batch."""
        kept = rng.permutation(len(owner))[: self.num_classes * self._length]
        kept.sort()
        return owner[kept], number[kept]

    def __len__(self) -> int:
        return self._length


def max_batches(groups: np.ndarray, width: int) -> int:
    """The maximal number of batches of ``width`` groups from different classes, given the groups of each class.

    B batches can be filled if and only if ``sum(min(groups, B)) >= width * B``. If B can be filled, fewer can.
    """
    low, high = 0, int(groups.sum()) // width
    while low < high:
        middle = (low + high + 1) // 2
        if np.minimum(groups, middle).sum() >= width * middle:
            low = middle
        else:
            high = middle - 1
    return low


class InstanceSampler(Sampler):
    """Batches that contain each of their instances once per view.

    Every instance occurs in one batch of an epoch. A last batch of a single instance has no negatives and is left out.

    Args:
        num_items: The number of instances, at least 2.
        batch_size: The maximal number of views in a batch, at least twice ``views``.
        views: The views of each instance.
        seed: Seed of the random generator.

    Raises:
        ValueError: If there are fewer than two instances, or a batch cannot hold two.

    Example:
        >>> batches = InstanceSampler(num_items=4, batch_size=4, views=2).batches()
        >>> [(bool(batch[0] == batch[1]), len(batch)) for batch in batches]
        [(True, 4), (True, 4)]
    """

    def __init__(self, num_items: int, batch_size: int, views: int = 2, seed: int = 0):
        super().__init__(seed)
        self.num_items = checks.integer("num_items", num_items, 2)
        self.views = checks.integer("views", views, 2)
        if checks.integer("batch_size", batch_size, 1) < 2 * views:
            raise ValueError(
                f"batch_size must hold two instances of {views} views, so at least {2 * views}, got {batch_size}"
            )
        self.batch_size = batch_size // views * views

    def plan(self, rng: np.random.Generator) -> Batches:
        """All batches of an epoch, drawn with ``rng``."""
        order = rng.permutation(self.num_items)
        size = self.batch_size // self.views
        batches = np.split(order, range(size, len(order), size))
        return [np.repeat(batch, self.views) for batch in batches if len(batch) > 1]


class SessionSampler(Sampler):
    """Batches of whole sessions in random order.

    A batch is filled with sessions until the next one would not fit. Every item occurs once in an epoch, except for
    sessions larger than ``batch_size``: such a session keeps its anchors and a random part of the rest, including a
    match and a non-match. Sessions without an anchor, a match or a non-match give no triplet. They are left out, with
    one warning.

    Args:
        labels: ``[N, 2]`` integers, the session and the role of each item.
        batch_size: The maximal number of items in a batch, at least 3.
        seed: Seed of the random generator.

    Raises:
        ValueError: If ``batch_size`` is below 3, or no session has an anchor, a match and a non-match.

    Example:
        >>> labels = np.array([[0, 0], [0, 1], [0, -1], [1, 0], [1, 1], [1, -1]])
        >>> [sorted(labels[batch, 1].tolist()) for batch in SessionSampler(labels, batch_size=3)]
        [[-1, 0, 1], [-1, 0, 1]]
    """

    def __init__(self, labels: np.ndarray, batch_size: int, seed: int = 0):
        super().__init__(seed)
        labels = np.asarray(labels)
        checks.shape("labels", labels.shape, ["N", "2"])
        self.batch_size = checks.integer("batch_size", batch_size, 3)
        groups = Groups(labels[:, 0])
        roles = labels[:, 1]
        complete = np.all([groups.contains(roles == role) for role in (ANCHOR, MATCH, NO_MATCH)], axis=0)
        if not complete.any():
            raise ValueError(f"a session must have an anchor, a match and a non-match, and none of {len(complete)} has")
        if not complete.all():
            warnings.warn(
                f"{np.count_nonzero(~complete)} of {len(complete)} sessions lack an anchor, a match or a "
                "non-match and are left out of training",
                stacklevel=2,
            )
        self._roles, self._sessions = roles, groups.subset(complete)

    def plan(self, rng: np.random.Generator) -> Batches:
        """All batches of an epoch, drawn with ``rng``."""
        return self._sessions.pack(rng, self.batch_size, self._truncate)

    def _truncate(self, session: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """One item of each role, then the other anchors, then random items, until the batch is full."""
        session = rng.permutation(session)
        roles = self._roles[session]
        first = [int(np.flatnonzero(roles == role)[0]) for role in (ANCHOR, MATCH, NO_MATCH)]
        anchors_first = np.argsort(roles != ANCHOR, kind="stable")
        order = list(dict.fromkeys([*first, *anchors_first.tolist()]))
        return session[order[: self.batch_size]]


class GroupSampler(Sampler):
    """Batches of whole groups in random order, such as all answers to a query.

    Every item occurs once in an epoch, except for groups larger than ``batch_size``: a random part of such a group is
    drawn again in each epoch.

    Args:
        groups: ``[N]`` integers, the group of each item.
        batch_size: The maximal number of items in a batch, at least 2.
        seed: Seed of the random generator.

    Raises:
        ValueError: If ``batch_size`` is below 2.

    Example:
        >>> groups = np.array([0, 0, 1, 1, 1])
        >>> sorted(groups[batch].tolist() for batch in GroupSampler(groups, batch_size=3))
        [[0, 0], [1, 1, 1]]
    """

    def __init__(self, groups: np.ndarray, batch_size: int, seed: int = 0):
        super().__init__(seed)
        groups = np.asarray(groups)
        checks.shape("groups", groups.shape, ["N"])
        self.batch_size = checks.integer("batch_size", batch_size, 2)
        self._groups = Groups(groups)

    def plan(self, rng: np.random.Generator) -> Batches:
        """All batches of an epoch, drawn with ``rng``."""
        return self._groups.pack(rng, self.batch_size, lambda group, rng: rng.permutation(group)[: self.batch_size])
