"""Which sampler a training uses: the one the user names, or the one that loss and data need."""

import warnings
from typing import Any

from .... import checks
from .datasets import Dataset
from .samplers import IterableSampler, RandomSampler, Sampler

__all__ = ["SAMPLERS", "choose_sampler"]

SAMPLERS = ("auto", "random", "class")


def choose_sampler(
    sampler: Any,
    loss: Any,
    dataset: Dataset,
    batch_size: int,
    num_items_per_class: int | None,
    seed: int,
    keep_all: bool = False,
) -> Sampler:
    """The sampler of a training.

    Args:
        sampler: ``"class"`` puts items that belong together into one batch. ``"random"`` draws items independently.
            ``"auto"`` uses what the loss needs. A :class:`Sampler` instance is used as it is, and any other iterable
            over the batches of an epoch by :class:`IterableSampler`.
        loss: A loss. One that compares the items of a batch always uses ``"class"``; ``"random"`` is then ignored
            with a warning.
        dataset: Provides the ``"class"`` sampler, see :meth:`Dataset.default_sampler`.
        batch_size: The maximal number of items in a batch.
        num_items_per_class: See :class:`ClassSampler`. It implies ``"class"``.
        seed: Seed of the random generator.
        keep_all: Whether every item occurs at least once in an epoch, see :class:`ClassSampler`. Otherwise a warning
            says if an epoch leaves out more than 5 % of them.

    Raises:
        TypeError: If ``keep_all`` is not a boolean.
        ValueError: For an unknown name, or data that the sampler cannot use.
    """
    if not isinstance(keep_all, bool):
        raise TypeError(f"keep_all must be True or False, got {keep_all!r}")
    needed = getattr(loss, "sampler", "class")
    if not isinstance(sampler, str):
        if num_items_per_class is not None:
            raise ValueError("num_items_per_class must be None if sampler is an instance, which has its own")
        if keep_all:
            raise ValueError("keep_all must be False if sampler is an instance, which has its own")
        return sampler if isinstance(sampler, Sampler) else IterableSampler(sampler, dataset.num_rows)
    checks.one_of("sampler", sampler, SAMPLERS)
    if sampler == "random" and needed == "class":
        warnings.warn(
            f"{type(loss).__name__} compares the items of a batch, so sampler='random' would leave it little to learn "
            "from; sampler='class' is used instead",
            stacklevel=3,
        )
    if "class" in (sampler, needed) or num_items_per_class is not None:
        found = dataset.default_sampler(batch_size, num_items_per_class, seed)
        return found.keeping_all() if keep_all else found
    return RandomSampler(len(dataset), batch_size, seed=seed, rows_per_item=dataset.rows_per_item)
