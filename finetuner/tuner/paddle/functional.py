"""The words that losses, miners and poolers are written in, for PaddlePaddle.

Each verb guards its own edge, because the frameworks' gradients differ there (at zero norms, roots of
zero, bounds and ties): a guarded value is replaced before the operation that would spoil its gradient.
"""

from typing import NamedTuple

import paddle

__all__ = [
    "Masks",
    "Places",
    "Relations",
    "angle",
    "at_least_float32",
    "detached",
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
    "row_sums",
    "spread",
    "unit",
    "where",
]

FLOOR = 1e-12  # a vector no component of which exceeds this is the zero vector
NOISE = 16 * float(paddle.finfo("float32").eps)  # squared distances below this share of the norms are rounding
FAINT = -60.0  # exponentials so far below their row's largest add nothing, and processors are slow at tiny numbers


class Masks(NamedTuple):
    """Relations that are there as a whole: two boolean ``[N, M]``."""

    positive: paddle.Tensor
    negative: paddle.Tensor

    def rows(self, start: int = 0, size: int | None = None) -> tuple[paddle.Tensor, paddle.Tensor]:
        """Positives and negatives of ``size`` queries from ``start`` on, or all: two boolean ``[B, M]``."""
        return block_of(self.positive, start, size), block_of(self.negative, start, size)

    def either_way(self) -> "Masks":
        """Those that hold from either end, of a batch against itself."""
        return Masks(self.positive | self.positive.T, self.negative | self.negative.T)


class Relations:
    """Who belongs to whom, of queries ``[N]`` against references ``[M]``; see :mod:`..base.relations`."""

    def __init__(self, labels: paddle.Tensor, reference_labels: paddle.Tensor | None = None, both: bool = False):
        self.within = reference_labels is None  # a batch against itself
        self.labels = labels
        self.reference_labels = labels if reference_labels is None else reference_labels
        self.both = both and labels.ndim == 2  # sessions alone look different from either end

    def rows(self, start: int = 0, size: int | None = None) -> tuple[paddle.Tensor, paddle.Tensor]:
        """Positives and negatives of ``size`` queries from ``start`` on, or all: two boolean ``[B, M]``."""
        queries, references = block_of(self.labels, start, size), self.reference_labels
        positive, negative = related(queries, references)
        if self.both:
            from_there = related(references, queries)
            positive, negative = positive | from_there[0].T, negative | from_there[1].T
        if self.within:
            row, column = all_pairs(paddle.arange(start, start + queries.shape[0]), paddle.arange(references.shape[0]))
            others = row != column
            positive, negative = positive & others, negative & others
        return positive, negative

    def either_way(self) -> "Relations":
        """Those that hold from either end, of a batch against itself."""
        return Relations(self.labels, both=True)


def related(queries: paddle.Tensor, references: paddle.Tensor) -> tuple[paddle.Tensor, paddle.Tensor]:
    """Positives and negatives by two sides' labels, ``[B]`` or ``[B, 2]`` each: two boolean ``[B, M]``."""
    if queries.ndim == 1:
        own, other = all_pairs(queries, references)
        return own == other, own != other
    own, other = all_pairs(queries[:, 0], references[:, 0])
    session = own == other
    asking, asked = queries[:, None, 1], references[None, :, 1]
    fits, misfits = (asking == 0) | (asking == 1), asking == -1
    positive = session & fits & (asked >= 0)
    return positive, session & (fits & (asked < 0) | misfits & ((asked == 0) | (asked == 1)))


def all_pairs(rows: paddle.Tensor, columns: paddle.Tensor) -> tuple[paddle.Tensor, paddle.Tensor]:
    """``[B]`` and ``[M]`` as two ``[B, M]``: Paddle takes twenty times as long where it has to see to that itself."""
    return tuple(paddle.broadcast_tensors([rows[:, None], columns[None, :]]))


def block_of(x: paddle.Tensor, start: int, size: int | None) -> paddle.Tensor:
    """``size`` rows from ``start`` on, or all."""
    return x if size is None else x[start : start + size]


def row_sums(x: paddle.Tensor) -> paddle.Tensor:
    """Sum of each row, or how many are true: ``[N, M]`` to ``[N]``; on a CPU five times as fast as ``sum``."""
    x = x.astype("float32") if x.dtype == paddle.bool else x
    on_cpu = paddle.in_dynamic_mode() and x.place.is_cpu_place()
    return x @ paddle.ones_like(x[0]) if on_cpu else x.sum(axis=1)


def where(mask: paddle.Tensor, x: paddle.Tensor | float, y: paddle.Tensor | float) -> paddle.Tensor:
    """``paddle.where``, which makes float32 of numbers, with numbers in the dtype of the tensor beside them."""
    x = paddle.full_like(y, x) if isinstance(x, int | float) else x
    y = paddle.full_like(x, y) if isinstance(y, int | float) else y
    return paddle.where(mask, x, y)


