"""The distances of a tile, without a gradient, for PaddlePaddle."""

import paddle

from .functional import NEAR, PairwiseOperands, refine_near_
from .ops import Tensor, detached

__all__ = ["TileDistances"]


class TileDistances:
    """Distances of tiles.

    All terms of the squared distances are columns of one product: ``[-2 q, |q|^2, 1] @ [r, 1, |r|^2]``.
    """

    def __init__(self, operands: PairwiseOperands, distance: str):
        self.operands = PairwiseOperands(*(detached(x) for x in operands))
        self.distance = distance
        queries, references, own, other = self.operands
        scale = 1 if distance == "cosine" else 2
        self.left = paddle.concat([-scale * queries, own[:, None], paddle.ones_like(own)[:, None]], axis=1)
        self.right = paddle.concat([references, paddle.ones_like(other)[:, None], other[:, None]], axis=1)
        self.least = float(NEAR * (own.max() + other.max()))

    def tile(self, rows: slice, columns: slice) -> tuple[Tensor, bool]:
        """The distances ``[R, C]`` of some queries to some references, and whether one of them may be 0."""
        square = paddle.matmul(self.left[rows], self.right[columns], transpose_y=True)
        is_near = not float(square.min()) > self.least  # also for NaN
        if is_near:
            queries, references, own, other = self.operands
            part = queries[rows], references[columns], own[rows], other[columns]
            refine_near_(square, *part, self.distance == "cosine")
        if self.distance == "euclidean":
            square.sqrt_()
        return square, is_near
