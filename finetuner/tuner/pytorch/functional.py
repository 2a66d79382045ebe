"""The words that losses, miners and poolers are written in, for PyTorch.

Each verb guards its own edge, because the frameworks' gradients differ there (at zero norms, roots of
zero, bounds and ties): a guarded value is replaced before the operation that would spoil its gradient.
"""

from typing import NamedTuple

import torch

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
NOISE = 16 * torch.finfo(torch.float32).eps  # squared distances below this share of the norms are rounding
FAINT = -60.0  # exponentials so far below their row's largest add nothing, and processors are slow at tiny numbers


class Masks(NamedTuple):
    """Relations that are there as a whole: two boolean ``[N, M]``."""

    positive: torch.Tensor
    negative: torch.Tensor

    def rows(self, start: int = 0, size: int | None = None) -> tuple[torch.Tensor, torch.Tensor]:
        """Positives and negatives of ``size`` queries from ``start`` on, or all: two boolean ``[B, M]``."""
        return block_of(self.positive, start, size), block_of(self.negative, start, size)

    def either_way(self) -> "Masks":
        """Those that hold from either end, of a batch against itself."""
        return Masks(self.positive | self.positive.T, self.negative | self.negative.T)


class Relations:
    """Who belongs to whom, of queries ``[N]`` against references ``[M]``; see :mod:`..base.relations`."""

    def __init__(self, labels: torch.Tensor, reference_labels: torch.Tensor | None = None, both: bool = False):
        self.within = reference_labels is None  # a batch against itself
        self.labels = labels
        self.reference_labels = labels if reference_labels is None else reference_labels
        self.both = both and labels.ndim == 2  # sessions alone look different from either end

    def rows(self, start: int = 0, size: int | None = None) -> tuple[torch.Tensor, torch.Tensor]:
        """Positives and negatives of ``size`` queries from ``start`` on, or all: two boolean ``[B, M]``."""
        queries, references = block_of(self.labels, start, size), self.reference_labels
        positive, negative = related(queries, references)
        if self.both:
            from_there = related(references, queries)
            positive, negative = positive | from_there[0].T, negative | from_there[1].T
        if self.within:
            for mask in (positive, negative):
                # The diagonal: inductor warns of its own code for `diagonal`.
                mask.view(-1)[start :: mask.shape[1] + 1] = False
        return positive, negative

    def either_way(self) -> "Relations":
        """Those that hold from either end, of a batch against itself."""
        return Relations(self.labels, both=True)


