"""What the readers of tables and of images share."""

import importlib
import os
from pathlib import Path
from typing import Any

__all__ = ["existing", "needed", "reason"]


def existing(path: str | os.PathLike[str]) -> Path:
    """``path``, if something is there, else raise."""
    path = Path(path)
    if not path.exists():
        raise FileNotFoundError(f"path must be a file or a folder, and there is none at {path}")
    if path.is_file() and not path.stat().st_size:
        raise ValueError(f"{path} must not be empty, and is")
    return path


def needed(module: str, kind: str) -> Any:
    """The module, or an ``ImportError`` that says how to install it."""
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError:
        library = {"tables": "datasets", "images": "Pillow"}[kind]
        raise ImportError(f'reading {kind} needs {library}: pip install "finetuner[data]"') from None


def reason(error: BaseException) -> str:
    """What a parser has to say, in one line."""
    return str(error).strip().partition("\n")[0] or type(error).__name__
