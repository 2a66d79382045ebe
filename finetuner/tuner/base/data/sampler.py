"""The interface of samplers, and samplers that need no labels."""

import copy
import warnings
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np

from .... import checks

__all__ = [
    "MAX_LEFT_OUT",
    "Batches",
    "InstanceSampler",
    "IterableSampler",
    "RandomSampler",
    "Sampler",
    "warn_about_share",
]

Batches = list[np.ndarray]

MAX_LEFT_OUT = 0.05  # the share of items that an epoch may leave out without a warning


class Sampler(ABC):
    """Interface of all samplers: an iterable over the batches of one epoch, each an array of indices.

    The batches depend only on the seed and the epoch, so any epoch can be reproduced. If the first epoch that is
    planned leaves out more than 5 % of the items, a warning gives the number.

    Args:
        seed: Seed of the random generator.
        keep_all: Whether every item occurs at least once in an epoch.

    Attributes:
        can_keep_all: Whether :meth:`plan` follows ``keep_all``.
    """

    can_keep_all = False

    def __init__(self, seed: int = 0, keep_all: bool = False):
        self.seed = checks.integer("seed", seed, 0)
        if not isinstance(keep_all, bool | np.bool_):
            raise TypeError(f"keep_all must be True or False, got {keep_all!r}")
        self.keep_all = bool(keep_all)
        self.epoch = 0
        self._planned: tuple[int, Batches] | None = None
        self._has_warned = False

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
            if not self._has_warned:
                self._has_warned = True
                self.warn_about_left_out(self._planned[1])
        return self._planned[1]

    def warn_about_left_out(self, batches: Batches) -> None:  # noqa: B027  (there may be nothing to warn about)
        """Warn if the batches of the first epoch leave out items."""

    def keeping_all(self) -> "Sampler":
        """The same sampler with ``keep_all=True``.

        Raises:
            ValueError: If the class of the sampler has no such option.
        """
        if not self.can_keep_all:
            raise ValueError(f"keep_all must be False with {type(self).__name__}, which has no such option")
        other = copy.copy(self)
        other.keep_all, other._planned, other._has_warned = True, None, False
        return other

    def __iter__(self) -> Iterator[np.ndarray]:
        return iter(self.batches())

    def __len__(self) -> int:
        return len(self.batches())


def warn_about_share(batches: Batches, num_items: int, reason: str, remedy: str) -> None:
    """Warn if an epoch leaves out more than 5 % of the items.

    Args:
        batches: The batches of the epoch.
        num_items: The number of items that could be in a batch.
        reason: Why items are left out.
        remedy: What to do about it.
    """
    left_out = num_items - (len(np.unique(np.concatenate(batches))) if batches else 0)
    if left_out > MAX_LEFT_OUT * num_items:
        warnings.warn(
            f"{left_out:,} of {num_items:,} items are left out of each epoch, because {reason}; {remedy}", stacklevel=4
        )


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

    def warn_about_left_out(self, batches: Batches) -> None:
        """Warn if the items of the dropped batch are many."""
        items = [batch // self.rows_per_item for batch in batches]
        reason = f"they do not fill a last batch of {self.batch_size}"
        warn_about_share(items, self.num_items, reason, "use drop_last=False, or another batch_size")

    def keeping_all(self) -> "RandomSampler":
        """The same sampler with ``drop_last=False``."""
        other = copy.copy(self)
        other.drop_last, other.keep_all, other._planned = False, True, None
        return other


class InstanceSampler(Sampler):
    """Batches that contain each of their instances once per view.

    Every instance occurs in one batch of an epoch. A last batch of a single instance has no negatives and is left out.
    With ``keep_all``, another instance joins it.

    Args:
        num_items: The number of instances, at least 2.
        batch_size: The maximal number of views in a batch, at least twice ``views``.
        views: The views of each instance.
        seed: Seed of the random generator.
        keep_all: Whether every instance occurs at least once in an epoch.

    Raises:
        ValueError: If there are fewer than two instances, or a batch cannot hold two.

    Example:
        >>> batches = InstanceSampler(num_items=4, batch_size=4, views=2).batches()
        >>> [(bool(batch[0] == batch[1]), len(batch)) for batch in batches]
        [(True, 4), (True, 4)]
    """

    can_keep_all = True

    def __init__(self, num_items: int, batch_size: int, views: int = 2, seed: int = 0, keep_all: bool = False):
        super().__init__(seed, keep_all)
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
        if self.keep_all and len(batches[-1]) == 1:
            batches[-1] = np.append(batches[-1], rng.choice(order[:-1]))
        return [np.repeat(batch, self.views) for batch in batches if len(batch) > 1]

    def warn_about_left_out(self, batches: Batches) -> None:
        """Warn if the instance that is left out is one of few."""
        reason = "a last batch of a single instance has no negatives"
        warn_about_share(batches, self.num_items, reason, "use keep_all=True, or another batch_size")
