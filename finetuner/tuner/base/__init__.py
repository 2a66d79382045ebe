"""What all frameworks share: interfaces, formulas, arguments, checks, documentation and the training loop."""

from typing import TYPE_CHECKING

from .data import *
from .losses import *
from .miner import *
from .poolers import *
from .training import *

if not TYPE_CHECKING:  # type checkers follow the star imports
    from . import data, losses, miner, poolers, training

    __all__ = [*data.__all__, *losses.__all__, *miner.__all__, *poolers.__all__, *training.__all__]
