"""The file that ``finetuner embed`` writes: an ``.npz`` or ``.npy``, or a table with a column of embeddings."""

import importlib
import json
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np

__all__ = ["COLUMN", "PART", "SUFFIXES", "TABLE_SUFFIXES", "check_writable", "load_pyarrow", "write_embeddings"]

TABLE_SUFFIXES = (".parquet", ".jsonl")
SUFFIXES = (".npz", ".npy", *TABLE_SUFFIXES)
COLUMN = "embedding"  # of a table
PART = "part"  # the array of an .npz, and the metadata of a Parquet file, with the number of a part and of all parts
ROWS_AT_ONCE = 4096

Part = tuple[int, int]


def check_writable(path: Path, columns: Mapping[str, Any]) -> dict[str, Any]:
    """Check that a file can hold embeddings beside these columns. This runs before anything is embedded.

    Returns:
        The columns with the types that the file has, so that all parts of a table have the same.

    Raises:
        ImportError: If the library that writes it is not installed.
        ValueError: If a column has the name of the embeddings, or values that the format cannot hold.
    """
    if path.suffix in TABLE_SUFFIXES and COLUMN in columns:
        raise ValueError(f"--data must have no column {COLUMN!r}, which {path} is to have, and has one; rename it")
    if path.suffix == ".parquet":
        return arrow_columns(columns)
    if path.suffix == ".jsonl":
        for name, values in columns.items():
            for value in as_list(values[:1]):
                json_value(name, value)
    return dict(columns)


def write_embeddings(
    path: Path, embeddings: "np.ndarray", columns: Mapping[str, Any], part: Part | None = None
) -> None:
    """Write embeddings and columns into a new file. There is no file at ``path`` before it is complete.

    Args:
        path: The file. Its suffix is one of ``SUFFIXES``.
        embeddings: ``[N, D]``.
        columns: What each item has: arrays of an ``.npz``, or columns of a table, see
            :func:`~finetuner.data.whole_tables.whole_columns`.
        part: The number of the part that this is, and the number of parts. An ``.npz`` and Parquet record it.

    Raises:
        OSError: If the file cannot be written.
        ValueError: If the format cannot hold a value.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f".{path.stem}.unfinished{path.suffix}")
    try:
        WRITERS[path.suffix](unfinished, embeddings, columns, part)
        unfinished.rename(path)
    except BaseException:
        unfinished.unlink(missing_ok=True)
        raise


def write_npz(path: Path, embeddings: "np.ndarray", columns: Mapping[str, Any], part: Part | None) -> None:
    """Write an ``.npz`` with the array ``embeddings`` first."""
    import numpy as np

    recorded = {} if part is None else {PART: np.array(part)}
    np.savez(path, **{"embeddings": embeddings, **columns, **recorded})


def write_npy(path: Path, embeddings: "np.ndarray", columns: Mapping[str, Any], part: Part | None) -> None:
    """Write an ``.npy``, which has the embeddings alone and can be mapped into memory."""
    import numpy as np

    np.save(path, embeddings)


# Parquet -------------------------------------------------------------------------------------------------


def write_parquet(path: Path, embeddings: "np.ndarray", columns: Mapping[str, Any], part: Part | None) -> None:
    """Write a Parquet file. The column of embeddings is a list, ``list<float>`` for float32."""
    import numpy as np

    pa, parquet = load_pyarrow()
    count, width = embeddings.shape
    rows = max(1, 2**30 // max(width, 1))  # the offsets of a list are of 32 bits
    parts = [embeddings[start : start + rows] for start in range(0, count, rows)]
    lists = [
        pa.ListArray.from_arrays(np.arange(len(part) + 1, dtype=np.int32) * width, part.reshape(-1)) for part in parts
    ]
    table = pa.table(
        {**arrow_columns(columns), COLUMN: pa.chunked_array(lists, pa.list_(pa.from_numpy_dtype(embeddings.dtype)))}
    )
    if part is not None:
        table = table.replace_schema_metadata({PART: "/".join(map(str, part))})
    parquet.write_table(table, path)


def arrow_columns(columns: Mapping[str, Any]) -> dict[str, Any]:
    """The columns as Arrow columns.

    Raises:
        ImportError: If pyarrow is not installed.
        ValueError: If a column has values of several types.
    """
    pa, _ = load_pyarrow()

    def convert(name: str, values: Any) -> Any:
        if hasattr(values, "to_pylist"):
            return values
        try:
            return pa.array(values if getattr(values, "ndim", 2) == 1 else list_of(values))
        except (pa.ArrowException, OverflowError, TypeError) as error:
            line = str(error).partition("\n")[0]
            raise ValueError(
                f"column {name!r} of --data must have values of one type to be written to Parquet ({line}); "
                "--output FILE.jsonl writes any"
            ) from None

    return {name: convert(name, values) for name, values in columns.items()}


def load_pyarrow() -> tuple[Any, Any]:
    """``pyarrow`` and ``pyarrow.parquet``.

    Raises:
        ImportError: If pyarrow is not installed.
    """
    try:
        return importlib.import_module("pyarrow"), importlib.import_module("pyarrow.parquet")
    except ModuleNotFoundError:
        raise ImportError('writing Parquet needs pyarrow: pip install "finetuner[data]"') from None


def list_of(values: Any) -> list[Any]:
    """A column as a list. The rows of an array become lists, so that Arrow reads them as such."""
    return values.tolist() if hasattr(values, "tolist") else list(values)


# JSON Lines ----------------------------------------------------------------------------------------------


def write_json_lines(path: Path, embeddings: "np.ndarray", columns: Mapping[str, Any], part: Part | None) -> None:
    """Write JSON Lines, an object for each item. Numbers have the 9 digits that tell any two float32 apart."""
    with path.open("w", encoding="utf-8") as file:
        for start in range(0, len(embeddings), ROWS_AT_ONCE):
            chunk = slice(start, start + ROWS_AT_ONCE)
            cells = {name: as_list(values[chunk]) for name, values in columns.items()}
            for i, row in enumerate(embeddings[chunk].tolist()):
                known = json.dumps({name: json_value(name, values[i]) for name, values in cells.items()})
                numbers = ", ".join(map("{:.9g}".format, row))
                file.write(f"{known[:-1]}{', ' * bool(cells)}{json.dumps(COLUMN)}: [{numbers}]}}\n")


def as_list(values: Any) -> list[Any]:
    """A part of a column as Python values."""
    return values.to_pylist() if hasattr(values, "to_pylist") else list_of(values)


def json_value(name: str, value: Any) -> Any:
    """A value as JSON can hold it: NaN as null, dates and decimals as text.

    Raises:
        ValueError: If it is bytes.
    """
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, list):
        return [json_value(name, one) for one in value]
    if isinstance(value, dict):
        return {str(key): json_value(name, one) for key, one in value.items()}
    if isinstance(value, bytes):
        raise ValueError(
            f"column {name!r} of --data must have no bytes to be written as JSON, and has; "
            "--output FILE.parquet writes them"
        )
    return value if isinstance(value, str | int | None) else str(value)


WRITERS: dict[str, Callable[[Path, "np.ndarray", Mapping[str, Any], Part | None], None]] = {
    ".npz": write_npz,
    ".npy": write_npy,
    ".parquet": write_parquet,
    ".jsonl": write_json_lines,
}
