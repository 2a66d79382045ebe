"""The distances of a tile, without a gradient, for PaddlePaddle."""

import math

import paddle

from .functional import NEAR, PairwiseOperands, refine_near_
from .ops import Tensor, detached

__all__ = ["TileDistances"]


class TileDistances:
    """Distances of tiles, or exponents ``scale (d - 1)``.

    An error of 1e-7 in a distance is one of ``scale`` times as much in its exponential, so exponents need no near pairs
    from differences.

    Args:
        operands: The rows.
        distance: The name of the distance.
        scale: Of exponents; None for distances.
    """

    def __init__(self, operands: PairwiseOperands, distance: str, scale: float | None = None):
        self.operands = PairwiseOperands(*(detached(x) for x in operands))
        self.distance, self.exact = distance, scale is None
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
        if not self.exact:
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
