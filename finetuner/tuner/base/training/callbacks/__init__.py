"""Callbacks: hooks that a training calls."""

from .callback import *
from .checkpoints import *
from .monitor import *
from .progress import *

from . import callback, checkpoints, monitor, progress  # isort: skip

__all__: list[str] = []
__all__ += callback.__all__
__all__ += checkpoints.__all__
__all__ += monitor.__all__
__all__ += progress.__all__
