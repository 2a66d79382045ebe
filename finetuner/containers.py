"""One way in for what users pass: foreign containers become numpy arrays, lists or mappings, by position.

Items, labels, embeddings, scores, targets, weights and relevance all go through this module. A container is recognized
by the module of its class, so no library is imported for it.
"""

import re
from collections.abc import Mapping
from typing import Any

import numpy as np

from .checks import preview

__all__ = ["from_container", "is_half", "is_missing", "is_table", "kind_of"]

# The library of a class, by the first part of the name of its module.
_LIBRARIES = {
    "torch": "torch",
    "paddle": "paddle",
    "tensorflow": "tensorflow",
    "keras": "keras",
    "jax": "jax",
    "jaxlib": "jax",
    "pandas": "pandas",
    "pyarrow": "pyarrow",
    "polars": "polars",
    "datasets": "datasets",
}


def kind_of(x: Any) -> str | None:
    """The library that an object's class comes from, ``"torch"`` or ``"pandas"`` for instance; None for all others."""
    for cls in type(x).__mro__:
        library = _LIBRARIES.get(cls.__module__.partition(".")[0])
        if library is not None:
            return library
    return None


def is_table(x: Any) -> bool:
    """Whether ``x`` has rows and named columns: a ``datasets.Dataset``, a frame, or an Arrow table."""
    kind = kind_of(x)
    if kind in ("pandas", "polars"):
        return hasattr(x, "columns" if kind == "pandas" else "get_columns")
    is_sized = hasattr(x, "column_names") and hasattr(x, "__len__") and not isinstance(x, Mapping)
    return kind in ("pyarrow", "datasets") and is_sized


def from_container(name: str, x: Any) -> Any:
    """Convert a container to a numpy array, a list or a mapping of these, in the order of its rows.

    ==================================================  ============================================================
    given                                               converted
    ==================================================  ============================================================
    tensor of PyTorch, TensorFlow, Keras, JAX, Paddle   array; bfloat16 as float32; gradients are dropped
    ``Series``, ``Index``, column of Arrow or Polars    array if all values are numbers, else a list; dates of pandas
                                                        and Polars are numbers, too
    ``DataFrame``, Arrow ``Table``                      ``[N, K]`` if all columns are numbers, else a mapping of columns
    column of ``datasets.Dataset``                      list
    mapping                                             mapping; its values are converted
    anything else                                       unchanged
    ==================================================  ============================================================

    Args:
        name: What error messages call it.
        x: What the user passed.

    Raises:
        TypeError: If it has no order (a set), if values of an array are masked, if a tensor has no values (it is
            symbolic, sparse or on the meta device), or if a frame has no rows yet (``LazyFrame`` of Polars).
        ValueError: If two columns of a table have the same name.

    Example:
        >>> from_container("x", {"a": (1, 2), "b": np.zeros(2)})
        {'a': (1, 2), 'b': array([0., 0.])}
    """
    if isinstance(x, set | frozenset):
        raise TypeError(f"{name} must have an order, got a {type(x).__name__}; pass a list")
    if isinstance(x, np.ma.MaskedArray):
        masked = int(np.ma.getmaskarray(x).sum())
        if masked:
            raise TypeError(f"{name} must have no masked values, got a masked array with {masked}")
        return x.data
    if isinstance(x, np.ndarray):
        return x.astype(np.float32) if is_half(x) else x
    if type(x) in (list, tuple, str, bytes):
        return x
    library = kind_of(x)
    if library in ("torch", "paddle", "tensorflow", "keras", "jax"):
        return _from_tensor(name, x)
    if library == "pandas":
        return _from_pandas(name, x)
    if library == "pyarrow":
        return _from_arrow(name, x)
    if library == "polars":
        return _from_polars(name, x)
    if library == "datasets" and not hasattr(x, "column_names"):  # a column; a whole dataset is map-style
        return list(x)
    if isinstance(x, Mapping):
        return {key: from_container(f"{name}[{key!r}]", value) for key, value in x.items()}
    return x


