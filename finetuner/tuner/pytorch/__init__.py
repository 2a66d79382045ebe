"""finetuner for PyTorch: its tuner, losses, miners and poolers."""

from .losses import *
from .miner import *
from .poolers import *
from .tuner import *

from . import losses, miner, poolers, tuner  # isort: skip

__all__: list[str] = []
__all__ += losses.__all__
__all__ += miner.__all__
__all__ += poolers.__all__
__all__ += tuner.__all__

Tuner = PytorchTuner
