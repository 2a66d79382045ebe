"""Quantized embeddings: against plain numpy, and against sentence-transformers where it is installed."""

import numpy as np
import pytest

from finetuner.quantization import DTYPES, quantize

X = np.random.default_rng(0).normal(size=(150, 21)).astype(np.float32)
X[3] = 0
X[:, 5] = 0.25  # a component without a range
OTHER = np.random.default_rng(1).normal(size=(40, 21)).astype(np.float32) * 3
OTHER[0] *= 100


def by_hand(x, dtype, ranges):
    """One number at a time."""
    rows = []
    for row in x:
        if dtype in ("binary", "ubinary"):
            bits = [int(value > 0) for value in row] + [0] * (-len(row) % 8)
            rows.append([sum(bit << (7 - j) for j, bit in enumerate(bits[i : i + 8])) for i in range(0, len(bits), 8)])
            continue
        numbers = []
        for value, column in zip(row, ranges.T, strict=True):
            low, high = np.float32(column.min()), np.float32(column.max())
            step = (high - low) / np.float32(255) or np.float32(1)
            numbers.append(min(255, max(0, int(np.floor((value - low) / step)))))
        rows.append(numbers)
    shift = 128 if dtype in ("binary", "int8") else 0
    return np.array(rows) - shift


@pytest.mark.parametrize("dtype", DTYPES[1:])
@pytest.mark.parametrize("width", [21, 16, 3])
def test_against_numpy(dtype, width):
    x = X[:, :width]
    found = quantize(x, dtype)
    assert found.dtype == (np.int8 if dtype in ("int8", "binary") else np.uint8)
    assert found.shape == (150, width if "int8" in dtype else -(-width // 8))
    np.testing.assert_array_equal(found, by_hand(x, dtype, x))


@pytest.mark.parametrize("dtype", ["int8", "uint8"])
def test_calibration(dtype):
    found = quantize(OTHER, dtype, calibration=X)
    np.testing.assert_array_equal(found, by_hand(OTHER, dtype, X))
    assert len(set(found[0].tolist())) <= 4  # clipped
    np.testing.assert_array_equal(quantize(X[:1], dtype, calibration=X), quantize(X, dtype)[:1])


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("kind", ["float32", "float64"])
def test_against_sentence_transformers(dtype, kind):
    util = pytest.importorskip("sentence_transformers.util")
    theirs = util.quantize_embeddings
    x, other = X.astype(kind), OTHER.astype(kind)
    found, expected = quantize(x, dtype), theirs(x, dtype)
    assert found.dtype == expected.dtype
    np.testing.assert_array_equal(found, expected)
    if "int8" in dtype:
        np.testing.assert_array_equal(
            quantize(other, dtype, calibration=x), theirs(other, dtype, calibration_embeddings=x)
        )


def test_binary_distances_are_counts_of_different_signs():
    bits = np.unpackbits(quantize(X, "ubinary")[:2], axis=1)[:, : X.shape[1]]
    assert (bits[0] != bits[1]).sum() == ((X[0] > 0) != (X[1] > 0)).sum()


def test_order_is_kept_within_a_step():
    """A byte is at most one step away from the value that it stands for."""
    low, high = X.min(axis=0), X.max(axis=0)
    step = (high - low) / 255
    restored = quantize(X, "uint8") * step + low
    assert (np.abs(restored - X) <= step * 1.001 + 1e-6).all()


def test_no_rows():
    for dtype in DTYPES:
        assert len(quantize(X[:0], dtype)) == 0


@pytest.mark.parametrize(
    ("x", "options", "message"),
    [
        (X, {"dtype": "int4"}, "dtype must be one of 'float32', 'int8', .* got 'int4'"),
        (X[0], {}, r"embeddings must have shape \[N, D\], got \[21\]"),
        (X.astype(int), {}, "embeddings must be floats, got int64"),
        (np.where(X == 0, np.nan, X), {}, "embeddings must be finite, and are not in rows 3"),
        (X[:1], {}, "calibration must be given for a single embedding"),
        (X, {"calibration": X[:, :4]}, "calibration must have 21 components, got 4"),
        (X, {"calibration": X[:0]}, "calibration must have at least one embedding"),
        (X, {"dtype": "binary", "calibration": X}, "calibration must be used with dtype 'int8' or 'uint8'"),
    ],
)
def test_wrong_input(x, options, message):
    with pytest.raises(ValueError, match=message):
        quantize(x, **options)
