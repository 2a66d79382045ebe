"""The words that losses, miners and poolers are written in, for PaddlePaddle.

Each verb guards its own edge, because the frameworks' gradients differ there (at zero norms, roots of
zero, bounds and ties): a guarded value is replaced before the operation that would spoil its gradient.
"""

import paddle
from paddle.nn import functional as F

__all__ = [
    "Relations",
    "farthest",
    "hinge",
    "nearest",
    "pairwise_distance",
    "reduce",
    "row_logsumexp",
    "soft_triplets",
    "triplets",
    "unit",
    "where",
]

FLOOR = 1e-12  # a vector no component of which exceeds this is the zero vector
NOISE = 16 * float(paddle.finfo("float32").eps)  # squared distances below this share of the norms are rounding
BLOCK = 2**22  # elements of the largest temporary of a computation in blocks


class Relations:
    """Who belongs to whom, of queries ``[N]`` against references ``[M]``; see :mod:`..base.relations`."""

    def __init__(self, labels: paddle.Tensor, reference_labels: paddle.Tensor | None = None):
        self.within = reference_labels is None  # a batch against itself
        self.labels = labels
        self.reference_labels = labels if reference_labels is None else reference_labels

    def rows(self, start: int = 0, stop: int | None = None) -> tuple[paddle.Tensor, paddle.Tensor]:
        """Positives and negatives of the queries from ``start`` to ``stop``: two boolean ``[B, M]``."""
        queries, references = self.labels[start:stop, None], self.reference_labels[None, :]
        if self.labels.ndim == 1:
            positive = queries == references
            negative = ~positive
        else:
            session = queries[..., 0] == references[..., 0]
            query_fits, reference_fits = queries[..., 1] >= 0, references[..., 1] >= 0
            positive = session & query_fits & reference_fits
            negative = session & (query_fits ^ reference_fits)
        if self.within:
            rows = paddle.arange(start, start + queries.shape[0])
            itself = rows[:, None] == paddle.arange(references.shape[1])
            positive, negative = positive & ~itself, negative & ~itself
        return positive, negative


def where(mask: paddle.Tensor, x: paddle.Tensor | float, y: paddle.Tensor | float) -> paddle.Tensor:
    """``paddle.where``, which makes float32 of numbers, with numbers in the dtype of the tensor beside them."""
    x = paddle.full_like(y, x) if isinstance(x, int | float) else x
    y = paddle.full_like(x, y) if isinstance(y, int | float) else y
    return paddle.where(mask, x, y)


def unit(x: paddle.Tensor) -> paddle.Tensor:
    """Rows at length 1; a zero vector stays zero and has a gradient of zero: ``[N, D]`` to ``[N, D]``.

    Scaling by the largest component first lets any float32 norm through without over- or underflow.
    """
    largest = x.detach().abs().amax(axis=1, keepdim=True)
    zero = largest <= FLOOR
    x = where(zero, 0.0, x / where(zero, 1.0, largest))
    square = (x * x).sum(axis=1, keepdim=True)
    return x / paddle.sqrt(where(zero, 1.0, square))


def pairwise_distance(queries: paddle.Tensor, references: paddle.Tensor, distance: str) -> paddle.Tensor:
    r"""Distance of each query to each reference, at least 0: ``[N, D]`` and ``[M, D]`` to ``[N, M]``.

    All come from scalar products, the cosine one as :math:`1 - \cos = |u - v|^2 / 2` of unit vectors. The
    rounding of :math:`|u|^2 + |v|^2 - 2uv` is a share of the norms and not of the distance. Hence a common
    offset that dwarfs the spread is taken off first, and what lies within the rounding is 0, so that
    exact duplicates are at distance 0 and have a gradient of 0. A zero vector has a cosine of 0 with all.
    """
    within = queries is references
    if distance == "cosine":
        queries = unit(queries)
        references = queries if within else unit(references)
    fixed = references.detach()
    centre = fixed.mean(axis=0)
    far_off = (centre * centre).sum() > 0.9 * (fixed * fixed).sum(axis=1).mean()
    centre = where(far_off, centre, 0.0)
    directionless = [(x.detach() == 0).all(axis=1).astype(x.dtype) for x in (queries, references)]
    queries = queries - centre
    references = queries if within else references - centre
    norms = (queries * queries).sum(axis=1)[:, None] + (references * references).sum(axis=1)[None, :]
    square = norms - 2 * queries @ references.T
    apart = square.detach() > NOISE * norms.detach()
    if distance == "euclidean":
        return where(apart, paddle.sqrt(where(apart, square, 1.0)), 0.0)
    square = where(apart, square, 0.0)
    if distance == "sqeuclidean":
        return square
    return (square + directionless[0][:, None] + directionless[1][None, :]) / 2


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
    return paddle.logsumexp(x, axis=1, keepdim=True)


