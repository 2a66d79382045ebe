"""Miners select which triplets or pairs of a batch a loss learns from.

A miner does not list tuples. :meth:`Miner.refine` narrows the masks of positives and negatives of a block of anchors.
The shape of the masks does not depend on the data, so every compiler can compile it. :meth:`Miner.mine` lists the
tuples, for a training loop of your own.
"""

from abc import ABC, abstractmethod
from typing import Any, ClassVar

import numpy as np

from ... import checks
from .data.relations import check_labels, check_self_offset

__all__ = ["Miner", "SiameseEasyHardMiner", "TripletEasyHardMiner"]

Tensor = Any
STRATEGIES = ("easy", "semihard", "hard", "all")


class Miner(ABC):
    """Interface of all miners."""

    tuples: ClassVar[str]  # what it selects: "pairs" or "triplets"

    @abstractmethod
    def refine(self, distances: Tensor, positive: Tensor, negative: Tensor) -> tuple[Tensor, Tensor]:
        """Narrow the masks of a block of anchors: distances and two boolean masks, ``[B, M]`` each."""

    @abstractmethod
    def select(
        self,
        labels: Tensor,
        distances: Tensor,
        reference_labels: Tensor | None = None,
        self_offset: int | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Masks of the selected positives and negatives: labels ``[N]`` and distances ``[N, M]`` to two ``[N, M]``.

        Without ``reference_labels`` the batch is compared with itself, without the diagonal. If the batch is among the
        references, from row ``self_offset`` on, no row is its own reference.
        """

    @abstractmethod
    def mine(
        self,
        labels: Tensor,
        distances: Tensor,
        reference_labels: Tensor | None = None,
        self_offset: int | None = None,
    ) -> tuple[Tensor, ...]:
        """Indices of the selected tuples, ``[T]`` int64 each, sorted by anchor.

        Triplets are ``(anchor, positive, negative)``. Pairs are ``(first, second, similar)``, where similar is 1 or 0.
        If a batch is compared with itself, each unordered pair occurs once, with ``first < second``.
        """

    def check(
        self, labels: Tensor, distances: Tensor, reference_labels: Tensor | None, self_offset: int | None
    ) -> None:
        """Raise ``ValueError`` if the shapes do not fit. It looks at no value, so it also runs while tracing."""
        columns = labels if reference_labels is None else reference_labels
        for name, side in (("labels", labels), ("reference_labels", columns)):
            if not hasattr(side, "dtype"):
                raise TypeError(f"{name} must be a tensor, got {type(side).__name__}")
            check_labels(name, side, str(side.dtype))
        expected = [labels.shape[0], columns.shape[0]]
        if list(distances.shape) != expected:
            raise ValueError(f"distances must have shape {expected}, by the labels, got {list(distances.shape)}")
        check_self_offset(self_offset, labels, reference_labels)


class EasyHard(Miner):
    """Strategies and their checks, shared by the miners below."""

    def __init__(self, pos_strategy: str = "hard", neg_strategy: str = "hard", margin: float | None = None):
        super().__init__()
        self.pos_strategy = checks.one_of("pos_strategy", pos_strategy, STRATEGIES)
        self.neg_strategy = checks.one_of("neg_strategy", neg_strategy, STRATEGIES)
        self.margin = None if margin is None else checks.above("margin", margin, 0)
        strategies = {pos_strategy, neg_strategy}
        if "semihard" in strategies and (strategies == {"semihard"} or "all" in strategies):
            raise ValueError(
                "semihard must be combined with a strategy that selects one item, easy or hard, got "
                f"pos_strategy={pos_strategy!r} and neg_strategy={neg_strategy!r}"
            )
        if margin is not None and "semihard" not in strategies:
            raise ValueError(
                "margin must be used with a semihard strategy, got "
                f"margin={margin!r} with pos_strategy={pos_strategy!r} and neg_strategy={neg_strategy!r}"
            )

    @property
    def by_strategy(self) -> bool:
        """Whether the strategies alone decide what is selected: not in a subclass with a ``refine`` of its own."""
        return type(self).refine.__module__.startswith("finetuner.tuner.")


class TripletEasyHardMiner(EasyHard):
    """Selects a positive and a negative for each anchor, by how hard they are.

    ============  ===================================  ===================================
    strategy      positives                            negatives
    ============  ===================================  ===================================
    ``hard``      the farthest                         the nearest
    ``easy``      the nearest                          the farthest
    ``semihard``  the farthest that is nearer than     the nearest that is farther than
                  the selected negative                the selected positive
    ``all``       all                                  all
    ============  ===================================  ===================================

    Of equally distant items, the one with the lowest index is selected. An anchor without a selected positive or
    without a selected negative forms no triplet.

    Args:
        pos_strategy: Strategy for the positives.
        neg_strategy: Strategy for the negatives. If one strategy is ``"semihard"``, the other must be ``"easy"`` or
            ``"hard"``.
        margin: The maximal difference between the distance of a semihard item and that of the selected one, above 0;
            None for no limit.

    Raises:
        ValueError: If a strategy, the combination or the margin is not allowed.

    Example:
        >>> labels = tensor([0, 0, 0, 1])
        >>> distances = tensor([[0.0, 0.2, 0.9, 0.5], [0.2, 0.0, 0.6, 0.4], [0.9, 0.6, 0.0, 0.3], [0.5, 0.4, 0.3, 0.0]])
        >>> miner = TripletEasyHardMiner(pos_strategy="hard", neg_strategy="hard")
        >>> np.stack([np.asarray(indices) for indices in miner.mine(labels, distances)], axis=1).tolist()
        [[0, 2, 3], [1, 2, 3], [2, 0, 3]]

    References:
        Semihard: Schroff et al., "FaceNet: A unified embedding for face recognition and clustering", CVPR 2015. Hard:
        Hermans et al., "In defense of the triplet loss for person re-identification", 2017. Easy: Xuan et al.,
        "Improved embeddings with easy positive triplet mining", WACV 2020.
    """

    tuples = "triplets"


class SiameseEasyHardMiner(EasyHard):
    """Selects a positive and a negative pair for each item, by how hard they are.

    The strategies are those of :class:`TripletEasyHardMiner`, with each item as the anchor. A pair does not need a
    counterpart: an item without negatives still selects its positive, and the reverse. Only a semihard pair needs the
    pair that it is compared with.

    Args:
        pos_strategy: Strategy for the positive pairs.
        neg_strategy: Strategy for the negative pairs. If one strategy is ``"semihard"``, the other must be ``"easy"``
            or ``"hard"``.
        margin: The maximal difference between the distance of a semihard pair and that of the selected one, above 0;
            None for no limit.

    Raises:
        ValueError: If a strategy, the combination or the margin is not allowed.

    Example:
        >>> labels = tensor([0, 0, 1])
        >>> distances = tensor([[0.0, 0.2, 0.5], [0.2, 0.0, 0.4], [0.5, 0.4, 0.0]])
        >>> miner = SiameseEasyHardMiner(pos_strategy="hard", neg_strategy="hard")
        >>> np.stack([np.asarray(indices) for indices in miner.mine(labels, distances)], axis=1).tolist()
        [[0, 1, 1], [0, 2, 0], [1, 2, 0]]
    """

    tuples = "pairs"


def tuple_indices(
    tuples: str, positive: np.ndarray, negative: np.ndarray, self_offset: int | None
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The indices that :meth:`Miner.mine` returns, from two masks ``[N, M]``.

    ``self_offset`` is the column of the first row, if the rows are among the columns.
    """
    if tuples == "triplets":
        return triplet_indices(positive, negative)
    return pair_indices(positive, negative, self_offset)


def triplet_indices(positive: np.ndarray, negative: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Each positive with each negative of its row: two ``[N, M]`` masks to three ``[T]`` int64."""
    anchors, positives = np.nonzero(positive)
    _, negatives = np.nonzero(negative)
    counts = negative.sum(axis=1)
    starts = np.cumsum(counts) - counts
    repeats = counts[anchors]
    offsets = np.arange(repeats.sum()) - np.repeat(np.cumsum(repeats) - repeats, repeats)
    chosen = negatives[np.repeat(starts[anchors], repeats) + offsets]
    return np.repeat(anchors, repeats), np.repeat(positives, repeats), chosen


def pair_indices(
    positive: np.ndarray, negative: np.ndarray, self_offset: int | None
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Each selected pair: two ``[N, M]`` masks to three ``[T]`` int64, sorted by their first index."""
    if self_offset is not None:  # each pair of the batch once
        own = slice(self_offset, self_offset + len(positive))
        positive, negative = positive.copy(), negative.copy()
        for mask in (positive, negative):
            mask[:, own] = np.triu(mask[:, own] | mask[:, own].T, 1)
    first, second = np.nonzero(positive | negative)
    return first, second, positive[first, second].astype(np.int64)
