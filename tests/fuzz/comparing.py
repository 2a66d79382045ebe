"""Compares a loss with its reference: value and slope where numbers are sane, else that they are finite."""

import contextlib
import math

import numpy as np

from ..backends import weighted
from ..reference import LOSSES, batches, relations
from .outcome import COMPARED, RAN, REFUSED, Failure, refusals, require

EPS = float(np.finfo(np.float32).eps)
LARGEST = 3e38  # of float32
ROUNDING = 16 * EPS  # documented: a squared distance below this, relative to the squared norms, is 0
MOST = 12  # rows of a batch that is compared, because the references have loops


@contextlib.contextmanager
def rounding(least):
    """References in which squared distances below ``least``, relative to the squared norms, are 0."""
    plain = relations.distance_between

    def distance_between(x, y, distance):
        found = plain(x, y, distance)
        if distance == "cosine":
            return 0.0 if found <= least else found
        square = found if distance == "sqeuclidean" else found * found
        return 0.0 if square <= least * (x @ x + y @ y) else found

    relations.distance_between = distance_between
    try:
        yield
    finally:
        relations.distance_between = plain


def fields_of(batch):
    """The names of the arrays of a batch that have a gradient, and of the others."""
    moving = [name for name in batches.MOVING[type(batch)] if getattr(batch, name) is not None]
    return moving, [name for name in batch._fields if name not in (*moving, "self_offset")]


def evaluate(backend, loss, batch, dtype, with_bank=False):
    """Value and gradients by the name of the array."""
    moving, others = fields_of(batch)
    if with_bank and "references" in moving:
        moving, others = ["x"], [*others, "references"]
    options = {} if getattr(batch, "self_offset", None) is None else {"self_offset": batch.self_offset}

    def function(*given):
        arguments = dict(zip((*moving, *others), given, strict=True))
        if dtype != "float32":
            arguments |= {name: backend.cast(arguments[name], dtype) for name in moving[:1]}
        return loss(*(arguments[name] for name in batch._fields if name in arguments), **options)

    arrays, constants = ([getattr(batch, name) for name in names] for names in (moving, others))
    try:
        value, grads = backend.value_and_grads(function, arrays, constants)
    except AttributeError as error:
        if "NoneType" in str(error):
            raise Failure("an array has no gradient") from error
        raise
    require(all(gradient is not None for gradient in grads), "an array has no gradient")
    return np.asarray(value, np.float64), dict(zip(moving, (np.asarray(g, np.float64) for g in grads), strict=True))


def sizes(batch):
    """The smallest length above 0 and the largest length of a row of the embeddings."""
    rows = [getattr(batch, name) for name in (*fields_of(batch)[0], *{"teacher"}.intersection(batch._fields))]
    lengths = np.concatenate([np.sqrt((x.reshape(len(x), math.prod(x.shape[1:])) ** 2).sum(axis=1)) for x in rows])
    return lengths[lengths > 0].min(initial=np.inf), lengths.max(initial=0.0)


def steepness(params):
    """How much a loss magnifies a distance."""
    inverse = [1 / params[name] for name in ("temperature", "temperature2", "temperature1") if name in params]
    return max(1.0, *inverse, *(params.get(name, 1.0) for name in ("scale", "sigma", "alpha", "beta"))) * (
        1 / params["temperature1"] if "temperature1" in params else 1.0
    )


def check(backend, name, params, batch, dtype, rng):
    """Compare a loss with its reference where numbers are sane. Elsewhere, check that they are finite."""
    count = len(batch[0])
    columns = count if getattr(batch, "references", None) is None else len(batch.references)
    with refusals() as refused:
        loss = backend.loss(name, **params)
        value, grads = evaluate(backend, loss, batch, dtype)
    if refused:
        return REFUSED
    reference = LOSSES[name].function
    distance = params.get("distance", "euclidean" if name == "ContrastiveLoss" else "cosine")
    smallest, largest = sizes(batch)
    unit = {"cosine": 1.0, "euclidean": largest, "sqeuclidean": largest**2}[distance]
    power = 2 if name == "ContrastiveLoss" else 1
    terms = max(1, count) * (max(1, columns) ** 2 if isinstance(batch, batches.Batch) else 1)
    summed = terms if params.get("reduction") in ("sum", "none") else 1
    scores = isinstance(batch, batches.Scores | batches.Logits)
    steep = steepness(params) * (max(1.0, largest) if scores else 1.0)
    # What float32 cannot hold: a squared length, or a sum of the terms.
    overflow = distance != "cosine" and max(4 * largest**2, (4 * max(1, unit)) ** power * terms) > LARGEST / 10
    if overflow:
        return RAN
    require(np.isfinite(value).all(), f"value is not finite: {value.ravel()[:4]}")
    half = dtype in ("float16", "bfloat16")
    # A gradient by a direction is as large as 1 / length, which may be above what the type of the embeddings holds.
    steepest = steep * summed * max(1.0, count) / (min(smallest, 1.0) if distance == "cosine" else 1.0)
    holds = steepest * max(1.0, unit) < (6e3 if dtype == "float16" else 1e35)
    for field, gradient in grads.items():
        require(gradient.shape == getattr(batch, field).shape, f"gradient of {field} has the shape {gradient.shape}")
        require(not holds or np.isfinite(gradient).all(), f"gradient of {field} is not finite")
    if "references" in grads and rng.random() < 0.5:
        bank_value, bank_grads = evaluate(backend, loss, batch, dtype, with_bank=True)
        require(np.array_equal(bank_value, value), "value differs if the references have no gradient")
        close = np.allclose(bank_grads["x"], grads["x"], rtol=1e-5, atol=1e-9, equal_nan=True)
        require(close or not holds, "gradient differs if the references have no gradient")
    sane = (smallest >= 1e-5 or not np.isfinite(smallest)) and largest <= 1e4 and steep <= 1e6
    if not sane or count == 0 or max(count, columns) > MOST or 0 in batch[0].shape:
        return RAN
    absolute = 3e-6 * steep * max(unit**power, power - 1.0) * summed + 1e-6

    def true_value(batch):
        return np.asarray(reference(batch, **params), np.float64)

    expected = true_value(batch)
    require(expected.shape == value.shape, f"value has the shape {value.shape} and must have {expected.shape}")
    if not (np.abs(value - expected) <= 1e-4 * np.abs(expected) + absolute).all():
        if "miner" in params and has_ties(batch, distance):
            return RAN  # the kind "miner" compares what a miner selects
        if params.get("reduction") == "nonzero_mean" and isinstance(batch, batches.Batch):
            at_hinge = params["margin"] is None or has_distance(batch, distance, params["margin"])
            if at_hinge or near(batch, distance):
                return RAN  # whether a term is above 0 is a question of rounding
        low, high = bounds(batch, true_value, expected)
        within = (value >= low - 1e-4 * np.abs(low) - absolute) & (value <= high + 1e-4 * np.abs(high) + absolute)
        require(within.all(), f"value {value.ravel()[:3]} must be {expected.ravel()[:3]}")
        return COMPARED
    if count <= 8 and not half and holds:
        compare_slope(batch, true_value, grads, distance, steep * max(1.0, unit) * summed, "miner" in params)
    return COMPARED


