"""The words that losses, miners and poolers are written in, for Keras.

Each verb guards its own edge, because the frameworks' gradients differ there (at zero norms, roots of
zero, bounds and ties): a guarded value is replaced before the operation that would spoil its gradient.
"""

import math
from typing import NamedTuple

from keras import KerasTensor, backend, ops

__all__ = [
    "Masks",
    "Places",
    "Relations",
    "angle",
    "at_least_float32",
    "distances_of",
    "falling_cosine",
    "farthest",
    "group_ranks",
    "hinge",
    "label_smoothing",
    "masked_mean",
    "nearest",
    "of_groups",
    "one_hot",
    "pairwise_distance",
    "places_of",
    "reduce",
    "row_distance",
    "row_logsumexp",
    "spread",
    "unit",
]

FLOOR = 1e-12  # a vector no component of which exceeds this is the zero vector
NOISE = 16 * 2.0**-23  # squared distances below this share of the norms are rounding
FAINT = -60.0  # exponentials so far below their row's largest add nothing, and processors are slow at tiny numbers


class Masks(NamedTuple):
    """Relations that are there as a whole: two boolean ``[N, M]``."""

    positive: KerasTensor
    negative: KerasTensor

    def rows(self, start: int = 0, size: int | None = None) -> tuple[KerasTensor, KerasTensor]:
        """Positives and negatives of ``size`` queries from ``start`` on, or all: two boolean ``[B, M]``."""
        return block_of(self.positive, start, size), block_of(self.negative, start, size)

    def either_way(self) -> "Masks":
        """Those that hold from either end, of a batch against itself."""
        return Masks(self.positive | ops.transpose(self.positive), self.negative | ops.transpose(self.negative))


class Relations:
    """Who belongs to whom, of queries ``[N]`` against references ``[M]``; see :mod:`..base.relations`."""

    def __init__(self, labels: KerasTensor, reference_labels: KerasTensor | None = None, both: bool = False):
        self.within = reference_labels is None  # a batch against itself
        self.labels = labels
        self.reference_labels = labels if reference_labels is None else reference_labels
        self.both = both and len(labels.shape) == 2  # sessions alone look different from either end

    def rows(self, start: int = 0, size: int | None = None) -> tuple[KerasTensor, KerasTensor]:
        """Positives and negatives of ``size`` queries from ``start`` on, or all: two boolean ``[B, M]``."""
        queries, references = block_of(self.labels, start, size), self.reference_labels
        positive, negative = related(queries, references)
        if self.both:
            from_there = related(references, queries)
            positive, negative = positive | ops.transpose(from_there[0]), negative | ops.transpose(from_there[1])
        if self.within:
            rows = start + ops.arange(ops.shape(queries)[0], dtype="int32")
            other = ops.not_equal(rows[:, None], ops.arange(ops.shape(references)[0], dtype="int32"))
            positive, negative = positive & other, negative & other
        return positive, negative

    def either_way(self) -> "Relations":
        """Those that hold from either end, of a batch against itself."""
        return Relations(self.labels, both=True)


def related(queries: KerasTensor, references: KerasTensor) -> tuple[KerasTensor, KerasTensor]:
    """Positives and negatives by two sides' labels, ``[B]`` or ``[B, 2]`` each: two boolean ``[B, M]``."""
    if len(queries.shape) == 1:
        positive = ops.equal(queries[:, None], references[None, :])
        return positive, ops.logical_not(positive)
    session = ops.equal(queries[:, None, 0], references[None, :, 0])
    asking, asked = queries[:, None, 1], references[None, :, 1]
    fits, misfits = ops.equal(asking, 0) | ops.equal(asking, 1), ops.equal(asking, -1)
    positive = session & fits & (asked >= 0)
    return positive, session & (fits & (asked < 0) | misfits & (ops.equal(asked, 0) | ops.equal(asked, 1)))


def block_of(x: KerasTensor, start: int, size: int | None) -> KerasTensor:
    """``size`` rows from ``start`` on, which a compiler need not know, or all."""
    if size is None:
        return x
    return ops.slice(x, (start, *[0] * (len(x.shape) - 1)), (size, *x.shape[1:]))


def unit(x: KerasTensor) -> KerasTensor:
    """Rows at length 1; a zero vector stays zero and has a gradient of zero: ``[N, D]`` to ``[N, D]``.

    Scaling by the largest component first lets any float32 norm through without over- or underflow.
    """
    largest = ops.max(ops.abs(ops.stop_gradient(x)), axis=1, keepdims=True)
    zero = largest <= FLOOR
    x = ops.where(zero, 0.0, x / ops.where(zero, 1.0, largest))
    square = ops.sum(x * x, axis=1, keepdims=True)
    return x / ops.sqrt(ops.where(zero, 1.0, square))


