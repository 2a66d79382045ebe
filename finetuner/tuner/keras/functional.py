"""The words that losses, miners and poolers are written in, for Keras.

Each verb guards its own edge, because the frameworks' gradients differ there (at zero norms, roots of
zero, bounds and ties): a guarded value is replaced before the operation that would spoil its gradient.
"""

from keras import KerasTensor, ops

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
]

FLOOR = 1e-12  # a vector no component of which exceeds this is the zero vector
NOISE = 16 * 2.0**-23  # squared distances below this share of the norms are rounding
BLOCK = 2**22  # elements of the largest temporary of a computation in blocks


class Relations:
    """Who belongs to whom, of queries ``[N]`` against references ``[M]``; see :mod:`..base.relations`."""

    def __init__(self, labels: KerasTensor, reference_labels: KerasTensor | None = None):
        self.within = reference_labels is None  # a batch against itself
        self.labels = labels
        self.reference_labels = labels if reference_labels is None else reference_labels

    def rows(self, start: int = 0, stop: int | None = None) -> tuple[KerasTensor, KerasTensor]:
        """Positives and negatives of the queries from ``start`` to ``stop``: two boolean ``[B, M]``."""
        queries, references = self.labels[start:stop, None], self.reference_labels[None, :]
        if len(self.labels.shape) == 1:
            positive = ops.equal(queries, references)
            negative = ops.logical_not(positive)
        else:
            session = ops.equal(queries[..., 0], references[..., 0])
            query_fits, reference_fits = queries[..., 1] >= 0, references[..., 1] >= 0
            positive = session & query_fits & reference_fits
            negative = session & ops.logical_xor(query_fits, reference_fits)
        if self.within:
            rows = ops.arange(start, start + ops.shape(queries)[0])
            other = ops.not_equal(rows[:, None], ops.arange(ops.shape(references)[1]))
            positive, negative = positive & other, negative & other
        return positive, negative


def unit(x: KerasTensor) -> KerasTensor:
    """Rows at length 1; a zero vector stays zero and has a gradient of zero: ``[N, D]`` to ``[N, D]``.

    Scaling by the largest component first lets any float32 norm through without over- or underflow.
    """
    largest = ops.max(ops.abs(ops.stop_gradient(x)), axis=1, keepdims=True)
    zero = largest <= FLOOR
    x = ops.where(zero, 0.0, x / ops.where(zero, 1.0, largest))
    square = ops.sum(x * x, axis=1, keepdims=True)
    return x / ops.sqrt(ops.where(zero, 1.0, square))


def pairwise_distance(queries: KerasTensor, references: KerasTensor, distance: str) -> KerasTensor:
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
    fixed = ops.stop_gradient(references)
    centre = ops.mean(fixed, axis=0)
    far_off = ops.sum(centre * centre) > 0.9 * ops.mean(ops.sum(fixed * fixed, axis=1))
    centre = ops.where(far_off, centre, 0.0)
    directionless = [
        ops.cast(ops.all(ops.equal(ops.stop_gradient(x), 0), axis=1), x.dtype) for x in (queries, references)
    ]
    queries = queries - centre
    references = queries if within else references - centre
    norms = ops.sum(queries * queries, axis=1)[:, None] + ops.sum(references * references, axis=1)[None, :]
    square = norms - 2 * ops.matmul(queries, ops.transpose(references))
    apart = ops.stop_gradient(square) > NOISE * ops.stop_gradient(norms)
    if distance == "euclidean":
        return ops.where(apart, ops.sqrt(ops.where(apart, square, 1.0)), 0.0)
    square = ops.where(apart, square, 0.0)
    if distance == "sqeuclidean":
        return square
    return (square + directionless[0][:, None] + directionless[1][None, :]) / 2


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
    return ops.logsumexp(ops.where(mask, x, -3.4e38), axis=1, keepdims=True)


