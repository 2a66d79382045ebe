"""finetuner for Keras: its tuner, losses, miners and poolers."""

from .interop import KerasLoss
from .losses import *
from .miner import *
from .poolers import *
from .sampled import *
from .tuner import *

from . import losses, miner, poolers, sampled, tuner  # isort: skip

__all__ = ["KerasLoss"]
__all__ += losses.__all__
__all__ += miner.__all__
__all__ += poolers.__all__
__all__ += sampled.__all__
__all__ += tuner.__all__

Tuner = KerasTuner
