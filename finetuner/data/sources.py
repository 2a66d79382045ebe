"""From what the user passes as a path to files: patterns, several paths, and folders of tables."""

import glob
import os
import re
from collections.abc import Sequence
from pathlib import Path

from ..checks import preview
from ..files import existing_path, read_json
from .opening import check_regular, format_suffix

__all__ = ["TABLE_SUFFIXES", "PathLike", "are_images", "find_files", "title_of"]

PathLike = str | os.PathLike[str]
TABLE_SUFFIXES = (".csv", ".tsv", ".jsonl", ".ndjson", ".json", ".parquet", ".arrow", ".txt")
SHARD_NUMBER = re.compile(r"([-_.]?\d+)+([-_.]?of[-_.]?\d+)?")
BESIDE_TABLES = (".md", ".json", ".yaml", ".yml", ".lock")  # such as README.md and dataset_infos.json


def find_files(path: PathLike | Sequence[PathLike]) -> list[Path]:
    """The files or folders of ``path``, in order.

    Args:
        path: A path, a pattern such as ``"data/train-*.parquet"``, or several of these. A folder of tables is replaced
            by its files, and a folder of images stays.

    Raises:
        FileNotFoundError: If there is nothing at a path, or a pattern has no match.
        ValueError: If a file is empty, a pipe or a device, or a folder has tables that are not shards of one table.
    """
    paths = [path] if isinstance(path, str | os.PathLike) else list(path)
    if not paths:
        raise ValueError("path must name at least one file, got none")
    return [file for one in paths for match in _matches(one) for file in _files_of(match)]


def are_images(files: Sequence[Path]) -> bool:
    """Whether the path is a folder or an archive of images.

    Raises:
        ValueError: If there are several, or other files beside it.
    """
    images = [path for path in files if path.is_dir() or format_suffix(path) == ".zip"]
    if images and len(files) > 1:
        raise ValueError(f"path must be one folder or .zip of images, or tables, got {preview(files, 3)}")
    return bool(images)


def title_of(files: Sequence[Path]) -> str:
    """The files for an error message: the first, and how many more there are."""
    return f"{files[0]}" + (f" and {len(files) - 1} more" if len(files) > 1 else "")


def _matches(path: PathLike) -> list[Path]:
    if Path(path).exists() or not glob.has_magic(os.fspath(path)):
        return [existing_path(path)]
    matches = sorted(map(Path, glob.glob(os.fspath(path), recursive=True)))
    if not matches:
        raise FileNotFoundError(f"path must match files, and there is none for the pattern {path}")
    return [existing_path(match) for match in matches]


def _files_of(path: Path) -> list[Path]:
    """The shards in a folder of tables, or ``path`` itself."""
    if not path.is_dir():
        check_regular(path)
        return [path]
    if (path / "dataset_dict.json").is_file():
        splits = sorted(folder.name for folder in path.iterdir() if (folder / "state.json").is_file())
        raise ValueError(f"path must be one split of {path}, which has {preview(splits)}; add its name to the path")
    if (path / "state.json").is_file() and (path / "dataset_info.json").is_file():
        return _saved_files(path)
    entries = sorted(entry for entry in path.iterdir() if not entry.name.startswith((".", "_")))
    tables = [entry for entry in entries if entry.is_file() and format_suffix(entry) in TABLE_SUFFIXES]
    if any(format_suffix(entry) not in BESIDE_TABLES for entry in tables):
        tables = [entry for entry in tables if format_suffix(entry) not in BESIDE_TABLES]
    others = [entry for entry in entries if entry not in tables and entry.suffix.lower() not in BESIDE_TABLES]
    inside = others[0] if not tables and len(others) == 1 else path
    if inside != path and inside.is_dir() and not inside.is_symlink():  # the folder "data" of a repository, for example
        inner = _files_of(inside)
        return [path] if inner == others else inner
    if not tables or others:
        return [path]
    groups = sorted({SHARD_NUMBER.sub("", entry.name) for entry in tables})
    if len(groups) > 1:
        raise ValueError(
            f"{path} must have the shards of one table, got {preview(groups)}; name the files, or a pattern such as "
            f"{path / f'{tables[0].name[:3]}*'}"
        )
    return tables


def _saved_files(path: Path) -> list[Path]:
    """The files of a folder that ``datasets.Dataset.save_to_disk`` wrote."""
    state = read_json(path / "state.json", dict)
    try:
        names = [entry["filename"] for entry in state["_data_files"]]
    except (KeyError, TypeError):
        names = []
    if not names or not all(isinstance(name, str) and name == Path(name).name for name in names):
        raise ValueError(f"{path / 'state.json'} must list the files of the folder as _data_files, and does not")
    if state.get("_indices_files"):
        raise ValueError(f"{path} must be saved with its rows in order, and has indices; save flatten_indices()")
    return [existing_path(path / name) for name in names]