def triplets(
    distances: paddle.Tensor, positive: paddle.Tensor, negative: paddle.Tensor, margin: float
) -> tuple[paddle.Tensor, paddle.Tensor, paddle.Tensor]:
    r"""Sum of the hinges, number, and number of active ones of each anchor's triplets: to three ``[N]``.

    With :math:`a_p = d_p + m`, the hinge :math:`\max(0, a_p - d_n)` is linear on either side of its kink.
    So an anchor's sum is :math:`\sum_p c_p a_p - \sum_n c_n d_n`, where :math:`c_p` counts the negatives
    below :math:`a_p` and :math:`c_n` the positives whose :math:`a_p` is above :math:`d_n`. Both counts come
    from searching sorted rows, and from the same comparisons, so that they agree to the last triplet.
    As :math:`\sum_p c_p = \sum_n c_n`, any number may be taken off all values; the mean of the positives
    keeps the sums small.
    """
    dtype = distances.dtype
    count = positive.sum(axis=1).to(dtype)
    limits = distances + margin
    with paddle.no_grad():
        below = where(negative, distances, paddle.inf).sort(axis=1)
        above = where(positive, limits, paddle.inf).sort(axis=1)
        active_negatives = paddle.searchsorted(below, limits).to(dtype)
        inactive_positives = paddle.searchsorted(above, distances, right=True).to(dtype)
        weights = where(negative, inactive_positives - count[:, None], 0.0)
        weights = where(positive, active_negatives, weights)
        shift = where(positive, limits, 0.0).sum(axis=1, keepdim=True) / count.clip(min=1)[:, None]
        active = where(positive, weights, 0.0).sum(axis=1)
    sums = (weights * (where(positive, limits, distances) - shift)).sum(axis=1)
    return sums, count * negative.sum(axis=1).to(dtype), active


def soft_triplets(
    distances: paddle.Tensor, positive: paddle.Tensor, negative: paddle.Tensor
) -> tuple[paddle.Tensor, paddle.Tensor, paddle.Tensor]:
    r"""As :func:`triplets`, of :math:`\log(1 + e^{d_p - d_n})`, in blocks of anchors.

    The value and its derivative by each distance are summed a block at a time without keeping the
    block; a product that is 0 in value then carries the derivative to the distances.
    """
    values, weights = [], []
    with paddle.no_grad():
        step = max(1, BLOCK // distances.shape[1] ** 2)
        for start in range(0, distances.shape[0], step):
            block = slice(start, start + step)
            pairs = positive[block, :, None] & negative[block, None, :]
            gap = distances[block, :, None] - distances[block, None, :]
            slope = where(pairs, paddle.sigmoid(gap), 0.0)
            values.append(where(pairs, F.softplus(gap), 0.0).sum(axis=(1, 2)))
            weights.append(slope.sum(axis=2) - slope.sum(axis=1))
        count = (positive.sum(axis=1) * negative.sum(axis=1)).astype(distances.dtype)
    carrier = paddle.concat(weights) * (distances - distances.detach())
    return paddle.concat(values) + carrier.sum(axis=1), count, count


def reduce(sums: paddle.Tensor, count: paddle.Tensor, active: paddle.Tensor, reduction: str) -> paddle.Tensor:
    """Bring each row's sum, number of tuples and number of active ones, ``[N]`` each, to ``[]`` or ``[N]``."""
    if reduction == "none":
        return sums
    if reduction == "sum":
        return sums.sum()
    tuples = count if reduction == "mean" else active
    return sums.sum() / tuples.sum().clip(min=1)
