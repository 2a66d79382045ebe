"""Random embeddings and labels of all accepted kinds."""

import numpy as np

from .outcome import pick

SANE = ("normal", "duplicates", "collinear", "antipodal", "one-hot", "zeros", "integers", "offset", "few ulps")
EXTREME = ("scaled", "rows", "mixture", "denormal")
# Some engines compile each shape.
SHAPES = {"keras-jax": [(5, 3), (6, 4), (1, 2), (0, 3)], "keras-tensorflow": [(5, 3), (6, 4), (1, 2), (0, 3)]}
DTYPES = ("float32", "float32", "float32", "float64", "float16", "bfloat16")


def shape_of(rng, backend, most=40):
    """The number of rows and columns of a batch. Most batches are small."""
    if backend.key in SHAPES:
        return pick(rng, *SHAPES[backend.key])
    rows = pick(rng, rng.integers(0, 4), rng.integers(2, 11), rng.integers(2, 11), rng.integers(8, most + 1))
    return int(min(rows, most)), int(rng.integers(1, 18))


def rounded(x, dtype):
    """``x`` rounded to a type, as float64."""
    x = np.asarray(x, np.float32)
    if dtype == "float16":
        x = np.clip(x, -6e4, 6e4).astype(np.float16)
    if dtype == "bfloat16":
        bits = np.ascontiguousarray(x).view(np.uint32)
        x = ((bits + np.uint32(0x7FFF) + ((bits >> 16) & 1)) & np.uint32(0xFFFF0000)).astype(np.uint32).view(np.float32)
    return np.nan_to_num(x.astype(np.float64), posinf=1e18, neginf=-1e18)


def embeddings(rng, rows, columns, dtype="float32", extreme=0.3):
    """Embeddings ``[rows, columns]`` in float64 that are exact in float32 and in ``dtype``, and their kind."""
    kind = pick(rng, *(EXTREME if rng.random() < extreme else SANE))
    x = rng.normal(size=(rows, columns))
    if kind == "scaled":
        x *= 10.0 ** rng.integers(-30, 19)
    elif kind == "rows":
        x *= 10.0 ** rng.integers(-30, 19, size=(rows, 1))
    elif kind == "mixture":
        x = rng.choice([0, 1e-40, 1e-20, 1e-10, 1, -1, 1e10, -1e18, 1e18], size=(rows, columns))
    elif kind == "denormal":
        x *= 1e-41
    elif kind == "duplicates" and rows:
        x = x[rng.integers(0, max(1, rows // 3), size=rows)]
    elif kind == "collinear":
        x = rng.normal(size=(1, columns)) * rng.choice([0.5, 1, 2, 3, 100, 0.01], size=(rows, 1))
    elif kind == "antipodal":
        x = rng.normal(size=(1, columns)) * rng.choice([1, -1], size=(rows, 1))
    elif kind == "one-hot" and rows:
        x = np.eye(columns)[rng.integers(0, columns, size=rows)]
    elif kind == "zeros":
        x *= rng.random((rows, 1)) < 0.5
    elif kind == "integers":
        x = rng.integers(-2, 3, size=(rows, columns)).astype(float)
    elif kind == "offset":
        x += 10.0 ** rng.integers(0, 3)
    elif kind == "few ulps" and rows > 1:
        x[rng.integers(rows)] = x[rng.integers(rows)] * (1 + 1e-7)
    if rows > 1 and rng.random() < 0.2:
        x[rng.integers(rows)] = x[rng.integers(rows)]
    return rounded(x, dtype), kind


LABELS = (
    "few",
    "few",
    "same",
    "different",
    "negative",
    "huge",
    "uint8",
    "int32",
    "bool",
    "sessions",
    "sets",
    "overlap",
)


def labels(rng, rows, kind, columns=4):
    """Labels of a kind. Those of one kind, and sets of as many ``columns``, can be compared."""
    few = rng.integers(0, max(1, rows // 3) + 1, size=rows)
    if kind == "sessions":
        return np.stack([few, rng.choice([0, 1, -1, 2, -2], size=rows, p=[0.3, 0.3, 0.2, 0.1, 0.1])], axis=1)
    if kind in ("sets", "overlap"):
        sets = rng.random((rows, columns)) < pick(rng, 0.2, 0.5, 0.9)
        return sets if kind == "sets" else sets * np.float32(pick(rng, 0.25, 0.4, 0.5, 1.0))
    return {
        "few": few,
        "same": np.zeros(rows, np.int64),
        "different": np.arange(rows),
        "negative": -few - 1,
        "huge": 2**24 + few % 4,
        "uint8": (few * 50).astype(np.uint8),
        "int32": few.astype(np.int32),
        "bool": few % 2 == 0,
    }[kind]