def related(queries: torch.Tensor, references: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Positives and negatives by two sides' labels, ``[B]`` or ``[B, 2]`` each: two boolean ``[B, M]``."""
    if queries.ndim == 1:
        positive = queries[:, None] == references[None, :]
        return positive, ~positive
    session = queries[:, None, 0] == references[None, :, 0]
    asking, asked = queries[:, None, 1], references[None, :, 1]
    fits, misfits = (asking == 0) | (asking == 1), asking == -1
    positive = session & fits & (asked >= 0)
    return positive, session & (fits & (asked < 0) | misfits & ((asked == 0) | (asked == 1)))


def block_of(x: torch.Tensor, start: int, size: int | None) -> torch.Tensor:
    """``size`` rows from ``start`` on, or all."""
    return x if size is None else x[start : start + size]


def unit(x: torch.Tensor) -> torch.Tensor:
    """Rows at length 1; a zero vector stays zero and has a gradient of zero: ``[N, D]`` to ``[N, D]``.

    Scaling by the largest component first lets any float32 norm through without over- or underflow.
    """
    largest = x.detach().abs().amax(dim=1, keepdim=True)
    zero = largest <= FLOOR
    x = torch.where(zero, 0.0, x / torch.where(zero, 1.0, largest))
    square = (x * x).sum(dim=1, keepdim=True)
    return x / torch.sqrt(torch.where(zero, 1.0, square))


class Places(NamedTuple):
    """Where two sides lie, as their distances are taken, so that these can be had a block of rows at a time."""

    queries: torch.Tensor
    references: torch.Tensor
    query_norms: torch.Tensor  # what a distance of them has beside the product of both rows, [N]
    reference_norms: torch.Tensor


def places_of(queries: torch.Tensor, references: torch.Tensor, distance: str) -> Places:
    """Rows ``[N, D]`` and ``[M, D]`` as :func:`pairwise_distance` compares them: of length 1 for the cosine distance,
    and less a common offset that dwarfs their spread.

    The norms are squared, and halved for the cosine distance; there a row without a direction counts as one of length
    1 that is at right angles to all.
    """
    within = queries is references
    if distance == "cosine":
        queries = unit(queries)
        references = queries if within else unit(references)
        lost = [(x.detach() == 0).all(dim=1).to(x.dtype) for x in (queries, references)]
    fixed = references.detach()
    centre = fixed.mean(dim=0)
    far_off = (centre * centre).sum() > 0.9 * (fixed * fixed).sum(dim=1).mean()
    centre = torch.where(far_off, centre, 0.0)
    queries = queries - centre
    references = queries if within else references - centre
    norms = [(x * x).sum(dim=1) for x in (queries, references)]
    if distance == "cosine":
        norms = [(norms[side] + lost[side]) / 2 for side in (0, 1)]
    return Places(queries, references, *norms)


def distances_of(places: Places, distance: str, start: int = 0, size: int | None = None) -> torch.Tensor:
    """Distances of ``size`` queries from ``start`` on, or all, to all references, ``[B, M]``."""
    queries, own = block_of(places.queries, start, size), block_of(places.query_norms, start, size)
    norms = own[:, None] + places.reference_norms[None, :]
    square = torch.addmm(norms, queries, places.references.T, alpha=-1 if distance == "cosine" else -2)
    apart = torch.sub(square.detach(), norms.detach(), alpha=NOISE).gt_(0)  # 1 or 0, which are fast to multiply by
    if distance == "euclidean":
        return torch.where(apart > 0, torch.sqrt(torch.where(apart > 0, square, 1.0)), 0.0)
    return square * apart


def pairwise_distance(queries: torch.Tensor, references: torch.Tensor, distance: str) -> torch.Tensor:
    r"""Distance of each query to each reference, at least 0: ``[N, D]`` and ``[M, D]`` to ``[N, M]``.

    All come from scalar products, the cosine one as :math:`1 - \cos = |u - v|^2 / 2` of unit vectors. The
    rounding of :math:`|u|^2 + |v|^2 - 2uv` is a share of the norms and not of the distance. Hence a common
    offset that dwarfs the spread is taken off first, and what lies within the rounding is 0, so that
    exact duplicates are at distance 0 and have a gradient of 0. A zero vector has a cosine of 0 with all.
    """
    return distances_of(places_of(queries, references, distance), distance)


def row_distance(first: torch.Tensor, second: torch.Tensor, distance: str) -> torch.Tensor:
    """Distance of each row to the row beside it, as :func:`pairwise_distance`: two ``[N, D]`` to ``[N]``."""
    if distance == "cosine":
        first, second = unit(first), unit(second)
    square = ((first - second) ** 2).sum(dim=1)
    if distance == "euclidean":
        apart = square > 0
        return torch.where(apart, torch.sqrt(torch.where(apart, square, 1.0)), 0.0)
    if distance == "sqeuclidean":
        return square
    directionless = [(x.detach() == 0).all(dim=1).to(x.dtype) for x in (first, second)]
    return (square + directionless[0] + directionless[1]) / 2


def angle(distances: torch.Tensor) -> torch.Tensor:
    """Angle of a cosine distance, from 0 to pi, with a gradient of 0 at either end, where it has none."""
    inside = (distances > 0) & (2 - distances > NOISE)
    safe = torch.where(inside, distances, 1.0)
    end = (distances.detach() > 1).to(safe.dtype) * torch.pi
    return torch.where(inside, torch.atan2(torch.sqrt(safe * (2 - safe)), 1 - safe), end)


def falling_cosine(x: torch.Tensor) -> torch.Tensor:
    """The cosine up to pi, and then its halves hung on below each other, so that it never rises again."""
    half = torch.floor(x.detach() / torch.pi)
    return (1 - 2 * (half % 2)) * torch.cos(x) - 2 * half


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
    most = x.detach().amax(dim=1, keepdim=True)
    return most + (x - most).clamp(min=FAINT).exp().sum(dim=1, keepdim=True).log()


def masked_mean(x: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Mean of x where ``mask`` holds, or by how much it does; 0 where it nowhere does."""
    weights = mask.to(x.dtype)
    return (x * weights).sum() / weights.sum().clamp(min=1e-12)


def spread(x: torch.Tensor) -> torch.Tensor:
    """1 less the squared length of the mean of unit rows: 0 where all are one, 1 where they lie all around."""
    centre = unit(x).mean(dim=0)
    return 1 - (centre * centre).sum()


def one_hot(labels: torch.Tensor, num_classes: int) -> torch.Tensor:
    """Mask ``[N, C]`` of the class of each label ``[N]``."""
    return labels[:, None] == torch.arange(num_classes, device=labels.device)


def label_smoothing(
    y: torch.Tensor, num_classes: int, epsilon: float = 0.2, categories: torch.Tensor | None = None
) -> torch.Tensor:
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
    same = torch.ones_like(own)
    if categories is not None:
        categories = torch.as_tensor(categories, device=y.device)
        same = categories[y.long()][:, None] == categories[None, :]
    own, same = own.float(), same.float()
    return (1 - epsilon) * own + epsilon * same / same.sum(dim=1, keepdim=True)


def of_groups(x: torch.Tensor, groups: torch.Tensor | None) -> torch.Tensor:
    """Mask ``[N, N]`` of the items that are of one group, of rows ``[N]``; of all where there are no groups."""
    if groups is None:
        return torch.ones((len(x), len(x)), dtype=torch.bool, device=x.device)
    return groups[:, None] == groups[None, :]


def group_ranks(x: torch.Tensor, same: torch.Tensor) -> torch.Tensor:
    """Rank of each item in its group from 1, the highest first, and of equals the first: ``[N]`` to ``[N]``."""
    place = torch.arange(len(x), device=x.device)
    ahead = (x[None, :] > x[:, None]) | ((x[None, :] == x[:, None]) & (place[None, :] < place[:, None]))
    return 1 + (same & ahead).sum(dim=1).to(x.dtype)


def at_least_float32(x: torch.Tensor) -> torch.Tensor:
    """``x`` itself in float32 or float64, and in float32 if it is anything else."""
    return x if x.dtype == torch.float64 else x.float()


def reduce(sums: torch.Tensor, count: torch.Tensor, active: torch.Tensor, reduction: str) -> torch.Tensor:
    """Bring each row's sum, number of tuples and number of active ones, ``[N]`` each, to ``[]`` or ``[N]``."""
    if reduction == "none":
        return sums
    if reduction == "sum":
        return sums.sum()
    tuples = count if reduction == "mean" else active
    return sums.sum() / tuples.sum().clamp(min=1)
