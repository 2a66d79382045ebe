"""Folders of models: on the disk, or from the Hugging Face hub by name."""

import importlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

__all__ = ["check_trust", "import_library", "local_folder", "one_line_errors", "read_config"]

# What a model needs. Weights of other formats can be pickles, which run code when they are read.
FILES = ["*.json", "*.txt", "*.model", "*.safetensors"]


def import_library(name: str, extra: str) -> ModuleType:
    """Import a library; raise ``ImportError`` that says how to install it if it is missing."""
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != name.partition(".")[0]:
            raise
        raise ImportError(f'this model needs {name}: pip install "finetuner[{extra}]"') from error


def local_folder(source: str) -> Path:
    """The folder of a model: a folder as it is, or what the Hugging Face hub has under this name.

    Raises:
        FileNotFoundError: If it is neither, or cannot be downloaded.
    """
    folder = Path(source).expanduser()
    if folder.is_dir():
        return folder
    if folder.exists():
        raise ValueError(f"a model must be a folder or a name, got the file {source}")
    if source.startswith((".", "/", "~")) or source.count("/") > 1 or source.endswith("/"):
        raise FileNotFoundError(f"the folder of a model must exist, got {source}")
    hub = import_library("huggingface_hub", "text")
    name = source if "/" in source else f"sentence-transformers/{source}"
    reasons = []
    for repository in dict.fromkeys([source, name]):
        try:
            return Path(hub.snapshot_download(repository, allow_patterns=FILES))
        except Exception as error:  # one of a dozen classes, by what is missing: network, name, rights
            reasons.append(f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0]:.200}")
    raise FileNotFoundError(
        f"a model must be a folder or the name of a model on the Hugging Face hub, and {source!r} is no folder and "
        f"cannot be downloaded ({reasons[-1]})"
    )


def read_config(path: Path) -> dict[str, Any]:
    """A JSON file that holds a mapping; raise ``ValueError`` if it does not."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} must be a JSON file: {error}") from None
    if not isinstance(found, dict):
        raise ValueError(f"{path} must hold a mapping, got {type(found).__name__}")
    return found


def check_trust(folder: Path, name: str, trust_code: bool) -> None:
    """Raise ``ValueError`` for a folder of transformers that has code of its own or weights in a pickle."""
    if trust_code:
        return
    if "auto_map" in read_config(folder / "config.json"):
        raise ValueError(f"{name} needs code of its own (auto_map in config.json): pass trust_code=True to run it")
    if not any(folder.glob("*.safetensors")):
        raise ValueError(f"{name} must have its weights as safetensors; a pickle is read with trust_code=True alone")


@contextmanager
def one_line_errors(what: str) -> Iterator[None]:
    """Turns the errors of a library into a ``ValueError`` of one line that names ``what``."""
    try:
        yield
    except (ImportError, MemoryError):
        raise
    except Exception as error:
        text = " ".join(str(error).split())
        raise ValueError(f"{what} cannot be opened: {type(error).__name__}: {text:.300}") from error
