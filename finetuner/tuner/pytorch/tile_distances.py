"""The distances of a tile, without a gradient, for PyTorch."""

import math

import torch

from .functional import NEAR, PairwiseOperands, near_pairs
from .ops import Tensor

__all__ = ["TileDistances"]


MAX_INEXACT = 16.0  # the largest |scale| with which near pairs are not searched for


class TileDistances:
    """Distances of tiles, or exponents ``scale (d - 1)``.

    An error of 1e-7 in a distance is one of ``scale`` times as much in its exponential, so near pairs are computed from
    differences only if the scale is large.

    Args:
        operands: The rows.
        distance: The name of the distance.
        scale: Of exponents; None for distances.
    """

    def __init__(self, operands: PairwiseOperands, distance: str, scale: float | None = None):
        self.operands = PairwiseOperands(*(x.detach() for x in operands))
        self.distance, self.scale = distance, scale
        self.factor = factor = 1.0 if scale is None else scale / math.log(2)  # powers of 2 are faster than those of e
        own, other = self.operands[2:]
        self.own, self.other = (own, other) if scale is None else (factor * own - factor, factor * other)
        self.alpha = -factor if distance == "cosine" else -2.0
        self.near = float(NEAR * (own.amax() + other.amax()))

    def tile(self, rows: slice, columns: slice, out: Tensor) -> tuple[Tensor, float]:
        """The distances ``[R, C]`` of some queries to some references, and the smallest; -inf if one may be 0."""
        queries, references, own, other = self.operands
        norms = torch.add(self.own[rows, None], self.other[None, columns], out=out)
        square = norms.addmm_(queries[rows], references[columns].T, alpha=self.alpha)
        if self.scale is not None:
            if abs(self.scale) > MAX_INEXACT:
                self.refine_exponents(square, rows, columns)
            return square, -math.inf
        least = float(square.amin())
        if not least > self.near:  # also for NaN
            least = -math.inf
            part = queries[rows], references[columns], own[rows], other[columns]
            pairs, exact = near_pairs(square, *part, self.distance == "cosine")
            square[pairs] = exact
        if self.distance == "euclidean":
            square.sqrt_()
            least = math.sqrt(least) if least > 0 else least
        return square, least

    def refine_exponents(self, exponents: Tensor, rows: slice, columns: slice) -> None:
        """Compute the exponents of near pairs from the differences of the rows, in place."""
        nearest = exponents.amax() if self.factor < 0 else exponents.amin()
        if not float(nearest) / self.factor + 1 > self.near:  # also for NaN
            queries, references, own, other = self.operands
            part = queries[rows], references[columns], own[rows], other[columns]
            pairs, exact = near_pairs(exponents / self.factor + 1, *part, self.distance == "cosine")
            exponents[pairs] = (exact - 1) * self.factor
