"""Training: the tuner, its loop, callbacks, validation and saved runs."""

from typing import TYPE_CHECKING

from .bad_items import NotFiniteError
from .callbacks import *
from .encoder import *
from .run import *
from .schedules import Schedule
from .state import State
from .triggers import *
from .tuner import *

if not TYPE_CHECKING:  # type checkers follow the star imports
    from . import callbacks, encoder, run, triggers, tuner

    __all__ = [
        *callbacks.__all__,
        *encoder.__all__,
        *run.__all__,
        *triggers.__all__,
        *tuner.__all__,
        "NotFiniteError",
        "Schedule",
        "State",
    ]