class Places(NamedTuple):
    """Where two sides lie, as their distances are taken, so that these can be had a block of rows at a time."""

    queries: KerasTensor
    references: KerasTensor
    query_norms: KerasTensor  # what a distance of them has beside the product of both rows, [N]
    reference_norms: KerasTensor


def places_of(queries: KerasTensor, references: KerasTensor, distance: str) -> Places:
    """Rows ``[N, D]`` and ``[M, D]`` as :func:`pairwise_distance` compares them: of length 1 for the cosine distance,
    and less a common offset that dwarfs their spread.

    The norms are squared, and halved for the cosine distance; there a row without a direction counts as one of length
    1 that is at right angles to all.
    """
    within = queries is references
    if distance == "cosine":
        queries = unit(queries)
        references = queries if within else unit(references)
        lost = [ops.cast(ops.all(ops.equal(ops.stop_gradient(x), 0), axis=1), x.dtype) for x in (queries, references)]
    fixed = ops.stop_gradient(references)
    centre = ops.mean(fixed, axis=0)
    far_off = ops.sum(centre * centre) > 0.9 * ops.mean(ops.sum(fixed * fixed, axis=1))
    centre = ops.where(far_off, centre, 0.0)
    queries = queries - centre
    references = queries if within else references - centre
    norms = [ops.sum(x * x, axis=1) for x in (queries, references)]
    if distance == "cosine":
        norms = [(norms[side] + lost[side]) / 2 for side in (0, 1)]
    return Places(queries, references, *norms)


def distances_of(places: Places, distance: str, start: int = 0, size: int | None = None) -> KerasTensor:
    """Distances of ``size`` queries from ``start`` on, or all, to all references, ``[B, M]``."""
    queries, own = block_of(places.queries, start, size), block_of(places.query_norms, start, size)
    norms = own[:, None] + places.reference_norms[None, :]
    queries = queries if distance == "cosine" else 2 * queries
    square = norms - ops.matmul(queries, ops.transpose(places.references))
    apart = ops.stop_gradient(square) > NOISE * ops.stop_gradient(norms)
    if distance == "euclidean":
        return ops.where(apart, ops.sqrt(ops.where(apart, square, 1.0)), 0.0)
    return square * ops.cast(apart, square.dtype)


def pairwise_distance(queries: KerasTensor, references: KerasTensor, distance: str) -> KerasTensor:
    r"""Distance of each query to each reference, at least 0: ``[N, D]`` and ``[M, D]`` to ``[N, M]``.

    All come from scalar products, the cosine one as :math:`1 - \cos = |u - v|^2 / 2` of unit vectors. The
    rounding of :math:`|u|^2 + |v|^2 - 2uv` is a share of the norms and not of the distance. Hence a common
    offset that dwarfs the spread is taken off first, and what lies within the rounding is 0, so that
    exact duplicates are at distance 0 and have a gradient of 0. A zero vector has a cosine of 0 with all.
    """
    return distances_of(places_of(queries, references, distance), distance)


def row_distance(first: KerasTensor, second: KerasTensor, distance: str) -> KerasTensor:
    """Distance of each row to the row beside it, as :func:`pairwise_distance`: two ``[N, D]`` to ``[N]``."""
    if distance == "cosine":
        first, second = unit(first), unit(second)
    square = ops.sum((first - second) ** 2, axis=1)
    if distance == "euclidean":
        apart = square > 0
        return ops.where(apart, ops.sqrt(ops.where(apart, square, 1.0)), 0.0)
    if distance == "sqeuclidean":
        return square
    directionless = [ops.cast(ops.all(ops.equal(ops.stop_gradient(x), 0), axis=1), x.dtype) for x in (first, second)]
    return (square + directionless[0] + directionless[1]) / 2


def angle(distances: KerasTensor) -> KerasTensor:
    """Angle of a cosine distance, from 0 to pi, with a gradient of 0 at either end, where it has none."""
    inside = (distances > 0) & (2 - distances > NOISE)
    safe = ops.where(inside, distances, 1.0)
    end = ops.cast(ops.where(ops.stop_gradient(distances) > 1, math.pi, 0.0), safe.dtype)
    return ops.where(inside, ops.arctan2(ops.sqrt(safe * (2 - safe)), 1 - safe), end)


def falling_cosine(x: KerasTensor) -> KerasTensor:
    """The cosine up to pi, and then its halves hung on below each other, so that it never rises again."""
    half = ops.floor(ops.stop_gradient(x) / math.pi)
    return (1 - 2 * (half % 2)) * ops.cos(x) - 2 * half


def hinge(x: KerasTensor) -> KerasTensor:
    """``max(0, x)``, with a gradient of 0 at 0."""
    return ops.where(x > 0, x, 0.0)


