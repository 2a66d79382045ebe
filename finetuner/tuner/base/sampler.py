"""Samplers: which items meet in a batch. They see labels alone, so all frameworks see the same batches."""

import warnings
from abc import ABC, abstractmethod
from collections.abc import Iterator

import numpy as np

from . import checks
from .dataset import ANCHOR, MATCH, NO_MATCH
from .groups import Groups

__all__ = ["ClassSampler", "InstanceSampler", "RandomSampler", "Sampler", "SessionSampler"]

Batches = list[np.ndarray]


class Sampler(ABC):
    """Interface of all samplers: an iterable over the batches of one epoch, each an array of indices.

    The batches depend on the seed and the epoch alone, so any epoch can be had again.

    Args:
        seed: of the random generator.
    """

    def __init__(self, seed: int = 0):
        self.seed = checks.whole("seed", seed, 0)
        self.epoch = 0
        self._planned: tuple[int, Batches] | None = None

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch, from 0, whose batches come next."""
        self.epoch = epoch

    @abstractmethod
    def plan(self, rng: np.random.Generator) -> Batches:
        """All batches of an epoch, drawn with ``rng``."""

    def batches(self) -> Batches:
        """All batches of the present epoch."""
        if self._planned is None or self._planned[0] != self.epoch:
            self._planned = self.epoch, self.plan(np.random.default_rng([self.seed, self.epoch]))
        return self._planned[1]

    def __iter__(self) -> Iterator[np.ndarray]:
        return iter(self.batches())

    def __len__(self) -> int:
        return len(self.batches())


class RandomSampler(Sampler):
    """Items in random order: every item once an epoch, the last batch as short as it comes.

    Args:
        num_items: how many items there are, at least 1.
        batch_size: items a batch, at least 1.
        shuffle: whether to draw a new order each epoch, or to keep the given one.
        drop_last: leave out the last batch of an epoch if it is short.
        seed: of the random generator.
        size: how many rows an item has, all of which a batch holds side by side: 2 of pairs, 3 of triplets.
    """

    def __init__(
        self,
        num_items: int,
        batch_size: int,
        shuffle: bool = True,
        drop_last: bool = False,
        seed: int = 0,
        size: int = 1,
    ):
        super().__init__(seed)
        self.size = checks.whole("size", size, 1)
        self.num_items = checks.whole("num_items", num_items, 1)
        self.batch_size = checks.whole("batch_size", batch_size, 1)
        self.shuffle, self.drop_last = shuffle, drop_last

    def plan(self, rng: np.random.Generator) -> Batches:
        """All batches of an epoch."""
        order = rng.permutation(self.num_items) if self.shuffle else np.arange(self.num_items)
        stops = range(self.batch_size, self.num_items, self.batch_size)
        batches = np.split(order, stops)
        if self.drop_last and len(batches[-1]) < self.batch_size:
            del batches[-1]
        return [(batch[:, None] * self.size + np.arange(self.size)).ravel() for batch in batches]


class ClassSampler(Sampler):
    """Batches of P classes with K items each, as contrastive losses want them.

    Each epoch the items of a class are shuffled and dealt into groups of K; a class whose number of
    items is no multiple of K fills its last group with items that it has already dealt (a class of
    fewer than K items repeats them). A batch is P groups of P different classes, so all batches have
    one shape. Every item comes at least once, but for two documented cuts, drawn anew each epoch:
    groups that are too few for a last full batch, and groups of a class so large that no other
    classes are left to go with them. Classes of one item have no positive and are left out, with
    one warning.

    Args:
        labels: ``[N]`` integers, the class of each item.
        batch_size: items a batch at the most; P is ``batch_size // num_items_per_class``.
        num_items_per_class: K, at least 2. By default 4, or more where there are too few classes to
            fill the batch.
        seed: of the random generator.

    Raises:
        ValueError: if no two classes have two items each, or ``batch_size`` cannot hold two classes
            of two, or there are not P classes.
    """

    def __init__(self, labels: np.ndarray, batch_size: int, num_items_per_class: int | None = None, seed: int = 0):
        super().__init__(seed)
        labels = np.asarray(labels)
        checks.expected_shape("labels", labels.shape, ["N"])
        classes, self._codes, counts = np.unique(labels, return_inverse=True, return_counts=True)
        usable = int((counts > 1).sum())
        if usable < 2:
            raise ValueError(
                f"two classes must have two items each to learn from, got {usable} such "
                f"class{'es' * (usable != 1)} among {len(classes)}"
            )
        batch_size = checks.whole("batch_size", batch_size, 1)
        if batch_size < 4:
            raise ValueError(f"batch_size must hold two classes of two items, so at least 4, got {batch_size}")
        own_choice = num_items_per_class is None
        if num_items_per_class is None:
            num_items_per_class = min(max(4, batch_size // usable), batch_size // 2)
        self.num_items_per_class = checks.whole("num_items_per_class", num_items_per_class, 2)
        self.num_classes = batch_size // self.num_items_per_class
        if own_choice:
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
        self._length = most_batches(self._groups, self.num_classes)

    def plan(self, rng: np.random.Generator) -> Batches:
        """All batches of an epoch."""
        k, length = self.num_items_per_class, self._length
        shuffled = rng.permutation(len(self._codes))
        by_class = shuffled[np.argsort(self._codes[shuffled], kind="stable")]
        starts = np.cumsum(np.bincount(self._codes)) - np.bincount(self._codes)

        # Lay the groups in one line, class after class, and deal them out to the batches in turn: a class
        # has at most as many groups as there are batches, so it never meets itself.
        order = rng.permutation(len(self._groups))
        dealt = np.minimum(self._groups[order], length)
        owner = np.repeat(order, dealt)
        number = np.arange(len(owner)) - np.repeat(np.cumsum(dealt) - dealt, dealt)
        owner, number = self._cut(owner, number, rng)
        slot = number[:, None] * k + np.arange(k)
        items = by_class[starts[owner][:, None] + slot % self._counts[owner][:, None]]
        batches = items.reshape(self.num_classes, length, k).swapaxes(0, 1).reshape(length, -1)
        return list(rng.permuted(batches[rng.permutation(length)], axis=1))

    def _cut(self, owner: np.ndarray, number: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """Leave out, at random, the groups that are too few for one more batch."""
        kept = rng.permutation(len(owner))[: self.num_classes * self._length]
        kept.sort()
        return owner[kept], number[kept]

    def __len__(self) -> int:
        return self._length


def most_batches(groups: np.ndarray, width: int) -> int:
    """The most batches of ``width`` groups from different classes, given each class's number of groups.

    That many batches B can be filled if and only if ``sum(min(groups, B)) >= width * B``, and if B can
    then fewer can.
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
    """Batches that hold each of their instances as often as it has views.

    Every instance comes once an epoch; a last batch of a single instance, which would have nothing to
    be told apart from, is left out.

    Args:
        num_items: how many instances there are, at least 2.
        batch_size: views a batch at the most, at least twice ``views``.
        views: how often a batch holds each instance.
        seed: of the random generator.

    Raises:
        ValueError: if there are not two instances, or a batch cannot hold two.
    """

    def __init__(self, num_items: int, batch_size: int, views: int = 2, seed: int = 0):
        super().__init__(seed)
        self.num_items = checks.whole("num_items", num_items, 2)
        self.views = checks.whole("views", views, 2)
        if checks.whole("batch_size", batch_size, 1) < 2 * views:
            raise ValueError(
                f"batch_size must hold two instances of {views} views, so at least {2 * views}, got {batch_size}"
            )
        self.batch_size = batch_size // views * views

    def plan(self, rng: np.random.Generator) -> Batches:
        """All batches of an epoch."""
        order = rng.permutation(self.num_items)
        size = self.batch_size // self.views
        batches = np.split(order, range(size, len(order), size))
        return [np.repeat(batch, self.views) for batch in batches if len(batch) > 1]