def is_half(array: np.ndarray) -> bool:
    """Whether an array has one of the half types that numpy itself does not have, such as bfloat16."""
    return array.dtype.kind == "V" and array.dtype.names is None and array.dtype.name.startswith(("bfloat", "float"))


def is_missing(value: Any) -> bool:
    """Whether a value is missing: None, NaN, NaT or ``pandas.NA``.

    Example:
        >>> [is_missing(value) for value in (None, float("nan"), np.datetime64("NaT"), 0, "", "nan")]
        [True, True, True, False, False, False]
    """
    if value is None or type(value).__name__ in ("NAType", "NaTType"):
        return True
    if isinstance(value, float | np.floating):
        return bool(value != value)  # NaN differs from itself
    return isinstance(value, np.datetime64 | np.timedelta64) and bool(np.isnat(value))


def _from_tensor(name: str, x: Any) -> Any:
    """A tensor as an array of the same numbers."""
    if not hasattr(x, "shape"):  # such as a dataset or a model of this framework
        return x
    try:
        if hasattr(x, "detach"):  # PyTorch and Paddle
            x = x.detach()
        if "bfloat16" in str(x.dtype) or "float8" in str(x.dtype):  # numpy would get the bits from Paddle
            x = x.float() if hasattr(x, "float") else x.astype("float32") if hasattr(x, "astype") else x
        if callable(getattr(x, "cpu", None)):
            x = x.cpu()
        array = np.asarray(x.numpy() if hasattr(x, "numpy") else x)
    except (AttributeError, NotImplementedError, RuntimeError, TypeError, ValueError) as error:
        line = str(error).strip().partition("\n")[0]
        raise TypeError(f"{name} must have values to read, got {type(x).__name__}: {line}") from None
    return array.astype(np.float32) if is_half(array) else array


def _from_pandas(name: str, x: Any) -> Any:
    """The rows of a Series, an Index or a DataFrame, by position."""
    if hasattr(x, "columns"):
        return _from_columns(name, list(x.columns), [x.iloc[:, i] for i in range(len(x.columns))])
    if not hasattr(x, "to_numpy"):
        return x
    return x.to_numpy() if isinstance(x.dtype, np.dtype) and x.dtype.kind in "biufcmM" else x.tolist()


def _from_arrow(name: str, x: Any) -> Any:
    """The rows of an array, a chunked array or a table."""
    if hasattr(x, "column_names"):
        return _from_columns(name, x.column_names, x.columns)
    if not hasattr(x, "to_pylist"):
        return x
    is_number = re.fullmatch(r"bool|u?int\d+|halffloat|float|double", str(x.type)) and not x.null_count
    return np.asarray(x) if is_number else x.to_pylist()


def _from_polars(name: str, x: Any) -> Any:
    """The rows of a Series or a DataFrame."""
    if hasattr(x, "collect"):
        raise TypeError(f"{name} must have rows, got a {type(x).__name__}, which has none yet; pass {name}.collect()")
    if hasattr(x, "get_columns"):
        return _from_columns(name, x.columns, x.get_columns())
    if not hasattr(x, "to_list"):
        return x
    kind = x.dtype
    while hasattr(kind, "shape"):  # Array, whose rows have one shape
        kind = kind.inner
    is_array = kind.is_integer() or kind.is_float() or str(kind) == "Boolean"
    is_array = is_array or (kind.is_temporal() and str(kind) != "Time" and getattr(kind, "time_zone", None) is None)
    is_array = is_array and "128" not in str(kind)  # integers that numpy does not have
    return x.to_numpy() if is_array and not x.null_count() else x.to_list()


def _from_columns(name: str, names: list[Any], columns: list[Any]) -> Any:
    """The columns of a table: one array ``[N, K]`` if all hold numbers, else a mapping."""
    if len(set(names)) < len(names):
        raise ValueError(f"{name} must have columns with different names, got {preview(names)}")
    converted = {key: from_container(f"{name}[{key!r}]", x) for key, x in zip(names, columns, strict=True)}
    numbers = [isinstance(x, np.ndarray) and x.dtype.kind in "biuf" and x.ndim == 1 for x in converted.values()]
    return np.stack(list(converted.values()), axis=1) if numbers and all(numbers) else converted
