"""Batches of P classes with K items each."""

import copy
import warnings

import numpy as np

from .... import checks
from .sampler import MAX_LEFT_OUT, Batches, Sampler, warn_about_share

__all__ = ["ClassSampler", "max_batches", "min_batches"]


class ClassSampler(Sampler):
    """Batches of P classes with K items each, as losses that compare the items of a batch need them.

    In each epoch the items of a class are shuffled and split into groups of K. If the number of items is not a
    multiple of K, the last group repeats items of the class. A batch consists of P groups of P different classes, so
    all batches have the same shape. Every item occurs at least once in an epoch, with two exceptions, drawn again in
    each epoch: groups that do not fill a last batch, and groups of a class so large that no other classes are left to
    combine with it. If they are more than 5 % of the items, a warning gives their number. Classes with a single item
    have no positive. They are left out, with one warning.

    With ``keep_all``, every item occurs at least once in an epoch: the groups of the other classes are repeated, those
    of larger classes more often, until all groups of the largest class are in a batch. Items without a positive are
    kept as negatives: a batch may have one group that consists of them. An epoch has more batches. If K is not given,
    P and K are chosen such that it has the fewest rows.

    Args:
        labels: ``[N]`` integers, the class of each item.
        batch_size: The maximal number of items in a batch. P is ``batch_size // num_items_per_class``.
        num_items_per_class: K, at least 2. The default is 4, or more if there are too few classes to fill the batch. If
            small classes then leave items of the others out, a batch has fewer classes, with more items each.
        seed: Seed of the random generator.
        keep_all: Whether every item occurs at least once in an epoch.

    Raises:
        ValueError: If fewer than two classes have two items, ``batch_size`` cannot hold two classes of two items, or
            there are fewer than P classes.

    Example:
        >>> labels = np.array([0, 0, 0, 0, 1, 1, 1, 1])
        >>> [labels[batch].tolist().count(0) for batch in ClassSampler(labels, batch_size=4, num_items_per_class=2)]
        [2, 2]
    """

    can_keep_all = True

    def __init__(
        self,
        labels: np.ndarray,
        batch_size: int,
        num_items_per_class: int | None = None,
        seed: int = 0,
        keep_all: bool = False,
    ):
        super().__init__(seed, keep_all)
        labels = np.asarray(labels)
        checks.shape("labels", labels.shape, ["N"])
        _, self._classes, self._sizes = np.unique(labels, return_inverse=True, return_counts=True)
        self._asked = checks.integer("batch_size", batch_size, 1), num_items_per_class
        self._arrange()

    def _arrange(self) -> None:
        """Choose P and K, and the number of batches."""
        batch_size, num_items_per_class = self._asked
        sizes = self._sizes
        usable = int((sizes > 1).sum())
        if usable < 2:
            raise ValueError(
                f"two classes must have two items each to learn from, got {usable} such "
                f"class{'es' * (usable != 1)} among {len(sizes)}"
            )
        if batch_size < 4:
            raise ValueError(f"batch_size must hold two classes of two items, so at least 4, got {batch_size}")
        self._codes, self._counts = self._classes, np.where(sizes > 1, sizes, 0)
        if self.keep_all and usable < len(sizes):  # one class of all items without a positive
            codes = np.where(sizes > 1, np.cumsum(sizes > 1) - 1, usable)
            self._codes = codes[self._classes]
            self._counts = np.bincount(self._codes)
        if num_items_per_class is None:
            k = min(max(4, batch_size // usable), batch_size // 2)
            self._shape = self._best_shape(batch_size, min(batch_size // k, usable), k)
        else:
            k = checks.integer("num_items_per_class", num_items_per_class, 2)
            self._shape = batch_size // k, k
        self.num_classes, self.num_items_per_class = self._shape
        if self.num_classes < 2:
            raise ValueError(
                f"batch_size must hold two classes of num_items_per_class={num_items_per_class} items, so "
                f"at least {2 * k}, got {batch_size}"
            )
        if self.num_classes > usable:
            raise ValueError(
                f"batch_size {batch_size} with num_items_per_class={num_items_per_class} must find "
                f"{self.num_classes} classes of two items or more, got {usable}; take a batch_size of at most "
                f"{usable * k}, or more items per class"
            )
        self.batch_size = self.num_classes * self.num_items_per_class
        self._groups = -(-self._counts // self.num_items_per_class)
        if self.keep_all:
            self._length = min_batches(self._groups, self.num_classes)
            self._groups = _repeat_groups(self._groups, self._counts, self.num_classes, self._length)
        else:
            self._length = max_batches(self._groups, self.num_classes)

    def _best_shape(self, batch_size: int, num_classes: int, num_items: int) -> tuple[int, int]:
        """P and K: those given, or fewer classes with more items each if that keeps more items, or takes fewer rows."""
        shapes = [(num_classes, num_items)]
        if self.keep_all or num_items > 4:
            shapes += [(p, batch_size // p) for p in range(num_classes - 1, 1, -1)]
        costs = []
        for p, k in shapes:
            groups = -(-self._counts // k)
            if self.keep_all:
                costs.append(min_batches(groups, p) * p * k)
            else:
                length = max_batches(groups, p)
                share_of_groups = p * length / np.minimum(groups, length).sum()  # the others do not fill a batch
                costs.append(self._counts.sum() - np.minimum(self._counts, length * k).sum() * share_of_groups)
        # Fewer classes are worth it if they keep 5 % more of the items, or take 10 % fewer rows.
        gain = 0.1 * min(costs) if self.keep_all else MAX_LEFT_OUT * self._counts.sum()
        return next(shape for shape, cost in zip(shapes, costs, strict=True) if cost <= min(costs) + gain)

    def keeping_all(self) -> "ClassSampler":
        """The same sampler with ``keep_all=True``."""
        other = copy.copy(self)
        other.keep_all, other._planned, other._has_warned = True, None, False
        other._arrange()
        return other

    def warn_about_left_out(self, batches: Batches) -> None:
        """Warn about classes with a single item, and about a share of left out items."""
        single = np.count_nonzero(self._sizes == 1)
        if self.keep_all:
            return
        if single:
            warnings.warn(
                f"{single} of {len(self._sizes)} classes have a single item and are left out of training; "
                "keep_all=True keeps them as negatives",
                stacklevel=3,
            )
        p, k = self.num_classes, self.num_items_per_class
        reason = f"a batch has {k} items of each of {p} classes, and "
        if self._groups.max() > self._length:
            reason += "the smaller classes are used up before the largest"
        else:
            reason += "the last items do not fill a batch"
        remedy = "use keep_all=True, or another batch_size or num_items_per_class"
        warn_about_share(batches, int(self._counts.sum()), reason, remedy)

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


def min_batches(groups: np.ndarray, width: int) -> int:
    """The minimal number of batches of ``width`` groups from different classes that hold all groups of each class."""
    return max(int(groups.max()), -(-int(groups.sum()) // width))


def _repeat_groups(groups: np.ndarray, counts: np.ndarray, width: int, length: int) -> np.ndarray:
    """Repeat groups until they fill ``length`` batches of ``width`` groups, at most one of a class in a batch.

    Larger classes are repeated more often: those with room get a number of groups that is proportional to their items.

    Args:
        groups: ``[C]``, the groups of each class.
        counts: ``[C]``, the items of each class.
        width: The groups of a batch.
        length: The number of batches.

    Returns:
        ``[C]``, the groups of each class, with those repeated.
    """
    room = length - groups
    added = np.zeros_like(groups)
    while (missing := width * length - int((groups + added).sum())) > 0:
        open_ = np.flatnonzero((added < room) & (counts > 0))
        shares = missing * counts[open_] // counts[open_].sum()
        if not shares.any():  # fewer are missing than there are classes
            shares[np.argsort(-counts[open_], kind="stable")[:missing]] = 1
        added[open_] = np.minimum(added[open_] + shares, room[open_])
    return groups + added


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
