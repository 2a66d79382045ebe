"""The distances of a tile, without a gradient, for PaddlePaddle."""

import math

import paddle

from .functional import NEAR, PairwiseOperands, refine_near_
from .ops import Tensor, detached

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
        self.operands = PairwiseOperands(*(detached(x) for x in operands))
        self.distance, self.scale = distance, scale
        queries, references, own, other = self.operands
        # All terms of the squared distances are columns of one product: [-2 q, |q|^2, 1] @ [r, 1, |r|^2].
        factor = 1 if distance == "cosine" else 2
        columns = [-factor * queries, own[:, None] - (scale is not None), paddle.ones_like(own)[:, None]]
        self.left = paddle.concat(columns, axis=1) * (1.0 if scale is None else scale)
        self.right = paddle.concat([references, paddle.ones_like(other)[:, None], other[:, None]], axis=1)
        self.near = float(NEAR * (own.max() + other.max()))

    def tile(self, rows: slice, columns: slice) -> tuple[Tensor, float]:
        """The distances ``[R, C]`` of some queries to some references, and the smallest; -inf if one may be 0."""
        square = paddle.matmul(self.left[rows], self.right[columns], transpose_y=True)
        if self.scale is not None:
            if abs(self.scale) > MAX_INEXACT:
                self.refine_exponents(square, rows, columns)
            return square, -math.inf
        least = float(square.min())
        if not least > self.near:  # also for NaN
            least = -math.inf
            queries, references, own, other = self.operands
            part = queries[rows], references[columns], own[rows], other[columns]
            refine_near_(square, *part, self.distance == "cosine")
        if self.distance == "euclidean":
            square.sqrt_()
            least = math.sqrt(least) if least > 0 else least
        return square, least

    def refine_exponents(self, exponents: Tensor, rows: slice, columns: slice) -> None:
        """Compute the exponents of near pairs from the differences of the rows, in place."""
        scale = self.scale or 1.0
        nearest = exponents.max() if scale < 0 else exponents.min()
        if not float(nearest) / scale + 1 > self.near:  # also for NaN
            queries, references, own, other = self.operands
            part = queries[rows], references[columns], own[rows], other[columns]
            square = exponents.scale_(1 / scale, 1.0)
            refine_near_(square, *part, self.distance == "cosine")
            square.scale_(scale, -scale)
