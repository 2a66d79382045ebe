"""Files and folders: new folders that appear complete or not at all, JSON, and checks of paths."""

import json
import math
import os
import re
import shutil
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

__all__ = ["check_new_folder", "current_umask", "existing_path", "new_folder", "read_json", "write_json"]


def existing_path(path: str | os.PathLike[str]) -> Path:
    """Return ``path`` if a folder or a non-empty file is there.

    Raises:
        FileNotFoundError: If nothing is there.
        ValueError: If it is an empty file.
    """
    path = Path(path)
    if not path.exists():
        raise FileNotFoundError(f"path must be a file or a folder, and there is none at {path}")
    if path.is_file() and not path.stat().st_size:
        raise ValueError(f"{path} must not be empty, and is")
    return path


def check_new_folder(path: str | Path) -> None:
    """Raise ``FileExistsError`` if ``path`` is a file or a folder that is not empty."""
    path = Path(path)
    if path.is_dir() and not any(path.iterdir()):
        return
    if path.exists():
        raise FileExistsError(f"{path} must be a new or an empty folder, and it exists; nothing was written")


@contextmanager
def new_folder(path: str | Path) -> Iterator[Path]:
    """A temporary folder to write to. It is renamed to ``path`` at the end, so ``path`` is never incomplete.

    Raises:
        FileExistsError: If ``path`` exists and is not empty. It is left unchanged.
    """
    path = Path(path)
    check_new_folder(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    remove_unfinished(path.parent)
    machine = socket.gethostname().replace(".", "-")
    unfinished = path.with_name(f".{path.name}.{machine}.{os.getpid()}.unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir()
    try:
        yield unfinished
        mode = 0o666 & ~current_umask()
        for file in unfinished.iterdir():
            # safetensors writes files that only the user can read
            file.chmod(mode | (0o111 & ~current_umask()) if file.is_dir() else mode)
            sync(file)
        sync(unfinished)
        if path.exists():
            path.rmdir()
        unfinished.rename(path)
        sync(path.parent)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


def remove_unfinished(parent: Path) -> None:
    """Remove the unfinished folders of processes of this machine that do not run any more."""
    machine = re.escape(socket.gethostname().replace(".", "-"))
    for folder in parent.glob(".*.unfinished"):
        match = re.fullmatch(rf"\.(?:.+\.{machine}|[^.]+)\.(\d+)\.unfinished", folder.name)
        if match and not is_running(int(match[1])):
            shutil.rmtree(folder, ignore_errors=True)


def is_running(process: int) -> bool:
    """Whether a process with this number runs on this machine."""
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True


def sync(path: Path) -> None:
    """Wait until a file, or the entries of a folder, are on the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def current_umask() -> int:
    """The permissions that new files of this process do not get."""
    mask = os.umask(0o022)
    os.umask(mask)
    return mask


def write_json(path: Path, content: Any) -> None:
    """Write ``content`` as JSON. NaN and infinity, which JSON does not have, are written as null."""
    text = json.dumps(_without_non_finite(content), indent=2, allow_nan=False, default=_to_number)
    path.write_text(text + "\n", encoding="utf-8")


def read_json(path: Path, kind: type | tuple[type, ...] = object) -> Any:
    """Read a JSON file of a saved run.

    Args:
        path: The file.
        kind: The type that the content must have.

    Raises:
        FileNotFoundError: If the file does not exist.
        ValueError: If it is not JSON, or its content has another type.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path.parent} must be the folder of a saved run, and has no {path.name}")
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:  # not JSON, not UTF-8, a number too long, nested too deep
        raise ValueError(f"{path} must hold JSON: {str(error).splitlines()[0]}") from None
    if not isinstance(content, kind):
        wanted = {dict: "an object", list: "a list"}.get(kind, "something else")  # type: ignore[call-overload]
        raise ValueError(f"{path} must hold {wanted}, got {type(content).__name__}")
    return content


def _to_number(content: Any) -> Any:
    """A number of numpy or of a framework as one of Python."""
    if hasattr(content, "item") and getattr(content, "ndim", None) == 0:
        return content.item()
    raise TypeError(f"settings must be numbers, texts, lists or mappings to be saved, got {type(content).__name__}")


def _without_non_finite(content: Any) -> Any:
    if isinstance(content, dict):
        return {key: _without_non_finite(value) for key, value in content.items()}
    if isinstance(content, list | tuple):
        return [_without_non_finite(value) for value in content]
    return None if isinstance(content, float) and not math.isfinite(content) else content
