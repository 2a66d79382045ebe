"""Training: the tuner, its loop, callbacks, validation and saved runs."""

from .callbacks import *
from .run import *
from .state import *
from .tuner import *

from . import callbacks, run, state, tuner  # isort: skip

__all__: list[str] = []
__all__ += callbacks.__all__
__all__ += run.__all__
__all__ += state.__all__
__all__ += tuner.__all__
