"""Quantization: embeddings in a byte or in a bit for each component."""

from typing import Any

import numpy as np

from . import checks
from .parts import Part

__all__ = ["DTYPES", "check_dtype", "check_part_dtype", "quantize"]

DTYPES = ("float32", "int8", "uint8", "binary", "ubinary")
STEPS = 255  # between the smallest and the largest byte


def check_dtype(dtype: Any) -> str:
    """Return ``dtype`` if :func:`quantize` has it, else raise ``ValueError``."""
    return checks.one_of("dtype", dtype, DTYPES)


def check_part_dtype(part: Part | None, dtype: str, calibration: Any) -> None:
    """Raise ``ValueError`` if one of several parts would be quantized by its own ranges, which others do not have."""
    if part is not None and part[1] > 1 and dtype in ("int8", "uint8") and calibration is None:
        raise ValueError(
            f"calibration must be given for a part and dtype {dtype!r}, so that all parts have one range, got None"
        )


def quantize(embeddings: Any, dtype: str = "int8", calibration: Any = None) -> np.ndarray:
    r"""Embeddings in fewer bits, as ``sentence_transformers.quantize_embeddings`` computes them, bit for bit.

    .. math:: q_{ij} = \Big\lfloor 255\, \frac{x_{ij} - l_j}{h_j - l_j} \Big\rfloor

    ==============  ================================================================================
    ``"int8"``      ``[N, D]`` int8, q - 128. l and h are the least and the largest value of a component
    ``"uint8"``     ``[N, D]`` uint8, q
    ``"binary"``    ``[N, ceil(D / 8)]`` int8: a bit for each component, 1 if it is above 0. Eight are packed into a
                    byte, the first into the highest bit, and 128 is subtracted
    ``"ubinary"``   the same as uint8, without the subtraction, as ``numpy.packbits`` returns it
    ``"float32"``   ``[N, D]``, unchanged
    ==============  ================================================================================

    Two sets of embeddings that are compared must have the same ranges: quantize queries with the embeddings that are
    searched as ``calibration``. Values outside the ranges are clipped. Distances between binary embeddings are counts
    of different bits (Hamming). If D is not a multiple of 8, the last bits are 0.

    Args:
        embeddings: ``[N, D]`` floats.
        dtype: A name from the table.
        calibration: Embeddings ``[M, D]`` whose ranges are used, for ``"int8"`` and ``"uint8"``. The default is
            ``embeddings``. A few hundred are enough; the ranges of a few are too narrow.

    Returns:
        The quantized embeddings.

    Raises:
        ValueError: If an argument is out of its range, values are not finite, or the ranges are to be those of a single
            embedding.

    Example:
        >>> embeddings = np.array([[0.0, -127.0], [128.0, 128.0], [255.0, 0.0]], np.float32)
        >>> quantize(embeddings, "int8").tolist()
        [[-128, -128], [0, 127], [127, -1]]
        >>> quantize(embeddings, "ubinary").tolist()
        [[0], [192], [128]]
        >>> quantize(np.array([[300.0, 64.0]]), "int8", calibration=embeddings).tolist()
        [[127, 63]]
    """
    check_dtype(dtype)
    values = check_floats("embeddings", embeddings)
    if calibration is not None and dtype not in ("int8", "uint8"):
        raise ValueError(f"calibration must be used with dtype 'int8' or 'uint8', got {dtype!r}")
    if dtype == "float32":
        return values.astype(np.float32)
    if dtype == "ubinary":
        return np.packbits(values > 0, axis=1)
    if dtype == "binary":
        return (np.packbits(values > 0, axis=1).astype(np.int16) - 128).astype(np.int8)
    if calibration is None:
        if len(values) == 1:
            raise ValueError(f"calibration must be given for a single embedding and dtype {dtype!r}, got None")
        known = values
    else:
        known = check_floats("calibration", calibration)
        if known.shape[1] != values.shape[1]:
            raise ValueError(f"calibration must have {values.shape[1]} components, got {known.shape[1]}")
        if not len(known):
            raise ValueError("calibration must have at least one embedding, got none")
    if not len(values):
        return np.zeros(values.shape, dtype)
    low, high = (limit(known, axis=0).astype(np.float32) for limit in (np.min, np.max))
    steps = (high - low) / STEPS
    steps = np.where(steps == 0, 1, steps)
    numbers = np.clip(np.floor((values - low) / steps), 0, STEPS)
    return numbers.astype(np.uint8) if dtype == "uint8" else (numbers - 128).astype(np.int8)


def check_floats(name: str, embeddings: Any) -> np.ndarray:
    """Return embeddings as an array ``[N, D]`` of finite floats."""
    values = np.asarray(embeddings)
    checks.shape(name, values.shape, ["N", "D"])
    if values.dtype.kind != "f":
        raise ValueError(f"{name} must be floats, got {values.dtype}")
    if not np.isfinite(values).all():
        raise ValueError(f"{name} must be finite, and are not in rows {bad_rows(values)}")
    return values


def bad_rows(values: np.ndarray) -> str:
    """The first rows with a value that is not finite, for an error message."""
    return checks.preview(np.flatnonzero(~np.isfinite(values).all(axis=1)))