def detached(x: paddle.Tensor) -> paddle.Tensor:
    """``x`` without its gradient.

    Compiled, it is a copy: ``detach`` shares memory there, which another operation, run in parallel, may overwrite.
    """
    return x.detach() if paddle.in_dynamic_mode() else x.clone().detach()


def unit(x: paddle.Tensor) -> paddle.Tensor:
    """Rows at length 1; a zero vector stays zero and has a gradient of zero: ``[N, D]`` to ``[N, D]``.

    Scaling by the largest component first lets any float32 norm through without over- or underflow.
    """
    largest = detached(x).abs().amax(axis=1, keepdim=True)
    zero = largest <= FLOOR
    x = where(zero, 0.0, x / where(zero, 1.0, largest))
    square = (x * x).sum(axis=1, keepdim=True)
    return x / paddle.sqrt(where(zero, 1.0, square))


class Places(NamedTuple):
    """Where two sides lie, as their distances are taken, so that these can be had a block of rows at a time."""

    queries: paddle.Tensor
    references: paddle.Tensor
    query_norms: paddle.Tensor  # what a distance of them has beside the product of both rows, [N]
    reference_norms: paddle.Tensor


def places_of(queries: paddle.Tensor, references: paddle.Tensor, distance: str) -> Places:
    """Rows ``[N, D]`` and ``[M, D]`` as :func:`pairwise_distance` compares them: of length 1 for the cosine distance,
    and less a common offset that dwarfs their spread.

    The norms are squared, and halved for the cosine distance; there a row without a direction counts as one of length
    1 that is at right angles to all.
    """
    within = queries is references
    if distance == "cosine":
        queries = unit(queries)
        references = queries if within else unit(references)
        lost = [(detached(x) == 0).all(axis=1).astype(x.dtype) for x in (queries, references)]
    fixed = detached(references)
    centre = fixed.mean(axis=0)
    far_off = (centre * centre).sum() > 0.9 * (fixed * fixed).sum(axis=1).mean()
    centre = where(far_off, centre, 0.0)
    queries = queries - centre
    references = queries if within else references - centre
    norms = [(x * x).sum(axis=1) for x in (queries, references)]
    if distance == "cosine":
        norms = [(norms[side] + lost[side]) / 2 for side in (0, 1)]
    return Places(queries, references, *norms)


def distances_of(places: Places, distance: str, start: int = 0, size: int | None = None) -> paddle.Tensor:
    """Distances of ``size`` queries from ``start`` on, or all, to all references, ``[B, M]``."""
    queries, own = block_of(places.queries, start, size), block_of(places.query_norms, start, size)
    norms = sum(all_pairs(own, places.reference_norms))
    queries = queries if distance == "cosine" else 2 * queries
    square = norms - paddle.matmul(queries, places.references, transpose_y=True)
    apart = detached(square) > NOISE * detached(norms)
    if distance == "euclidean":
        return where(apart, paddle.sqrt(where(apart, square, 1.0)), 0.0)
    return square * apart.astype(square.dtype)


def pairwise_distance(queries: paddle.Tensor, references: paddle.Tensor, distance: str) -> paddle.Tensor:
    r"""Distance of each query to each reference, at least 0: ``[N, D]`` and ``[M, D]`` to ``[N, M]``.

    All come from scalar products, the cosine one as :math:`1 - \cos = |u - v|^2 / 2` of unit vectors. The
    rounding of :math:`|u|^2 + |v|^2 - 2uv` is a share of the norms and not of the distance. Hence a common
    offset that dwarfs the spread is taken off first, and what lies within the rounding is 0, so that
    exact duplicates are at distance 0 and have a gradient of 0. A zero vector has a cosine of 0 with all.
    """
    return distances_of(places_of(queries, references, distance), distance)


def row_distance(first: paddle.Tensor, second: paddle.Tensor, distance: str) -> paddle.Tensor:
    """Distance of each row to the row beside it, as :func:`pairwise_distance`: two ``[N, D]`` to ``[N]``."""
    if distance == "cosine":
        first, second = unit(first), unit(second)
    square = ((first - second) ** 2).sum(axis=1)
    if distance == "euclidean":
        apart = square > 0
        return where(apart, paddle.sqrt(where(apart, square, 1.0)), 0.0)
    if distance == "sqeuclidean":
        return square
    directionless = [(detached(x) == 0).all(axis=1).astype(x.dtype) for x in (first, second)]
    return (square + directionless[0] + directionless[1]) / 2


