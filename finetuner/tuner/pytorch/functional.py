"""The words that losses, miners and poolers are written in, for PyTorch.

Each verb guards its own edge, because the frameworks' gradients differ there (at zero norms, roots of
zero, bounds and ties): a guarded value is replaced before the operation that would spoil its gradient.
"""

import torch
from torch.nn import functional as F

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
NOISE = 16 * torch.finfo(torch.float32).eps  # squared distances below this share of the norms are rounding
BLOCK = 2**22  # elements of the largest temporary of a computation in blocks


class Relations:
    """Who belongs to whom, of queries ``[N]`` against references ``[M]``; see :mod:`..base.relations`."""

    def __init__(self, labels: torch.Tensor, reference_labels: torch.Tensor | None = None):
        self.within = reference_labels is None  # a batch against itself
        self.labels = labels
        self.reference_labels = labels if reference_labels is None else reference_labels

    def rows(self, start: int = 0, stop: int | None = None) -> tuple[torch.Tensor, torch.Tensor]:
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
            rows = torch.arange(start, start + len(queries), device=queries.device)
            itself = rows[:, None] == torch.arange(references.shape[1], device=queries.device)
            positive, negative = positive & ~itself, negative & ~itself
        return positive, negative


def unit(x: torch.Tensor) -> torch.Tensor:
    """Rows at length 1; a zero vector stays zero and has a gradient of zero: ``[N, D]`` to ``[N, D]``.

    Scaling by the largest component first lets any float32 norm through without over- or underflow.
    """
    largest = x.detach().abs().amax(dim=1, keepdim=True)
    zero = largest <= FLOOR
    x = torch.where(zero, 0.0, x / torch.where(zero, 1.0, largest))
    square = (x * x).sum(dim=1, keepdim=True)
    return x / torch.sqrt(torch.where(zero, 1.0, square))


def pairwise_distance(queries: torch.Tensor, references: torch.Tensor, distance: str) -> torch.Tensor:
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
    centre = fixed.mean(dim=0)
    far_off = (centre * centre).sum() > 0.9 * (fixed * fixed).sum(dim=1).mean()
    centre = torch.where(far_off, centre, 0.0)
    directionless = [(x.detach() == 0).all(dim=1).to(x.dtype) for x in (queries, references)]
    queries = queries - centre
    references = queries if within else references - centre
    norms = (queries * queries).sum(dim=1)[:, None] + (references * references).sum(dim=1)[None, :]
    square = norms - 2 * queries @ references.T
    apart = square.detach() > NOISE * norms.detach()
    if distance == "euclidean":
        return torch.where(apart, torch.sqrt(torch.where(apart, square, 1.0)), 0.0)
    square = torch.where(apart, square, 0.0)
    if distance == "sqeuclidean":
        return square
    return (square + directionless[0][:, None] + directionless[1][None, :]) / 2


def hinge(x: torch.Tensor) -> torch.Tensor:
    """``max(0, x)``, with a gradient of 0 at 0."""
    return torch.where(x > 0, x, 0.0)


def farthest(distances: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Mask of each row's farthest item among those of ``mask``, the first of equals: to ``[N, M]``."""
    index = torch.where(mask, distances, -torch.inf).argmax(dim=1, keepdim=True)
    return mask & (torch.arange(distances.shape[1], device=distances.device) == index)


def nearest(distances: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Mask of each row's nearest item among those of ``mask``, the first of equals: to ``[N, M]``."""
    return farthest(-distances, mask)


def row_logsumexp(x: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Log of the sum of exponentials where ``mask`` holds: ``[N, M]`` to ``[N, 1]``; -3e38 where it nowhere does."""
    x = torch.where(mask, x, torch.finfo(x.dtype).min)
    return torch.logsumexp(x, dim=1, keepdim=True)


def triplets(
    distances: torch.Tensor, positive: torch.Tensor, negative: torch.Tensor, margin: float
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    r"""Sum of the hinges, number, and number of active ones of each anchor's triplets: to three ``[N]``.

    With :math:`a_p = d_p + m`, the hinge :math:`\max(0, a_p - d_n)` is linear on either side of its kink.
    So an anchor's sum is :math:`\sum_p c_p a_p - \sum_n c_n d_n`, where :math:`c_p` counts the negatives
    below :math:`a_p` and :math:`c_n` the positives whose :math:`a_p` is above :math:`d_n`. Both counts come
    from searching sorted rows, and from the same comparisons, so that they agree to the last triplet.
    As :math:`\sum_p c_p = \sum_n c_n`, any number may be taken off all values; the mean of the positives
    keeps the sums small.
    """
    dtype = distances.dtype
    count = positive.sum(dim=1).to(dtype)
    limits = distances + margin
    with torch.no_grad():
        below = torch.where(negative, distances, torch.inf).sort(dim=1).values
        above = torch.where(positive, limits, torch.inf).sort(dim=1).values
        active_negatives = torch.searchsorted(below, limits.contiguous()).to(dtype)
        inactive_positives = torch.searchsorted(above, distances.contiguous(), right=True).to(dtype)
        weights = torch.where(negative, inactive_positives - count[:, None], 0.0)
        weights = torch.where(positive, active_negatives, weights)
        shift = torch.where(positive, limits, 0.0).sum(dim=1, keepdim=True) / count.clamp(min=1)[:, None]
        active = torch.where(positive, weights, 0.0).sum(dim=1)
    sums = (weights * (torch.where(positive, limits, distances) - shift)).sum(dim=1)
    return sums, count * negative.sum(dim=1).to(dtype), active


def soft_triplets(
    distances: torch.Tensor, positive: torch.Tensor, negative: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    r"""As :func:`triplets`, of :math:`\log(1 + e^{d_p - d_n})`, in blocks of anchors.

    The value and its derivative by each distance are summed a block at a time without keeping the
    block; a product that is 0 in value then carries the derivative to the distances.
    """
    values, weights = [], []
    with torch.no_grad():
        step = max(1, BLOCK // distances.shape[1] ** 2)
        for start in range(0, len(distances), step):
            block = slice(start, start + step)
            pairs = positive[block, :, None] & negative[block, None, :]
            gap = distances[block, :, None] - distances[block, None, :]
            slope = torch.where(pairs, torch.sigmoid(gap), 0.0)
            values.append(torch.where(pairs, F.softplus(gap), 0.0).sum(dim=(1, 2)))
            weights.append(slope.sum(dim=2) - slope.sum(dim=1))
        count = (positive.sum(dim=1) * negative.sum(dim=1)).to(distances.dtype)
    carrier = torch.cat(weights) * (distances - distances.detach())
    return torch.cat(values) + carrier.sum(dim=1), count, count


def reduce(sums: torch.Tensor, count: torch.Tensor, active: torch.Tensor, reduction: str) -> torch.Tensor:
    """Bring each row's sum, number of tuples and number of active ones, ``[N]`` each, to ``[]`` or ``[N]``."""
    if reduction == "none":
        return sums
    if reduction == "sum":
        return sums.sum()
    tuples = count if reduction == "mean" else active
    return sums.sum() / tuples.sum().clamp(min=1)