class SessionSampler(Sampler):
    """Batches of whole sessions, in random order.

    Sessions are packed in the order drawn until the next would not fit. Every item comes once an
    epoch, but for what exceeds ``batch_size`` in a single session: such a session keeps its anchors
    and a random part of the rest, with a match and a non-match among it. Sessions that hold no
    match or nothing to tell it from teach nothing and are left out, with one warning.

    Args:
        labels: ``[N, 2]`` integers, session and role of each item.
        batch_size: items a batch at the most, at least 3.
        seed: of the random generator.

    Raises:
        ValueError: if ``batch_size`` is below 3, or no session has an anchor, a match and a non-match.
    """

    def __init__(self, labels: np.ndarray, batch_size: int, seed: int = 0):
        super().__init__(seed)
        labels = np.asarray(labels)
        checks.expected_shape("labels", labels.shape, ["N", "2"])
        self.batch_size = checks.whole("batch_size", batch_size, 3)
        groups = Groups(labels[:, 0])
        roles = labels[:, 1]
        whole = np.all([groups.holding(roles == role) for role in (ANCHOR, MATCH, NO_MATCH)], axis=0)
        if not whole.any():
            raise ValueError(f"a session must have an anchor, a match and a non-match, and none of {len(whole)} has")
        if not whole.all():
            warnings.warn(
                f"{np.count_nonzero(~whole)} of {len(whole)} sessions lack an anchor, a match or a "
                "non-match and are left out of training",
                stacklevel=2,
            )
        self._roles, self._sessions = roles, groups.only(whole)

    def plan(self, rng: np.random.Generator) -> Batches:
        """All batches of an epoch."""
        return self._sessions.packed(rng, self.batch_size, self._fitting)

    def _fitting(self, session: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Of a session that is too long, one item of each role and then as many as fit."""
        session = rng.permutation(session)
        roles = self._roles[session]
        first = [int(np.flatnonzero(roles == role)[0]) for role in (ANCHOR, MATCH, NO_MATCH)]
        anchors_first = np.argsort(roles != ANCHOR, kind="stable")
        order = list(dict.fromkeys([*first, *anchors_first.tolist()]))
        return session[order[: self.batch_size]]