def triplets(
    distances: KerasTensor, positive: KerasTensor, negative: KerasTensor, margin: float
) -> tuple[KerasTensor, KerasTensor, KerasTensor]:
    r"""Sum of the hinges, number, and number of active ones of each anchor's triplets: to three ``[N]``.

    With :math:`a_p = d_p + m`, the hinge :math:`\max(0, a_p - d_n)` is linear on either side of its kink.
    So an anchor's sum is :math:`\sum_p c_p a_p - \sum_n c_n d_n`, where :math:`c_p` counts the negatives
    below :math:`a_p` and :math:`c_n` the positives whose :math:`a_p` is above :math:`d_n`. Both counts come
    from searching sorted rows, and from the same comparisons, so that they agree to the last triplet.
    As :math:`\sum_p c_p = \sum_n c_n`, any number may be taken off all values; the mean of the positives
    keeps the sums small.
    """
    dtype = distances.dtype
    count = ops.sum(ops.cast(positive, dtype), axis=1)
    limits = distances + margin
    fixed, bounds = ops.stop_gradient(distances), ops.stop_gradient(limits)
    below = ops.sort(ops.where(negative, fixed, float("inf")), axis=1)
    above = ops.sort(ops.where(positive, bounds, float("inf")), axis=1)
    active_negatives = ops.cast(searched(below, bounds, "left"), dtype)
    inactive_positives = ops.cast(searched(above, fixed, "right"), dtype)
    weights = ops.where(negative, inactive_positives - count[:, None], 0.0)
    weights = ops.where(positive, active_negatives, weights)
    shift = ops.sum(ops.where(positive, bounds, 0.0), axis=1, keepdims=True) / ops.maximum(count, 1)[:, None]
    active = ops.sum(ops.where(positive, weights, 0.0), axis=1)
    sums = ops.sum(weights * (ops.where(positive, limits, distances) - shift), axis=1)
    return sums, count * ops.sum(ops.cast(negative, dtype), axis=1), active


def searched(rows: KerasTensor, values: KerasTensor, side: str) -> KerasTensor:
    """Where the values of each row belong in its sorted row: two ``[N, M]`` to ``[N, M]``."""
    return ops.vectorized_map(lambda row: ops.searchsorted(row[0], row[1], side=side), (rows, values))


def soft_triplets(
    distances: KerasTensor, positive: KerasTensor, negative: KerasTensor
) -> tuple[KerasTensor, KerasTensor, KerasTensor]:
    r"""As :func:`triplets`, of :math:`\log(1 + e^{d_p - d_n})`, in blocks of anchors.

    The value and its derivative by each distance are summed a block at a time without keeping the
    block; a product that is 0 in value then carries the derivative to the distances.
    """
    fixed = ops.stop_gradient(distances)

    def anchor(row: tuple[KerasTensor, ...]) -> KerasTensor:
        distance, positive, negative = row
        pairs = positive[:, None] & negative[None, :]
        gap = distance[:, None] - distance[None, :]
        slope = ops.where(pairs, ops.sigmoid(gap), 0.0)
        value = ops.sum(ops.where(pairs, ops.softplus(gap), 0.0))
        return ops.concatenate([value[None], ops.sum(slope, axis=1) - ops.sum(slope, axis=0)])

    found = ops.map(anchor, (fixed, positive, negative))
    count = ops.sum(ops.cast(positive, fixed.dtype), axis=1) * ops.sum(ops.cast(negative, fixed.dtype), axis=1)
    values, weights = ops.stop_gradient(found[:, 0]), ops.stop_gradient(found[:, 1:])
    return values + ops.sum(weights * (distances - fixed), axis=1), count, count


def reduce(sums: KerasTensor, count: KerasTensor, active: KerasTensor, reduction: str) -> KerasTensor:
    """Bring each row's sum, number of tuples and number of active ones, ``[N]`` each, to ``[]`` or ``[N]``."""
    if reduction == "none":
        return sums
    if reduction == "sum":
        return ops.sum(sums)
    tuples = count if reduction == "mean" else active
    return ops.sum(sums) / ops.maximum(ops.sum(tuples), 1)
