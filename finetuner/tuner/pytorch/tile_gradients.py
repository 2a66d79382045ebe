"""The gradients by the rows, from the gradients by the distances of tiles, for PyTorch."""

import torch

from .functional import PairwiseOperands
from .ops import Tensor
from .tile import Tile

__all__ = ["RowGradients"]


class RowGradients:
    """The gradients by queries and references, from the gradients by the distances of all tiles."""

    def __init__(self, operands: PairwiseOperands, distance: str, self_comparison: bool, of_references: bool):
        self.distance, self.self_comparison = distance, self_comparison
        self.queries, self.references = operands.queries.detach(), operands.references.detach()
        self.by_queries, self.row_sums = torch.zeros_like(self.queries), torch.zeros_like(self.queries[:, 0])
        self.of_references = of_references or self_comparison
        self.by_references, self.column_sums = self.by_queries, self.row_sums
        if not self_comparison:
            self.by_references = torch.zeros_like(self.references)
            self.column_sums = torch.zeros_like(self.references[:, 0])

    def add(self, tile: Tile, by_distances: Tensor) -> None:
        """Add a tile. Overwrites ``by_distances``."""
        rows, columns = tile.slices
        gradient = grad_wrt_squared_distance(tile, by_distances, self.distance)
        self.by_queries[rows].addmm_(gradient, self.references[columns], alpha=-1)
        self.row_sums[rows] += gradient.sum(dim=1)
        if self.of_references and not tile.on_diagonal:
            self.by_references[columns].addmm_(gradient.T, self.queries[rows], alpha=-1)
            self.column_sums[columns] += gradient.sum(dim=0)

    def results(self) -> tuple[Tensor, Tensor | None]:
        """The gradients after the last tile."""
        # |q - r|^2 has the gradients 2 (q - r) and 2 (r - q), and half of it has half of them.
        scale = 1 if self.distance == "cosine" else 2
        by_queries = scale * self.by_queries.addcmul_(self.row_sums[:, None], self.queries)
        if self.self_comparison or not self.of_references:
            return by_queries, None
        return by_queries, scale * self.by_references.addcmul_(self.column_sums[:, None], self.references)


def grad_wrt_squared_distance(tile: Tile, gradient: Tensor, distance: str) -> Tensor:
    """From the gradient by distances, the gradient by squared distances; for the cosine distance, by half of them.

    It is 0 where the distance is 0.
    """
    if distance == "euclidean":
        gradient.div_(tile.distances).div_(2)
    return gradient.masked_fill_(tile.distances == 0, 0.0) if tile.is_near else gradient
