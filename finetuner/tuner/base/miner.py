"""Miners: which of a batch's tuples a loss learns from.

A miner selects, it does not list: :meth:`Miner.refine` narrows the masks of positives and negatives of a
block of anchors, whose shapes never depend on the data, so that every compiler can take it.
:meth:`Miner.mine` lists the tuples, for people with a loop of their own.
"""

from abc import ABC, abstractmethod
from typing import Any, ClassVar

import numpy as np

from . import checks

__all__ = ["Miner", "SiameseEasyHardMiner", "TripletEasyHardMiner"]

Tensor = Any
STRATEGIES = ("easy", "semihard", "hard", "all")


class Miner(ABC):
    """Interface of all miners."""

    tuples: ClassVar[str]  # what it selects: "pairs" or "triplets"

    @abstractmethod
    def refine(self, distances: Tensor, positive: Tensor, negative: Tensor) -> tuple[Tensor, Tensor]:
        """Narrow the masks of a block of anchors: distances and two boolean masks, all ``[B, M]``."""

    @abstractmethod
    def select(
        self, labels: Tensor, distances: Tensor, reference_labels: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Masks of the selected positives and negatives: labels ``[N]`` and distances ``[N, M]`` to two ``[N, M]``.

        Without ``reference_labels`` the batch is seen against itself, the diagonal left out.
        """

    @abstractmethod
    def mine(self, labels: Tensor, distances: Tensor, reference_labels: Tensor | None = None) -> tuple[Tensor, ...]:
        """Indices of the selected tuples, ``[T]`` int64 each, in the order of their anchors.

        Triplets are ``(anchor, positive, negative)``. Pairs are ``(first, second, similar)``, where
        similar is 1 or 0; of a batch against itself each unordered pair comes once, with
        ``first < second``.
        """


class EasyHard(Miner):
    """What both miners below share."""

    def __init__(self, pos_strategy: str = "hard", neg_strategy: str = "hard", margin: float | None = None):
        super().__init__()
        self.pos_strategy = checks.one_of("pos_strategy", pos_strategy, STRATEGIES)
        self.neg_strategy = checks.one_of("neg_strategy", neg_strategy, STRATEGIES)
        self.margin = None if margin is None else checks.above("margin", margin, 0)
        pair = {pos_strategy, neg_strategy}
        if "semihard" in pair and (pair == {"semihard"} or "all" in pair):
            raise ValueError(
                "semihard must meet a strategy that selects one item, easy or hard, got "
                f"pos_strategy={pos_strategy!r} and neg_strategy={neg_strategy!r}"
            )
        if margin is not None and "semihard" not in pair:
            raise ValueError(
                "margin must go with a semihard strategy, got "
                f"margin={margin!r} with pos_strategy={pos_strategy!r} and neg_strategy={neg_strategy!r}"
            )


class TripletEasyHardMiner(EasyHard):
    """Selects, for each anchor, a positive and a negative by how hard they are.

    ============  ===================================  ===================================
    strategy      of the positives                     of the negatives
    ============  ===================================  ===================================
    ``hard``      the farthest                         the nearest
    ``easy``      the nearest                          the farthest
    ``semihard``  the farthest that is nearer than     the nearest that is farther than
                  the selected negative                the selected positive
    ``all``       each                                 each
    ============  ===================================  ===================================

    Of equally distant items the one with the lowest index is selected. An anchor for which no positive
    or no negative is left forms no triplet.

    Args:
        pos_strategy: for the positives, one of the above.
        neg_strategy: for the negatives, one of the above; if one strategy is ``"semihard"``, the other
            must be ``"easy"`` or ``"hard"``.
        margin: how far, in units of the distance, a semihard item may lie from the selected one, above
            0; None for any distance.

    Raises:
        ValueError: if an argument or the combination is not one of these.

    Source: Schroff et al., "FaceNet", CVPR 2015 (semihard); Hermans et al., "In defense of the triplet
    loss for person re-identification", 2017 (hard); Xuan et al., "Improved embeddings with easy positive
    triplet mining", WACV 2020 (easy).
    """

    tuples = "triplets"


class SiameseEasyHardMiner(EasyHard):
    """Selects, for each item, a positive and a negative pair by how hard they are.

    The strategies are those of :class:`TripletEasyHardMiner`, each item taking the anchor's part; but a
    pair stands alone, so an item without negatives still selects its positive, and the reverse. Only a
    semihard pair needs the other one, which it is measured by.

    Args:
        pos_strategy: for the positive pairs.
        neg_strategy: for the negative pairs; if one strategy is ``"semihard"``, the other must be
            ``"easy"`` or ``"hard"``.
        margin: how far, in units of the distance, a semihard pair may lie from the selected one, above
            0; None for any distance.

    Raises:
        ValueError: if an argument or the combination is not one of these.
    """

    tuples = "pairs"


def tuple_indices(
    tuples: str, positive: np.ndarray, negative: np.ndarray, within: bool
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """What :meth:`Miner.mine` lists, of two masks ``[N, M]``; ``within`` tells a batch against itself."""
    return triplet_indices(positive, negative) if tuples == "triplets" else pair_indices(positive, negative, within)


def triplet_indices(positive: np.ndarray, negative: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Every positive with every negative of its row: two ``[N, M]`` masks to three ``[T]`` int64."""
    anchor, near = np.nonzero(positive)
    _, far = np.nonzero(negative)
    counts = negative.sum(axis=1)
    starts = np.cumsum(counts) - counts
    each = counts[anchor]
    within = np.arange(each.sum()) - np.repeat(np.cumsum(each) - each, each)
    return np.repeat(anchor, each), np.repeat(near, each), far[np.repeat(starts[anchor], each) + within]


def pair_indices(positive: np.ndarray, negative: np.ndarray, within: bool) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Every selected pair: two ``[N, M]`` masks to three ``[T]`` int64, sorted by their first index."""
    if within:
        positive, negative = np.triu(positive | positive.T, 1), np.triu(negative | negative.T, 1)
    first, second = np.nonzero(positive | negative)
    return first, second, positive[first, second].astype(np.int64)
