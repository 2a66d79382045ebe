"""A callback that saves the run during training."""

import re
import shutil
from pathlib import Path
from typing import Any

from ..... import checks
from ..state import State
from ..triggers import Every
from .callback import Callback
from .monitor import Monitor

__all__ = ["Checkpoint"]


class Checkpoint(Callback):
    """Saves the run as ``folder/epoch-3`` or ``folder/step-500``, from which a training can be resumed.

    Resume with ``tuner.fit(..., resume=folder)``, which finds the newest checkpoint.

    Args:
        folder: The folder of the checkpoints.
        every: When to save: an :class:`~finetuner.Every`, a text such as ``"500 steps"``, or a number of epochs.
        keep: How many of the newest checkpoints to keep, those of earlier processes included; None for all.
        best: The name of a number of the history, such as ``"mAP@R"``: the best checkpoint by it is kept, too, as
            ``folder/best``.

    Raises:
        ValueError: If a number is below 1.

    Example:
        >>> run = train_a_model(callbacks=[Checkpoint("checkpoints", every=1, keep=2)], epochs=3)
        >>> sorted(path.name for path in Path("checkpoints").iterdir())
        ['epoch-2', 'epoch-3']
    """

    first_process_only = True

    def __init__(self, folder: str | Path, every: Any = 1, keep: int | None = None, best: str | None = None):
        self.folder = Path(folder)
        self.every = Every(epochs=every) if isinstance(every, int) else Every.of(every)
        self.keep = None if keep is None else checks.integer("keep", keep, 1)
        self.monitor = None if best is None else Monitor(best)

    def state_dict(self) -> dict[str, Any]:
        return {"best": None if self.monitor is None else self.monitor.best}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        if self.monitor is not None:
            self.monitor.best = state["best"]

    def on_fit_begin(self, state: State) -> None:
        if self.monitor is not None:
            self.monitor.on_fit_begin(state)

    def on_batch_end(self, state: State) -> None:
        if self.every.steps is not None and self.every.fires(state.step, state.epoch, False):
            self.save(state, f"step-{state.step}")

    def on_evaluation_end(self, state: State) -> None:
        self.save_best(state)

    def on_epoch_end(self, state: State) -> None:
        self.save_best(state)
        if self.every.steps is None and self.every.fires(state.step, state.epoch, True):
            self.save(state, f"epoch-{state.epoch}")

    def save_best(self, state: State) -> None:
        """Save the best checkpoint if the last row of the history is better than all before."""
        value = None if self.monitor is None else self.monitor.value(state)
        if value is not None and self.monitor is not None and self.monitor.is_better(value):
            self.write(state, self.folder / "best")

    def save(self, state: State, name: str) -> None:
        """Save a checkpoint, and remove those that are too old."""
        path = self.folder / name
        self.write(state, path)
        others = [other for other in checkpoints_in(self.folder) if other != path]
        if self.keep is not None:
            for oldest in others[: max(0, len(others) + 1 - self.keep)]:
                shutil.rmtree(oldest, ignore_errors=True)

    def write(self, state: State, path: Path) -> None:
        """Save the run at ``path``. A checkpoint of this name is replaced, after the new one is complete."""
        if not path.exists():
            state.tuner.save(path)
            return
        new, old = (path.with_name(f".{path.name}.{word}") for word in ("new", "old"))
        for other in (new, old):
            shutil.rmtree(other, ignore_errors=True)
        state.tuner.save(new)
        path.rename(old)
        new.rename(path)
        shutil.rmtree(old, ignore_errors=True)


def checkpoints_in(folder: Path) -> list[Path]:
    """The complete checkpoints in a folder, the oldest first.

    Example:
        >>> for name in ("epoch-9", "epoch-10", "best", ".epoch-11.unfinished"):
        ...     Path("checkpoints", name).mkdir(parents=True)
        >>> [path.name for path in checkpoints_in(Path("checkpoints"))]
        ['epoch-9', 'epoch-10']
    """
    found = []
    for path in folder.iterdir() if folder.is_dir() else ():
        match = re.fullmatch(r"(?:epoch|step)-(\d+)", path.name)
        if match and path.is_dir():
            found.append((path.stat().st_mtime_ns, int(match[1]), path))
    return [path for _, _, path in sorted(found)]
