"""Helpers for the readers of tables and images."""

import importlib
from typing import Any

__all__ = ["error_line", "require"]


def require(module: str, kind: str) -> Any:
    """Import a module that reads ``kind``, ``"tables"`` or ``"images"``.

    Raises:
        ImportError: If it is not installed. The message says how to install it.
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError:
        library = {"tables": "datasets", "images": "Pillow"}[kind]
        raise ImportError(f'reading {kind} needs {library}: pip install "finetuner[data]"') from None


def error_line(error: BaseException) -> str:
    """The first line of an error message, or the name of the error if it has no message."""
    return str(error).strip().partition("\n")[0] or type(error).__name__