def has_ties(batch, distance):
    """Whether a row has nearly equal distances, of which a miner selects one by its rounding."""
    rows = np.sort(np.array(relations.distance_matrix(batch, distance)), axis=1)
    gaps = np.diff(rows, axis=1)
    return bool((gaps[rows[:, 1:] > 0] <= 1e-5 * (1 + rows.max(initial=0))).any())


def has_distance(batch, distance, margin):
    """Whether some distance equals the margin, except for rounding."""
    found = np.array(relations.distance_matrix(batch, distance))
    return bool((np.abs(found - margin) <= 1e-5 * (1 + margin)).any())


def bounds(batch, function, expected):
    """What ``function`` may give where it has jumps: for other roundings of distances and of the embeddings."""
    rng, moving = np.random.default_rng(0), fields_of(batch)[0]
    found = [expected]
    for least in (ROUNDING / 4, ROUNDING, 2 * ROUNDING):
        with rounding(least):
            found.append(function(batch))
            for size in (1e-7, 1e-6, 3e-6):
                for _ in range(4):
                    arrays = {name: getattr(batch, name) for name in moving}
                    other = {name: x * (1 + size * rng.normal(size=x.shape)) for name, x in arrays.items()}
                    found.append(function(batch._replace(**other)))
    return np.min(found, axis=0), np.max(found, axis=0)


def compare_slope(batch, function, grads, distance, scale, mined):
    """Compare the slope along a random direction with that of the reference on both sides."""
    if isinstance(batch, batches.Scores) and np.diff(np.sort(batch.scores)).min(initial=1.0) < 1e-3 * np.abs(
        batch.scores
    ).max(initial=1.0):
        return  # a step may change ranks, which have no gradient
    rng = np.random.default_rng(len(grads))
    for field, gradient in grads.items():
        x = getattr(batch, field)
        size = (
            np.abs(x)
            .reshape(len(x), math.prod(x.shape[1:]))
            .max(axis=1, initial=0)
            .reshape((-1,) + (1,) * (x.ndim - 1))
        )
        if not size.any():
            continue
        direction = rng.normal(size=x.shape) * size
        slopes = []
        for step in (1e-6, 1e-5):
            middle, right, left = (
                weighted(function(batch._replace(**{field: x + sign * step * direction}))) for sign in (0, 1, -1)
            )
            slopes += [(right - middle) / step, (middle - left) / step]
        low, high = min(slopes), max(slopes)
        slope = (gradient * direction).sum()
        slack = 3e-3 * max(abs(low), abs(high)) + 1e-3 * np.abs(gradient * direction).sum() + 1e-4 * scale
        within = low - slack <= slope <= high + slack
        # Where a miner changes its choice, and where euclidean distances are 0, kinks of both signs may cancel.
        tied = mined and has_ties(batch, distance)
        if not within and not tied and not near(batch, distance, duplicates=distance == "euclidean"):
            raise Failure(f"slope by {field} is {slope:.6g} and must be from {low:.6g} to {high:.6g}")


def near(batch, distance, duplicates=False):
    """Whether two rows are so near that their distance may be rounded to 0. Exact duplicates count if asked for."""
    arrays = [getattr(batch, name) for name in fields_of(batch)[0]]
    rows = np.concatenate(arrays) if all(x.ndim == 2 and x.shape[1] == arrays[0].shape[1] for x in arrays) else ()
    for i, x in enumerate(rows):
        for y in rows[:i]:
            found = relations.distance_between(x, y, distance)
            square = found**2 if distance == "euclidean" else found
            norms = 1.0 if distance == "cosine" else x @ x + y @ y
            if (square <= 1e-4 * norms and (duplicates or (x != y).any())) or (
                distance == "cosine" and found > 2 - 1e-4
            ):
                return True
    return False
