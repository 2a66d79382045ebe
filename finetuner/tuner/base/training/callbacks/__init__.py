"""Callbacks: hooks that a training calls."""

from typing import TYPE_CHECKING

from .callback import *
from .checkpoints import *
from .monitor import *
from .progress import *
from .trackers import *
from .tracking_libraries import *

if not TYPE_CHECKING:  # type checkers follow the star imports
    from . import callback, checkpoints, monitor, progress, trackers, tracking_libraries

    __all__ = [
        *callback.__all__,
        *checkpoints.__all__,
        *monitor.__all__,
        *progress.__all__,
        *trackers.__all__,
        *tracking_libraries.__all__,
    ]
