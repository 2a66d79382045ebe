"""Which sampler goes with which loss and data."""

import warnings
from typing import Any

import numpy as np

from . import checks
from .dataset import ClassDataset, Dataset, InstanceDataset, SessionDataset
from .groups import Groups
from .sampler import Batches, ClassSampler, InstanceSampler, RandomSampler, Sampler, SessionSampler
from .targets import RankingDataset

__all__ = ["GroupSampler", "SAMPLERS", "chosen_sampler", "sampler_for"]

SAMPLERS = ("auto", "random", "class")


class GroupSampler(Sampler):
    """Batches of whole groups, such as the answers to a query, in random order.

    Every item comes once an epoch, but for what exceeds ``batch_size`` in a single group: of such a group a random
    part is taken, drawn anew each epoch.

    Args:
        groups: ``[N]`` integers, the group of each item.
        batch_size: items a batch at the most, at least 2.
        seed: of the random generator.

    Raises:
        ValueError: if ``batch_size`` is below 2.
    """

    def __init__(self, groups: np.ndarray, batch_size: int, seed: int = 0):
        super().__init__(seed)
        groups = np.asarray(groups)
        checks.expected_shape("groups", groups.shape, ["N"])
        self.batch_size = checks.whole("batch_size", batch_size, 2)
        self._groups = Groups(groups)

    def plan(self, rng: np.random.Generator) -> Batches:
        """All batches of an epoch."""
        return self._groups.packed(rng, self.batch_size, lambda group, rng: rng.permutation(group)[: self.batch_size])


def sampler_for(dataset: Dataset, batch_size: int, num_items_per_class: int | None = None, seed: int = 0) -> Sampler:
    """The sampler that brings together what belongs together in ``dataset``.

    Raises:
        ValueError: if nothing in it belongs together, or a number does not fit.
    """
    if num_items_per_class is not None and not isinstance(dataset, ClassDataset):
        raise ValueError(f"num_items_per_class must go with a ClassDataset, got {dataset!r}")
    if isinstance(dataset, InstanceDataset):
        return InstanceSampler(len(dataset), batch_size, dataset.views, seed)
    if isinstance(dataset, SessionDataset):
        return SessionSampler(dataset.labels, batch_size, seed)
    if isinstance(dataset, RankingDataset):
        return GroupSampler(dataset.groups, batch_size, seed)
    if isinstance(dataset, ClassDataset):
        return ClassSampler(dataset.labels, batch_size, num_items_per_class, seed)
    if dataset.size > 1:
        return RandomSampler(len(dataset), batch_size, seed=seed, size=dataset.size)
    raise ValueError(f"sampler 'class' must have classes, sessions or groups to bring together, got {dataset!r}")


def chosen_sampler(
    asked: Any, loss: Any, dataset: Dataset, batch_size: int, num_items_per_class: int | None, seed: int
) -> Sampler:
    """The sampler that was asked for: an instance as it is, or by one of the names in ``SAMPLERS``.

    ``"class"`` brings together what belongs together, ``"random"`` draws item by item, and ``"auto"`` is what the
    loss needs. A loss that learns by comparing items of a batch is not given ``"random"``, with a warning.

    Raises:
        ValueError: for another name, or data that the sampler cannot draw from.
    """
    needed = getattr(loss, "sampler", "class")
    if not isinstance(asked, str):
        if num_items_per_class is not None:
            raise ValueError("num_items_per_class must be left to the sampler, where one is given")
        return asked
    checks.one_of("sampler", asked, SAMPLERS)
    if asked == "random" and needed == "class":
        warnings.warn(
            f"{type(loss).__name__} compares the items of a batch, so that sampler='random' would leave it little to "
            "learn from: sampler='class' is taken",
            stacklevel=3,
        )
    if "class" in (asked, needed) or num_items_per_class is not None:
        return sampler_for(dataset, batch_size, num_items_per_class, seed)
    return RandomSampler(len(dataset), batch_size, seed=seed, size=dataset.size)
