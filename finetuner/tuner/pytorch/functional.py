"""Distances, selections and reductions, for PyTorch.

Each function guards its own edge cases, because the frameworks' gradients differ there (zero norms, roots of zero,
bounds, ties): a value without a usable gradient is replaced before the operation that would return NaN.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import torch

from .ops import Tensor, at_least, cast, reduce_sum, row_slice, where

__all__ = [
    "PairwiseOperands",
    "angle",
    "at_least_float32",
    "block_distances",
    "common_float",
    "farthest",
    "group_ranks",
    "hinge",
    "l2_normalize",
    "label_smoothing",
    "masked_mean",
    "monotone_cosine",
    "nearest",
    "one_hot",
    "pairwise_distance",
    "prepare_rows",
    "reduce",
    "row_distance",
    "row_logsumexp",
    "same_group",
    "spread",
]

MIN_NORM = 1e-12  # a vector whose components are all at most this is treated as the zero vector
PLAIN_NORMS = (1e-6, 1e18)  # norms whose squares are normal numbers of float32, with a margin
ROUNDING = (
    16 * torch.finfo(torch.float32).eps
)  # relative to the squared norms; smaller squared distances are rounding errors
MIN_SQUARE = 1.2e-38  # the smallest normal float32 number; a smaller squared distance has no usable root
NEAR = 1e-3  # relative to the squared norms; smaller squared distances are computed from the differences of rows
NEAR_AT_ONCE = 2**13  # pairs
EXP_CUTOFF = -60.0  # relative to the row's maximum; smaller exponents add nothing, and denormal results are slow


def l2_normalize(x: Tensor) -> Tensor:
    """Rows of length 1. A zero vector stays zero and has a gradient of zero: ``[N, D]`` to ``[N, D]``.

    Dividing by the largest component first avoids over- and underflow for every float32 norm.
    """
    largest = x.detach().abs().amax(dim=1, keepdim=True)
    zero = largest <= MIN_NORM
    x = torch.where(zero, 0.0, x / torch.where(zero, 1.0, largest))
    square = (x * x).sum(dim=1, keepdim=True)
    return x / torch.sqrt(torch.where(zero, 1.0, square))


class L2Normalize(torch.autograd.Function):
    """:func:`l2_normalize` in few passes over memory, unless a row is very short or very long."""

    @staticmethod
    def forward(x: Tensor) -> tuple[Tensor, Tensor | None]:
        norms = torch.linalg.vector_norm(x, dim=1, keepdim=True)
        if len(x) and float(norms.amin()) > PLAIN_NORMS[0] and float(norms.amax()) < PLAIN_NORMS[1]:  # not NaN
            return x / norms, norms
        return l2_normalize(x), None

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Any, ...]) -> None:
        ctx.save_for_backward(*inputs, *output)

    @staticmethod
    def backward(ctx: Any, upstream: Tensor, *others: Any) -> Tensor:
        x, rows, norms = ctx.saved_tensors
        differentiated = torch.is_grad_enabled()  # the gradient itself
        if norms is None or differentiated:
            with torch.enable_grad():
                x = x if differentiated else x.detach().requires_grad_()
                return torch.autograd.grad(l2_normalize(x), x, upstream, create_graph=differentiated)[0]
        product = upstream * rows
        along = product.sum(dim=1, keepdim=True)
        return torch.addcmul(upstream, rows, along, value=-1, out=product).div_(norms)


class PairwiseOperands(NamedTuple):
    """Two sets of rows, prepared so that the distances of any block of rows can be computed."""

    queries: Tensor
    references: Tensor
    query_norms: Tensor  # what a distance has beside the product of two rows, [N]
    reference_norms: Tensor


def prepare_rows(queries: Tensor, references: Tensor, distance: str, tiled: bool = False) -> PairwiseOperands:
    """Prepare rows ``[N, D]`` and ``[M, D]`` for :func:`block_distances`.

    Rows are normalized for the cosine distance, and a common offset is subtracted if it is large compared with their
    spread. The norms are squared, and halved for the cosine distance. There a zero vector counts as a vector of length
    1 that is orthogonal to all. A norm whose square overflows is NaN, and so are the distances of its row.

    Args:
        queries: ``[N, D]``.
        references: ``[M, D]``.
        distance: The name of the distance.
        tiled: Whether the rows are many, and compilers and ``torch.func`` do not see them.
    """
    if distance == "cosine":
        normalize = (lambda x: L2Normalize.apply(x)[0]) if tiled else l2_normalize  # type: ignore[no-untyped-call]
        queries, references = both_sides(normalize, queries, references)
    norms = both_sides(squared_norms, queries, references)
    zero_vectors = [(norm.detach() == 0).to(norm.dtype) for norm in norms]  # of unit vectors
    offset = references.detach().mean(dim=0)
    dominates = (offset * offset).sum() > 0.9 * norms[1].detach().mean()
    if not tiled or dominates:
        offset = torch.where(dominates, offset, 0.0)
        queries, references = both_sides(lambda x: x - offset, queries, references)
        norms = both_sides(squared_norms, queries, references)
    norms = [torch.where(torch.isinf(norm), torch.nan, norm) for norm in norms]
    if distance == "cosine":
        norms = [(norm + zero) / 2 for norm, zero in zip(norms, zero_vectors, strict=True)]
    return PairwiseOperands(queries, references, *norms)


def both_sides(function: Callable[[Tensor], Tensor], queries: Tensor, references: Tensor) -> list[Tensor]:
    """A function of queries and of references; computed once for a batch that is compared with itself."""
    found = function(queries)
    return [found, found if queries is references else function(references)]


def squared_norms(x: Tensor) -> Tensor:
    """The squared length of each row: ``[N, D]`` to ``[N]``."""
    return (x * x).sum(dim=1)


def block_distances(
    operands: PairwiseOperands,
    distance: str,
    start: int = 0,
    size: int | None = None,
    first_column: int = 0,
    num_columns: int | None = None,
) -> Tensor:
    """Distances of ``size`` queries from ``start`` on, or of all, to as many references, or to all: ``[B, C]``."""
    queries, own = (row_slice(x, start, size) for x in (operands.queries, operands.query_norms))
    references, other = (
        row_slice(x, first_column, num_columns) for x in (operands.references, operands.reference_norms)
    )
    norms = own[:, None] + other[None, :]
    square = torch.addmm(norms, queries, references.T, alpha=-1 if distance == "cosine" else -2)
    fixed, queries, references = square.detach(), queries.detach(), references.detach()
    given = fixed, queries, references, own.detach(), other.detach(), distance == "cosine"
    if torch.compiler.is_compiling():
        square = square + (refine_near(*given) - fixed)
    else:
        pairs, exact = near_pairs(*given)
        square = square.index_put(pairs, exact - fixed[pairs], accumulate=True)
    if distance != "euclidean":
        return square
    zero = square.detach() <= MIN_SQUARE  # False for NaN
    return torch.where(zero, 0.0, torch.sqrt(torch.where(zero, 1.0, square)))


def near_pairs(
    square: Tensor, queries: Tensor, references: Tensor, own: Tensor, other: Tensor, halved: bool
) -> tuple[tuple[Tensor, Tensor], Tensor]:
    """The pairs whose products cancel, as rows and columns, and their squared distances from the differences of rows.

    Args:
        square: From products of the rows, ``[R, C]``.
        queries: ``[R, D]``.
        references: ``[C, D]``.
        own: The squared norms of the queries ``[R]``.
        other: The squared norms of the references ``[C]``.
        halved: Whether norms and distances are halved.
    """
    rows, columns = (square < NEAR * (own[:, None] + other[None, :])).nonzero(as_tuple=True)  # none for NaN
    exact = square.new_empty(len(rows))
    for start in range(0, len(rows), NEAR_AT_ONCE):
        part = slice(start, start + NEAR_AT_ONCE)
        exact[part] = (queries[rows[part]] - references[columns[part]]).square_().sum(dim=1)
    return (rows, columns), exact / 2 if halved else exact


@torch.library.custom_op("finetuner::refine_near", mutates_args=())  # compilers cannot follow it
def refine_near(
    square: Tensor, queries: Tensor, references: Tensor, own: Tensor, other: Tensor, halved: bool
) -> Tensor:
    """Squared distances ``[R, C]``, those in which products cancel from the differences of the rows.

    Args:
        square: From products of the rows, ``[R, C]``.
        queries: ``[R, D]``.
        references: ``[C, D]``.
        own: The squared norms of the queries ``[R]``.
        other: The squared norms of the references ``[C]``.
        halved: Whether norms and distances are halved.
    """
    pairs, exact = near_pairs(square, queries, references, own, other, halved)
    return square.index_put(pairs, exact)


@refine_near.register_fake
def refined_shape(square: Tensor, *others: Any) -> Tensor:
    """What a compiler knows of the result."""
    return torch.empty_like(square)


def pairwise_distance(queries: Tensor, references: Tensor, distance: str) -> Tensor:
    r"""Distance of each query to each reference, at least 0: ``[N, D]`` and ``[M, D]`` to ``[N, M]``.

    All distances are computed from scalar products, the cosine distance as :math:`1 - \cos = |u - v|^2 / 2` of unit
    vectors. The rounding error of :math:`|u|^2 + |v|^2 - 2uv` is relative to the norms and not to the distance.
    Therefore a common offset that is large compared with the spread is subtracted first, and a distance within the
    rounding error is 0: exact duplicates have distance 0 and gradient 0. A zero vector has a cosine of 0 to all.
    """
    return block_distances(prepare_rows(queries, references, distance), distance)


def row_distance(first: Tensor, second: Tensor, distance: str) -> Tensor:
    """Distance of each row to the same row of the other tensor: two ``[N, D]`` to ``[N]``."""
    if distance == "cosine":
        first, second = l2_normalize(first), l2_normalize(second)
    square = ((first - second) ** 2).sum(dim=1)
    square = torch.where(torch.isinf(square), torch.nan, square)
    if distance == "euclidean":
        zero = square <= MIN_SQUARE
        return torch.where(zero, 0.0, torch.sqrt(torch.where(zero, 1.0, square)))
    if distance == "sqeuclidean":
        return square
    is_zero_vector = [(x.detach() == 0).all(dim=1).to(x.dtype) for x in (first, second)]
    return (square + is_zero_vector[0] + is_zero_vector[1]) / 2


def angle(distances: Tensor) -> Tensor:
    """The angle of a cosine distance, from 0 to pi. At either end the gradient does not exist and is set to 0."""
    inside = (distances > 0) & (2 - distances > ROUNDING)
    safe = where(inside, distances, 1.0)
    end = (distances.detach() > 1).to(safe.dtype) * torch.pi
    return torch.where(inside, torch.atan2(torch.sqrt(safe * (2 - safe)), 1 - safe), end)


def monotone_cosine(x: Tensor) -> Tensor:
    """The cosine up to pi, continued so that it keeps falling: each further half period is placed below the last."""
    half = torch.floor(x.detach() / torch.pi)
    return (1 - 2 * (half % 2)) * torch.cos(x) - 2 * half


def hinge(x: Tensor) -> Tensor:
    """``max(0, x)``, with a gradient of 0 at 0."""
    return where(x <= 0, 0.0, x)  # NaN stays


def farthest(distances: Tensor, mask: Tensor) -> Tensor:
    """Mask of the farthest item of each row among those of ``mask``, the first of equals: to ``[N, M]``."""
    index = torch.where(mask, distances, -torch.inf).argmax(dim=1, keepdim=True)
    return mask & (torch.arange(distances.shape[1], device=distances.device) == index)


def nearest(distances: Tensor, mask: Tensor) -> Tensor:
    """Mask of the nearest item of each row among those of ``mask``, the first of equals: to ``[N, M]``."""
    return farthest(-distances, mask)


def row_logsumexp(x: Tensor, mask: Tensor) -> Tensor:
    """Log-sum-exp of each row over ``mask``: ``[N, M]`` to ``[N, 1]``; about -3e38 for a row without any."""
    x = torch.where(mask, x, torch.finfo(x.dtype).min)
    largest = x.detach().amax(dim=1, keepdim=True)
    return largest + (x - largest).clamp(min=EXP_CUTOFF).exp().sum(dim=1, keepdim=True).log()


def masked_mean(x: Tensor, mask: Tensor) -> Tensor:
    """Mean of ``x`` over a mask, or weighted by numbers; 0 if nothing counts."""
    weights = cast(mask, x.dtype)
    return reduce_sum(x * weights) / at_least(reduce_sum(weights), 1e-12)


def spread(x: Tensor) -> Tensor:
    """1 minus the squared norm of the mean unit row: 0 if all are equal, close to 1 if they point in all directions."""
    centre = l2_normalize(x).mean(dim=0)
    return 1 - (centre * centre).sum()


def one_hot(labels: Tensor, num_classes: int) -> Tensor:
    """Mask ``[N, C]`` of the class of each label ``[N]``."""
    return labels[:, None] == torch.arange(num_classes, device=labels.device)


def label_smoothing(y: Tensor, num_classes: int, epsilon: float = 0.2, categories: Any = None) -> Tensor:
    r"""Smoothed labels: ``[N]`` integers to ``[N, C]`` floats.

    .. math:: q_{ic} = (1 - \epsilon) [c = y_i] + \epsilon \frac{[c \in S_i]}{|S_i|}

    :math:`S_i` contains all classes, or those of the category of :math:`y_i`.

    Args:
        y: The class of each item, ``[N]``.
        num_classes: C.
        epsilon: The share that is spread, at least 0 and below 1.
        categories: ``[C]`` integers, the category of each class.

    References:
        Szegedy et al., "Rethinking the inception architecture for computer vision", CVPR 2016.
    """
    own = one_hot(y, num_classes)
    same = torch.ones_like(own)
    if categories is not None:
        categories = torch.as_tensor(categories, device=y.device)
        same = categories[y.long()][:, None] == categories[None, :]
    own, same = own.float(), same.float()
    return (1 - epsilon) * own + epsilon * same / same.sum(dim=1, keepdim=True)


def same_group(x: Tensor, groups: Tensor | None) -> Tensor:
    """Mask ``[N, N]`` of the items in the same group, of rows ``[N]``. Without groups all items are in one."""
    if groups is None:
        return torch.ones((len(x), len(x)), dtype=torch.bool, device=x.device)
    return groups[:, None] == groups[None, :]


def group_ranks(x: Tensor, same: Tensor) -> Tensor:
    """Rank of each item in its group from 1, the highest first and of equals the first: ``[N]`` to ``[N]``."""
    position = torch.arange(len(x), device=x.device)
    ahead = (x[None, :] > x[:, None]) | ((x[None, :] == x[:, None]) & (position[None, :] < position[:, None]))
    return 1 + (same & ahead).sum(dim=1).to(x.dtype)


def at_least_float32(x: Tensor) -> Tensor:
    """``x`` unchanged if it is float32 or float64, else in float32."""
    return x if x.dtype == torch.float64 else x.float()


def common_float(*tensors: Tensor) -> tuple[Tensor, ...]:
    """The tensors in one type: float64 if one of them is, else float32."""
    dtype = torch.float64 if any(x.dtype == torch.float64 for x in tensors) else torch.float32
    return tuple(x.to(dtype) for x in tensors)


def reduce(sums: Tensor, count: Tensor, active: Tensor, reduction: str) -> Tensor:
    """Reduce sum, number of tuples and number of active tuples of each row, ``[N]``, to ``[]`` or ``[N]``."""
    sums = where(count > 0, sums, 0.0)  # rows without tuples may have distances that overflow
    if reduction == "none":
        return sums
    if reduction == "sum":
        return reduce_sum(sums)
    tuples = count if reduction == "mean" else active
    return reduce_sum(sums) / at_least(reduce_sum(tuples), 1)
