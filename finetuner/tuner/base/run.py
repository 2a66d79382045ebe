"""What a training leaves behind, in memory and on disk."""

import json
import math
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .tuner import Tuner

__all__ = ["Run", "new_folder", "read_json", "write_json"]


@dataclass
class Run:
    """The outcome of a training.

    Attributes:
        model: the trained model itself, not a copy.
        history: a mapping an epoch: ``epoch``, ``loss``, ``seconds``, ``items_per_second``, and with
            evaluation data ``val_loss`` and the metrics. Epoch 0 is the model as it came.
        metrics: ``{"before": {...}, "after": {...}}``, empty without evaluation data.
        config: all that was asked for, in words that JSON can hold.
        interrupted: whether Ctrl-C ended it.
        best_epoch: whose weights the model has, if that is not the last.
    """

    model: Any
    history: list[dict[str, Any]]
    metrics: dict[str, dict[str, float]]
    config: dict[str, Any]
    interrupted: bool = False
    best_epoch: int | None = None
    tuner: "Tuner | None" = field(default=None, repr=False)

    def save(self, path: str | Path) -> Path:
        """Write weights, history, metrics and configuration into the new folder ``path``.

        Raises:
            FileExistsError: if ``path`` exists and holds something.
        """
        if self.tuner is None:
            raise ValueError("a run must know its tuner to be saved")
        return self.tuner.save(path)

    def plot(self, path: str | Path) -> Path:
        """Draw the history into the picture ``path`` (``.png``, ``.svg``, ``.pdf``)."""
        from ...plotting import plot_history

        return plot_history(self.history, path)


@contextmanager
def new_folder(path: str | Path) -> Iterator[Path]:
    """A folder to write to that becomes ``path`` when all is written, so that nothing is ever half there.

    Raises:
        FileExistsError: if ``path`` exists and holds something, which is left as it is.
    """
    path = Path(path)
    check_new(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f".{path.name}.{os.getpid()}.unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir()
    try:
        yield unfinished
        if path.exists():
            path.rmdir()
        unfinished.rename(path)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


def check_new(path: str | Path) -> None:
    """Raise ``FileExistsError`` if ``path`` is a file, or a folder that holds something."""
    path = Path(path)
    if path.is_dir() and not any(path.iterdir()):
        return
    if path.exists():
        raise FileExistsError(f"{path} must be a new or an empty folder, and it exists; nothing was written")


def write_json(path: Path, content: Any) -> None:
    """Write ``content``, with numbers that JSON does not know (NaN, infinity) as null."""
    path.write_text(json.dumps(finite(content), indent=2, allow_nan=False) + "\n", encoding="utf-8")


def read_json(path: Path) -> Any:
    """What :func:`write_json` wrote.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it is no JSON.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path.parent} must be the folder of a saved run, and has no {path.name}")
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except json.JSONDecodeError as error:
        raise ValueError(f"{path} must hold JSON: {error}") from None


def finite(content: Any) -> Any:
    """``content`` with None in place of what is no finite number."""
    if isinstance(content, dict):
        return {key: finite(value) for key, value in content.items()}
    if isinstance(content, list | tuple):
        return [finite(value) for value in content]
    return None if isinstance(content, float) and not math.isfinite(content) else content