def angle(distances: paddle.Tensor) -> paddle.Tensor:
    """Angle of a cosine distance, from 0 to pi, with a gradient of 0 at either end, where it has none."""
    inside = (distances > 0) & (2 - distances > NOISE)
    safe = where(inside, distances, 1.0)
    end = (detached(distances) > 1).astype(safe.dtype) * paddle.pi
    return where(inside, paddle.atan2(paddle.sqrt(safe * (2 - safe)), 1 - safe), end)


def falling_cosine(x: paddle.Tensor) -> paddle.Tensor:
    """The cosine up to pi, and then its halves hung on below each other, so that it never rises again."""
    half = paddle.floor(detached(x) / paddle.pi)
    return (1 - 2 * (half % 2)) * paddle.cos(x) - 2 * half


def hinge(x: paddle.Tensor) -> paddle.Tensor:
    """``max(0, x)``, with a gradient of 0 at 0."""
    return where(x > 0, x, 0.0)


def farthest(distances: paddle.Tensor, mask: paddle.Tensor) -> paddle.Tensor:
    """Mask of each row's farthest item among those of ``mask``, the first of equals: to ``[N, M]``."""
    index = where(mask, distances, -paddle.inf).argmax(axis=1, keepdim=True)
    return mask & (paddle.arange(distances.shape[1]) == index)


def nearest(distances: paddle.Tensor, mask: paddle.Tensor) -> paddle.Tensor:
    """Mask of each row's nearest item among those of ``mask``, the first of equals: to ``[N, M]``."""
    return farthest(-distances, mask)


def row_logsumexp(x: paddle.Tensor, mask: paddle.Tensor) -> paddle.Tensor:
    """Log of the sum of exponentials where ``mask`` holds: ``[N, M]`` to ``[N, 1]``; -3e38 where it nowhere does."""
    x = where(mask, x, float(paddle.finfo(x.dtype).min))
    most = detached(x).max(axis=1, keepdim=True)
    return most + row_sums((x - most.expand_as(x)).clip(min=FAINT).exp()).log()[:, None]


def masked_mean(x: paddle.Tensor, mask: paddle.Tensor) -> paddle.Tensor:
    """Mean of x where ``mask`` holds, or by how much it does; 0 where it nowhere does."""
    weights = mask.astype(x.dtype)
    return (x * weights).sum() / weights.sum().clip(min=1e-12)


def spread(x: paddle.Tensor) -> paddle.Tensor:
    """1 less the squared length of the mean of unit rows: 0 where all are one, 1 where they lie all around."""
    centre = unit(x).mean(axis=0)
    return 1 - (centre * centre).sum()


def one_hot(labels: paddle.Tensor, num_classes: int) -> paddle.Tensor:
    """Mask ``[N, C]`` of the class of each label ``[N]``."""
    return labels[:, None] == paddle.arange(num_classes, dtype=labels.dtype)


def label_smoothing(
    y: paddle.Tensor, num_classes: int, epsilon: float = 0.2, categories: paddle.Tensor | None = None
) -> paddle.Tensor:
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
    same = paddle.ones_like(own)
    if categories is not None:
        categories = paddle.to_tensor(categories)
        same = categories[y.astype("int64")][:, None] == categories[None, :]
    own, same = own.astype("float32"), same.astype("float32")
    return (1 - epsilon) * own + epsilon * same / same.sum(axis=1, keepdim=True)


def of_groups(x: paddle.Tensor, groups: paddle.Tensor | None) -> paddle.Tensor:
    """Mask ``[N, N]`` of the items that are of one group, of rows ``[N]``; of all where there are no groups."""
    if groups is None:
        return paddle.ones((x.shape[0], x.shape[0]), dtype="bool")
    return groups[:, None] == groups[None, :]


def group_ranks(x: paddle.Tensor, same: paddle.Tensor) -> paddle.Tensor:
    """Rank of each item in its group from 1, the highest first, and of equals the first: ``[N]`` to ``[N]``."""
    place = paddle.arange(x.shape[0])
    ahead = (x[None, :] > x[:, None]) | ((x[None, :] == x[:, None]) & (place[None, :] < place[:, None]))
    return 1 + (same & ahead).sum(axis=1).astype(x.dtype)


def at_least_float32(x: paddle.Tensor) -> paddle.Tensor:
    """``x`` itself in float32 or float64, and in float32 if it is anything else."""
    return x if x.dtype == paddle.float64 else x.astype("float32")


def reduce(sums: paddle.Tensor, count: paddle.Tensor, active: paddle.Tensor, reduction: str) -> paddle.Tensor:
    """Bring each row's sum, number of tuples and number of active ones, ``[N]`` each, to ``[]`` or ``[N]``."""
    if reduction == "none":
        return sums
    if reduction == "sum":
        return sums.sum()
    tuples = count if reduction == "mean" else active
    return sums.sum() / tuples.sum().clip(min=1)
