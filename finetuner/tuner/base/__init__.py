"""What all frameworks share: interfaces, formulas, arguments, checks, documentation and the training loop."""

from .data import *
from .losses import *
from .miner import *
from .poolers import *
from .training import *

from . import data, losses, miner, poolers, training  # isort: skip

__all__: list[str] = []
__all__ += data.__all__
__all__ += losses.__all__
__all__ += miner.__all__
__all__ += poolers.__all__
__all__ += training.__all__
