"""Reads the files of embeddings that ``finetuner embed`` writes, for ``finetuner evaluate --embeddings``."""

import glob
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from .embedding_files import COLUMN, PART, load_pyarrow
from .terminal import print_message

if TYPE_CHECKING:
    import numpy as np

__all__ = ["Embedded", "files_at", "read_embeddings"]

Part = tuple[int, int]


class Embedded(NamedTuple):
    """Embeddings with labels."""

    embeddings: "np.ndarray"
    labels: Any  # an array, or sets
    label_names: list[Any] | None  # of a matrix of label sets


def files_at(paths: Sequence[Path]) -> list[Path]:
    """The files of paths and patterns such as ``part-*.npz``.

    Raises:
        FileNotFoundError: If there is no file at one.
    """
    found: list[Path] = []
    for path in paths:
        matches = [] if path.exists() else sorted(glob.glob(str(path), recursive=True))
        found += [Path(match) for match in matches] or [path]
    for path in found:
        if not path.is_file():
            raise FileNotFoundError(f"{path} must be a file, and is not")
    return found


def read_embeddings(flag: str, paths: Sequence[Path], label_column: str | None, title: str) -> Embedded:
    """Read embeddings and labels of files, and print one line about them.

    Raises:
        FileNotFoundError: If there is no file at a path.
        ValueError: If a file has no embeddings or labels, files differ, or a part is missing.
    """
    import numpy as np

    files = files_at(paths)
    found = [read_file(flag, path, label_column) for path in files]
    check_parts(flag, [part for _, part in found])
    contents = [content for content, _ in found]
    if any(content.label_names != contents[0].label_names for content in contents):
        raise ValueError(f"{flag} must have the same label_names in all files, and they differ")
    contents = [content for content in contents if len(content.embeddings)]
    sizes = sorted({content.embeddings.shape[1] for content in contents})
    if len(sizes) != 1:
        raise ValueError(f"{flag} must have embeddings of one size in all files, got {sizes or 'no embeddings'}")
    embeddings = np.concatenate([content.embeddings for content in contents])
    if all(isinstance(content.labels, np.ndarray) for content in contents):
        kinds = sorted({content.labels.dtype.kind for content in contents})
        if len(kinds) > 1:  # numpy would convert them, and so make others equal
            raise ValueError(f"{flag} must have labels of one type in all files, got the kinds {', '.join(kinds)}")
        labels: Any = np.concatenate([content.labels for content in contents])
    else:
        labels = [label for content in contents for label in content.labels]
    print_message(f"{title:<6} {len(embeddings)} embeddings of {sizes[0]} components in {len(files)} files")
    return Embedded(embeddings, labels, contents[0].label_names)


def check_parts(flag: str, parts: Sequence[Part | None]) -> None:
    """Raise ``ValueError`` unless files are all parts, or none records a part."""
    from ..checks import preview

    if not any(parts):
        return
    if not all(parts) or len({part[1] for part in parts if part}) > 1:
        recorded = ["none" if part is None else "/".join(map(str, part)) for part in parts]
        raise ValueError(f"{flag} must be all parts of one embedding, got the parts {preview(recorded)}")
    count = next(part[1] for part in parts if part)
    numbers = sorted(part[0] for part in parts if part)
    if numbers != list(range(1, count + 1)):
        missing = sorted(set(range(1, count + 1)) - set(numbers))
        problem = f"part {preview(missing)} is missing" if missing else f"there are {len(numbers)} files"
        raise ValueError(f"{flag} must be all {count} parts once, and {problem}")


def read_file(flag: str, path: Path, label_column: str | None) -> tuple[Embedded, Part | None]:
    """The embeddings and labels of a file, and the part that it records."""
    import numpy as np

    if path.suffix == ".npz":
        with np.load(path) as file:
            arrays = {name: file[name] for name in file.files}
        if label_column is not None:
            raise ValueError(
                f"--label-column must be used with a table, got {path}; `finetuner embed` wrote its labels"
            )
        if missing := [name for name in ("embeddings", "labels") if name not in arrays]:
            raise ValueError(
                f"{path} must have the array {missing[0]!r} and has {', '.join(arrays)}; `finetuner embed "
                "--label-column NAME` writes labels"
            )
        names = arrays["label_names"].tolist() if "label_names" in arrays else None
        recorded = arrays.get(PART)
        part = None if recorded is None else (int(recorded[0]), int(recorded[1]))
        embeddings, labels = arrays["embeddings"], arrays["labels"]
    elif path.suffix in (".parquet", ".jsonl"):
        if label_column is None:
            raise ValueError(f"--label-column must be given for a table, got {path}")
        embeddings, labels, part = (read_parquet if path.suffix == ".parquet" else read_json_lines)(path, label_column)
        names = None
    else:
        raise ValueError(f"{flag} must be .npz, .parquet or .jsonl, which have labels, got {path}")
    if embeddings.dtype.kind != "f":
        raise ValueError(f"{path} must have embeddings of dtype float32, got {embeddings.dtype}")
    return Embedded(embeddings, labels, names), part


def read_parquet(path: Path, label_column: str) -> tuple["np.ndarray", Any, Part | None]:
    """The embeddings and labels of a Parquet file, and the part that it records."""
    import numpy as np

    _, parquet = load_pyarrow()
    schema = parquet.read_schema(path)
    check_columns(path, schema.names, label_column)
    table = parquet.read_table(path, columns=list({COLUMN, label_column}))
    column = table[COLUMN].combine_chunks()
    values = column.flatten().to_numpy(zero_copy_only=False)
    if len(column) and len(values) % len(column):
        raise ValueError(f"{path} must have embeddings of one size, and has others")
    width = len(values) // len(column) if len(column) else 0
    part = (schema.metadata or {}).get(PART.encode())
    return np.reshape(values, (len(column), width)), sets_of(table[label_column].to_pylist()), parse_recorded(part)


def read_json_lines(path: Path, label_column: str) -> tuple["np.ndarray", Any, Part | None]:
    """The embeddings and labels of JSON Lines. They record no part."""
    import numpy as np

    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    for row in rows:
        check_columns(path, row, label_column)
    if len({len(row[COLUMN]) for row in rows}) > 1:
        raise ValueError(f"{path} must have embeddings of one size, and has others")
    embeddings = np.array([row[COLUMN] for row in rows], np.float32).reshape(len(rows), -1 if rows else 0)
    return embeddings, sets_of([row[label_column] for row in rows]), None


def check_columns(path: Path, names: Any, label_column: str) -> None:
    """Raise ``ValueError`` unless a table has embeddings and labels."""
    for flag, name in ("a column", COLUMN), ("the --label-column", label_column):
        if name not in names:
            raise ValueError(f"{path} must have {flag} {name!r}, and has {', '.join(map(repr, names))}")


def sets_of(labels: list[Any]) -> list[Any]:
    """Labels of a table. A list of several labels becomes a set."""
    return [set(label) for label in labels] if any(isinstance(label, list) for label in labels) else labels


def parse_recorded(part: bytes | None) -> Part | None:
    """The part in the metadata of a Parquet file."""
    if part is None:
        return None
    number, _, parts = part.decode().partition("/")
    return int(number), int(parts)
