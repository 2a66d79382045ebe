"""The distances of a tile, without a gradient, for PyTorch."""

import torch

from .functional import NEAR, PairwiseOperands, near_pairs
from .ops import Tensor

__all__ = ["TileDistances"]


class TileDistances:
    """Distances of tiles.

    All terms of the squared distances are columns of one product: ``[-2 q, |q|^2, 1] @ [r, 1, |r|^2]``.
    """

    def __init__(self, operands: PairwiseOperands, distance: str):
        self.operands = PairwiseOperands(*(x.detach() for x in operands))
        self.distance = distance
        queries, references, own, other = self.operands
        scale = 1 if distance == "cosine" else 2
        self.left = torch.cat([-scale * queries, own[:, None], torch.ones_like(own)[:, None]], dim=1)
        self.right = torch.cat([references, torch.ones_like(other)[:, None], other[:, None]], dim=1)
        self.least = float(NEAR * (own.amax() + other.amax()))

    def tile(self, rows: slice, columns: slice, out: Tensor) -> tuple[Tensor, bool]:
        """The distances ``[R, C]`` of some queries to some references, and whether one of them may be 0."""
        square = torch.mm(self.left[rows], self.right[columns].T, out=out)
        is_near = not float(square.amin()) > self.least  # also for NaN
        if is_near:
            queries, references, own, other = self.operands
            part = queries[rows], references[columns], own[rows], other[columns]
            pairs, exact = near_pairs(square, *part, self.distance == "cosine")
            square[pairs] = exact
        if self.distance == "euclidean":
            square.sqrt_()
        return square, is_near