def farthest(distances: KerasTensor, mask: KerasTensor) -> KerasTensor:
    """Mask of each row's farthest item among those of ``mask``, the first of equals: to ``[N, M]``."""
    index = ops.argmax(ops.where(mask, distances, -float("inf")), axis=1, keepdims=True)
    return mask & ops.equal(ops.arange(ops.shape(distances)[1], dtype=index.dtype), index)


def nearest(distances: KerasTensor, mask: KerasTensor) -> KerasTensor:
    """Mask of each row's nearest item among those of ``mask``, the first of equals: to ``[N, M]``."""
    return farthest(-distances, mask)


def row_logsumexp(x: KerasTensor, mask: KerasTensor) -> KerasTensor:
    """Log of the sum of exponentials where ``mask`` holds: ``[N, M]`` to ``[N, 1]``; -3e38 where it nowhere does."""
    x = ops.where(mask, x, -3.4e38)
    most = ops.max(ops.stop_gradient(x), axis=1, keepdims=True)
    gap = ops.clip(x - most, FAINT, 1.0)  # at most 0; with that as a bound JAX would halve the gradient there
    return most + ops.log(ops.sum(ops.exp(gap), axis=1, keepdims=True))


def masked_mean(x: KerasTensor, mask: KerasTensor) -> KerasTensor:
    """Mean of x where ``mask`` holds, or by how much it does; 0 where it nowhere does."""
    weights = ops.cast(mask, x.dtype)
    return ops.sum(x * weights) / ops.maximum(ops.sum(weights), 1e-12)


def spread(x: KerasTensor) -> KerasTensor:
    """1 less the squared length of the mean of unit rows: 0 where all are one, 1 where they lie all around."""
    centre = ops.mean(unit(x), axis=0)
    return 1 - ops.sum(centre * centre)


def one_hot(labels: KerasTensor, num_classes: int) -> KerasTensor:
    """Mask ``[N, C]`` of the class of each label ``[N]``."""
    return ops.equal(labels[:, None], ops.arange(num_classes))


def label_smoothing(
    y: KerasTensor, num_classes: int, epsilon: float = 0.2, categories: KerasTensor | None = None
) -> KerasTensor:
    r"""Labels that leave a share of each item to other classes: ``[N]`` integers to ``[N, C]`` floats.

    .. math:: q_{ic} = (1 - \epsilon) [c = y_i] + \epsilon \frac{[c \in S_i]}{|S_i|}

    where :math:`S_i` holds all classes, or those of the category of :math:`y_i`.

    Args:
        y: the class of each item, ``[N]``.
        num_classes: C.
        epsilon: the share, at least 0 and below 1.
        categories: ``[C]`` integers, the category of each class.

    Source: Szegedy et al., "Rethinking the inception architecture for computer vision", CVPR 2016.
    """
    own = one_hot(y, num_classes)
    same = ops.ones_like(own)
    if categories is not None:
        categories = ops.convert_to_tensor(categories)
        same = ops.equal(ops.take(categories, y)[:, None], categories[None, :])
    own, same = ops.cast(own, "float32"), ops.cast(same, "float32")
    return (1 - epsilon) * own + epsilon * same / ops.sum(same, axis=1, keepdims=True)


def of_groups(x: KerasTensor, groups: KerasTensor | None) -> KerasTensor:
    """Mask ``[N, N]`` of the items that are of one group, of rows ``[N]``; of all where there are no groups."""
    if groups is None:
        groups = ops.zeros_like(x, dtype="int32")
    return ops.equal(groups[:, None], groups[None, :])


def group_ranks(x: KerasTensor, same: KerasTensor) -> KerasTensor:
    """Rank of each item in its group from 1, the highest first, and of equals the first: ``[N]`` to ``[N]``."""
    place = ops.arange(ops.shape(x)[0])
    ahead = (x[None, :] > x[:, None]) | (ops.equal(x[None, :], x[:, None]) & (place[None, :] < place[:, None]))
    return 1 + ops.sum(ops.cast(same & ahead, x.dtype), axis=1)


def at_least_float32(x: KerasTensor) -> KerasTensor:
    """``x`` itself in float32 or float64, and in float32 if it is anything else."""
    return x if backend.standardize_dtype(x.dtype) == "float64" else ops.cast(x, "float32")


def reduce(sums: KerasTensor, count: KerasTensor, active: KerasTensor, reduction: str) -> KerasTensor:
    """Bring each row's sum, number of tuples and number of active ones, ``[N]`` each, to ``[]`` or ``[N]``."""
    if reduction == "none":
        return sums
    if reduction == "sum":
        return ops.sum(sums)
    tuples = count if reduction == "mean" else active
    return ops.sum(sums) / ops.maximum(ops.sum(tuples), 1)
