"""Training: the tuner, its loop, callbacks, validation and saved runs."""

from typing import TYPE_CHECKING

from .callbacks import *
from .run import *
from .state import *
from .tuner import *

if not TYPE_CHECKING:  # type checkers follow the star imports
    from . import callbacks, run, state, tuner

    __all__ = [*callbacks.__all__, *run.__all__, *state.__all__, *tuner.__all__]
