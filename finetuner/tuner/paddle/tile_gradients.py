"""The gradients by the rows, from the gradients by the distances of tiles, for PaddlePaddle."""

import paddle

from .functional import PairwiseOperands
from .ops import Tensor, detached
from .tile import Tile, is_positive_

__all__ = ["RowGradients"]

MIN_DISTANCE = 1e-20  # euclidean distances that are not 0 are larger


class RowGradients:
    """The gradients by queries and references, from the gradients by the distances of all tiles."""

    def __init__(self, operands: PairwiseOperands, distance: str, self_comparison: bool, of_references: bool):
        self.distance, self.self_comparison = distance, self_comparison
        self.queries, self.references = detached(operands.queries), detached(operands.references)
        self.by_queries, self.row_sums = paddle.zeros_like(self.queries), paddle.zeros_like(self.queries[:, 0])
        self.of_references = of_references or self_comparison
        self.by_references, self.column_sums = self.by_queries, self.row_sums
        if not self_comparison:
            self.by_references = paddle.zeros_like(self.references)
            self.column_sums = paddle.zeros_like(self.references[:, 0])

    def add(self, tile: Tile, by_distances: Tensor) -> None:
        """Add a tile. Overwrites ``by_distances``."""
        rows, columns = tile.slices
        gradient = grad_wrt_squared_distance(tile, by_distances, self.distance)
        self.by_queries[rows] -= gradient @ self.references[columns]
        self.row_sums[rows] += tile.sums(gradient, 0)
        if self.of_references:
            self.by_references[columns] -= paddle.matmul(gradient, self.queries[rows], transpose_x=True)
            self.column_sums[columns] += tile.sums(gradient, 1)

    def results(self) -> tuple[Tensor, Tensor]:
        """The gradients after the last tile."""
        # |q - r|^2 has the gradients 2 (q - r) and 2 (r - q), and half of it has half of them.
        scale = 1 if self.distance == "cosine" else 2
        by_queries = scale * (self.by_queries + self.row_sums[:, None] * self.queries)
        if self.self_comparison or not self.of_references:
            return by_queries, paddle.zeros_like(self.references)  # Paddle does not take None for an input
        return by_queries, scale * (self.by_references + self.column_sums[:, None] * self.references)


def grad_wrt_squared_distance(tile: Tile, gradient: Tensor, distance: str) -> Tensor:
    """From the gradient by distances, the gradient by squared distances; for the cosine distance, by half of them.

    It is 0 where the distance is 0.
    """
    if tile.is_near:
        gradient.multiply_(is_positive_(tile.distances.clone()))
    if distance == "euclidean":
        gradient.divide_(tile.distances.clip(min=MIN_DISTANCE) if tile.is_near else tile.distances).scale_(0.5)
    return gradient
