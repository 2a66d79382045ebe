"""The cases of the parity suite: the full grid, or a part of it in which every value meets every batch.

A case is a class, a point of its grid of arguments, a batch and a mode. The full grid is their product. Without
``--full-grid``, these cases are run:

- Eager: every pair of a batch and a value of an argument, and every point. A default is a value. The two strategies
  of a miner are two arguments.
- Compiled: a compiler works once per point and shape, which takes most of the time. Each batch of the most common
  shape is compiled at its eager points, which are all points together. Each other shape is compiled at one point.
"""

from collections import Counter

__all__ = ["compiled_cases", "eager_cases", "full_cases"]


def full_cases(reference):
    """Every point with every batch: a list of (index of the point, name of the batch)."""
    return [(point, batch) for point in range(len(reference.grid)) for batch in reference.batches]


def eager_cases(reference):
    """Cases of the full grid that hold every pair of a batch and a value, and every point."""
    return ordered(reference, covering(reference, reference.batches))


def compiled_cases(reference):
    """Cases of the full grid that hold every point and every batch, with few pairs of a point and a shape."""
    shapes = {}
    for name, batch in reference.batches.items():
        shapes.setdefault(shape(batch), []).append(name)
    common = max(shapes.values(), key=len)
    cases = covering(reference, common)
    for i, batches in enumerate(shapes.values()):
        if batches is not common:
            cases |= {(i % len(reference.grid), batch) for batch in batches}
    return ordered(reference, cases)


def covering(reference, batches):
    """Pairs of a point and a batch that hold every pair of a batch and a value, and every point."""
    values = values_by_point(reference.grid)
    used = Counter()
    cases = set()
    for number, batch in enumerate(batches):
        missing = set().union(*values)
        while missing:
            # Among the points that add most: the one that was used least, and another one for each batch.
            point = min(
                range(len(values)),
                key=lambda i: (-len(values[i] & missing), used[i], (i - number) % len(values)),
            )
            missing -= values[point]
            used[point] += 1
            cases.add((point, batch))
    names = list(batches)
    return cases | {(point, names[point % len(names)]) for point in range(len(values)) if not used[point]}


def values_by_point(grid):
    """The (argument, value) pairs of each point, defaults included."""
    flat = []
    for point in grid:
        miner = {f"miner {key}": value for key, value in (point.get("miner") or {}).items()}
        flat.append({key: value for key, value in point.items() if key != "miner"} | miner)
    arguments = sorted({key for point in flat for key in point})
    return [{("point", ""), *((key, repr(point.get(key, "default"))) for key in arguments)} for point in flat]


def shape(batch):
    """What a compiler distinguishes batches by."""
    return tuple((array.shape, str(array.dtype)) if hasattr(array, "shape") else array for array in batch)


def ordered(reference, cases):
    """``cases`` in the order of the full grid."""
    return [case for case in full_cases(reference) if case in cases]
