"""What the readers of tables and of images share."""

import importlib
from typing import Any

__all__ = ["needed", "reason"]


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
