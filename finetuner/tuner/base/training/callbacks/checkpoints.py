"""A callback that saves the run during training."""

from pathlib import Path

from ..... import checks
from ..state import State
from .callback import Callback

__all__ = ["Checkpoint"]


class Checkpoint(Callback):
    """Saves the run every few epochs as ``folder/epoch-3``, from which a training can be resumed.

    Args:
        folder: The folder of the checkpoints.
        every: The number of epochs between two checkpoints.
        keep: How many of the newest checkpoints to keep; None for all.

    Raises:
        ValueError: If a number is below 1.

    Example:
        >>> run = train_a_model(callbacks=[Checkpoint("checkpoints", every=1, keep=2)], epochs=3)
        >>> sorted(path.name for path in Path("checkpoints").iterdir())
        ['epoch-2', 'epoch-3']
    """

    def __init__(self, folder: str | Path, every: int = 1, keep: int | None = None):
        self.folder = Path(folder)
        self.every = checks.integer("every", every, 1)
        self.keep = None if keep is None else checks.integer("keep", keep, 1)
        self.saved: list[Path] = []

    def on_epoch_end(self, state: State) -> None:
        if state.epoch % self.every:
            return
        path = self.folder / f"epoch-{state.epoch}"
        state.tuner.save(path)
        self.saved.append(path)
        while self.keep is not None and len(self.saved) > self.keep:
            oldest = self.saved.pop(0)
            for file in oldest.iterdir():
                file.unlink()
            oldest.rmdir()
